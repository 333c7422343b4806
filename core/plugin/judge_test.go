package plugin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

const judgePath = "./testdata/judge"

// A journal is a log that many may write to.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// lines returns what the guest logged, once all that was left to do in the end is done.
func (j *journal) lines(s *Set) (all []string) {
	s.stage.last.wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		_, said, _ := strings.Cut(strings.TrimSpace(line), `msg="`)
		said, _, _ = strings.Cut(said, `"`)
		all = append(all, said)
	}
	j.buf.Reset()
	return all
}

var judged = struct {
	sync.Mutex
	journal journal
	sets    map[string]*Set
	loader  *Loader
}{sets: map[string]*Set{}}

// judges loads the judge, once for each set of entries; second is the same module under another name.
func judges(t testing.TB, chain ...Entry) (*Set, *journal) {
	t.Helper()
	judged.Lock()
	defer judged.Unlock()
	all := "[answer, headers, log, pool, system]"
	manifest := func(name string) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, "name: %s\nhooks: [on_request, on_tool_call, on_usage, on_end]\ncapabilities: %s\ndeadline: 2s", name, all)}
	}
	if judged.loader == nil {
		files := folder(t)
		for _, name := range []string{"judge", "other"} {
			files[name+".wasm"], files[name+".yaml"] = &fstest.MapFile{Data: guest(t, judgePath)}, manifest(name)
		}
		l, err := NewLoader(Options{Decode: decode, Log: slog.New(slog.NewTextHandler(&judged.journal, nil)), Shipped: files})
		if err != nil {
			t.Fatal(err)
		}
		judged.loader = l
	}
	for i := range chain {
		if chain[i].Name == "judge" || chain[i].Name == "other" {
			chain[i].Capabilities = strings.Split(strings.Trim(all, "[]"), ", ")
		}
	}
	name := fmt.Sprint(chain)
	if s := judged.sets[name]; s != nil {
		judged.journal.lines(s)
		return s, &judged.journal
	}
	s, err := judged.loader.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	judged.sets[name] = s
	return s, &judged.journal
}

// closeJudges is for TestMain.
func closeJudges() error {
	for _, s := range judged.sets {
		if err := s.Close(); err != nil {
			return err
		}
	}
	if judged.loader == nil {
		return nil
	}
	return judged.loader.Close()
}

// bidden makes a call that tells the judge what to do.
func bidden(t testing.TB, e llm.Endpoint, body, do string) *pipeline.Call {
	t.Helper()
	c := newCall(t, e, body)
	c.Header = http.Header{"X-Do": {do}, "X-Seen": {"a", "b"}, "X-Api-Key": {"k"}, "Authorization": {"Bearer s"}, "Cookie": {"c"}, "X-Auth-Token": {"t"}, "Session-Secret": {"s"}}
	return c
}

func TestRequestRecords(t *testing.T) {
	s, _ := judges(t, Entry{Name: "judge"}, Entry{Name: "other"})
	chat := bodies[llm.Chat]
	denied := func(t *testing.T, _ *pipeline.Call, err error) {
		wantRefusal(t, err, pipeline.Unavailable, 0, "plugin_failed", "plugin judge failed")
	}
	tests := []struct {
		name, do string
		route    llm.Endpoint
		check    func(t *testing.T, c *pipeline.Call, err error)
	}{
		{"drop a header", "set=X-A:1;drop=x-a", llm.Chat, func(t *testing.T, c *pipeline.Call, err error) {
			if v, ok := c.Headers["X-A"]; err != nil || !ok || len(v) != 0 {
				t.Errorf("got %v, %v", c.Headers, err)
			}
		}},
		{"drop a header and set it", "drop=X-A;set=x-a:1", llm.Chat, func(t *testing.T, c *pipeline.Call, err error) {
			if err != nil || c.Headers.Get("X-A") != "1" {
				t.Errorf("got %v, %v", c.Headers, err)
			}
		}},
		{"forward", "forward=x-team:red;forward=x-b:1;forward=x-b:", llm.Chat, func(t *testing.T, c *pipeline.Call, err error) {
			if v, ok := c.Forward["X-B"]; err != nil || c.Forward.Get("X-Team") != "red" || !ok || len(v) != 0 {
				t.Errorf("got %v, %v", c.Forward, err)
			}
		}},
		{"pool", "pool=big", llm.Chat, func(t *testing.T, c *pipeline.Call, err error) {
			if err != nil || c.Pool != "big" {
				t.Errorf("got %q, %v", c.Pool, err)
			}
		}},
		{"system, by both plugins", "before=A ;after= B", llm.Chat, func(t *testing.T, c *pipeline.Call, err error) {
			if want := (pipeline.System{Before: "A A ", After: " B B"}); err != nil || c.System != want {
				t.Errorf("got %+v, %v", c.System, err)
			}
		}},
		{"system replaced takes all with it", "before=A;instead=I;after=B", llm.Responses, func(t *testing.T, c *pipeline.Call, err error) {
			if want := (pipeline.System{Replace: "I", After: "B"}); err != nil || c.System != want {
				t.Errorf("got %+v, %v", c.System, err)
			}
		}},
		{"system of completions", "before=A", llm.Completions, denied},
		{"a caller's header", "see=x-seen", llm.Chat, func(t *testing.T, c *pipeline.Call, err error) {
			if err != nil || c.Labels["seen"] != "a, b" {
				t.Errorf("got %v, %v", c.Labels, err)
			}
		}},
		{"answer of embeddings", "answer=x", llm.Embeddings, denied},
	}
	for _, name := range []string{"x-api-key", "authorization", "cookie", "x-auth-token", "session-secret"} {
		tests = append(tests, struct {
			name, do string
			route    llm.Endpoint
			check    func(t *testing.T, c *pipeline.Call, err error)
		}{"credential in " + name, "see=" + name, llm.Chat, func(t *testing.T, c *pipeline.Call, err error) {
			if err != nil || c.Labels["seen"] != "" {
				t.Errorf("got %v, %v", c.Labels, err)
			}
		}})
	}
	for _, name := range []string{"host", "Content-Type", "transfer-encoding", "connection", "Keep-Alive", "te", "upgrade", "proxy-authorization", "authorization",
		"cookie", "traceparent", "tracestate", "x-request-id", "accept-encoding", "expect"} {
		tests = append(tests, struct {
			name, do string
			route    llm.Endpoint
			check    func(t *testing.T, c *pipeline.Call, err error)
		}{"forward " + name, "forward=" + name + ":1", llm.Chat, denied})
	}
	texts := map[llm.Endpoint]string{llm.Chat: chat, llm.Completions: bodies[llm.Completions], llm.Responses: bodies[llm.Responses], llm.Embeddings: `{"model":"m","input":"x"}`}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := bidden(t, tt.route, texts[tt.route], tt.do)
			_, err := s.Stage().Handle(context.Background(), c, answers(tt.route, strings.NewReader("")))
			tt.check(t, c, err)
		})
	}
}

// TestAnswer: a plugin answers in the backend's place, in the form that was asked for.
func TestAnswer(t *testing.T) {
	s, _ := judges(t, Entry{Name: "judge"}, Entry{Name: "pii-mask"})
	never := pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		t.Error("the backend was asked")
		return nil, io.ErrUnexpectedEOF
	})
	for _, e := range []llm.Endpoint{llm.Chat, llm.Completions} {
		for _, stream := range []bool{false, true} {
			body := strings.Replace(bodies[e], `"stream":true`, fmt.Sprintf(`"stream":%v`, stream), 1)
			reply, err := s.Stage().Handle(context.Background(), bidden(t, e, body, "answer=Ask kim@x.io"), never)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			for {
				c, err := reply.Stream.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if c.View == nil {
					continue
				}
				for _, x := range c.View.Texts {
					text.Write(llm.AppendText(nil, c.Data, x))
				}
			}
			if text.String() != "Ask [EMAIL]" {
				t.Errorf("%s, stream %v: got %q", e, stream, text.String())
			}
			if err := reply.Stream.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestRecordsChecked takes every record without its capability, and beyond its bounds.
func TestRecordsChecked(t *testing.T) {
	all := map[string]bool{"headers": true, "model": true, "pool": true, "system": true}
	long := strings.Repeat("x", maxText+1)
	tests := []struct {
		id          uint16
		name, value string
		granted, ok bool
	}{
		{9, "", "big", true, true}, {9, "", "big", false, false}, {9, "", "", true, false}, {9, "", long[:maxModel+1], true, false}, {9, "", "a\n", true, false},
		{10, "X-A", "b", true, true}, {10, "X-A", "b", false, false}, {10, "Host", "b", true, false}, {10, "X-A", "b\r\nc", true, false}, {10, "X A", "b", true, false},
		{11, "X-A", "", true, true}, {11, "X-A", "", false, false}, {11, "X-A", "b", true, false}, {11, "Content-Length", "", true, false},
		{12, "before", "b\nc", true, true}, {12, "before", "b", false, false}, {12, "before", "", true, false}, {12, "", "b", true, false}, {12, "first", "b", true, false},
		{12, "after", long[:maxSystem+1], true, false}, {12, "replace", "\xff", true, false},
		{8, "", "", true, true}, {8, "", long, true, false}, {8, "", "\xff", true, false},
		{7, "", "{}", true, true}, {7, "", "{", true, false}, {7, "", "", true, false}, {7, "", "\"\xff\"", true, false}, {7, "", `"` + strings.Repeat("x", maxArguments) + `"`, true, false},
	}
	for _, tt := range tests {
		p := &plugin{}
		if tt.granted {
			p.granted = all
		}
		s := said{route: llm.Chat}
		if err := p.record(&s, tt.id, tt.name, tt.value); (err == nil) != tt.ok {
			t.Errorf("%d %q %.20q, granted %v: got %v", tt.id, tt.name, tt.value, tt.granted, err)
		}
	}
	p, s := &plugin{granted: all}, said{route: llm.Chat}
	for i := range 3 {
		if err := p.record(&s, 12, "after", long[:maxSystem/2]); (err == nil) != (i < 2) {
			t.Errorf("system prompt %d: got %v", i, err)
		}
	}
}

// TestVerdictsThatMeanNothing: each hook takes the verdicts and records that it has, and no others.
func TestVerdictsThatMeanNothing(t *testing.T) {
	tests := []struct {
		hook    *hook
		id      uint16
		verdict int
		ok      bool
	}{
		{requestHook, 1, 0, true}, {requestHook, 7, 0, false}, {requestHook, 8, 0, false}, {requestHook, 8, 2, true}, {requestHook, 4, 1, true}, {requestHook, 13, 0, true},
		{toolCallHook, 7, 0, true}, {toolCallHook, 8, 0, false}, {toolCallHook, 8, 3, true}, {toolCallHook, 1, 0, false}, {toolCallHook, 12, 0, false}, {toolCallHook, 5, 1, true},
		{usageHook, 1, 0, false}, {usageHook, 7, 0, false}, {usageHook, 8, 0, false}, {usageHook, 8, 1, false}, {usageHook, 6, 1, true},
		{textHook, 1, 1, false}, {textHook, 8, 1, false}, {textHook, 6, 1, true},
	}
	for _, tt := range tests {
		if got := tt.hook.may(tt.id, abi.Verdict(tt.verdict)); got != tt.ok {
			t.Errorf("record %d with verdict %d: got %v", tt.id, tt.verdict, got)
		}
	}
}

// FuzzRecords reads what a guest may leave in its out buffer. The law: what was read and written again reads the same.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(record(1, "a", "b") + record(12, "before", "c") + record(99, "x", "y")))
	f.Add([]byte(le(5, 0xffffffff)))
	f.Add([]byte("abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		err := eachRecord(b, func(id uint16, name, value []byte) error {
			again = appendRecord(again, id, string(name), string(value))
			return nil
		})
		if err == nil && !bytes.Equal(again, b) {
			t.Fatalf("%x was read as %x", b, again)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%x began as %x", b, again)
		}
		p, s := &plugin{granted: map[string]bool{"headers": true, "model": true, "pool": true, "system": true}}, said{route: llm.Chat}
		_ = eachRecord(b, func(id uint16, name, value []byte) error { return p.record(&s, id, string(name), string(value)) })
		if len(s.text) > maxText || len(s.arguments) > maxArguments || s.hasArguments && !llm.Valid([]byte(s.arguments)) || len(s.labels) > maxRecords {
			t.Fatalf("believed %+v", s)
		}
		for _, c := range s.forward {
			if ofRequest(strings.ToLower(c.name)) || strings.ContainsAny(c.name+c.value, "\r\n") {
				t.Fatalf("believed the header %+v", c)
			}
		}
	})
}
