package plugin

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

var vault = []pipeline.Token{{Token: "[P]", Value: "kim"}, {Token: "[P]2", Value: "lee \"x\"\n"}, {Token: "[PERSON_1]", Value: "김철수"}, {Token: "⟦a⟧", Value: "[P]"}}

// restores sends a stream through a stage whose call has a vault.
func restores(t testing.TB, s *Stage, e llm.Endpoint, body string, restore bool) string {
	t.Helper()
	c := newCall(t, e, bodies[e])
	c.Vault, c.Decision.Mask.Restore = vault, restore
	reply, err := s.Handle(t.Context(), c, answers(e, strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := drain(reply.Stream)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRestore(t *testing.T) {
	s := stage(t, Entry{Name: "hostile", Directions: []string{"request"}}) // no plugin sees the reply
	masking := stage(t, Entry{Name: "pii-mask"})
	const text, want = "to [P], [P]2 and [PERSON_1]; [P [PERSON_ ⟦a⟧[P]", "to kim, lee \"x\"\n and 김철수; [P [PERSON_ [P]kim"
	for i := 0; i <= len(text); i++ {
		if i < len(text) && !utf8.RuneStart(text[i]) {
			continue
		}
		body := content(0, text[:i]) + content(0, text[i:]) + finish(0) + done
		if got := texts(t, llm.Chat, restores(t, s, llm.Chat, body, true))[content0]; got != want {
			t.Fatalf("cut at %d: got %q", i, got)
		}
		if got := texts(t, llm.Chat, restores(t, masking, llm.Chat, body, true))[content0]; got != want {
			t.Fatalf("masked, cut at %d: got %q", i, got)
		}
	}
	body := content(0, text) + finish(0) + done
	if got := restores(t, s, llm.Chat, body, false); got != body {
		t.Errorf("restored unasked: %s", got)
	}
	if got := texts(t, llm.Chat, restores(t, s, llm.Chat, content(0, "x [PERS"), true))[content0]; got != "x [PERS" {
		t.Errorf("what may have been a token is lost: %q", got)
	}
}

// TestRestoreAfterWindows: a value that comes back is not masked again, and one that a plugin masks is not restored.
func TestRestoreAfterWindows(t *testing.T) {
	c := newCall(t, llm.Chat, bodies[llm.Chat])
	c.Vault, c.Decision.Mask.Restore = []pipeline.Token{{Token: "<1>", Value: "kim@x.io"}}, true
	reply, err := stage(t, Entry{Name: "pii-mask"}).Handle(t.Context(), c, answers(llm.Chat, strings.NewReader(content(0, "to <")+content(0, "1> lee@x.io")+finish(0)+done)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := drain(reply.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if said := texts(t, llm.Chat, got)[content0]; said != "to kim@x.io [EMAIL]" {
		t.Errorf("got %q", said)
	}
}

// TestRestoreArguments: inside JSON, values are quoted, whole and streamed.
func TestRestoreArguments(t *testing.T) {
	s := stage(t, Entry{Name: "hostile", Directions: []string{"request"}})
	const args, want = `{"to":"[P]2"}`, `{"to":"lee \"x\"\n"}`
	for i := 0; i <= len(args); i++ {
		got := texts(t, llm.Chat, restores(t, s, llm.Chat, argument(0, args[:i])+argument(0, args[i:])+finish(0)+done, true))[key{channel: llm.ToolArguments}]
		if got != want || !json.Valid([]byte(got)) {
			t.Fatalf("cut at %d: got %s", i, got)
		}
	}
	c := newCall(t, llm.Chat, `{"model":"m","messages":[{"role":"user","content":"x"}]}`)
	c.Vault, c.Decision.Mask.Restore = vault, true
	reply, err := s.Handle(t.Context(), c, answersWhole(llm.Chat, `{"choices":[{"index":0,"message":{"content":"[P]2 [P]","tool_calls":[{"function":{"name":"f","arguments":`+quote(args)+`}}]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := drain(reply.Stream)
	if want := `{"choices":[{"index":0,"message":{"content":"lee \"x\"\n kim","tool_calls":[{"function":{"name":"f","arguments":` + quote(want) + `}}]}}]}`; err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

// FuzzRestore holds the law of cut invariance for tokens that share beginnings.
func FuzzRestore(f *testing.F) {
	f.Add("aab", "aa", "a", "aab aaab", []byte{1, 1, 2})
	f.Add("[P]", "[P]2", "[", "[[P]2[P", []byte{2})
	f.Fuzz(func(t *testing.T, a, b, c, text string, cuts []byte) {
		r := newRestorer(&pipeline.Call{Decision: pipeline.Decision{Mask: pipeline.Mask{Restore: true}},
			Vault: []pipeline.Token{{Token: a, Value: "1"}, {Token: b, Value: "22"}, {Token: c, Value: ""}}})
		whole := string(apply(nil, []byte(text), r.edits([]byte(text))))
		var got, kept []byte
		for i, part := range split(text, cuts) {
			kept = append(kept, part...)
			var n int
			got, n = r.append(got, kept, i == len(cuts), false)
			if longest := max(len(a), len(b), len(c)); len(kept)-n >= max(longest, 1) {
				t.Fatalf("%d bytes are kept; the longest token has %d", len(kept)-n, longest)
			}
			kept = kept[n:]
		}
		if string(got) != whole || len(kept) > 0 {
			t.Fatalf("%q cut by %v: got %q, whole %q, %d kept", text, cuts, got, whole, len(kept))
		}
	})
}
