package plugin

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
)

// FuzzStream holds the law of cut invariance through the whole of it: real module, windows, events. A text
// cut anywhere, in two choices that interleave, comes out as the whole text would.
func FuzzStream(f *testing.F) {
	f.Add(personal, []byte{5, 9, 200, 1, 1, 1, 30})
	f.Add("\"kim\\@x.io\"\n\t010-1234-5678 😀\u2028</script>", []byte{1, 2, 3})
	f.Add(strings.Repeat("a", 70)+"@x.io "+strings.Repeat("1 ", 60), []byte{64, 1, 1, 90})
	s := stage(f, Entry{Name: "pii-mask"})
	f.Fuzz(func(t *testing.T, text string, cuts []byte) {
		if !utf8.ValidString(text) || len(text) > 2000 || len(cuts) > 64 {
			return
		}
		w := work{text: []byte(text)}
		w.pass.turn = &w.turn
		edits, err := chain(context.Background(), s.outward, &w, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := string(apply(nil, []byte(text), edits))
		var body strings.Builder
		rest := text
		for _, c := range append(cuts, 255) {
			n := min(int(c), len(rest))
			for n < len(rest) && !utf8.RuneStart(rest[n]) {
				n++
			}
			if c == 255 {
				n = len(rest)
			}
			body.WriteString(content(0, rest[:n]) + content(1, rest[:n]))
			rest = rest[n:]
		}
		got := texts(t, llm.Chat, through(t, s, llm.Chat, body.String()+finish(1)+finish(0)+done))
		for choice := range 2 {
			if said := got[key{choice: choice}]; said != want {
				t.Fatalf("choice %d of %q cut by %v:\n got %q\nwant %q", choice, text, cuts, said, want)
			}
		}
	})
}
