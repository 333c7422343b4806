package plugin

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
)

// TestArgumentsWholeAndStreamed: a tool call's arguments say the same after masking whether they come in one
// body or cut anywhere, and are still JSON.
func TestArgumentsWholeAndStreamed(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	arguments := key{channel: llm.ToolArguments}
	pieces := []string{`kim@example.com`, `010-1234-5678`, `\n`, `\u0041`, `\\`, `\"`, `\/`, ` `, `가`, `x`, `900101-1234568`, `\u0040`, `@`, `.com`, `4111-1111-1111-1111`, `\t`, `+82 10-1234-5678`, `\ud83d\ude00`}
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 150 {
		var b strings.Builder
		b.WriteString(`{"a":"`)
		for range 1 + rnd.IntN(6) {
			b.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		b.WriteString(`","b":[1,"x"]}`)
		args := b.String()
		if !json.Valid([]byte(args)) {
			t.Fatalf("the test's own fault: %s", args)
		}
		want := wholeArguments(t, s, args)
		if !json.Valid([]byte(want)) {
			t.Fatalf("whole: %s became %s", args, want)
		}
		cut := rnd.IntN(len(args))
		for !boundary([]byte(args), cut) {
			cut--
		}
		got := texts(t, llm.Chat, through(t, s, llm.Chat, argument(0, args[:cut])+argument(0, args[cut:])+finish(0)+done))[arguments]
		if got != want {
			t.Errorf("%s, cut at %d: streamed %s, whole %s", args, cut, got, want)
		}
	}
}

func wholeArguments(t *testing.T, s *Stage, args string) string {
	t.Helper()
	body := fmt.Sprintf(`{"choices":[{"index":0,"message":{"tool_calls":[{"function":{"arguments":%s}}]},"finish_reason":"stop"}]}`, quote(args))
	reply, err := s.Handle(t.Context(), newCall(t, llm.Chat, `{"model":"m","messages":[{"role":"user","content":"x"}]}`), answersWhole(llm.Chat, body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := drain(reply.Stream)
	if err != nil {
		t.Fatal(err)
	}
	var v llm.View
	if err := v.Scan(llm.Chat, false, []byte(got)); err != nil || len(v.Texts) != 1 {
		t.Fatalf("%v: %s", err, got)
	}
	return string(llm.AppendText(nil, []byte(got), v.Texts[0]))
}
