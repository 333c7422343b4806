package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A raw backend reads requests as HTTP and answers with whatever bytes a test likes.
type raw struct {
	url    string
	conns  atomic.Int64 // accepted
	calls  atomic.Int64 // requests read whole
	closed atomic.Int64 // connections whose other side has closed
}

// rawBackend serves each connection with serve, which is given the requests in turn: n counts them from 1
// over all connections.
func rawBackend(t testing.TB, answer func(c net.Conn, n int64)) *raw {
	t.Helper()
	return rawConns(t, func(b *raw, c net.Conn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			answer(c, b.calls.Add(1))
		}
	})
}

func rawConns(t testing.TB, serve func(b *raw, c net.Conn)) *raw {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &raw{url: "http://" + l.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Add(1)
			go func() {
				defer b.closed.Add(1)
				defer c.Close()
				serve(b, c)
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return b
}

func send200(c net.Conn, head, body string) {
	_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

const (
	answerJSON = `{"choices":[{"index":0,"message":{"content":"yes"},"finish_reason":"stop"}]}`
	forgery    = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 95\r\n\r\n" + `{"choices":[{"index":0,"message":{"content":"SOMEBODY ELSE'S ANSWER"},"finish_reason":"stop"}]}`
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	finished   = `{"choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]}`
)

// chunked frames text as one chunk.
func chunked(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

func eventText(payload string) string { return "data: " + payload + "\n\n" }

// inflight is how many calls the first backend is thought to be working on.
func inflight(u *Upstream) int64 { return u.pools[0].members()[0].peer.replica.Active() }

// ask makes one call and reads its answer.
func ask(t *testing.T, u *Upstream, body string) (status int, text string, err error) {
	t.Helper()
	reply, err := u.Handle(context.Background(), newCall(t, llm.Chat, body))
	if err != nil {
		return 0, "", err
	}
	text, err = drain(t, reply)
	return reply.Status, text, err
}

// S-18, S-31: whatever a backend sends beyond its reply never becomes the answer to another call.
func TestNothingLeftOverReachesTheNextCall(t *testing.T) {
	stream := streamHead + chunked(eventText(finished)) + chunked("data: [DONE]\n\n") + "0\r\n"
	for _, tt := range []struct {
		name   string
		stream bool
		first  string // sent for the first call
		late   string // sent a moment later, while the connection is idle
		reused bool   // the second call comes on the same connection
	}{
		{"well", false, "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n" + answerJSON, "", true},
		{"a second reply behind it", false, "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n" + answerJSON + forgery, "", false},
		{"a second reply later", false, "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n" + answerJSON, forgery, false},
		{"408 while idle", false, "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n" + answerJSON, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", false},
		{"a line break behind it", false, "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n" + answerJSON + "\r\n", "", false},
		{"large, a second behind it", false, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 76+9000, answerJSON+strings.Repeat(" ", 9000)) + forgery, "", false},
		{"chunked with trailers", false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n" + chunked(answerJSON) + "0\r\nX-A: 1\r\n\r\n", "", true},
		{"chunked, a second behind it", false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(answerJSON) + "0\r\n\r\n" + forgery, "", false},
		{"length and chunks", false, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(answerJSON) + "0\r\n\r\n" + forgery, "", false},
		{"Connection: close", false, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 76\r\n\r\n" + answerJSON, "", false},
		{"HTTP/1.0", false, "HTTP/1.0 200 OK\r\nContent-Length: 76\r\n\r\n" + answerJSON, "", false},
		{"after 100 and 103", false, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n" + answerJSON, "", true},
		{"400 with a body", false, "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}", "", true},
		{"400 and a second behind it", false, "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}" + forgery, "", false},
		{"204 with a body", false, "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", "", false},
		{"304 with a reply behind it", false, "HTTP/1.1 304 Not Modified\r\n\r\n" + forgery, "", false},
		{"101", false, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + forgery, "", false},
		{"stream", true, stream + "\r\n", "", true},
		{"stream, a reply behind it", true, stream + "\r\n" + forgery, "", false},
		{"stream, a reply later", true, stream + "\r\n", forgery, false},
		{"stream without its end", true, stream, "", false},
		{"stream, garbage after [DONE]", true, streamHead + chunked(eventText(finished)+"data: [DONE]\n\ndata: [DONE]\n\ngarbage\n\n") + "0\r\n\r\n", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, n int64) {
				if n > 1 {
					send200(c, "", answerJSON)
					return
				}
				_, _ = io.WriteString(c, tt.first)
				if tt.late != "" {
					time.Sleep(30 * time.Millisecond)
					_, _ = io.WriteString(c, tt.late)
				}
			})
			u := single(t, b.url)
			_, text, err := ask(t, u, chat("one", tt.stream))
			if err == nil && strings.Contains(text, "SOMEBODY") {
				t.Errorf("the first answer is %q", text)
			}
			time.Sleep(60 * time.Millisecond)
			if _, text, err = ask(t, u, chat("two", false)); err != nil || text != answerJSON {
				t.Errorf("the second answer is %q, %v", text, err)
			}
			if reused := b.conns.Load() == 1; reused != tt.reused {
				t.Errorf("connection used again: %v, want %v", reused, tt.reused)
			}
			if n := b.calls.Load(); n != 2 || inflight(u) != 0 {
				t.Errorf("the backend saw %d calls, want 2; %d in flight", n, inflight(u))
			}
		})
	}
}

// C-09: a backend that closes at any moment after its reply costs nobody a call. One whose request crosses
// the close is sent again.
func TestBackendClosesAfterEachReply(t *testing.T) {
	b := rawBackend(t, func(c net.Conn, n int64) {
		send200(c, "", answerJSON)
		go func() {
			time.Sleep(time.Duration(n%20) * 100 * time.Microsecond)
			_ = c.Close()
		}()
	})
	u := single(t, b.url)
	for i := range 500 {
		if _, _, err := ask(t, u, chat("x", false)); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		time.Sleep(time.Duration(i%7) * 200 * time.Microsecond)
	}
	if n := b.calls.Load(); n > 520 {
		t.Errorf("the backend answered %d times for 500 calls", n)
	}
}

// A request is sent again only on a connection that served before and only if not a byte of answer came.
func TestWhatIsSentAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer string // to every request after the first, before the connection closes
		calls  int64  // requests in all
	}{
		{"nothing", "", 3}, // the second, and the second again: it is the request that kills
		{"a byte", "H", 2},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-", 2},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", 2},
		{"an informational reply", "HTTP/1.1 100 Continue\r\n\r\n", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, n int64) {
				if n == 1 {
					send200(c, "", answerJSON)
					return
				}
				_, _ = io.WriteString(c, tt.answer)
				_ = c.Close()
			})
			u := single(t, b.url)
			if _, _, err := ask(t, u, chat("x", false)); err != nil {
				t.Fatal(err)
			}
			_, _, err := ask(t, u, chat("x", false))
			var r *pipeline.Refusal
			if !errors.As(err, &r) || b.calls.Load() != tt.calls {
				t.Errorf("%v after %d requests, want a refusal after %d", err, b.calls.Load(), tt.calls)
			}
			if strings.Contains(fmt.Sprint(err), "Content-") {
				t.Errorf("the error holds what the backend sent: %v", err)
			}
		})
	}
}

// C-05: a head that is none, in all sizes and speeds.
func TestBrokenHeads(t *testing.T) {
	endless := strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 100)
	for _, tt := range []struct {
		name, head string
		drip       time.Duration
		status     int
		within     time.Duration
	}{
		{"not HTTP", "SSH-2.0-secret\r\n", 0, 502, time.Second},
		{"bad status", "HTTP/1.1 abc secret\r\n\r\n", 0, 502, time.Second},
		{"bad header", "HTTP/1.1 200 OK\r\nsecret\r\n\r\n", 0, 502, time.Second},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 0, 502, time.Second},
		{"100 KB of header", "HTTP/1.1 200 OK\r\n" + endless + "\r\n", 0, 502, time.Second},
		{"endless line", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 100<<10), 0, 502, time.Second},
		{"1xx for ever", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), 0, 502, time.Second},
		{"redirect", "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 0, 502, time.Second},
		{"drip", "HTTP/1.1 200 OK\r\n" + endless, 5 * time.Millisecond, 504, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) {
				if tt.drip == 0 {
					_, _ = io.WriteString(c, tt.head)
					time.Sleep(50 * time.Millisecond)
					_ = c.Close()
				}
				for i := range len(tt.head) {
					if _, err := c.Write([]byte(tt.head[i : i+1])); err != nil {
						return
					}
					time.Sleep(tt.drip)
				}
			})
			u := newUpstream(t, Config{
				Backends: map[string]BackendConfig{"one": {URL: b.url}},
				Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: TimeoutsConfig{Headers: 300 * time.Millisecond}}},
			})
			began := time.Now()
			_, _, err := ask(t, u, chat("x", true))
			var r *pipeline.Refusal
			if !errors.As(err, &r) || r.HTTPStatus() != tt.status {
				t.Errorf("got %v, want status %d", err, tt.status)
			}
			if took := time.Since(began); took > tt.within || strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("after %v: %v", took, err)
			}
			if b.calls.Load() != 1 || inflight(u) != 0 {
				t.Errorf("%d calls, %d in flight", b.calls.Load(), inflight(u))
			}
		})
	}
}

// A body that the backend refuses before it has read it: the refusal arrives, at once, and nothing more is
// sent on that connection.
func TestRefusedBeforeTheBodyIsRead(t *testing.T) {
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprint("holds the connection ", hold), func(t *testing.T) {
			stop := make(chan struct{})
			defer close(stop)
			b := rawConns(t, func(b *raw, c net.Conn) {
				_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
				_, _ = io.ReadFull(c, make([]byte, 1000))
				b.calls.Add(1)
				_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 29\r\n\r\n"+`{"error":{"message":"Large"}}`)
				if hold {
					<-stop
				}
			})
			u := single(t, b.url)
			status, text, err := ask(t, u, chat(strings.Repeat("x", 16<<20), false)) // late, it would be a timeout
			if status != 413 || !strings.Contains(text, "Large") || b.calls.Load() != 1 {
				t.Errorf("status %d %.100q, %v after %d calls", status, text, err, b.calls.Load())
			}
			if n := len(u.pools[0].members()[0].peer.wire.idle); n != 0 {
				t.Errorf("%d connections kept", n)
			}
		})
	}
}

// A backend that does not read is given up when the headers are due.
func TestBackendThatDoesNotRead(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	b := rawConns(t, func(_ *raw, c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		<-stop
	})
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: b.url}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: TimeoutsConfig{Headers: 300 * time.Millisecond}}},
	})
	began := time.Now()
	_, _, err := ask(t, u, chat(strings.Repeat("x", 16<<20), false))
	if !errors.Is(err, errHeaders) || time.Since(began) > 4*time.Second { // parsing so much takes its time, too
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// An idle connection serves for 4 s, not a moment longer, since engines close theirs after 5; then it is closed.
func TestIdleConnections(t *testing.T) {
	b := rawBackend(t, func(c net.Conn, _ int64) { send200(c, "", answerJSON) })
	u := single(t, b.url)
	w := u.pools[0].members()[0].peer.wire
	waitUntil(t, func() bool { _, _, _ = ask(t, u, chat("x", false)); return w.sweep.Stop() }) // from here on time stands still
	kept := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.idle) }
	w.mu.Lock()
	last := w.idle[len(w.idle)-1]
	w.idle = []*conn{last}
	w.mu.Unlock()
	late := last.used.Add(4 * time.Second)
	if w.pop(late) != nil {
		t.Error("a connection serves that has been idle for 4 s")
	}
	if w.expire(late.Add(-1)); kept() != 1 {
		t.Error("a connection is closed that has not been idle for 4 s")
	}
	if c := w.pop(late.Add(-1)); c != last || !c.quiet() {
		t.Fatal("a connection does not serve that has not been idle for 4 s")
	}
	w.put(last)
	if w.expire(last.used.Add(4 * time.Second)); kept() != 0 || last.quiet() {
		t.Error("a connection is kept that has been idle for 4 s")
	}
}

// And it is closed by itself, though no call asks for one.
func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	b := rawBackend(t, func(c net.Conn, _ int64) { send200(c, "", answerJSON) })
	u := single(t, b.url)
	began := time.Now()
	if status, _, err := ask(t, u, chat("x", false)); status != 200 {
		t.Fatal(status, err)
	}
	for b.closed.Load() == 0 && time.Since(began) < time.Minute {
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(began); took < 4*time.Second || b.closed.Load() != 1 {
		t.Errorf("%d of 1 connection closed after %v", b.closed.Load(), took)
	}
}

func TestAddresses(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.Host+r.URL.Path)
		if r.URL.Path != "/openai/v1/chat/completions" && r.URL.Path != "/v1/chat/completions" {
			w.WriteHeader(404)
		}
		_, _ = io.WriteString(w, answerJSON)
	})
	plain := httptest.NewServer(h)
	defer plain.Close()
	_, port, _ := net.SplitHostPort(plain.Listener.Addr().String())
	for _, address := range []string{plain.URL, plain.URL + "/", plain.URL + "/openai", plain.URL + "/openai/", "http://localhost:" + port} {
		if status, _, err := ask(t, single(t, address), chat("x", false)); status != 200 || err != nil {
			t.Errorf("%s: %d, %v", address, status, err)
		}
	}
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	six := httptest.NewUnstartedServer(h)
	six.Listener = l
	six.Start()
	defer six.Close()
	if status, _, err := ask(t, single(t, "http://"+l.Addr().String()), chat("x", false)); status != 200 || err != nil {
		t.Errorf("IPv6: %d, %v", status, err)
	}
}

// TLS: a certificate that the system does not trust is named in the error; a trusted one serves, again and
// again on one connection, and what is left over does not reach the next call.
func TestTLS(t *testing.T) {
	var opened, calls atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if calls.Add(1) != 4 {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answerJSON)
			return
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		// In one record, of which the caller's reads leave a part in TLS. What came later might come after the next call.
		body := answerJSON + strings.Repeat(" ", 8<<10-len(answerJSON))
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s%s", len(body), body, forgery)
		time.Sleep(300 * time.Millisecond)
		_ = c.Close()
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Config.ErrorLog = quietLog()
	s.StartTLS()
	defer s.Close()
	u := single(t, s.URL)
	_, _, err := ask(t, u, chat("x", false))
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Fatalf("an untrusted certificate: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	u.pools[0].members()[0].peer.wire.link.tls.RootCAs = roots
	opened.Store(0)
	for i := range 6 {
		if _, text, err := ask(t, u, chat("x", false)); err != nil || strings.TrimSpace(text) != answerJSON {
			t.Fatalf("call %d: %q, %v", i, text, err)
		}
	}
	if opened.Load() != 2 {
		t.Errorf("%d connections, want one, and another after the one with bytes left over", opened.Load())
	}
	if n := u.pools[0].members()[0].peer.wire; n.link.tls.MinVersion != tls.VersionTLS12 || n.link.tls.InsecureSkipVerify {
		t.Error("TLS is not as strict as it should be")
	}
}

// A TLS handshake that hangs ends with the time to connect.
func TestHandshakeThatHangs(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	b := rawConns(t, func(_ *raw, c net.Conn) { <-stop })
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: strings.Replace(b.url, "http:", "https:", 1)}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: TimeoutsConfig{Connect: 100 * time.Millisecond}}},
	})
	began := time.Now()
	_, _, err := ask(t, u, chat("x", false))
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Code != "backend_connect_timeout" || time.Since(began) > time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// files counts this process's open descriptors; -1 where that cannot be told.
func files() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(d)
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
