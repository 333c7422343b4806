package plugin

import (
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
)

// TestStreamLanesAreReused: what an answer of many tool calls takes does not grow with their number.
func TestStreamLanesAreReused(t *testing.T) {
	p := stage(t, Entry{Name: "pii-mask"})
	var b strings.Builder
	for i := range 500 {
		b.WriteString(argument(i, `{"to":"010-1234`) + argument(i, `-5678"}`))
	}
	reply, err := p.Handle(t.Context(), newCall(t, llm.Chat, bodies[llm.Chat]), answers(llm.Chat, strings.NewReader(content(0, "kim@x.io")+b.String()+finish(0)+done)))
	if err != nil {
		t.Fatal(err)
	}
	s := reply.Stream.(*stream)
	got, err := drain(s)
	if err != nil {
		t.Fatal(err)
	}
	all := texts(t, llm.Chat, got)
	for i := range 500 {
		if k := (key{channel: llm.ToolArguments, tool: i}); all[k] != `{"to":"[PHONE]"}` {
			t.Fatalf("call %d: %q", i, all[k])
		}
	}
	if all[content0] != "[EMAIL]" || len(s.lanes) > 2 {
		t.Errorf("%q, %d lanes", all[content0], len(s.lanes))
	}
}
