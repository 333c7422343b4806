package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Whose fault a failure is, and which, is told from the error that a refusal carries.
func TestCauses(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &os.SyscallError{Syscall: "socket", Err: err}}
	}
	for _, tt := range []struct {
		name string
		err  error
		want cause
		ours bool
	}{
		{"refused", dial(syscall.ECONNREFUSED), causeConnect, false},
		{"no route", dial(syscall.EHOSTUNREACH), causeConnect, false},
		{"no such name", &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, causeConnect, false},
		{"no connection in time", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, causeTimeout, false},
		{"no first token in time", errFirstToken, causeTimeout, false},
		{"cut off", io.ErrUnexpectedEOF, causeAnswer, false},
		{"reset", syscall.ECONNRESET, causeAnswer, false},
		{"no descriptors", dial(syscall.EMFILE), causeConnect, true},
		{"no ports", dial(syscall.EADDRNOTAVAIL), causeConnect, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := &pipeline.Refusal{Err: fmt.Errorf("wrapped: %w", tt.err)}
			if got := causeOf(err); got != tt.want || ours(err) != tt.ours {
				t.Errorf("got %s, ours %v, want %s, ours %v", got, ours(err), tt.want, tt.ours)
			}
		})
	}
}

// A backend that takes far longer than the rest to begin its answers goes out of traffic, though it answers every call.
func TestSlowFirstTokensTakeOut(t *testing.T) {
	t.Parallel() // it takes as long as a first token must to be slow
	slow := func(c net.Conn, n int64) {
		if n <= enoughFirstTokens {
			time.Sleep(slowFloor + 100*time.Millisecond)
		}
		well(c, n)
	}
	servers := []*raw{rawBackend(t, well), rawBackend(t, slow), rawBackend(t, well)}
	health := usualHealth
	health.Ejection = time.Hour
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"a": {URL: servers[0].url}, "b": {URL: servers[1].url, Health: health}, "c": {URL: servers[2].url}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"a", "b", "c"}, Balance: "round-robin", Panic: 50, Timeouts: unhurried}},
	})
	var waiting sync.WaitGroup
	call := func() {
		if _, _, err := ask(t, u, chat("x", true)); err != nil {
			t.Error(err)
		}
	}
	for i := range int64(enoughFirstTokens) { // each backend in turn
		call()
		waiting.Go(call)
		waitUntil(t, func() bool { return servers[1].calls.Load() == i+1 })
		call()
	}
	waiting.Wait()
	u.pools[0].looked.Store(0) // the next call looks at once
	for range 6 {
		call()
	}
	if n := servers[1].calls.Load(); n != enoughFirstTokens || counted(u.count.ejections.WithLabelValues("b", string(causeSlow))) != 1 {
		t.Errorf("%d calls went to the slow one, want %d", n, enoughFirstTokens)
	}
	for id, want := range map[string]standing{"a": {state: stateHealthy}, "b": {state: stateOpen, cause: causeSlow}, "c": {state: stateHealthy}} {
		if s := u.member(id).peer.health.standing(time.Now()); s.state != want.state || s.cause != want.cause {
			t.Errorf("%s stands at %+v, want %+v", id, s, want)
		}
	}
}
