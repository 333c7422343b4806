package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

func TestOddRequests(t *testing.T) {
	address := start(t, defaults, ok)
	sized := fmt.Sprintf("Content-Length: %d\r\n", len(chatBody))
	for _, tt := range []struct {
		name, request string
		status        int
		bare          bool // refused by net/http itself, in its own words
	}{
		{"HEAD", "HEAD /v1/models HTTP/1.1\r\nHost: x\r\n", 405, true},
		{"OPTIONS", "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\n", 405, false},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n", 400, false},
		{"TRACE", "TRACE /v1/models HTTP/1.1\r\nHost: x\r\n", 405, false},
		{"CONNECT", "CONNECT backend:8000 HTTP/1.1\r\nHost: backend:8000\r\n", 400, false},
		{"unknown method", "BREW /v1/models HTTP/1.1\r\nHost: x\r\n", 405, false},
		{"absolute form", "GET http://x/v1/models HTTP/1.1\r\nHost: x\r\n", 400, false},
		{"query", "GET /v1/models?api_key=1 HTTP/1.1\r\nHost: x\r\n", 200, false},
		{"fragment", "GET /v1/models#x HTTP/1.1\r\nHost: x\r\n", 400, false},
		{"NUL", "GET /v1/models%00 HTTP/1.1\r\nHost: x\r\n", 400, false},
		{"Host of S-10", "GET /v1/models HTTP/1.1\r\nHost: localhost:4000/#@x\r\n", 400, true},
		{"no Host", "GET /v1/models HTTP/1.1\r\n", 400, true},
		{"two Hosts", "GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n", 400, true},
		{"HTTP/1.0", "GET /v1/models HTTP/1.0\r\n", 200, false},
		{"HTTP/3.0", "GET /v1/models HTTP/3.0\r\nHost: x\r\n", 505, true},
		{"underscore", "GET /v1/models HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\n", 400, false},
		{"space before colon", "GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Tenant : a\r\n", 400, true},
		{"two lengths", postHead + sized + "Content-Length: 1\r\n", 400, true},
		{"signed length", postHead + "Content-Length: +5\r\n", 400, true},
		{"two codings", postHead + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 501, true},
		{"coding in disguise", postHead + "Transfer-Encoding: xchunked\r\n", 501, true},
		{"expects else", postHead + sized + "Expect: 200-ok\r\n", 417, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, r := dial(t, address, tt.request+"Connection: close\r\n\r\n")
			status, body, err := answerOf(r)
			if tt.name == "HEAD" {
				err = nil // ReadResponse does not know that no body follows
			}
			if status != tt.status || err != nil {
				t.Fatalf("status %d, %v, want %d: %s", status, err, tt.status, body)
			}
			if status >= 400 && !tt.bare && !strings.HasPrefix(body, `{"error":{`) {
				t.Errorf("not OpenAI's error shape: %s", body)
			}
		})
	}
}

func TestWrongMethodNamesTheRightOne(t *testing.T) {
	address := start(t, defaults, ok)
	for path, want := range map[string]string{"/v1/models": "GET", "/v1/models/a": "GET", "/v1/chat/completions": "POST", "/tokenize": "POST"} {
		r, err := http.NewRequest(http.MethodDelete, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, _ := do(t, r); response.StatusCode != 405 || response.Header.Get("Allow") != want {
			t.Errorf("%s: %d, Allow %q, want %q", path, response.StatusCode, response.Header.Get("Allow"), want)
		}
	}
}

// S-04, C-29: what follows a request on the connection is answered only when it is sure where the request
// ended and that it was read.
func TestWhatFollowsARequest(t *testing.T) {
	const chunked = "Transfer-Encoding: chunked\r\n"
	body := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(chatBody), chatBody)
	for _, tt := range []struct {
		name, request string
		want          []int
	}{
		{"sized", callText(), []int{200, 200}},
		{"refused, body read", postHead + "Content-Length: 2\r\n\r\n{}", []int{400, 200}},
		{"unknown path, no body", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, 200}},
		{"odd path", "GET //x HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}},
		{"too large", postHead + "Content-Length: 70000\r\n\r\n" + strings.Repeat(" ", 70000), []int{413}},
		{"chunked", postHead + chunked + "\r\n" + body, []int{200}},
		{"length and chunked", postHead + chunked + "Content-Length: 5\r\n\r\n" + body, []int{200}},
		{"chunked and too large", postHead + chunked + "\r\n11170\r\n" + strings.Repeat(" ", 0x11170) + "\r\n0\r\n\r\n", []int{413}},
		{"bad chunk", postHead + chunked + "\r\nzz\r\n" + chatBody, []int{400}},
		{"chunk longer than it says", postHead + chunked + "\r\n1\r\n" + chatBody + "\r\n0\r\n\r\n", []int{400}},
		{"longer than its length", postHead + "Content-Length: 2\r\n\r\n{}x", []int{400, 405}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var models atomic.Int64
			address := start(t, defaults, func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
				if c.Route == llm.Models {
					models.Add(1)
				}
				return whole(200, `{"ok":true}`), nil
			})
			_, r := dial(t, address, tt.request+"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			var got []int
			for len(got) < 4 {
				status, _, err := answerOf(r)
				if err != nil {
					break
				}
				got = append(got, status)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if len(tt.want) == 1 && models.Load() != 0 {
				t.Error("what followed was taken for a call")
			}
		})
	}
}

func TestShortBody(t *testing.T) {
	address := start(t, defaults, ok)
	conn, r := dial(t, address, postHead+"Content-Length: 1000\r\n\r\n"+chatBody)
	_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	if status, body, _ := answerOf(r); status == 200 {
		t.Errorf("half a body was answered: %s", body)
	}
}

// The body is asked for only when it will be read.
func TestExpectContinue(t *testing.T) {
	address := start(t, defaults, ok)
	conn, r := dial(t, address, fmt.Sprintf("%sExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", postHead, len(chatBody)))
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = r.ReadString('\n')
	_, _ = io.WriteString(conn, chatBody)
	if status, _, err := answerOf(r); status != 200 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	_, r = dial(t, address, postHead+"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
	if status, _, _ := answerOf(r); status != 413 {
		t.Errorf("status %d, want 413 without 100 before it", status)
	}
}

// A length is a promise, not a reason to set memory aside.
func TestPromisedBodyTakesNoMemory(t *testing.T) {
	c := defaults
	c.MaxBody = 64 << 20
	c.Timeouts.Body, c.Timeouts.BodyGap = time.Minute, time.Minute // thousands of small reads, on whatever else the machine does
	address := start(t, c, ok)
	body := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("x", 5<<20) + `"}]}`
	if response, got := post(t, address, body); response.StatusCode != 200 {
		t.Errorf("a body of 5 MiB: %d, %v", response.StatusCode, got)
	}
	r, w := io.Pipe()
	go func() {
		for i := 0; i < len(body); i += 1000 {
			_, _ = w.Write([]byte(body[i:min(i+1000, len(body))]))
		}
		_ = w.Close()
	}()
	request, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/chat/completions", r)
	request.Header.Set("Content-Type", "application/json")
	if response, got := do(t, request); response.StatusCode != 200 {
		t.Errorf("in chunks: %d, %v", response.StatusCode, got)
	}
}

func TestSmallestHeaderLimitHolds(t *testing.T) {
	c := defaults
	c.MaxHeader = 4 << 10
	address := start(t, c, ok)
	_, r := dial(t, address, "GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Big: "+strings.Repeat("a", 64<<10)+"\r\n\r\n")
	if status, _, _ := answerOf(r); status != 431 {
		t.Errorf("status %d, want 431", status)
	}
}

// A reset of the stream cancels the call, whatever it was doing, and leaves the connection to the others.
func TestHTTP2ResetCancels(t *testing.T) {
	left := make(chan time.Time, 8)
	address := start(t, defaults, func(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
		if c.Request.Model == "quick" {
			return whole(200, `{}`), nil
		}
		context.AfterFunc(ctx, func() { left <- time.Now() })
		if c.Request.Model == "waits" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		e := &events{chunks: make(chan llm.Chunk, 1), err: context.Canceled}
		e.chunks <- event("1")
		context.AfterFunc(ctx, func() { close(e.chunks) })
		return e.reply(), nil
	})
	h2 := client(t, 2)
	for _, model := range []string{"waits", "streams"} {
		ctx, cancel := context.WithCancel(context.Background())
		request, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(strings.Replace(chatBody, `"m"`, `"`+model+`"`, 1)))
		request.Header.Set("Content-Type", "application/json")
		time.AfterFunc(100*time.Millisecond, cancel)
		began := time.Now().Add(100 * time.Millisecond)
		response, err := h2.Do(request)
		if err == nil {
			_, _ = io.ReadAll(response.Body)
			response.Body.Close()
		}
		select {
		case at := <-left:
			if took := at.Sub(began); took > 50*time.Millisecond {
				t.Errorf("%s: cancelled after %v, want 50 ms at most", model, took)
			}
		case <-time.After(2 * time.Second):
			t.Fatalf("%s: not cancelled", model)
		}
		response, err = h2.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(strings.Replace(chatBody, `"m"`, `"quick"`, 1)))
		if err != nil || response.StatusCode != 200 {
			t.Fatalf("the call after %s: %v, %v", model, response, err)
		}
		response.Body.Close()
	}
}

// A refused body ends its own stream, not the connection with everybody else's calls.
func TestHTTP2RefusalLeavesTheConnection(t *testing.T) {
	address := start(t, quick(), ok)
	h2 := client(t, 2)
	var opened atomic.Int64
	for i, body := range []io.Reader{
		strings.NewReader(chatBody),
		bytes.NewReader(make([]byte, 70<<10)),
		&stuck{first: []byte("{"), until: time.After(time.Second)},
		strings.NewReader(chatBody),
	} {
		want := []int{200, 413, 408, 200}[i]
		request, _ := http.NewRequestWithContext(traced(&opened), http.MethodPost, "http://"+address+"/v1/chat/completions", body)
		request.Header.Set("Content-Type", "application/json")
		response, err := h2.Do(request)
		if err != nil || response.StatusCode != want {
			t.Fatalf("call %d: %v, %v; want %d", i, response, err, want)
		}
		if got, _ := io.ReadAll(response.Body); want >= 400 && !bytes.HasPrefix(got, []byte(`{"error":{`)) {
			t.Errorf("call %d: %s", i, got)
		}
		response.Body.Close()
	}
	if opened.Load() != 1 {
		t.Errorf("%d connections, want 1", opened.Load())
	}
}

// stuck is a body that stops after its first bytes.
type stuck struct {
	first []byte
	until <-chan time.Time
}

func (s *stuck) Read(p []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	<-s.until
	return 0, io.ErrUnexpectedEOF
}

func TestShutdownWaitsForHTTP2Streams(t *testing.T) {
	e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
	s, address := startServer(t, defaults, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
	go func() { e.chunks <- event("1") }()
	response, err := client(t, 2).Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	time.Sleep(100 * time.Millisecond)
	select {
	case err := <-stopped:
		t.Fatalf("did not wait: %v", err)
	default:
	}
	e.chunks <- event("2")
	close(e.chunks)
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "data: 1\n\ndata: 2\n\n" {
		t.Errorf("got %q, %v", body, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// traced counts the connections that are opened for a request.
func traced(opened *atomic.Int64) context.Context {
	return httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if !info.Reused {
				opened.Add(1)
			}
		},
	})
}

// C-27 on HTTP/2: a caller who does not read is cut off by the write deadline, though the connection lives.
func TestHTTP2SlowReaderIsCutOff(t *testing.T) {
	e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
	address := start(t, quick(), func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
	stop := make(chan struct{})
	go func() {
		defer close(e.chunks)
		for {
			select {
			case e.chunks <- event(strings.Repeat("x", 64<<10)):
			case <-stop:
				return
			}
		}
	}()
	response, err := client(t, 2).Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	waitFor(t, e.closed.Load) // nothing is ever read
	close(stop)
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("the stream that was cut ends as if it were whole")
	}
}
