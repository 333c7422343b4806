package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

const (
	personal = "안녕하세요 😀 kim@example.com 로 주시거나 010-1234-5678, 주민 900101-1234568; \"card\" 4111-1111-1111-1111.\nBye 1.2.3"
	masked   = "안녕하세요 😀 [EMAIL] 로 주시거나 [PHONE], 주민 [KR_RRN]; \"card\" [CREDIT_CARD].\nBye 1.2.3"
)

// event is one chat event with a delta.
func event(choice int, delta string) string {
	return fmt.Sprintf(`data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":%d,"delta":%s,"finish_reason":null}]}`, choice, delta) + "\n\n"
}

func content(choice int, text string) string { return event(choice, `{"content":`+quote(text)+`}`) }

func reasoning(text string) string { return event(0, `{"reasoning":`+quote(text)+`}`) }

// ascii writes everything beyond ASCII as \u escapes, as many backends do.
func ascii(event string) string {
	var b strings.Builder
	for _, r := range event {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func finish(choice int) string {
	return fmt.Sprintf(`data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}`, choice) + "\n\n"
}

func argument(tool int, text string) string {
	return event(0, fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}`, tool, quote(text)))
}

const (
	done  = "data: [DONE]\n\n"
	role  = `data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	usage = `data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}` + "\n\n"
)

var content0 = key{channel: llm.Content}

func TestStreamCutEverywhere(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	for i := 0; i <= len(personal); i++ {
		if i < len(personal) && !utf8.RuneStart(personal[i]) {
			continue
		}
		body := role + content(0, personal[:i]) + content(0, personal[i:]) + finish(0) + usage + done
		for _, body := range []string{body, ascii(body), strings.ReplaceAll(body, "\n\n", "\r\n\r\n"), strings.TrimSuffix(body, done)} {
			got := through(t, s, llm.Chat, body)
			if text := texts(t, llm.Chat, got)[content0]; text != masked {
				t.Fatalf("cut at %d:\n got %q\nwant %q", i, text, masked)
			}
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
	if text := texts(t, llm.Chat, got)[content0]; text != masked {
		t.Fatalf("got %q\nwant %q", text, masked)
	}
}

// TestStreamReadByteByByte reads the backend's bytes one at a time: what is a chunk is the reader's word alone.
func TestStreamReadByteByByte(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	body := role + content(0, personal[:40]) + content(0, personal[40:]) + finish(0) + done
	want := through(t, s, llm.Chat, body)
	reply, err := s.Handle(context.Background(), newCall(t, llm.Chat, bodies[llm.Chat]), answers(llm.Chat, iotest.OneByteReader(strings.NewReader(body))))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := drain(reply.Stream); err != nil || got != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func TestStreamPlaces(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want map[key]string
	}{
		{"two choices, interleaved",
			content(0, "a 010-1234") + content(1, "b kim@exam") + content(0, "-5678 x") + content(1, "ple.com y") + finish(0) + finish(1) + done,
			map[key]string{content0: "a [PHONE] x", {choice: 1}: "b [EMAIL] y"}},
		{"reasoning and content do not run together",
			reasoning("call 010-1234") + content(0, "-5678 now 010-") + finish(0) + done,
			map[key]string{{channel: llm.Reasoning}: "call 010-1234", content0: "-5678 now 010-"}},
		{"reasoning masked",
			reasoning("mail kim@ex") + reasoning("ample.com") + content(0, "ok") + finish(0) + done,
			map[key]string{{channel: llm.Reasoning}: "mail [EMAIL]", content0: "ok"}},
		{"tool arguments",
			argument(0, `{"to":"010-12`) + argument(0, `34-5678","s":"kim@`) + argument(0, `x.io\nlee@y.io"}`) + argument(1, `{"a":"010-1234-5678"}`) + finish(0) + done,
			map[key]string{{channel: llm.ToolArguments}: `{"to":"[PHONE]","s":"[EMAIL]\n[EMAIL]"}`, {channel: llm.ToolArguments, tool: 1}: `{"a":"[PHONE]"}`}},
		{"text, finish and end in one event",
			content(0, "call 010-1234") + strings.Replace(content(0, "-5678"), `"finish_reason":null`, `"finish_reason":"stop"`, 1) + done,
			map[key]string{content0: "call [PHONE]"}},
		{"no finish and no end", content(0, "call 010-1234-5678"), map[key]string{content0: "call [PHONE]"}},
		{"no finish", content(0, "call 010-1234-5678") + done, map[key]string{content0: "call [PHONE]"}},
		{"role chunk with an empty text in between", content(0, "call 010-12") + role + content(0, "34-5678") + finish(0) + done, map[key]string{content0: "call [PHONE]"}},
		{"text goes on after a tool call",
			content(0, "kim@x.io") + argument(0, `{}`) + content(0, " kim@x.io") + finish(0) + done,
			map[key]string{content0: "[EMAIL] [EMAIL]", {channel: llm.ToolArguments}: `{}`}},
		{"an error in mid-stream", content(0, "call 010-1234-5678") + `data: {"error":{"message":"boom"}}` + "\n\n", map[key]string{content0: "call [PHONE]"}},
	}
	s := stage(t, Entry{Name: "pii-mask"})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := texts(t, llm.Chat, through(t, s, llm.Chat, tt.in))
			for k, want := range tt.want {
				if got[k] != want {
					t.Errorf("%v: got %q, want %q", k, got[k], want)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("got %d streams of text, want %d: %v", len(got), len(tt.want), got)
			}
		})
	}
}

// TestStreamOrder looks at the bytes: a held tail leaves in an event of its own, before what ends its choice.
func TestStreamOrder(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	first := event(0, `{"role":"assistant","content":"to kim@example.com"}`)
	got := through(t, s, llm.Chat, ": keep-alive\n\n"+first+finish(0)+usage+done)
	want := ": keep-alive\n\n" +
		event(0, `{"role":"assistant","content":"to "}`) +
		event(0, `{"role":null,"content":"[EMAIL]"}`) +
		finish(0) + usage + done
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestStreamToolTail(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	first := event(0, `{"tool_calls":[{"id":"call_1","type":"function","index":0,"function":{"name":"send","arguments":"{\"to\":\"kim@x.io"}}]}`)
	got := through(t, s, llm.Chat, first+finish(0)+done)
	want := event(0, `{"tool_calls":[{"id":"call_1","type":"function","index":0,"function":{"name":"send","arguments":"{\"to\":\""}}]}`) +
		event(0, `{"tool_calls":[{"id":null,"type":"function","index":0,"function":{"name":null,"arguments":"[EMAIL]"}}]}`) +
		finish(0) + done
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestStreamToolBegins: what is held of the text leaves before the tool call begins, though it begins with nothing.
func TestStreamToolBegins(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	begin := event(0, `{"tool_calls":[{"id":"call_1","type":"function","index":0,"function":{"name":"send","arguments":""}}]}`)
	got := through(t, s, llm.Chat, content(0, "I will write to kim")+begin+argument(0, `{}`)+finish(0)+done)
	want := content(0, "I will write to ") + content(0, "kim") + begin + argument(0, `{}`) + finish(0) + done
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestStreamUsageIsNotSaidTwice(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	ticking := strings.Replace(content(0, "to kim@x.io"), `}]}`, `}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`, 1)
	got := through(t, s, llm.Chat, ticking+finish(0)+done)
	if n := strings.Count(got, "usage"); n != 1 {
		t.Errorf("usage is said %d times, want once:\n%s", n, got)
	}
}

func TestStreamTokensGo(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	with := func(text string) string {
		return strings.Replace(content(0, text), `"finish_reason"`, `"logprobs":{"content":[{"token":`+quote(text)+`,"bytes":[1]}]},"token_ids":[1,2],"finish_reason"`, 1)
	}
	got := through(t, s, llm.Chat, with("안녕 ")+with("kim@x.io ")+finish(0)+done)
	if strings.Contains(got, "kim") {
		t.Errorf("the tokens say what was masked:\n%s", got)
	}
	// vLLM sends the ids of text that it still holds back, for a stop string or a parser, in events without it.
	ahead := strings.Replace(event(0, `{}`), `"finish_reason"`, `"logprobs":{"content":[{"token":"kim@x.io"}]},"token_ids":[1,2],"finish_reason"`, 1)
	got = through(t, s, llm.Chat, ahead+with("안녕 ")+content(0, "kim@x.io ")+finish(0)+done)
	if strings.Contains(got, "kim") || strings.Contains(got, "[1,2]") {
		t.Errorf("tokens say what is masked later:\n%s", got)
	}
}

func TestStreamCompletions(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	piece := func(text, end string) string {
		return `data: {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":` + quote(text) + `,"logprobs":null,"finish_reason":` + end + "}]}\n\n"
	}
	got := through(t, s, llm.Completions, piece("mail kim@", "null")+piece("example.com", "null")+piece("", `"stop"`)+done)
	want := piece("mail ", "null") + piece("", "null") + piece("[EMAIL]", `"stop"`) + done
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestStreamResponses(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	delta := func(text string) string {
		return "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,\"delta\":" + quote(text) + ",\"logprobs\":[]}\n\n"
	}
	end := func(text string) string {
		return "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,\"text\":" + quote(text) + "}\n\n" +
			"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":" + quote(text) + "}]}]}}\n\n"
	}
	got := through(t, s, llm.Responses, delta("mail kim@")+delta("example.com")+end("mail kim@example.com"))
	want := delta("mail ") + delta("") + delta("[EMAIL]") + end("mail [EMAIL]")
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestStreamUntouched(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	body := role + content(0, "안녕하세요 ") + ": comment\n\n" + content(0, "good day, ") + "event: x\ndata: {}\n\n" + content(0, "and more. ") + usage + done
	if got := through(t, s, llm.Chat, body); got != body {
		t.Errorf("\n got %s\nwant %s", got, body)
	}
}

func TestStreamDropsWhatCannotBeRead(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	body := content(0, "a, ") + "data: {\"choices\": kim@x.io\n\n" + content(0, "b, ") + done
	if got, want := through(t, s, llm.Chat, body), content(0, "a, ")+content(0, "b, ")+done; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestStreamSeveralDataLines(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	body := "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"kim@x.io.\\n\"}}]}\n\n"
	got := texts(t, llm.Chat, through(t, s, llm.Chat, body))
	if got[content0] != "[EMAIL].\n" {
		t.Errorf("got %v", got)
	}
}

func TestStreamBreaks(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	broken := errors.New("connection reset")
	body := io.MultiReader(strings.NewReader(content(0, "call 010-1234-5678")), iotest.ErrReader(broken))
	reply, err := s.Handle(context.Background(), newCall(t, llm.Chat, bodies[llm.Chat]), answers(llm.Chat, body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := drain(reply.Stream)
	if !errors.Is(err, broken) {
		t.Errorf("got error %v, want the backend's", err)
	}
	if text := texts(t, llm.Chat, got)[content0]; text != "call [PHONE]" {
		t.Errorf("before the error: got %q", text)
	}
	if _, again := reply.Stream.Next(); !errors.Is(again, broken) {
		t.Errorf("asked again: got %v, want the same error", again)
	}
}

func TestChainOfTwo(t *testing.T) {
	second := Entry{Name: "second", Config: map[string]any{"kinds": []string{"PHONE"}, "placeholder": "<{kind}>"}}
	s := stage(t, Entry{Name: "pii-mask", Config: map[string]any{"kinds": []string{"EMAIL"}, "placeholder": "010-2345-6789"}}, second)
	text := "x kim@x.io y, 010-1111-2222 z"
	want := "x <PHONE> y, <PHONE> z"
	for i := range text {
		got := through(t, s, llm.Chat, content(0, text[:i])+content(0, text[i:])+finish(0)+done)
		if said := texts(t, llm.Chat, got)[content0]; said != want {
			t.Fatalf("cut at %d: got %q, want %q", i, said, want)
		}
	}
}

func TestWholeReply(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	body := `{"id":"c", "choices":[{"index":0,"message":{"role":"assistant","content":"\uba54\uc77c kim@x.io \/ ok","tool_calls":[{"id":"t","function":{"name":"f","arguments":"{\"to\":\"010-1234-5678\"}"}}]},"logprobs":{"content":[{"token":"kim"}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`
	want := `{"id":"c", "choices":[{"index":0,"message":{"role":"assistant","content":"\uba54\uc77c [EMAIL] \/ ok","tool_calls":[{"id":"t","function":{"name":"f","arguments":"{\"to\":\"[PHONE]\"}"}}]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`
	c := newCall(t, llm.Chat, bodies[llm.Chat])
	reply, err := s.Handle(context.Background(), c, answersWhole(llm.Chat, body))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := reply.Header["Content-Length"]; ok {
		t.Error("the length of a body that changes is still promised")
	}
	chunk, err := reply.Stream.Next()
	if err != nil || string(chunk.Raw) != want {
		t.Fatalf("\n got %s, %v\nwant %s", chunk.Raw, err, want)
	}
	if !bytes.Equal(chunk.Raw, chunk.Data) || chunk.View.Usage.Prompt != 1 || len(chunk.View.Finishes) != 1 {
		t.Errorf("the view does not fit: %+v", chunk.View)
	}
}

func TestErrorReplyPasses(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	inner := llm.One(llm.Chunk{})
	reply, err := s.Handle(context.Background(), newCall(t, llm.Chat, bodies[llm.Chat]), pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		return &llm.Reply{Status: 400, Stream: inner}, nil
	}))
	if err != nil || reply.Stream != inner {
		t.Errorf("got %v, %v", reply, err)
	}
}

func TestStreamAllocatesNothing(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	for name, text := range map[string]string{"passed": "안녕 ", "held": "hello there "} {
		for _, held := range []bool{false, true} {
			if held {
				text = strings.TrimSpace(text)
			}
			t.Run(fmt.Sprint(name, held), func(t *testing.T) {
				next := repeat(t, s, content(0, text+" x"), content(0, "y "+text))
				if n := testing.AllocsPerRun(500, func() { next() }); n > 0 {
					t.Errorf("%v allocations a chunk, want 0", n)
				}
			})
		}
	}
}

// repeat returns a function that takes the next chunk of an endless stream of these events.
func repeat(t testing.TB, s *Stage, events ...string) func() {
	t.Helper()
	loop := &loop{}
	for _, e := range events {
		c, err := llm.NewReader(strings.NewReader(e), llm.Chat, 0).Next()
		if err != nil {
			t.Fatal(err)
		}
		loop.chunks = append(loop.chunks, c)
	}
	reply, err := s.Handle(context.Background(), newCall(t, llm.Chat, bodies[llm.Chat]), pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		return &llm.Reply{Status: 200, Stream: loop}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := reply.Stream.Next(); err != nil {
			t.Fatal(err)
		}
	}
}

type loop struct {
	chunks []llm.Chunk
	n      int
}

func (l *loop) Next() (llm.Chunk, error) {
	l.n++
	return l.chunks[l.n%len(l.chunks)], nil
}

func (l *loop) Close() error { return nil }
