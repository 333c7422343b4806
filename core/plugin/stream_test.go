package plugin

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
)

const (
	personal = "안녕하세요 😀 kim@example.com 로 주시거나 010-1234-5678, 주민 900101-1234568; card 4111-1111-1111-1111. Bye 1.2.3"
	masked   = "안녕하세요 😀 [EMAIL] 로 주시거나 [PHONE], 주민 [KR_RRN]; card [CREDIT_CARD]. Bye 1.2.3"
)

// event is one chat event with a delta.
func event(choice int, delta string) string {
	return fmt.Sprintf(`data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":%d,"delta":%s,"finish_reason":null}]}`, choice, delta) + "\n\n"
}

func content(choice int, text string) string { return event(choice, `{"content":`+quote(text)+`}`) }

func finish(choice int) string {
	return fmt.Sprintf(`data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}`, choice) + "\n\n"
}

const done = "data: [DONE]\n\n"

func TestStreamCutEverywhere(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	for i := 0; i <= len(personal); i++ {
		if i < len(personal) && !utf8.RuneStart(personal[i]) {
			continue
		}
		got := through(t, s, llm.Chat, event(0, `{"role":"assistant","content":""}`)+content(0, personal[:i])+content(0, personal[i:])+finish(0)+done)
		if text := texts(t, llm.Chat, got)[key{}]; text != masked {
			t.Fatalf("cut at %d:\n got %q\nwant %q", i, text, masked)
		}
	}
}

func TestStreamRuneByRune(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	var b strings.Builder
	for _, r := range personal {
		b.WriteString(content(0, string(r)))
	}
	got := through(t, s, llm.Chat, b.String()+finish(0)+done)
	if text := texts(t, llm.Chat, got)[key{}]; text != masked {
		t.Fatalf("got %q\nwant %q", text, masked)
	}
}
