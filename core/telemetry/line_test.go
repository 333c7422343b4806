package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// breakers are texts that break a line, a terminal or a JSON reader when they are written as they are.
var breakers = []string{
	"a\r\nb", "\n{\"time\":\"forged\"}\n", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\",\"status\":200,\"x\":\"", "\\", "\\\"", "\\u0000",
	"\x00", "\x7f", "\u009b31m", "\u0085", "\u2028\u2029", "\u202egnp.exe", "\ufeff", "\xff\xfe", "\xed\xa0\x80", "}\n{", "</script>", "%0a%0d",
	"\x0b\x0c\x08\t", "한국어 👩‍👩‍👧", strings.Repeat("x", 5000), strings.Repeat("한", 1000), strings.Repeat("\x01", 3000),
}

// hostile puts text into every place of a call that a caller, a policy, a backend or an error may fill.
func hostile(text string) (*pipeline.Call, pipeline.Handler) {
	c := newCall()
	c.ID, c.Method, c.Path, c.Remote, c.Route = text, text, text, text, llm.Endpoint(text)
	c.Header = map[string][]string{"Traceparent": {text}, "Tracestate": {text}, "User-Agent": {text}, "Authorization": {"Bearer " + text}}
	c.Request.Model, c.Request.User, c.Request.Body = text, text, []byte(text)
	c.Principal = &pipeline.Principal{ID: text, Tenant: text, Team: text}
	c.Decision = pipeline.Decision{ID: text, Rule: text, Reason: text, Tags: map[string]string{text: text}}
	c.Labels = map[string]string{text: text}
	return c, pipeline.HandlerFunc(func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
		c.Outcome = pipeline.Outcome{Backend: text, Pool: text, Model: text, Finish: text}
		refusal := &pipeline.Refusal{Code: text, Stage: text, Reason: text, Param: text, Err: fmt.Errorf("%s", text)}
		return &llm.Reply{Status: 200, Stream: events(refusal, text)}, nil
	})
}

func TestLogInjection(t *testing.T) {
	var out bytes.Buffer
	tel := newTest(t, &out)
	for _, text := range breakers {
		c, next := hostile(text)
		drain(tel.Handle(context.Background(), c, next))
	}
	lines := logged(t, tel, &out)
	if len(lines) != len(breakers) {
		t.Fatalf("got %d lines for %d calls", len(lines), len(breakers))
	}
	for i, text := range breakers {
		want := strings.ToValidUTF8(text, "\ufffd")
		got := lines[i]["model"].(string)
		if len(text) <= maxField && utf8.ValidString(text) && got != want {
			t.Errorf("model: got %q, want %q", got, want)
		}
		for key, value := range lines[i] {
			if s, ok := value.(string); ok && len(s) > maxField {
				t.Errorf("%s has %d bytes, over %d", key, len(s), maxField)
			}
		}
	}
	for _, r := range out.String() {
		if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x202e || r == utf8.RuneError) {
			t.Fatalf("the log holds %U unescaped", r)
		}
	}
}

func TestMillis(t *testing.T) {
	for in, want := range map[int64]string{0: "0.000", 1: "0.001", 12_345: "12.345", 60_000_007: "60000.007", -1: "null"} {
		if got := string(appendMillis(nil, "k", 1000*durationOf(in))); got != `,"k":`+want {
			t.Errorf("%d µs: got %s, want %s", in, got, want)
		}
	}
}

// FuzzAppendString: any text makes a JSON string that is read back as the text, cut and made valid.
func FuzzAppendString(f *testing.F) {
	for _, text := range breakers {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line := append([]byte(`{"a":1`), appendString(nil, "k", text)...)
		line = append(line, '}')
		var got struct{ K string }
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%q makes %q: %v", text, line, err)
		}
		var want []rune
		for _, r := range clip(text) { // each stray byte is one U+FFFD
			want = append(want, r)
		}
		if got.K != string(want) {
			t.Errorf("%q is read back as %q, want %q", text, got.K, string(want))
		}
		if len(clip(text)) < min(len(text), maxField-utf8.UTFMax) {
			t.Errorf("%q is cut to %d bytes", text, len(clip(text)))
		}
		if bytes.ContainsAny(line, "\r\n\x1b\x00\x7f") || !utf8.Valid(line) {
			t.Errorf("%q leaves a control character in %q", text, line)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	c := newCall()
	drainCall(c)
	e := entry{call: c, model: "m1", status: 200}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendLine(buf[:0], &e)
	}
}

// BenchmarkStage is what telemetry adds to one call of three chunks.
func BenchmarkStage(b *testing.B) {
	tel := newTest(b, io.Discard)
	c := newCall()
	c.Header["Traceparent"] = []string{goodParent}
	stream := &endless{}
	reply := &llm.Reply{Status: 200}
	next := pipeline.HandlerFunc(func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
		stream.left, reply.Stream = 3, stream
		return reply, nil
	})
	drainCall(c)
	b.ReportAllocs()
	for b.Loop() {
		drain(tel.Handle(context.Background(), c, next))
	}
}

func BenchmarkChunk(b *testing.B) {
	tel := newTest(b, io.Discard)
	r, _ := tel.Handle(context.Background(), newCall(), backendOf(&endless{left: 1 << 62}))
	b.ReportAllocs()
	for b.Loop() {
		r.Stream.Next()
	}
	r.Stream.Close()
}

// endless yields left chunks.
type endless struct{ left int }

var endlessChunk = llm.Chunk{Raw: []byte("data: {}\n\n"), Kind: llm.Event}

func (s *endless) Next() (llm.Chunk, error) {
	if s.left == 0 {
		return llm.Chunk{}, io.EOF
	}
	s.left--
	return endlessChunk, nil
}

func (s *endless) Close() error { return nil }

// TestAllocations keeps the stage cheap; the figures are those of one call.
func TestAllocations(t *testing.T) {
	tel := newTest(t, io.Discard)
	c := newCall()
	drainCall(c)
	reply, stream := &llm.Reply{Status: 200}, &endless{}
	next := pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		stream.left, reply.Stream = 3, stream
		return reply, nil
	})
	got := testing.AllocsPerRun(1000, func() { drain(tel.Handle(context.Background(), c, next)) })
	if got > 5 && !raceOn {
		t.Errorf("%v allocations a call, want at most 5", got)
	}
}
