package plugin

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
)

// TestNothingOfACallerStays: after a call of one tenant, its text lies nowhere in the linear memory of any
// instance that will serve the next tenant (trust S-23).
func TestNothingOfACallerStays(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask", Instances: 1})
	p := s.inward[0]
	for i := range 300 {
		canary := fmt.Sprintf("canary%04d", i)
		body := fmt.Sprintf(`{"model":"m","stream":true,"user":%q,"messages":[{"role":"user","content":"a %s kim.%s@example.com 010-1234-5678"}]}`, canary, canary, canary)
		c := newCall(t, llm.Chat, body)
		reply, err := s.Handle(t.Context(), c, answers(llm.Chat, bytes.NewReader([]byte(content(0, canary+" to "+canary+"@exa")+content(0, "mple.com "+canary)+finish(0)+done))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := drain(reply.Stream); err != nil {
			t.Fatal(err)
		}
		g, err := p.pool.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		memory, ok := g.Read(0, g.MemorySize())
		if at := bytes.Index(memory, []byte(canary)); !ok || at >= 0 {
			t.Errorf("%s lies at %d of %d bytes, which begin %q", canary, at, len(memory), memory[max(0, at-16):max(0, at)+32])
		}
		p.pool.Put(g)
		if t.Failed() {
			return
		}
	}
}
