package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fake struct {
	pipeline.Handler
	users, refused atomic.Int64
}

func (f *fake) Release() { f.users.Add(-1) }

func (f *fake) Refused(_ context.Context, c *pipeline.Call, _ *pipeline.Refusal) {
	if c.Route != llm.Other || c.ID == "" {
		panic("a refused request is no call of a route")
	}
	f.refused.Add(1)
}

var defaults = Config{
	MaxBody: 64 << 10, MaxHeader: 8 << 10,
	Timeouts: TimeoutsConfig{ReadHeader: time.Second, BodyGap: 300 * time.Millisecond, Body: time.Second, Idle: 5 * time.Second, Write: time.Second},
}

// start serves handler behind the body-reading stage and returns the address.
func start(t *testing.T, c Config, h pipeline.HandlerFunc) string {
	t.Helper()
	_, address := startServer(t, c, h)
	return address
}

func startServer(t *testing.T, c Config, h pipeline.HandlerFunc) (*Server, string) {
	t.Helper()
	f := &fake{Handler: pipeline.Chain(h, ReadBody{})}
	s := New(c, func() Snapshot { f.users.Add(1); return f }, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := f.users.Load(); n != 0 {
			t.Errorf("%d snapshots not released", n)
		}
	})
	return s, l.Addr().String()
}

func whole(status int, body string) *llm.Reply {
	return &llm.Reply{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Stream: llm.One(llm.Chunk{Raw: []byte(body), Kind: llm.Body})}
}

func ok(context.Context, *pipeline.Call) (*llm.Reply, error) { return whole(200, `{"ok":true}`), nil }

// events is a stream that a test feeds.
type events struct {
	chunks chan llm.Chunk
	err    error
	closed atomic.Bool
}

func (e *events) Next() (llm.Chunk, error) {
	c, open := <-e.chunks
	if !open {
		return llm.Chunk{}, e.err
	}
	return c, nil
}

func (e *events) Close() error { e.closed.Store(true); return nil }

func (e *events) reply() *llm.Reply {
	return &llm.Reply{Status: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Stream: e}
}

func event(text string) llm.Chunk {
	return llm.Chunk{Kind: llm.Event, Raw: []byte("data: " + text + "\n\n")}
}

const chatBody = `{"model":"m","messages":[{"role":"user","content":"x"}]}`

func post(t *testing.T, address, body string, header ...string) (*http.Response, map[string]any) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header[header[i]] = []string{header[i+1]}
	}
	return do(t, r)
}

func do(t *testing.T, r *http.Request) (*http.Response, map[string]any) {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, _ := io.ReadAll(response.Body)
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("status %d, body is not JSON: %q", response.StatusCode, data)
	}
	return response, got
}

func TestBadInput(t *testing.T) {
	address := start(t, defaults, ok)
	if _, got := post(t, address, `{"model":`); !strings.Contains(fmt.Sprint(got), "not valid JSON") {
		t.Errorf("a body that was cut off: %v", got)
	}
	for _, tt := range []struct {
		name, body string
		header     []string
		status     int
		code       string
		param      any
	}{
		{"well", chatBody, nil, 200, "", nil},
		{"not JSON", `{"model":`, nil, 400, "invalid_request", nil},
		{"repeated key", `{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}`, nil, 400, "invalid_request", "model"},
		{"folded key", `{"model":"a","Model":"b","messages":[{"role":"user","content":"x"}]}`, nil, 400, "invalid_request", "Model"},
		{"wrong type", `{"model":5,"messages":[{"role":"user","content":"x"}]}`, nil, 400, "invalid_request", "model"},
		{"no messages", `{"model":"a","messages":[]}`, nil, 400, "invalid_request", "messages"},
		{"deep", `{"model":"a","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, nil, 400, "invalid_request", nil},
		{"empty", ``, nil, 400, "invalid_request", nil},
		{"too large", `{"x":"` + strings.Repeat("a", 70<<10) + `"}`, nil, 413, "request_too_large", nil},
		{"media type", chatBody, []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type", nil},
		{"charset", chatBody, []string{"Content-Type", "application/json; charset=utf-8"}, 200, "", nil},
		{"compressed", chatBody, []string{"Content-Encoding", "gzip"}, 415, "unsupported_encoding", nil},
		{"underscore", chatBody, []string{"X_Tenant", "admin"}, 400, "bad_request", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			response, got := post(t, address, tt.body, tt.header...)
			if response.StatusCode != tt.status {
				t.Fatalf("status %d, want %d: %v", response.StatusCode, tt.status, got)
			}
			if response.Header.Get("X-Request-Id") == "" {
				t.Error("no x-request-id")
			}
			if tt.code == "" {
				return
			}
			e := got["error"].(map[string]any)
			if e["code"] != tt.code || tt.param != nil && e["param"] != tt.param || e["message"] == "" || e["type"] == "" {
				t.Errorf("error %v, want code %s, param %v", e, tt.code, tt.param)
			}
		})
	}
}

func TestPathsAndMethods(t *testing.T) {
	address := start(t, defaults, func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
		return whole(200, fmt.Sprintf(`{"route":%q,"model":%q}`, c.Route, c.Model)), nil
	})
	for _, tt := range []struct {
		method, path string
		status       int
		model        string
	}{
		{"GET", "/v1/models", 200, ""},
		{"GET", "/v1/models/Qwen/Qwen3-8B", 200, "Qwen/Qwen3-8B"},
		{"GET", "/v1/models/Qwen%2FQwen3-8B", 200, "Qwen/Qwen3-8B"},
		{"GET", "/v1/chat/completions", 405, ""},
		{"DELETE", "/v1/models", 405, ""},
		{"POST", "/v1/load_lora_adapter", 404, ""},
		{"POST", "/collective_rpc", 404, ""},
		{"GET", "/metrics", 404, ""},
		{"GET", "//v1/models", 400, ""},
		{"GET", "/v1/../v1/models", 400, ""},
		{"GET", "/v1/%6dodels", 400, ""},
		{"GET", "/v1/models;x=1", 400, ""},
		{"GET", "/v1/models/", 400, ""},
		{"GET", "/v1/models/..%2f..%2fx", 400, ""},
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", tt.method, tt.path)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.path, err)
		}
		body, _ := io.ReadAll(response.Body)
		conn.Close()
		if response.StatusCode != tt.status {
			t.Errorf("%s %s: status %d, want %d", tt.method, tt.path, response.StatusCode, tt.status)
		}
		if tt.model != "" && !bytes.Contains(body, []byte(`"`+tt.model+`"`)) {
			t.Errorf("%s: %s", tt.path, body)
		}
		if tt.status >= 400 && !bytes.HasPrefix(body, []byte(`{"error":{`)) {
			t.Errorf("%s: not OpenAI's error shape: %s", tt.path, body)
		}
	}
}

func TestHeaderTooLarge(t *testing.T) {
	address := start(t, defaults, ok)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go fmt.Fprintf(conn, "GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Big: %s\r\n\r\n", strings.Repeat("a", 20<<10))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != 431 {
		t.Fatalf("got %v, %v; want 431", response, err)
	}
	body, _ := io.ReadAll(response.Body)
	if !bytes.Contains(body, []byte(`"code":"header_too_large"`)) || response.Header.Get("X-Request-Id") == "" {
		t.Errorf("not OpenAI's error shape: %s", body)
	}
}

func TestRefusalsAndFaults(t *testing.T) {
	address := start(t, defaults, func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
		switch c.Request.Model {
		case "limit":
			return nil, fmt.Errorf("wrapped: %w", &pipeline.Refusal{Kind: pipeline.Exhausted, Code: "rate_limit_exceeded", Reason: "Slow down.", Retry: 1500 * time.Millisecond, Header: map[string]string{"X-Ratelimit-Limit-Requests": "5"}})
		case "fault":
			return nil, errors.New("the secret reason")
		case "panic":
			panic("the secret reason")
		}
		return nil, &pipeline.Refusal{Kind: pipeline.Unauthenticated, Code: "invalid_api_key", Reason: "No."}
	})
	for _, tt := range []struct {
		model  string
		status int
		typ    string
	}{{"limit", 429, "rate_limit_error"}, {"fault", 500, "server_error"}, {"panic", 500, "server_error"}, {"auth", 401, "invalid_request_error"}} {
		response, got := post(t, address, strings.Replace(chatBody, `"m"`, `"`+tt.model+`"`, 1))
		e := got["error"].(map[string]any)
		if response.StatusCode != tt.status || e["type"] != tt.typ || strings.Contains(fmt.Sprint(e), "secret") {
			t.Errorf("%s: status %d, error %v", tt.model, response.StatusCode, e)
		}
		if tt.model == "limit" && (response.Header.Get("Retry-After") != "2" || response.Header.Get("Retry-After-Ms") != "1500" || response.Header.Get("X-Ratelimit-Limit-Requests") != "5") {
			t.Errorf("headers %v", response.Header)
		}
	}
}

func TestEveryEventIsFlushed(t *testing.T) {
	e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
	address := start(t, defaults, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
	go func() { e.chunks <- event("1") }()
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("X-Accel-Buffering"); got != "no" {
		t.Errorf("X-Accel-Buffering %q", got)
	}
	lines := bufio.NewReader(response.Body)
	for i := 1; i <= 3; i++ {
		if i > 1 {
			e.chunks <- event(fmt.Sprint(i))
		}
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("line %q, %v", line, err)
		}
		_, _ = lines.ReadString('\n')
	}
	// A chunk whose bytes were taken out still flushes what stands before it.
	more := event("4")
	more.More = true
	e.chunks <- more
	e.chunks <- llm.Chunk{Kind: llm.Event}
	if line, err := lines.ReadString('\n'); err != nil || line != "data: 4\n" {
		t.Fatalf("line %q, %v", line, err)
	}
	close(e.chunks)
	if _, err := io.ReadAll(lines); err != nil {
		t.Error(err)
	}
	waitFor(t, e.closed.Load)
}

func TestBrokenStreamEndsWithAnErrorEvent(t *testing.T) {
	e := &events{chunks: make(chan llm.Chunk, 1), err: &pipeline.Refusal{Kind: pipeline.BadGateway, Code: "cut", Reason: "The backend's answer was cut off."}}
	address := start(t, defaults, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
	e.chunks <- event("1")
	close(e.chunks)
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	want := "data: 1\n\ndata: {\"error\":{\"message\":\"The backend's answer was cut off.\",\"type\":\"server_error\",\"param\":null,\"code\":\"cut\"}}\n\n"
	if string(body) != want || err == nil {
		t.Errorf("body %q, err %v; want the error event and a broken end", body, err)
	}
}

func TestFirstChunkErrorBecomesAStatus(t *testing.T) {
	for _, failure := range []error{io.EOF, &pipeline.Refusal{Kind: pipeline.BadGateway, Reason: "No."}} {
		e := &events{chunks: make(chan llm.Chunk), err: failure}
		close(e.chunks)
		address := start(t, defaults, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
		response, _ := post(t, address, chatBody)
		if response.StatusCode != 502 {
			t.Errorf("%v: status %d, want 502", failure, response.StatusCode)
		}
	}
}

func TestCallerLeaves(t *testing.T) {
	left := make(chan time.Duration, 1)
	e := &events{chunks: make(chan llm.Chunk, 1), err: io.EOF}
	var closedAt atomic.Int64
	address := start(t, defaults, func(ctx context.Context, _ *pipeline.Call) (*llm.Reply, error) {
		go func() {
			<-ctx.Done()
			left <- time.Duration(time.Now().UnixNano() - closedAt.Load())
			close(e.chunks)
		}()
		return e.reply(), nil
	})
	e.chunks <- event("1")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(chatBody), chatBody)
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	closedAt.Store(time.Now().UnixNano())
	conn.Close()
	select {
	case took := <-left:
		if took > 50*time.Millisecond {
			t.Errorf("cancelled after %v, want 50 ms at most", took)
		}
	case <-time.After(time.Second):
		t.Fatal("the call was not cancelled")
	}
	waitFor(t, e.closed.Load)
}

func TestSlowBodyIsCutOff(t *testing.T) {
	address := start(t, defaults, ok)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	began := time.Now()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != 408 {
		t.Fatalf("got %v, %v; want 408", response, err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("held for %v", took)
	}
}

func TestAStreamOutlastsEveryTimeout(t *testing.T) {
	c := defaults
	c.Timeouts = TimeoutsConfig{ReadHeader: 100 * time.Millisecond, BodyGap: 100 * time.Millisecond, Body: 100 * time.Millisecond, Idle: 100 * time.Millisecond, Write: 100 * time.Millisecond}
	e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
	address := start(t, c, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
	go func() {
		defer close(e.chunks)
		for range 5 {
			e.chunks <- event("x")
			time.Sleep(250 * time.Millisecond)
		}
	}()
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || strings.Count(string(body), "data: x") != 5 {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestSlowReaderIsCutOff(t *testing.T) {
	c := defaults
	c.Timeouts.Write = 300 * time.Millisecond
	e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
	stop := make(chan struct{})
	address := start(t, c, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
	big := event(strings.Repeat("x", 64<<10))
	go func() {
		defer close(e.chunks)
		for {
			select {
			case e.chunks <- big:
			case <-stop:
				return
			}
		}
	}()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(chatBody), chatBody)
	waitFor(t, e.closed.Load) // nothing is ever read
	close(stop)
}

func TestHTTP2(t *testing.T) {
	address := start(t, defaults, ok)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil || response.ProtoMajor != 2 || response.StatusCode != 200 {
		t.Fatalf("h2c: %v, %v", response, err)
	}
	response.Body.Close()
}

func TestTLSSpeaksHTTP2(t *testing.T) {
	cert, key := certificate(t)
	c := defaults
	c.TLS = TLSConfig{Cert: cert, Key: key}
	address := start(t, c, ok)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Post("https://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil || response.ProtoMajor != 2 || response.StatusCode != 200 {
		t.Fatalf("TLS: %v, %v", response, err)
	}
	response.Body.Close()
}

func TestShutdownLetsStreamsEnd(t *testing.T) {
	e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
	s, address := startServer(t, defaults, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
	go func() { e.chunks <- event("1") }()
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	time.Sleep(50 * time.Millisecond)
	e.chunks <- event("2")
	close(e.chunks)
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "data: 1\n\ndata: 2\n\n" {
		t.Errorf("got %q, %v", body, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownAtTheLimitSaysSo(t *testing.T) {
	e := &events{chunks: make(chan llm.Chunk, 1), err: context.Canceled}
	s, address := startServer(t, defaults, func(ctx context.Context, _ *pipeline.Call) (*llm.Reply, error) {
		context.AfterFunc(ctx, func() { close(e.chunks) })
		return e.reply(), nil
	})
	e.chunks <- event("1")
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("no error though a stream was cut")
	}
	body, _ := io.ReadAll(response.Body)
	if !strings.Contains(string(body), `"code":"stopping"`) {
		t.Errorf("got %q", body)
	}
}

func waitFor(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long")
		}
	}
}

// certificate writes the test certificate of net/http/httptest to files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return writePEM(t, s.TLS.Certificates[0])
}
