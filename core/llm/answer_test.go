package llm

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

// TestAnswer reads what the gateway writes itself as a client would.
func TestAnswer(t *testing.T) {
	for _, e := range []Endpoint{Chat, Completions} {
		for _, stream := range []bool{false, true} {
			a := Answer{ID: "r1", Model: "m\"1", Text: "안녕 \"you\"\n", At: time.Unix(7, 0), Stream: stream, Usage: stream}
			r, err := a.Reply(e)
			if err != nil {
				t.Fatal(err)
			}
			text, finish, counted, end := "", "", false, false
			for {
				c, err := r.Stream.Next()
				if err == io.EOF {
					break
				}
				if end = c.Kind == Done; end {
					continue
				}
				if !json.Valid(c.Data) || !strings.Contains(string(c.Raw), string(c.Data)) {
					t.Fatalf("%s: %s", e, c.Raw)
				}
				for _, x := range c.View.Texts {
					text += string(AppendText(nil, c.Data, x))
				}
				for _, f := range c.View.Finishes {
					finish += f.Reason
				}
				counted = counted || c.View.HasUsage
				if c.View.Model != a.Model || !strings.Contains(string(c.Data), `"created":7`) {
					t.Errorf("%s: %s", e, c.Data)
				}
			}
			if text != a.Text || finish != "stop" || !counted || end != stream {
				t.Errorf("%s, stream %v: got %q, %q, usage %v, done %v", e, stream, text, finish, counted, end)
			}
			if err := r.Stream.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := (Answer{}).Reply(Embeddings); err == nil || Embeddings.Answers() {
		t.Error("a text answers embeddings")
	}
}
