package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fast are timeouts short enough to test.
var fast = TimeoutsConfig{Connect: time.Second, Headers: 2 * time.Second, FirstToken: 300 * time.Millisecond, Between: 300 * time.Millisecond, Total: 10 * time.Second}

func backendAt(t *testing.T, o mock.Options) (*mock.Server, string) {
	t.Helper()
	if o.Models == nil {
		o.Models = []string{"mock", "mock-echo"}
	}
	s, err := mock.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, p.URL
}

func newUpstream(t *testing.T, cfg Config) *Upstream {
	t.Helper()
	for id, b := range cfg.Backends {
		b.Weight = 1
		if b.Kind == "" {
			b.Kind = "vllm"
		}
		if b.Health == (HealthConfig{}) {
			b.Health = usualHealth
		}
		cfg.Backends[id] = b
	}
	for name, p := range cfg.Pools {
		if p.Timeouts == (TimeoutsConfig{}) {
			p.Timeouts = fast
		}
		cfg.Pools[name] = p
	}
	u, err := New(cfg, NewFleet(), NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

func single(t *testing.T, url string) *Upstream {
	return newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: url}},
		Pools:    map[string]PoolConfig{"default": {Models: []string{"mock*"}, Backends: []string{"one"}}},
	})
}

func newCall(t *testing.T, route llm.Endpoint, body string) *pipeline.Call {
	t.Helper()
	r := new(llm.Request)
	if err := llm.ParseRequest(route, []byte(body), r); err != nil {
		t.Fatal(err)
	}
	return &pipeline.Call{ID: "req-1", Route: route, Request: r, Header: http.Header{}}
}

func chat(prompt string, stream bool) string {
	return fmt.Sprintf(`{"model":"mock","stream":%v,"messages":[{"role":"user","content":%q}]}`, stream, prompt)
}

// drain reads a reply to its end and closes it.
func drain(t *testing.T, reply *llm.Reply) (string, error) {
	t.Helper()
	var out bytes.Buffer
	defer reply.Stream.Close()
	for {
		c, err := reply.Stream.Next()
		if err == io.EOF {
			return out.String(), nil
		}
		if err != nil {
			return out.String(), err
		}
		out.Write(c.Raw)
	}
}

func TestStreamComesThrough(t *testing.T) {
	_, url := backendAt(t, mock.Options{Tokens: 20})
	u := single(t, url)
	for _, metered := range []bool{false, true} {
		c := newCall(t, llm.Chat, chat("안녕하세요", true))
		c.Metered = metered
		reply, err := u.Handle(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		text, err := drain(t, reply)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, `"usage"`) {
			t.Errorf("metered %v: usage that the caller did not ask for came through:\n%s", metered, text)
		}
		if n := strings.Count(text, "data: [DONE]\n\n"); n != 1 || !strings.HasSuffix(text, "data: [DONE]\n\n") {
			t.Errorf("metered %v: %d times [DONE]", metered, n)
		}
		o := c.Outcome
		if !o.Counted || o.Usage.Completion != 20 || o.Usage.Prompt == 0 || o.Finish != "stop" || o.Backend != "one" || o.Model != "mock" {
			t.Errorf("metered %v: outcome %+v", metered, o)
		}
		for event := range strings.SplitSeq(strings.TrimSuffix(text, "data: [DONE]\n\n"), "\n\n") {
			if event != "" && !json.Valid([]byte(strings.TrimPrefix(event, "data: "))) {
				t.Errorf("metered %v: event is not JSON: %s", metered, event)
			}
		}
	}
}

func TestUsageAsTheCallerAsked(t *testing.T) {
	_, url := backendAt(t, mock.Options{Tokens: 5})
	u := single(t, url)
	for _, tt := range []struct {
		name, options string
		usages        int
	}{
		{"final", `{"include_usage":true}`, 1},
		{"every chunk", `{"include_usage":true,"continuous_usage_stats":true}`, 7},
		{"none", `{"include_usage":false}`, 0},
		{"null", `null`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCall(t, llm.Chat, `{"model":"mock","stream":true,"stream_options":`+tt.options+`,"messages":[{"role":"user","content":"x"}]}`)
			c.Metered = true
			reply, err := u.Handle(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			text, err := drain(t, reply)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(text, `"usage":{`); n < tt.usages || tt.usages < 2 && n != tt.usages {
				t.Errorf("usage stands in %d chunks, want %d:\n%s", n, tt.usages, text)
			}
			if !c.Outcome.Counted {
				t.Error("not counted")
			}
		})
	}
}

func TestFaults(t *testing.T) {
	_, url := backendAt(t, mock.Options{Tokens: 10})
	u := single(t, url)
	for _, tt := range []struct {
		fault  string
		status int    // refusal's or reply's status; 0: it becomes a stream
		code   string // refusal's code, of Handle or of the stream; empty: the stream ends well
	}{
		{"die-after=4", 0, "bad_backend_answer"},
		{"eof-after=4", 0, "bad_backend_answer"},
		{"reset-after=4", 0, "bad_backend_answer"},
		{"stall-after=4", 0, "between_tokens_timeout"},
		{"error-in-band=4", 0, "*"},
		{"abort-finish=4", 0, "bad_backend_answer"},
		{"malformed-chunk=2", 0, ""},
		{"no-done", 0, ""},
		{"two-dones", 0, ""},
		{"trailing-garbage", 0, ""},
		{"crlf", 0, ""},
		{"bytewise", 0, ""},
		{"comments", 0, ""},
		{"no-space", 0, ""},
		{"no-usage", 0, ""},
		{"big-event=2000000", 0, "bad_backend_answer"},
		{"error-first", 500, ""},
		{"empty-200", 502, "bad_backend_answer"},
		{"html", 502, "bad_backend_answer"},
		{"headers-then-nothing", 504, "first_token_timeout"},
		{"status=500", 500, ""},
		{"status=429;retry-after=2", 429, ""},
		{"status=401", 502, "bad_backend_answer"},
		{"context-length", 400, ""},
		{"garbage-line", 502, "bad_backend_answer"},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			c := newCall(t, llm.Chat, chat("[[mock fault="+tt.fault+"]]", true))
			reply, err := u.Handle(context.Background(), c)
			if err == nil && reply.Status == http.StatusOK {
				var text string
				text, err = drain(t, reply)
				if tt.code == "" && strings.Count(text, "[DONE]") != 1 {
					t.Errorf("want one [DONE]:\n%s", text)
				}
				if tt.code != "" && strings.Contains(text, "[DONE]") {
					t.Errorf("a broken answer ended with [DONE]:\n%s", text)
				}
			} else if err == nil {
				if reply.Status != tt.status {
					t.Errorf("status %d, want %d", reply.Status, tt.status)
				}
				body, _ := drain(t, reply)
				if !strings.HasPrefix(body, `{"error":{`) {
					t.Errorf("not OpenAI's error shape: %s", body)
				}
			}
			var r *pipeline.Refusal
			if errors.As(err, &r) != (tt.code != "") || r != nil && tt.code != "*" && r.Code != tt.code {
				t.Errorf("error %v, want code %q", err, tt.code)
			}
			if tt.status >= 500 && r != nil && r.HTTPStatus() != tt.status {
				t.Errorf("status %d, want %d", r.HTTPStatus(), tt.status)
			}
			for _, p := range u.pools {
				heal(p.members()[0])
			}
		})
	}
}

func TestFallback(t *testing.T) {
	_, good := backendAt(t, mock.Options{Tokens: 5})
	_, sick := backendAt(t, mock.Options{Tokens: 5, Models: []string{"m"}, Script: "fault=status=503"})
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"good": {URL: good}, "sick": {URL: sick}, "dead": {URL: "http://127.0.0.1:1"}},
		Pools: map[string]PoolConfig{
			"a": {Models: []string{"m"}, Backends: []string{"sick"}},
			"b": {Models: []string{"m"}, Backends: []string{"dead"}},
			"c": {Models: []string{"m"}, Backends: []string{"good"}, Model: "mock"},
		},
	})
	c := newCall(t, llm.Chat, strings.Replace(chat("hi", false), `"mock"`, `"m"`, 1))
	c.Decision.Targets = []pipeline.Target{{Pool: "a"}, {Pool: "b"}, {Pool: "c"}}
	reply, err := u.Handle(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := drain(t, reply); err != nil || !strings.Contains(body, `"choices"`) {
		t.Errorf("body %q, err %v", body, err)
	}
	if c.Outcome.Backend != "good" || c.Outcome.Pool != "c" || c.Outcome.Attempts != 3 || c.Outcome.Fallback != "mock" {
		t.Errorf("outcome %+v, want good of c after 3 attempts (sick, dead, good)", c.Outcome)
	}
}

func TestClosingCancelsTheBackend(t *testing.T) {
	s, url := backendAt(t, mock.Options{Tokens: 10_000, Pace: 5 * time.Millisecond})
	u := single(t, url)
	reply, err := u.Handle(context.Background(), newCall(t, llm.Chat, chat("long", true)))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := reply.Stream.Next(); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	_ = reply.Stream.Close()
	for s.Stats().Aborted == 0 && time.Since(start) < time.Second {
		time.Sleep(time.Millisecond)
	}
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("the backend saw the abort after %v, want 50 ms at most", took)
	}
	if _, err := reply.Stream.Next(); err == nil {
		t.Error("Next after Close gave a chunk")
	}
}

func TestCloseMakesAWaitingNextReturn(t *testing.T) {
	_, url := backendAt(t, mock.Options{})
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: url}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: TimeoutsConfig{Connect: time.Second}}},
	})
	reply, err := u.Handle(context.Background(), newCall(t, llm.Chat, chat("[[mock fault=stall-after=1]]", true)))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := reply.Stream.Next(); err != nil {
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond)
	_ = reply.Stream.Close()
	select {
	case <-ended:
	case <-time.After(time.Second):
		t.Fatal("Next still waits")
	}
}

func TestWhatTheBackendSees(t *testing.T) {
	s, url := backendAt(t, mock.Options{})
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: url}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"public"}, Backends: []string{"one"}, Model: "mock"}},
	})
	body := `{"model":"public","messages":[{"role":"user","content":"전화 010-1234-5678 \u2764"}],"top_k":40, "x":1.50}`
	c := newCall(t, llm.Chat, body)
	c.Principal = &pipeline.Principal{Tenant: "acme"}
	c.Header = http.Header{"Cookie": {"a=b"}, "X-Api-Key": {"secret"}, "X-Vllm-Priority": {"-5"}}
	c.Edits = []pipeline.TextEdits{{Text: 0, Edits: []llm.Edit{{Start: 7, End: 20, With: []byte("[PHONE]")}}}}
	c.Decision.Set.MaxTokens = 7
	reply, err := u.Handle(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t, reply); err != nil {
		t.Fatal(err)
	}
	seen := s.Requests()[0]
	salt := string(u.salt.of("acme"))
	want := `{"model":"mock","messages":[{"role":"user","content":"전화 [PHONE] \u2764"}],"top_k":40, "x":1.50,"max_tokens":7,"cache_salt":` + salt + `}`
	if got := string(seen.Body); got != want {
		t.Errorf("backend got\n%s\nwant\n%s", got, want)
	}
	for _, name := range []string{"Cookie", "X-Api-Key", "X-Vllm-Priority", "Authorization", "Idempotency-Key"} {
		if v := seen.Header.Get(name); v != "" {
			t.Errorf("the backend saw %s: %s", name, v)
		}
	}
	if got := seen.Header.Get("X-Request-Id"); got != "req-1-1" {
		t.Errorf("X-Request-Id %q", got)
	}
	c = newCall(t, llm.Chat, strings.Replace(body, `"public"`, `"public" `, 1))
	c.Edits = []pipeline.TextEdits{{Text: 0, Edits: []llm.Edit{{Start: 7, End: 20, With: []byte("[PHONE]")}}}}
	c.Decision.Mask.Profile = "none"
	reply, err = u.Handle(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = drain(t, reply)
	if got := string(s.Requests()[1].Body); !strings.Contains(got, "010-1234-5678") {
		t.Errorf("mask profile none still masked: %s", got)
	}
}

func TestGuard(t *testing.T) {
	next := pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) { return nil, nil })
	g := NewGuard(map[string]RouteConfig{"chat": {AllowFields: []string{"priority"}}})
	for _, tt := range []struct {
		body string
		bad  string
	}{
		{`"top_k":1`, ""},
		{`"priority":1`, ""},
		{`"cache_salt":null`, ""},
		{`"cache_salt":"mine"`, "cache_salt"},
		{`"kv_transfer_params":{"prompt_token_ids":[1]}`, "kv_transfer_params"},
		{`"input_ids":[1,2]`, "input_ids"},
		{`"chat_template":"{{x}}"`, "chat_template"},
		{`"\u0069nput_ids":[1]`, "input_ids"},
	} {
		c := newCall(t, llm.Chat, `{"model":"m","messages":[{"role":"user","content":"x"}],`+tt.body+`}`)
		_, err := g.Handle(context.Background(), c, next)
		var r *pipeline.Refusal
		errors.As(err, &r)
		if (r != nil) != (tt.bad != "") || r != nil && r.Param != tt.bad {
			t.Errorf("%s: got %v, want param %q", tt.body, err, tt.bad)
		}
	}
	_, err := g.Handle(context.Background(), newCall(t, llm.Completions, `{"model":"m","prompt":[1,2,3]}`), next)
	if err == nil {
		t.Error("a token prompt passed")
	}
}

func TestUnknownModelAndPool(t *testing.T) {
	_, url := backendAt(t, mock.Options{})
	u := single(t, url)
	_, err := u.Handle(context.Background(), newCall(t, llm.Chat, strings.Replace(chat("x", false), "mock", "gpt-9", 1)))
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Code != "model_not_found" || r.HTTPStatus() != 404 {
		t.Errorf("unknown model: %v", err)
	}
	c := newCall(t, llm.Chat, chat("x", false))
	c.Decision = pipeline.Decision{Rule: "r", Targets: []pipeline.Target{{Pool: "nowhere"}}}
	if _, err = u.Handle(context.Background(), c); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("unknown pool: %v", err)
	}
}

func TestEveryRoute(t *testing.T) {
	_, url := backendAt(t, mock.Options{Tokens: 6})
	u := single(t, url)
	for _, tt := range []struct {
		route llm.Endpoint
		body  string
		want  string
	}{
		{llm.Completions, `{"model":"mock","prompt":"hi","stream":true}`, "text_completion"},
		{llm.Completions, `{"model":"mock","prompt":"hi"}`, "text_completion"},
		{llm.Embeddings, `{"model":"mock","input":["a","b"]}`, "embedding"},
		{llm.Responses, `{"model":"mock","input":"hi"}`, "output"},
		{llm.Responses, `{"model":"mock","input":"hi","stream":true}`, "response.completed"},
		{llm.Rerank, `{"model":"mock","query":"q","documents":["a","b"]}`, "relevance_score"},
		{llm.Score, `{"model":"mock","text_1":"a","text_2":"b"}`, "score"},
		{llm.Tokenize, `{"model":"mock","prompt":"hello there"}`, "tokens"},
	} {
		c := newCall(t, tt.route, tt.body)
		reply, err := u.Handle(context.Background(), c)
		if err != nil {
			t.Errorf("%s: %v", tt.route, err)
			continue
		}
		body, err := drain(t, reply)
		if err != nil || !strings.Contains(body, tt.want) {
			t.Errorf("%s: err %v, body %.300s", tt.route, err, body)
		}
	}
}

func TestAModelThatAPluginChoseReachesTheBackend(t *testing.T) {
	s, url := backendAt(t, mock.Options{})
	u := single(t, url)
	c := newCall(t, llm.Chat, chat("x", false))
	c.Request.Model = "mock-echo"
	reply, err := u.Handle(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = drain(t, reply)
	if got := s.Requests()[0].Body; !strings.HasPrefix(got, `{"model":"mock-echo",`) {
		t.Errorf("the backend was asked for %s", got)
	}
}
