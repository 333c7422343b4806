package wall

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A backend is a server on a real socket that does what its script says, and remembers all it was asked.
type backend struct {
	name   string // of its pool
	script script
	deaf   bool        // takes connections and never reads from them
	sick   atomic.Bool // for scripts
	addr   string
	t      *testing.T

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	asked    []*asked
	over     chan struct{} // closed when the test is over
}

// A script answers one request. When it returns the connection may serve again, unless the script closed it.
type script func(x *asked)

// An asked is one request that reached a backend, and the way to answer it.
type asked struct {
	n      int // from 1
	at     time.Time
	header http.Header
	path   string
	body   body
	raw    []byte
	conn   net.Conn
	on     *backend
	done   chan struct{} // closed when the script has returned
	gone   *gone
}

// A gone tells that, and when, the gateway closed a connection.
type gone struct {
	now chan struct{} // closed then
	at  time.Time     // read after now
}

// body is what scripts read of a request.
type body struct {
	Model         string
	Stream        bool
	N             int
	Messages      []message
	Tools         []any
	MaxTokens     int   `json:"max_tokens"`
	ReturnIDs     bool  `json:"return_token_ids"`
	ContinueFinal bool  `json:"continue_final_message"`
	AddPrompt     *bool `json:"add_generation_prompt"`
	InputIDs      []int `json:"input_ids"`
	Transfer      struct {
		PromptIDs []int `json:"prompt_token_ids"`
	} `json:"kv_transfer_params"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
		Continuous   bool `json:"continuous_usage_stats"`
	} `json:"stream_options"`
}

type message struct{ Role, Content string }

func newBackend(t *testing.T, name string, s script) *backend {
	t.Helper()
	b := &backend{t: t, name: name, script: s, conns: make(map[net.Conn]bool), over: make(chan struct{})}
	b.up(t, "127.0.0.1:0")
	t.Cleanup(func() { close(b.over); b.down() })
	return b
}

func (b *backend) url() string { return "http://" + b.addr }

// up makes the backend listen at address.
func (b *backend) up(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	b.listener, b.addr = l, l.Addr().String()
	b.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns[c] = true
			b.mu.Unlock()
			go b.serve(c)
		}
	}()
}

// down takes the backend away as kill -9 does: nothing listens, and every connection ends.
func (b *backend) down() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.listener.Close()
	for c := range b.conns {
		_ = c.Close()
	}
}

// serve answers one connection's requests in turn. Another goroutine reads, so that the gateway's leaving is
// noticed at once, whatever the script is about.
func (b *backend) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
	}()
	if b.deaf {
		<-b.over
		return
	}
	g := &gone{now: make(chan struct{})}
	requests := make(chan *asked)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer func() { g.at = time.Now(); close(g.now) }()
		in := bufio.NewReader(c)
		for {
			x, err := b.read(in, c, g)
			if err != nil {
				return
			}
			select {
			case requests <- x:
			case <-stop:
				return
			}
		}
	}()
	for {
		select {
		case x := <-requests:
			b.answer(x)
		case <-g.now:
			return
		}
	}
}

func (b *backend) read(in *bufio.Reader, c net.Conn, g *gone) (*asked, error) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	x := &asked{at: time.Now(), header: r.Header, path: r.URL.Path, raw: raw, conn: c, on: b, done: make(chan struct{}), gone: g}
	if err := json.Unmarshal(raw, &x.body); err != nil && len(raw) > 0 {
		return nil, fmt.Errorf("the gateway sent a body that cannot be read: %w", err)
	}
	return x, nil
}

// answer runs the script for a call. What looks after the backend's health or its models is answered well.
func (b *backend) answer(x *asked) {
	defer close(x.done)
	switch x.path {
	case "/v1/chat/completions":
		b.mu.Lock()
		b.asked = append(b.asked, x)
		x.n = len(b.asked)
		b.mu.Unlock()
		b.script(x)
	case "/health":
		x.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	case "/v1/models":
		x.json(200, fmt.Sprintf(`{"object":"list","data":[{"id":%q,"object":"model"}]}`, b.name+"-model"))
	default:
		x.json(404, `{"detail":"Not Found"}`)
	}
}

// calls are those that have been asked for so far.
func (b *backend) calls() []*asked {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*asked(nil), b.asked...)
}

// busy counts the calls that are still being answered.
func (b *backend) busy() int {
	n := 0
	for _, x := range b.calls() {
		select {
		case <-x.done:
		default:
			n++
		}
	}
	return n
}

// open counts the connections.
func (b *backend) open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// send writes text as it is; false: the gateway has gone.
func (x *asked) send(text string) bool {
	_, err := io.WriteString(x.conn, text)
	return err == nil
}

// wait lets d pass; false: the gateway has gone meanwhile, or the test is over.
func (x *asked) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.gone.now:
	case <-x.on.over:
	}
	return false
}

// silent waits until the gateway goes.
func (x *asked) silent() { x.wait(time.Hour) }

// close ends the connection in order.
func (x *asked) close() { _ = x.conn.Close() }

// reset ends it by a TCP reset.
func (x *asked) reset() {
	if c, ok := x.conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = x.conn.Close()
}

// json answers with a whole body and further header lines.
func (x *asked) json(status int, text string, header ...string) {
	x.whole(status, "application/json", text, header...)
}

func (x *asked) whole(status int, kind, text string, header ...string) {
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n", status, http.StatusText(status), kind, len(text))
	for _, line := range header {
		head += line + "\r\n"
	}
	x.send(head + "\r\n" + text)
}

// log tells what was asked, and when after the first.
func (b *backend) log() string {
	out := ""
	for i, x := range b.calls() {
		out += fmt.Sprintf("\n  %d at %v: %.300s", i+1, ms(x.at.Sub(b.calls()[0].at)), x.raw)
	}
	return out
}
