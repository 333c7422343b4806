package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A plain backend serves each connection as a test likes, and counts them.
type plainBackend struct {
	address string
	conns   atomic.Int64
	over    chan struct{}
	serving sync.WaitGroup
}

// close ends every connection, so that a gateway that was not to wait for one does not keep the test.
func (b *plainBackend) close() {
	close(b.over)
	b.serving.Wait()
}

func newPlainBackend(t *testing.T, serve func(c net.Conn)) *plainBackend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &plainBackend{address: l.Addr().String(), over: make(chan struct{})}
	b.serving.Go(func() { <-b.over; _ = l.Close() })
	b.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Add(1)
			b.serving.Go(func() { <-b.over; _ = c.Close() })
			b.serving.Go(func() { defer c.Close(); serve(c) })
		}
	})
	return b
}

// TestLeavingBeforeAnAnswer: the caller leaves while the gateway connects, while it sends the request, or while it waits
// before it asks again. The backend sees the connection end, gets no more of the request, and is not asked again.
func TestLeavingBeforeAnAnswer(t *testing.T) {
	const size = 4 << 20 // bytes of the largest request
	large := fmt.Sprintf(`{"model":"mock","messages":[{"role":"user","content":%q}]}`, strings.Repeat("x", size))
	// answered reads a request and answers it.
	answered := func(answer string) func(c net.Conn, arrived func()) error {
		return func(c net.Conn, arrived func()) error {
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return err
			}
			_, err = io.WriteString(c, answer)
			arrived()
			return err
		}
	}
	begun := `data: {"choices":[{"index":0,"delta":{"content":"a"}}]}` + "\n\n"
	for _, tt := range []struct {
		name, scheme, request string
		counted               string // what has to stand in the metrics before the caller leaves
		serve                 func(c net.Conn, arrived func()) error
	}{
		{"connecting", "https", whole, "", func(_ net.Conn, arrived func()) error { arrived(); return nil }},
		{"sending", "http", large, "", func(c net.Conn, arrived func()) error {
			_ = c.(*net.TCPConn).SetReadBuffer(256 << 10) // no more than a part of it is on its way
			_, err := io.ReadFull(c, make([]byte, 1000))
			arrived()
			return err
		}},
		{"waiting to ask again", "http", whole, `gateway_upstream_attempts_total{backend="one",outcome="failed"} 1`,
			answered("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")},
		{"waiting to go on", "http", streamed, `gateway_upstream_attempts_total{backend="one",outcome="broken"} 1`,
			answered("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n" + begun)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			arrived, left, ended := make(chan struct{}), make(chan struct{}), make(chan int64, 10)
			once := sync.OnceFunc(func() { close(arrived) })
			b := newPlainBackend(t, func(c net.Conn) {
				if err := tt.serve(c, once); err != nil {
					t.Error(err)
				}
				if tt.counted == "" {
					<-left
					n, _ := io.Copy(io.Discard, c)
					ended <- n
				}
			})
			defer b.close()
			goes := sync.OnceFunc(func() { close(left) })
			defer goes()
			access := filepath.Join(t.TempDir(), "access.log")
			text := strings.NewReplacer(
				"kind: vllm", "kind: openai", "http://x", tt.scheme+"://"+b.address,
				"backends: [one]", "backends: [one], timeouts: {connect: 1h, answer: 1h, first_token: 1h}, retry: {backoff: 2m, longest_backoff: 2m}",
				`access_log: "off"`, fmt.Sprintf("access_log: %q", access),
			).Replace(fmt.Sprintf(minimal, "http://x"))
			_, address, admin := run(t, text)
			ctx, leave := context.WithCancel(context.Background())
			defer leave()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(tt.request))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				if response, err := client.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, response.Body) // until the caller leaves
					_ = response.Body.Close()
				}
			}()
			<-arrived
			waitFor(t, tt.counted, func() bool {
				_, metrics := fetch(t, "http://"+admin+"/metrics")
				return strings.Contains(metrics, tt.counted)
			})
			leave()
			<-gone
			goes()
			if tt.counted == "" {
				select {
				case n := <-ended:
					if n >= size {
						t.Errorf("%d bytes were sent", n)
					}
				case <-time.After(30 * time.Second):
					t.Error("the backend's connection stays open")
				}
			}
			waitFor(t, "the call's end", func() bool {
				line, _ := os.ReadFile(access)
				return strings.Contains(string(line), `"attempts":1,`) && strings.Contains(string(line), `"client_gone":true`)
			})
			if n := b.conns.Load(); n != 1 {
				t.Errorf("the backend was asked %d times", n)
			}
		})
	}
}
