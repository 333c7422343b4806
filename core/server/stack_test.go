package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/server"
	"github.com/nexus-gateway/nexus/core/upstream"
)

// A stack is server and upstream together, with nothing between, in front of a mock.
type stack struct {
	address  string
	backend  *mock.Server
	upstream *upstream.Upstream
	server   *server.Server
	held     atomic.Int64 // snapshots in use
}

type snapshot struct {
	pipeline.Handler
	held *atomic.Int64
}

func (s snapshot) Release() { s.held.Add(-1) }

func (snapshot) Refused(context.Context, *pipeline.Call, *pipeline.Refusal) {}

func newStack(tb testing.TB, o mock.Options) *stack {
	tb.Helper()
	x := new(stack)
	o.Record = -1
	var err error
	if x.backend, err = mock.New(o); err != nil {
		tb.Fatal(err)
	}
	port, err := x.backend.Listen("127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	x.upstream, err = upstream.New(upstream.Config{
		Backends: map[string]upstream.BackendConfig{"one": {URL: port.URL, Kind: "vllm", Weight: 1}},
		Pools: map[string]upstream.PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: upstream.TimeoutsConfig{
			Connect: 2 * time.Second, Headers: 20 * time.Second, FirstToken: 20 * time.Second, Between: 20 * time.Second, Total: time.Minute,
		}}},
	}, upstream.NewFleet(), upstream.NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		tb.Fatal(err)
	}
	chain := pipeline.Chain(x.upstream, server.ReadBody{})
	s := server.New(server.Config{
		MaxBody: 1 << 20, MaxHeader: 32 << 10,
		Timeouts: server.TimeoutsConfig{ReadHeader: 5 * time.Second, BodyGap: 5 * time.Second, Body: 5 * time.Second, Idle: 5 * time.Second, Write: 5 * time.Second},
	}, func() server.Snapshot { x.held.Add(1); return snapshot{chain, &x.held} }, slog.New(slog.DiscardHandler))
	x.server = s
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	x.address = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-done
		_ = x.upstream.Close()
		_ = x.backend.Close()
	})
	return x
}

func (x *stack) inflight() (n int64) {
	x.upstream.States(func(s upstream.State) bool { n += s.InFlight; return true })
	return n
}

func requestText(stream bool) string {
	body := fmt.Sprintf(`{"model":"mock","stream":%v,"messages":[{"role":"user","content":"Tell me of the sea."}]}`, stream)
	return fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// C-26: a thousand callers leave at random points; the backend is cancelled in every case within 100 ms of
// the last, and nothing stays held.
func TestCallersLeaveAtRandomPoints(t *testing.T) {
	x := newStack(t, mock.Options{Tokens: 1000, Pace: 2 * time.Millisecond, TTFT: 10 * time.Millisecond})
	text := requestText(true)
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for range 50 {
				leave(t, x.address, text)
			}
		})
	}
	callers.Wait()
	left := time.Now()
	for x.held.Load() > 0 || x.inflight() > 0 {
		if time.Since(left) > 5*time.Second {
			t.Fatalf("%d snapshots and %d calls still held", x.held.Load(), x.inflight())
		}
		time.Sleep(time.Millisecond)
	}
	if took := time.Since(left); took > 100*time.Millisecond {
		t.Errorf("the last call ended %v after its caller left", took)
	}
}

// leave sends some of a request, or all of it and reads some of the answer.
func leave(t *testing.T, address, text string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	if rand.IntN(5) == 0 {
		text = text[:rand.IntN(len(text))]
	}
	_, _ = io.WriteString(conn, text)
	_ = conn.SetReadDeadline(time.Now().Add(rand.N(60 * time.Millisecond)))
	_, _ = io.CopyN(io.Discard, conn, rand.Int64N(8<<10))
	if tcp := conn.(*net.TCPConn); rand.IntN(2) == 0 {
		_ = tcp.SetLinger(0)
	}
}

// The drain limit says that the gateway stops, whatever a backend is doing.
func TestStoppingIsNamed(t *testing.T) {
	x := newStack(t, mock.Options{Tokens: 1000, Pace: 10 * time.Millisecond})
	conn, err := net.Dial("tcp", x.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, requestText(true))
	in := bufio.NewReader(conn)
	if _, err := in.Peek(1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if x.server.Shutdown(ctx) == nil {
		t.Error("nothing was cut")
	}
	text, _ := io.ReadAll(in)
	if !strings.Contains(string(text), `"code":"stopping"`) || strings.Contains(string(text), "[DONE]") {
		t.Errorf("the stream ended with %s", text[max(0, len(text)-300):])
	}
}

func BenchmarkWholeCall(b *testing.B) {
	x := newStack(b, mock.Options{Tokens: 64})
	conn, err := net.Dial("tcp", x.address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	text, in := []byte(requestText(false)), bufio.NewReader(conn)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = conn.Write(text)
		response, err := http.ReadResponse(in, nil)
		if err != nil || response.StatusCode != 200 {
			b.Fatal(response, err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
	}
}

// One operation is one event of a stream: the call's share of it is small.
func BenchmarkStreamedEvent(b *testing.B) {
	const events = 2000
	x := newStack(b, mock.Options{Tokens: events})
	conn, err := net.Dial("tcp", x.address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	text, in := []byte(requestText(true)), bufio.NewReader(conn)
	b.ReportAllocs()
	for n := 0; n < b.N; n += events {
		_, _ = conn.Write(text)
		response, err := http.ReadResponse(in, nil)
		if err != nil || response.StatusCode != 200 {
			b.Fatal(response, err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
	}
}
