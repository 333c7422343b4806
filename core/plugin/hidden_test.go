package plugin

import (
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
)

// hiding is a stream whose chunks that say usage are hidden, as upstream hides what only the gateway asked for.
type hiding struct{ llm.Stream }

func (h hiding) Next() (llm.Chunk, error) {
	c, err := h.Stream.Next()
	if c.View != nil && c.View.HasUsage {
		c.Raw = nil
	}
	return c, err
}

// TestHiddenStaysHidden: no plugin makes a chunk visible again that is not for the caller.
func TestHiddenStaysHidden(t *testing.T) {
	set, _ := judges(t, Entry{Name: "judge"}, Entry{Name: "pii-mask"})
	in := content(0, "a") + begin(0, 0, "send", "{}") + finishTools(0) +
		strings.Replace(usage, `"usage"`, `"prompt_token_ids":[7],"logprobs":{"content":[]},"usage"`, 1) + done
	s := newStream(t.Context(), newCall(t, llm.Chat, bodies[llm.Chat]), set.stage.outward, nil, hiding{&backend{r: llm.NewReader(strings.NewReader(in), llm.Chat, 0)}})
	got, err := drain(newGate(t.Context(), newCall(t, llm.Chat, bodies[llm.Chat]), set.stage.calls, s))
	if err != nil || strings.Contains(got, "prompt_tokens") || !strings.HasSuffix(got, done) {
		t.Errorf("got %s, %v", got, err)
	}
}
