package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		orphan()
		return
	}
	goleak.VerifyTestMain(m)
}

var testKnown = Known{
	Models:   []string{"m1", "m2", "llama-*"},
	Pools:    []string{"gpu"},
	Backends: map[string]Backend{"gpu-1": {Provider: "vllm", Address: "10.0.0.7:8000"}},
}

// newTest returns a Telemetry that logs to out.
func newTest(t testing.TB, out io.Writer) *Telemetry {
	t.Helper()
	tel, err := New(Config{ServiceName: "nexus", AccessLog: "off"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	tel.log = newSink(out, nil, 1<<20, tel.metrics.dropped)
	tel.SetKnown(testKnown)
	t.Cleanup(func() { closeNow(t, tel) })
	return tel
}

func closeNow(t testing.TB, tel *Telemetry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := tel.Close(ctx); err != nil {
		t.Error(err)
	}
}

func newCall() *pipeline.Call {
	return &pipeline.Call{
		ID: "req-1", Start: time.Now(), Route: llm.Chat, Method: "POST", Path: "/v1/chat/completions", Remote: "192.0.2.7",
		Header:    http.Header{},
		Request:   &llm.Request{Endpoint: llm.Chat, Model: "m1", Stream: true, MaxTokens: -1},
		Principal: &pipeline.Principal{ID: "key-1", Tenant: "acme"},
		Decision:  pipeline.Decision{ID: "d-1", Rule: "local"},
	}
}

// chunks is a stream of events that ends with err.
type chunks struct {
	list   []llm.Chunk
	err    error
	closed int
}

func (s *chunks) Next() (llm.Chunk, error) {
	if len(s.list) == 0 {
		return llm.Chunk{}, s.err
	}
	c := s.list[0]
	s.list = s.list[1:]
	return c, nil
}

func (s *chunks) Close() error { s.closed++; return nil }

func events(err error, texts ...string) *chunks {
	s := &chunks{err: err}
	for _, text := range texts {
		s.list = append(s.list, llm.Chunk{Raw: []byte(text), Kind: llm.Event})
	}
	return s
}

// backendOf answers with stream as gpu-1 would.
func backendOf(stream llm.Stream) pipeline.HandlerFunc {
	return func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
		c.Outcome = pipeline.Outcome{
			Backend: "gpu-1", Pool: "gpu", Model: "m1-served", Attempts: 2, Status: 200, Sent: time.Now(),
			FirstByte: time.Millisecond, Usage: llm.Usage{Prompt: 12, Completion: 3, Cached: 4}, Finish: "stop",
		}
		return &llm.Reply{Status: 200, Header: http.Header{}, Stream: stream}, nil
	}
}

func failing(err error) pipeline.HandlerFunc {
	return func(context.Context, *pipeline.Call) (*llm.Reply, error) { return nil, err }
}

// drain reads the reply to its end and closes it.
func drain(r *llm.Reply, err error) {
	if err != nil {
		return
	}
	for err == nil {
		_, err = r.Stream.Next()
	}
	r.Stream.Close()
}

// logged are the lines that tel has written, which it is closed for.
func logged(t *testing.T, tel *Telemetry, out *bytes.Buffer) []map[string]any {
	t.Helper()
	closeNow(t, tel)
	var lines []map[string]any
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

func TestOneLineACall(t *testing.T) {
	refusal := &pipeline.Refusal{Kind: pipeline.Exhausted, Stage: "quota", Code: "rate_limit_exceeded", Reason: "no", Err: errors.New("secret")}
	gone, leave := context.WithCancel(context.Background())
	leave()
	stopped, stop := context.WithCancelCause(context.Background())
	stop(errors.New("stopping"))
	live := context.Background()
	whole := func(tel *Telemetry, ctx context.Context, next pipeline.Handler) {
		drain(tel.Handle(ctx, newCall(), next))
	}
	cut := func(after int) func(*Telemetry, context.Context, pipeline.Handler) {
		return func(tel *Telemetry, ctx context.Context, next pipeline.Handler) {
			r, _ := tel.Handle(ctx, newCall(), next)
			for range after {
				r.Stream.Next()
			}
			r.Stream.Close()
			r.Stream.Close()
		}
	}
	tests := []struct {
		name string
		ctx  context.Context
		next pipeline.Handler
		call func(*Telemetry, context.Context, pipeline.Handler)
		want map[string]any
	}{
		{"answered", live, backendOf(events(io.EOF, "ab", "cde")), whole, map[string]any{
			"request_id": "req-1", "trace_id": "", "principal": "key-1", "tenant": "acme", "route": "chat", "rule": "local",
			"decision_id": "d-1", "model": "m1", "served_model": "m1-served", "backend": "gpu-1", "pool": "gpu", "attempts": 2.0,
			"status": 200.0, "code": "", "stage": "", "tokens_in": 12.0, "tokens_out": 3.0, "tokens_cached": 4.0, "finish": "stop",
			"client_gone": false, "bytes_out": 5.0, "stream": true, "pii_count": 0.0, "remote": "192.0.2.7"}},
		{"refused", live, failing(refusal), whole, map[string]any{
			"status": 429.0, "code": "rate_limit_exceeded", "stage": "quota", "backend": "", "client_gone": false, "bytes_out": 0.0, "upstream_ms": nil, "ttft_ms": nil}},
		{"refused with a status", live, failing(&pipeline.Refusal{Status: 451, Stage: "policy"}), whole, map[string]any{"status": 451.0, "stage": "policy"}},
		{"broken", live, failing(errors.New("disk on fire")), whole, map[string]any{"status": 500.0, "code": "internal_error", "stage": ""}},
		{"gone before the answer", gone, failing(context.Canceled), whole, map[string]any{"status": 499.0, "client_gone": true, "code": "canceled"}},
		{"ended by the gateway", stopped, failing(context.Canceled), whole, map[string]any{"status": 503.0, "client_gone": false}},
		{"gone in mid-stream", live, backendOf(events(io.EOF, "ab", "cde")), cut(1), map[string]any{"status": 200.0, "client_gone": true, "bytes_out": 2.0, "code": ""}},
		{"gone, seen by the stream first", gone, backendOf(events(context.Canceled, "ab")), cut(2), map[string]any{"status": 200.0, "client_gone": true, "code": "canceled"}},
		{"stream ended by the gateway", stopped, backendOf(events(context.Canceled, "ab")), cut(2), map[string]any{"status": 200.0, "client_gone": false}},
		{"read to the end, then gone", gone, backendOf(events(io.EOF, "ab")), cut(2), map[string]any{"status": 200.0, "client_gone": false}},
		{"broke in mid-stream", live, backendOf(events(refusal, "ab")), whole, map[string]any{"status": 200.0, "client_gone": false, "code": "rate_limit_exceeded", "stage": "quota"}},
		{"broke before the first chunk", live, backendOf(events(refusal)), whole, map[string]any{"status": 429.0, "client_gone": false, "code": "rate_limit_exceeded"}},
		{"empty", live, backendOf(events(io.EOF)), whole, map[string]any{"status": 502.0, "code": "empty_answer", "client_gone": false}},
		{"gone before the first chunk", live, backendOf(events(io.EOF, "ab")), cut(0), map[string]any{"client_gone": true, "bytes_out": 0.0, "ttft_ms": nil}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			tel := newTest(t, &out)
			tt.call(tel, tt.ctx, tt.next)
			if n := valueOf(t, tel, "gateway_streams_in_flight"); n != 0 {
				t.Errorf("%v streams in flight after the end", n)
			}
			lines := logged(t, tel, &out)
			if len(lines) != 1 {
				t.Fatalf("got %d lines, want 1:\n%s", len(lines), out.String())
			}
			for key, want := range tt.want {
				if got, ok := lines[0][key]; !ok || got != want {
					t.Errorf("%s: got %v, want %v", key, got, want)
				}
			}
		})
	}
}

func TestTimes(t *testing.T) {
	var out bytes.Buffer
	tel := newTest(t, &out)
	c := newCall()
	c.Start = c.Start.Add(-time.Second)
	drain(tel.Handle(context.Background(), c, backendOf(events(io.EOF, "ab"))))
	line := logged(t, tel, &out)[0]
	if want := c.Start.UTC().Format("2006-01-02T15:04:05.000Z"); line["time"] != want {
		t.Errorf("time: got %v, want %v", line["time"], want)
	}
	duration, first, upstream := line["duration_ms"].(float64), line["ttft_ms"].(float64), line["upstream_ms"].(float64)
	if duration < 1000 || duration > 5000 || first < 1000 || first > duration || upstream < 0 || upstream > 500 {
		t.Errorf("duration %v, ttft %v, upstream %v of a call that waited 1000 ms before the backend", duration, first, upstream)
	}
}

func TestCommentIsNoFirstToken(t *testing.T) {
	var out bytes.Buffer
	tel := newTest(t, &out)
	stream := &chunks{err: io.EOF, list: []llm.Chunk{{Raw: []byte(": wait\n\n"), Kind: llm.Comment}, {Kind: llm.Event}}}
	drain(tel.Handle(context.Background(), newCall(), backendOf(stream)))
	if line := logged(t, tel, &out)[0]; line["ttft_ms"] != nil || line["bytes_out"] != 8.0 {
		t.Errorf("got ttft_ms %v and bytes_out %v, want nil and 8", line["ttft_ms"], line["bytes_out"])
	}
}

func TestPanicIsReported(t *testing.T) {
	mid := &panicking{}
	for name, next := range map[string]pipeline.Handler{
		"in the chain": pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) { panic("x") }),
		"in a stream":  backendOf(mid),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			tel := newTest(t, &out)
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic was swallowed")
					}
				}()
				r, _ := tel.Handle(context.Background(), newCall(), next)
				defer r.Stream.Close()
				r.Stream.Next()
			}()
			if lines := logged(t, tel, &out); len(lines) != 1 || lines[0]["code"] != "panic" || lines[0]["status"] != 500.0 {
				t.Errorf("got %v, want one line with code panic and status 500", lines)
			}
			if n := valueOf(t, tel, "gateway_streams_in_flight"); n != 0 {
				t.Errorf("%v streams in flight", n)
			}
		})
	}
}

type panicking struct{}

func (panicking) Next() (llm.Chunk, error) { panic("x") }
func (panicking) Close() error             { return nil }

// waiting yields chunks until it is closed, writing the call's outcome as it goes, as upstream does.
type waiting struct {
	call   *pipeline.Call
	closed chan struct{}
	once   sync.Once
}

func (s *waiting) Next() (llm.Chunk, error) {
	s.call.Outcome.Usage.Completion++
	select {
	case <-s.closed:
		s.call.Outcome.Usage.Completion++
		return llm.Chunk{}, io.ErrClosedPipe
	default:
		return llm.Chunk{Raw: []byte("x"), Kind: llm.Event}, nil
	}
}

func (s *waiting) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// TestCloseFromElsewhere is for the race detector too: a call is reported by the last one to touch it.
func TestCloseFromElsewhere(t *testing.T) {
	var out bytes.Buffer
	tel := newTest(t, &out)
	const calls = 300
	for range calls {
		c := newCall()
		r, err := tel.Handle(context.Background(), c, backendOf(&waiting{call: c, closed: make(chan struct{})}))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for err := error(nil); err == nil; {
				_, err = r.Stream.Next()
			}
		})
		for range 3 {
			wg.Go(func() { r.Stream.Close() })
		}
		wg.Wait()
		if _, err := r.Stream.Next(); err == nil {
			t.Error("a closed stream yields chunks")
		}
	}
	if lines := logged(t, tel, &out); len(lines) != calls {
		t.Errorf("got %d lines, want %d", len(lines), calls)
	}
}

func TestValidate(t *testing.T) {
	good := Config{ServiceName: "nexus", AccessLog: "stdout", LogBuffer: 1 << 20}
	exporting := Traces{Endpoint: "https://collector:4318", Sample: 0.1, Timeout: time.Second}
	tests := []struct {
		name string
		edit func(*Config)
		want string // path of the only problem; empty: none
	}{
		{"default", func(*Config) {}, ""},
		{"exporting", func(c *Config) { c.Traces = exporting }, ""},
		{"no name", func(c *Config) { c.ServiceName = "" }, "telemetry.service_name"},
		{"no log", func(c *Config) { c.AccessLog = "" }, "telemetry.access_log"},
		{"tiny buffer", func(c *Config) { c.LogBuffer = 10 }, "telemetry.access_log_buffer"},
		{"share above 1", func(c *Config) { c.Traces.Sample = 1.5 }, "telemetry.traces.sample"},
		{"share below 0", func(c *Config) { c.Traces.Sample = -1 }, "telemetry.traces.sample"},
		{"no time", func(c *Config) { c.Traces = exporting; c.Traces.Timeout = 0 }, "telemetry.traces.timeout"},
		{"no scheme", func(c *Config) { c.Traces = exporting; c.Traces.Endpoint = "collector:4318" }, "telemetry.traces.endpoint"},
		{"password", func(c *Config) { c.Traces = exporting; c.Traces.Endpoint = "http://u:p@collector" }, "telemetry.traces.endpoint"},
		{"query", func(c *Config) { c.Traces = exporting; c.Traces.Endpoint = "http://collector?a=b" }, "telemetry.traces.endpoint"},
		{"header's name", func(c *Config) { c.Traces = exporting; c.Traces.Headers = map[string]setting.Secret{"a b": {}} }, "telemetry.traces.headers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := good, setting.NewProblems()
			tt.edit(&c)
			c.Validate(p.In("telemetry"))
			got := ""
			for _, problem := range p.All() {
				got += problem.Path
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
