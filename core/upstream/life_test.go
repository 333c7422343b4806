package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// phases are backends that stop at each point of a call; the string is what is sent before.
var phases = []struct{ name, sent string }{
	{"headers", ""},
	{"half a head", "HTTP/1.1 200 OK\r\n"},
	{"first event", streamHead},
	{"half an event", streamHead + "10\r\ndata: {"},
	{"between events", streamHead + chunked(eventText(`{"choices":[{"index":0,"delta":{"content":"a"}}]}`))},
	{"after the finish", streamHead + chunked(eventText(finished))},
	{"error body", "HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\n{"},
}

// Field note 4.1 (LiteLLM #33736, Bifrost #828, #6802): the caller leaves in every phase. The backend sees
// it at once; nothing is left behind.
func TestCancelInEveryPhase(t *testing.T) {
	for _, tt := range phases {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) { _, _ = io.WriteString(c, tt.sent) })
			u := newUpstream(t, Config{
				Backends: map[string]BackendConfig{"one": {URL: b.url}},
				Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: TimeoutsConfig{Connect: time.Second}}},
			})
			ctx, cancel := context.WithCancelCause(context.Background())
			reason := errors.New("the caller left")
			var at time.Time
			time.AfterFunc(50*time.Millisecond, func() { at = time.Now(); cancel(reason) })
			reply, err := u.Handle(ctx, newCall(t, llm.Chat, chat("x", true)))
			if err == nil {
				_, err = drain(t, reply)
			}
			if tt.name != "after the finish" && !errors.Is(err, reason) {
				t.Errorf("got %v, want the reason for leaving", err)
			}
			waitUntil(t, func() bool { return b.closed.Load() == b.conns.Load() })
			if took := time.Since(at); took > 50*time.Millisecond {
				t.Errorf("the backend saw it after %v, want 50 ms at most", took)
			}
			if inflight(u) != 0 || b.calls.Load() != 1 {
				t.Errorf("%d in flight, %d calls", inflight(u), b.calls.Load())
			}
			if h := &u.pools[0].members()[0].peer.health; h.failed != 0 || !h.trial.IsZero() {
				t.Errorf("the backend is blamed: %+v", h)
			}
		})
	}
}

// Field note 4.2 (Bifrost #7034): each phase has its own bound, and says so.
func TestEachPhaseHasItsBound(t *testing.T) {
	const short = 100 * time.Millisecond
	event := chunked(eventText(`{"choices":[{"index":0,"delta":{"content":"a"}}]}`))
	for _, tt := range []struct {
		name, sent, again string
		timeouts          TimeoutsConfig
		want              error
	}{
		{"headers", "", "", TimeoutsConfig{Headers: short}, errHeaders},
		{"first token", streamHead, "", TimeoutsConfig{FirstToken: short}, errFirstToken},
		{"first token with comments", streamHead, chunked(": wait\n\n"), TimeoutsConfig{FirstToken: short}, errFirstToken},
		{"between", streamHead + event, "", TimeoutsConfig{Between: short}, errBetween},
		{"total before headers", "", "", TimeoutsConfig{Total: short, Headers: time.Second}, errTotal},
		{"total before the first token", streamHead, "", TimeoutsConfig{Total: short, FirstToken: time.Second}, errTotal},
		{"total in mid-stream", streamHead, event, TimeoutsConfig{Total: short, Between: time.Second}, errTotal},
		{"total with no other", streamHead + event, "", TimeoutsConfig{Total: short}, errTotal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) {
				_, _ = io.WriteString(c, tt.sent)
				for range 100 {
					if _, err := io.WriteString(c, tt.again); tt.again == "" || err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
			u := newUpstream(t, Config{
				Backends: map[string]BackendConfig{"one": {URL: b.url}},
				Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: tt.timeouts}},
			})
			began := time.Now()
			_, _, err := ask(t, u, chat("x", true))
			var r *pipeline.Refusal
			if !errors.Is(err, tt.want) || !errors.As(err, &r) || r.HTTPStatus() != 504 {
				t.Errorf("got %v, want 504: %v", err, tt.want)
			}
			if took := time.Since(began); took < short || took > short+400*time.Millisecond || b.calls.Load() != 1 || inflight(u) != 0 {
				t.Errorf("after %v, %d calls, %d in flight", took, b.calls.Load(), inflight(u))
			}
		})
	}
}

// Callers that leave at any moment race with connections going back for reuse: every answer is its own
// caller's, and nothing is left behind (C-26, S-18).
func TestLeavingRacesWithReuse(t *testing.T) {
	s, url := backendAt(t, mock.Options{Tokens: 4, Models: []string{"mock-echo"}, Record: -1})
	patient := TimeoutsConfig{Connect: 10 * time.Second, Headers: 30 * time.Second, FirstToken: 30 * time.Second, Between: 30 * time.Second}
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: url}},
		Pools:    map[string]PoolConfig{"default": {Models: []string{"mock*"}, Backends: []string{"one"}, Timeouts: patient}},
	})
	before := runtime.NumGoroutine()
	var callers sync.WaitGroup
	for n := range 16 {
		callers.Go(func() {
			for i := range 100 {
				leaveOrRead(t, u, fmt.Sprintf("caller-%d-%d-end", n, i), i%2 == 0)
			}
		})
	}
	callers.Wait()
	waitUntil(t, func() bool { return inflight(u) == 0 })
	kept := len(u.pools[0].members()[0].peer.wire.idle)
	_ = s.Close()
	_ = u.Close()
	waitUntil(t, func() bool { return runtime.NumGoroutine() <= before+2 })
	if kept > 16 {
		t.Errorf("%d connections kept for 16 callers", kept)
	}
}

func leaveOrRead(t *testing.T, u *Upstream, word string, stream bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if rand.IntN(3) > 0 {
		time.AfterFunc(rand.N(2*time.Millisecond), cancel)
	}
	r := new(llm.Request)
	body := fmt.Sprintf(`{"model":"mock-echo","stream":%v,"messages":[{"role":"user","content":%q}]}`, stream, word)
	if err := llm.ParseRequest(llm.Chat, []byte(body), r); err != nil {
		t.Error(err)
		return
	}
	c := &pipeline.Call{ID: "req-" + word, Route: llm.Chat, Request: r}
	reply, err := u.Handle(ctx, c)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s: %v", word, err)
		}
		return
	}
	defer reply.Stream.Close()
	var text []byte
	for {
		chunk, err := reply.Stream.Next()
		if err != nil {
			if got := string(text); err == io.EOF && got != word || !strings.HasPrefix(word, got) {
				t.Errorf("%s was told %q, %v", word, got, err)
			}
			if err != io.EOF && ctx.Err() == nil {
				t.Errorf("%s: %v", word, err)
			}
			return
		}
		for i := 0; chunk.View != nil && i < len(chunk.View.Texts); i++ {
			text = llm.AppendText(text, chunk.Data, chunk.View.Texts[i])
		}
	}
}

// Descriptors of connections that ended in any way are given back.
func TestDescriptorsAreGivenBack(t *testing.T) {
	if files() < 0 {
		t.Skip("descriptors cannot be counted here")
	}
	_, url := backendAt(t, mock.Options{Tokens: 3, Record: -1})
	u := single(t, url)
	kinds := []string{"none", "die-after=1", "reset", "status=500", "html", "error-first", "garbage-line", "abort-finish=1", "trailing-garbage", "empty-200"}
	round := func() {
		for _, kind := range kinds {
			_, _, _ = ask(t, u, chat("[[mock fault="+kind+"]]", true))
			heal(u.pools[0].members()[0])
		}
	}
	round()
	before := files()
	for range 30 {
		round()
	}
	waitUntil(t, func() bool { return files() <= before+4 })
	if inflight(u) != 0 {
		t.Errorf("%d in flight", inflight(u))
	}
}

func waitUntil(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !true(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long")
		}
	}
}
