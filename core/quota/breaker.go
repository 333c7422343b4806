package quota

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// A breaker keeps calls away from a store that is down: after some failures in a row it lets only one
// call through each while, to see whether the store is back.
type breaker struct {
	mu       sync.Mutex
	failures int
	success  time.Time // the last
	probe    time.Time // while open: when the next call may try
	now      func() time.Time
	metrics  *metrics
}

const (
	tripAfter  = 3                      // failures in a row
	probeEvery = 500 * time.Millisecond // while open
)

func newBreaker(m *metrics) *breaker { return &breaker{now: time.Now, metrics: m} }

// allow reports whether a call may try; whoever is allowed reports what came of it, if it can tell.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < tripAfter {
		return true
	}
	now := b.now()
	if now.Before(b.probe) {
		return false
	}
	b.probe = now.Add(probeEvery)
	return true
}

func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.success = 0, b.now()
	b.metrics.breakerOpen.Set(0)
}

// failed notes the failure of a call that began at start. It does not count when another has succeeded
// since: many calls that wait together for lost answers fail together, and prove no outage.
func (b *breaker) failed(start time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if start.Before(b.success) {
		return
	}
	b.failures++
	if b.failures == tripAfter {
		b.probe = b.now().Add(probeEvery)
		b.metrics.breakerOpen.Set(1)
	}
}

// A dialGate lets at most one connection attempt a second through while they fail. go-redis dials for
// every waiting call and, once enough have failed, from a goroutine of its own.
type dialGate struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu     sync.Mutex
	failed time.Time
}

const dialPause = 900 * time.Millisecond // less than the second go-redis waits between its own attempts

var errDialPause = errors.New("the last connection attempt failed a moment ago")

// Dial connects, or fails at once while the gate is shut.
func (g *dialGate) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	g.mu.Lock()
	shut := !g.failed.IsZero() && time.Since(g.failed) < dialPause
	g.mu.Unlock()
	if shut {
		return nil, errDialPause
	}
	conn, err := g.dial(ctx, network, addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = time.Time{}
	if err != nil {
		g.failed = time.Now()
	}
	return conn, err
}
