package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A valve stands before a server and can take it away as a kill does, or as one that stops and says nothing.
type valve struct {
	url string

	mu     sync.Mutex
	conns  []net.Conn
	killed bool
	frozen chan struct{} // closed when it thaws; nil: it flows
	l      net.Listener
}

func newValve(t *testing.T, address string) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{url: "http://" + l.Addr().String(), l: l}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil || !v.add(in, out) {
				_ = in.Close()
				continue
			}
			served.Go(func() { v.pass(out, in) })
			served.Go(func() { v.pass(in, out) })
		}
	})
	t.Cleanup(func() { v.thaw(); v.kill(); served.Wait() })
	return v
}

func (v *valve) add(conns ...net.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns = append(v.conns, conns...)
	return !v.killed
}

// pass copies from one to the other, while it flows.
func (v *valve) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		v.mu.Lock()
		frozen := v.frozen
		v.mu.Unlock()
		if frozen != nil {
			<-frozen
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// kill resets every connection and takes no more.
func (v *valve) kill() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.killed = true
	_ = v.l.Close()
	for _, c := range v.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// freeze lets nothing through any more, and says nothing.
func (v *valve) freeze() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.frozen = make(chan struct{})
}

func (v *valve) thaw() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.frozen != nil {
		close(v.frozen)
		v.frozen = nil
	}
}

// One of three replicas is killed, or falls silent, under hundreds of streams: none is cut, and each says what it would
// have said.
func TestReplicaGoesUnderStreams(t *testing.T) {
	streams := 500
	if raced {
		streams = 100
	}
	for _, tt := range []struct {
		name string
		end  func(*valve)
	}{{"killed", (*valve).kill}, {"silent", (*valve).freeze}} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Backends: map[string]BackendConfig{}}
			pool := PoolConfig{Models: []string{"mock"}, Continue: steady, Retry: brisk, Timeouts: fast}
			pool.Timeouts.Between, pool.Timeouts.Headers, pool.Timeouts.FirstToken, pool.Timeouts.Total = 10*time.Second, 20*time.Second, 20*time.Second, time.Minute
			var first *valve
			for i := range 3 {
				s, err := mock.New(mock.Options{Tokens: 40, Pace: 60 * time.Millisecond, Record: -1})
				if err != nil {
					t.Fatal(err)
				}
				p, err := s.Listen("127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
				v := newValve(t, p.Addr)
				if i == 0 {
					first = v
				}
				id := fmt.Sprint("replica-", i)
				cfg.Backends[id] = BackendConfig{URL: v.url}
				pool.Backends = append(pool.Backends, id)
			}
			cfg.Pools = map[string]PoolConfig{"p": pool}
			u := newUpstream(t, cfg)
			want := make([]string, streams)
			_, url := backendAt(t, mock.Options{Tokens: 40, Record: -1})
			undisturbed := single(t, url)
			for i := range want {
				_, text, err := ask(t, undisturbed, chat(fmt.Sprint("caller ", i), true))
				if err != nil {
					t.Fatal(err)
				}
				want[i] = hear(t, text).text
			}
			var begun, over sync.WaitGroup
			begun.Add(streams)
			var mu sync.Mutex
			continued, backends := 0, map[string]int{}
			for i := range streams {
				over.Go(func() {
					c, text, err := disturbed(u, fmt.Sprint("caller ", i), begun.Done)
					got := hear(t, text)
					if err != nil || got.text != want[i] || got.dones != 1 || len(got.ids) != 1 || got.roles["assistant"] != 1 {
						t.Errorf("caller %d: %v, %d [DONE], %d ids; %q, want %q", i, err, got.dones, len(got.ids), got.text, want[i])
					}
					mu.Lock()
					defer mu.Unlock()
					continued += c.Outcome.Continued
					backends[c.Outcome.Backend]++
				})
			}
			begun.Wait()
			tt.end(first)
			over.Wait()
			if continued == 0 {
				t.Errorf("nothing went on elsewhere; answered by %v", backends)
			}
			t.Logf("%d of %d streams went on elsewhere; answered by %v", continued, streams, backends)
		})
	}
}

// disturbed makes a call and says when its answer has begun.
func disturbed(u *Upstream, prompt string, begun func()) (c *pipeline.Call, text string, err error) {
	var once sync.Once
	defer once.Do(begun)
	r := new(llm.Request)
	if err := llm.ParseRequest(llm.Chat, []byte(chat(prompt, true)), r); err != nil {
		return nil, "", err
	}
	c = &pipeline.Call{ID: "req-" + prompt, Route: llm.Chat, Request: r}
	reply, err := u.Handle(context.Background(), c)
	if err != nil {
		return c, "", err
	}
	defer reply.Stream.Close()
	var out strings.Builder
	for {
		chunk, err := reply.Stream.Next()
		if err == io.EOF {
			return c, out.String(), nil
		}
		if err != nil {
			return c, out.String(), err
		}
		out.Write(chunk.Raw)
		if chunk.View != nil && len(chunk.View.Texts) > 0 && chunk.View.Texts[0].At.Len() > 0 {
			once.Do(begun)
		}
	}
}
