package upstream

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// idleConnection stays under the 5 s after which vLLM and SGLang close an idle connection: a request
// that meets that close is lost.
const idleConnection = 4 * time.Second

// Bounds of one connection.
const (
	maxIdle         = 4096             // connections kept for reuse at one address
	keepAlive       = 15 * time.Second // between TCP probes
	maxResponseHead = 64 << 10         // bytes of status line and headers
	readBuffer      = 4 << 10          // bytes
)

// A wire keeps connections to one address. On HTTP/1.1 it takes the place of http.Transport on the hot path:
// a call writes and reads in its own goroutine, where the transport hands every request and response
// between two more, and a deadline on the connection bounds each phase, where a context would need a timer.
// Parsing and framing of responses are net/http's.
type wire struct {
	address string // host:port
	link    *link
	last    atomic.Pointer[string] // ip:port that the address led to
	longest time.Duration          // that HTTP/2 may take to connect, when no call waits for it any more
	second  *http.Transport        // HTTP/2; nil: HTTP/1.1, for which the rest is

	mu     sync.Mutex
	idle   []*conn // the last one used last
	sweep  *time.Timer
	closed bool
}

// newWire makes the wire to u, reached at dial; an empty dial stands for u's own host.
func newWire(u *url.URL, dial string, l *link) *wire {
	w := &wire{address: hostPort(u), link: l, longest: longestDial}
	if dial != "" {
		w.address = dial
	}
	if l.protocol != "http1" {
		w.second = w.newSecond()
	}
	w.sweep = time.AfterFunc(idleConnection, func() { w.expire(time.Now()) })
	w.sweep.Stop()
	return w
}

// A conn is one connection, used by one attempt at a time.
type conn struct {
	net.Conn
	raw    net.Conn // the socket, under TLS and a proxy's tunnel if there are any
	line   *line    // a stream of HTTP/2, for which this stands; nil: a connection
	probe  probe
	in     *bufio.Reader
	budget int64 // bytes that may still be read of a response's head; negative: no bound
	failed error // of the last read
	used   time.Time
	reused bool
}

// Read counts what a response's head takes.
func (c *conn) Read(p []byte) (int, error) {
	if c.budget == 0 {
		return 0, errHead
	}
	if c.budget > 0 && int64(len(p)) > c.budget {
		p = p[:c.budget]
	}
	n, err := c.Conn.Read(p)
	if c.budget > 0 {
		c.budget -= int64(n)
	}
	c.failed = err
	return n, err
}

var errHead = errors.New("the response's headers are too large")

// Close closes the socket at once. TLS would first say goodbye, and wait for a peer that does not read.
func (c *conn) Close() error { return c.raw.Close() }

// quiet reports whether an idle connection is fit for a request: still open, and nothing came on it that
// nobody asked for. Such bytes would be read as the answer to the next call.
func (c *conn) quiet() bool {
	if !c.probe.quiet() {
		return false
	}
	if c.Conn == c.raw {
		return true
	}
	// TLS may hold what the socket no longer does. A read that is late before it begins finds just that.
	_ = c.SetReadDeadline(time.Unix(1, 0))
	_, err := c.in.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// take returns a connection that was used a moment ago, or a new one, which may take as long as connect,
// TLS included; 0 sets no bound.
func (w *wire) take(ctx context.Context, fresh bool, connect time.Duration) (*conn, error) {
	if w.second != nil {
		return w.line(ctx, connect), nil
	}
	for !fresh {
		c := w.pop(time.Now())
		if c == nil {
			break
		}
		if c.quiet() {
			c.reused = true
			return c, nil
		}
		_ = c.Close()
	}
	if connect > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, connect)
		defer cancel()
	}
	way, socket, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: way, raw: socket, probe: newProbe(socket)}
	if w.link.tls != nil {
		secure := tls.Client(way, w.link.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = socket.Close()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: socket.RemoteAddr(), Err: err}
		}
		c.Conn = secure
	}
	c.in = bufio.NewReaderSize(c, readBuffer)
	return c, nil
}

// dial opens a connection. A name that cannot be looked up leads to where it led last.
func (w *wire) dial(ctx context.Context) (way, socket net.Conn, err error) {
	way, socket, err = w.link.dial(ctx, w.address)
	last, unknown := w.last.Load(), new(net.DNSError)
	switch {
	case last != nil && errors.As(err, &unknown):
		return w.link.dial(ctx, *last)
	case err == nil && w.link.proxy == nil:
		if now := socket.RemoteAddr().String(); last == nil || *last != now {
			w.last.Store(&now)
		}
	}
	return way, socket, err
}

func (w *wire) pop(now time.Time) *conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.idle) - 1
	if n < 0 {
		return nil
	}
	c := w.idle[n]
	if now.Sub(c.used) >= idleConnection {
		return nil // and so is every one below it; expire closes them
	}
	w.idle[n] = nil
	w.idle = w.idle[:n]
	return c
}

// put keeps c for the next call. All of its response has been read.
func (w *wire) put(c *conn) {
	if c.line != nil {
		_ = c.Close() // the stream is over; the connection is the transport's
		return
	}
	c.used, c.reused = time.Now(), false
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= maxIdle || c.in.Buffered() > 0 {
		_ = c.Close()
		return
	}
	if len(w.idle) == 0 {
		w.sweep.Reset(idleConnection)
	}
	w.idle = append(w.idle, c)
}

// expire closes what has been idle for too long.
func (w *wire) expire(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := 0
	for old < len(w.idle) && now.Sub(w.idle[old].used) >= idleConnection {
		_ = w.idle[old].Close()
		old++
	}
	kept := copy(w.idle, w.idle[old:])
	clear(w.idle[kept:])
	w.idle = w.idle[:kept]
	if kept > 0 {
		w.sweep.Reset(idleConnection - now.Sub(w.idle[0].used))
	}
}

// close closes the idle connections; those in use are closed when they come back.
func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.sweep.Stop()
	if w.second != nil {
		w.second.CloseIdleConnections()
	}
	for _, c := range w.idle {
		_ = c.Close()
	}
	w.idle = nil
}

// readResponse reads a response's head, past any 1xx.
func (c *conn) readResponse(r *http.Request) (*http.Response, error) {
	c.budget = maxResponseHead
	defer func() { c.budget = -1 }()
	if _, err := c.in.Peek(1); err != nil {
		return nil, silence{err}
	}
	if begun, _ := c.in.Peek(min(c.in.Buffered(), len("HTTP/"))); !strings.HasPrefix("HTTP/", string(begun)) {
		return nil, errMalformed // at once: what never ends a line would be waited for
	}
	for range maxInformational {
		response, err := http.ReadResponse(c.in, r)
		if err != nil {
			// A line that is cut off is read as if it were whole, and then is not HTTP: the cut is what is wrong.
			return nil, headError(cmp.Or(c.failed, err))
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, nil
		}
	}
	return nil, errors.New("too many 1xx responses")
}

const maxInformational = 5

var errMalformed = errors.New("the response's head is not HTTP")

// headError keeps what a backend sent out of errors: they reach logs, and it may be anybody's text.
func headError(err error) error {
	var broken net.Error
	if dead(err) || errors.As(err, &broken) || errors.Is(err, errHead) {
		return err
	}
	return errMalformed
}

// A silence is an error before the first byte of a response.
type silence struct{ error }

func (s silence) Unwrap() error { return s.error }

// reusable reports whether the connection can serve again once the body has been read to its end.
func reusable(r *http.Response) bool {
	return !r.Close && r.StatusCode != http.StatusSwitchingProtocols
}

var _ io.Reader = (*conn)(nil)
