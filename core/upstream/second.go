package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of HTTP/2. Its streams share connections, so each may only have little on its way that nobody has read.
const (
	streamWindow = 64 << 10         // bytes of one stream that wait for a slow caller
	pingAfter    = 15 * time.Second // of silence on a connection
	pingWait     = 5 * time.Second
	idleSecond   = 60 * time.Second // GOAWAY tells both sides when a connection ends, so no race is to be feared
	longestDial  = 30 * time.Second // to open a connection, proxy and TLS included
)

// newSecond makes the transport for HTTP/2. It is net/http's: what a second connection's goroutines cost is little
// beside what streams save there, and backends that speak it are gateways and providers, not engines.
func (w *wire) newSecond() *http.Transport {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(w.link.tls == nil)
	p.SetHTTP2(w.link.tls != nil)
	t := &http.Transport{
		Protocols: p, DisableCompression: true, MaxResponseHeaderBytes: maxResponseHead, IdleConnTimeout: idleSecond,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow, SendPingTimeout: pingAfter, PingTimeout: pingWait},
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		// The transport dials for whoever comes, and so with no caller's end: a peer that is silent would keep it for ever.
		ctx, cancel := context.WithTimeout(ctx, w.longest)
		defer cancel()
		return w.dialSecond(ctx)
	}
	t.DialContext, t.DialTLSContext = dial, dial // each for its own scheme
	return t
}

var errNoSecond = errors.New("the backend does not speak HTTP/2")

func (w *wire) dialSecond(ctx context.Context) (net.Conn, error) {
	way, socket, err := w.dial(ctx)
	if err != nil || w.link.tls == nil {
		return way, err
	}
	secure := tls.Client(way, w.link.tls)
	err = secure.HandshakeContext(ctx)
	if err == nil && secure.ConnectionState().NegotiatedProtocol != "h2" {
		err = errNoSecond
	}
	if err != nil {
		_ = socket.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: socket.RemoteAddr(), Err: err}
	}
	return secure, nil
}

// A line is one stream of HTTP/2 in the place of a connection: its deadline and its end are a context's.
type line struct {
	net.Conn // nil: nothing else is asked of it
	wire     *wire
	ctx      context.Context
	cancel   context.CancelFunc
	connect  time.Duration

	mu    sync.Mutex
	timer *time.Timer
	late  atomic.Bool
}

func (w *wire) line(ctx context.Context, connect time.Duration) *conn {
	l := &line{wire: w, connect: connect}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx)) // the watch sees to the caller's leaving
	return &conn{Conn: l, raw: l, line: l}
}

func (l *line) Close() error {
	l.cancel()
	_ = l.SetDeadline(time.Time{})
	return nil
}

func (l *line) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if !t.IsZero() && l.ctx.Err() == nil {
		l.timer = time.AfterFunc(time.Until(t), l.expire)
	}
	return nil
}

func (l *line) expire() {
	l.late.Store(true)
	l.cancel()
}

// exchange sends the request that head says in HTTP/1.1, and returns the response's head.
func (l *line) exchange(head, body []byte) (*http.Response, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return nil, fmt.Errorf("upstream: make a request of HTTP/2: %w", err)
	}
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", r.Host
	r.Close = false // of HTTP/1.1; here it would end everybody's connection
	r.Header.Del("Connection")
	if l.wire.link.tls != nil {
		r.URL.Scheme = "https"
	}
	if len(body) > 0 { // otherwise there is none, and no length
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
	}
	connected, stop := l.connecting()
	defer stop()
	response, err := l.wire.second.RoundTrip(r.WithContext(connected))
	if err != nil {
		return nil, l.cause(err)
	}
	response.Body = &lineBody{response.Body, l}
	return response, nil
}

// connecting bounds the time until there is a connection for the stream.
func (l *line) connecting() (context.Context, func() bool) {
	stop := func() bool { return false }
	if l.connect > 0 {
		timer := time.AfterFunc(l.connect, l.cancel)
		stop = timer.Stop
	}
	return httptrace.WithClientTrace(l.ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { stop() }}), stop
}

// cause says why the stream failed in the words of a connection.
func (l *line) cause(err error) error {
	var op *net.OpError
	switch {
	case l.late.Load():
		return os.ErrDeadlineExceeded
	case errors.As(err, &op):
		return err
	case l.ctx.Err() != nil:
		return &net.OpError{Op: "dial", Net: "tcp", Err: errConnect} // who leaves is told so by the watch
	}
	return err
}

type lineBody struct {
	io.ReadCloser
	line *line
}

func (b *lineBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.line.late.Load() {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}
