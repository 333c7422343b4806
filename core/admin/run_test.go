package admin

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBounds: headers and bodies have limits.
func TestBounds(t *testing.T) {
	at := serve(t, Config{}, (&desk{}).face(), "127.0.0.1:0")
	response, _ := ask(t, "GET", "http://"+at+"/live", "X-Long", strings.Repeat("x", 64<<10))
	if response.StatusCode != 431 {
		t.Errorf("64 KiB of header: got %d, want 431", response.StatusCode)
	}
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /live HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000000\r\n\r\n", at)
	conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	if r, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || r.StatusCode != 405 {
		t.Errorf("a body that is announced and not sent: got %v, %v; want 405 at once", r, err)
	}
}

// TestStop: a request under way finishes, and Run then returns; one that takes too long is cut off.
func TestStop(t *testing.T) {
	for name, slow := range map[string]time.Duration{"finishes": 100 * time.Millisecond, "is cut off": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entered, release := make(chan struct{}), make(chan struct{})
			face := (&desk{}).face()
			face.Reload = func(ctx context.Context) (int64, error) {
				close(entered)
				select {
				case <-time.After(slow):
				case <-ctx.Done():
				case <-release:
				}
				return 3, nil
			}
			defer close(release)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			a := New(Config{}, face)
			go func() { ended <- a.Run(ctx, l) }()
			status := make(chan int, 1)
			transport := &http.Transport{DisableKeepAlives: true}
			go func() {
				r, err := (&http.Client{Transport: transport}).Post("http://"+l.Addr().String()+"/reload", "", nil)
				if err != nil {
					status <- 0
					return
				}
				r.Body.Close()
				status <- r.StatusCode
			}()
			<-entered
			began := time.Now()
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
			if took := time.Since(began); took > shutdownTime+time.Second {
				t.Errorf("Run took %s to end", took)
			}
			want := 200
			if slow > time.Minute {
				want = 0
			}
			if got := <-status; got != want {
				t.Errorf("got status %d, want %d", got, want)
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := New(Config{}, (&desk{}).face()).Run(context.Background(), l); err == nil || !strings.HasPrefix(err.Error(), "admin: serve 127.0.0.1:") {
		t.Errorf("a closed listener: got %v", err)
	}
}
