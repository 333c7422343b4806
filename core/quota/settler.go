package quota

import (
	"context"
	"errors"
	"slices"
	"time"
)

// A settler sees to it that what was taken is settled: at once, or, when the store does not answer, a
// few times more from the goroutine that owns it.
type settler struct {
	queue   chan pending
	metrics *metrics
}

// pending is a settlement to repeat; the reservation is its own.
type pending struct {
	store Store
	r     Reservation
	since time.Time
}

const (
	maxPending   = 4096        // settlements; beyond it they are dropped and counted
	maxAttempts  = 10          // repetitions of one settlement
	maxAge       = time.Minute // of a settlement: its window is over, and well before recordLife, so that none counts twice
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
	drainTimeout = time.Second
)

func newSettler(m *metrics) *settler {
	return &settler{queue: make(chan pending, maxPending), metrics: m}
}

// settle settles r, now or later. A caller who leaves still pays: ctx is not the call's.
func (s *settler) settle(ctx context.Context, store Store, r *Reservation) {
	if store.Settle(ctx, r) != nil {
		s.later(store, r)
	}
}

// later puts a copy of r aside; the caller may use r on.
func (s *settler) later(store Store, r *Reservation) {
	p := pending{store, *r, time.Now()}
	p.r.Charges = slices.Clone(r.Charges)
	select {
	case s.queue <- p:
		s.metrics.pending.Inc()
	default:
		s.metrics.dropped.Inc()
	}
}

func (s *settler) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.queue:
			s.repeat(ctx, p)
		}
	}
}

// repeat tries p a few times, ever more slowly. One that ctx interrupts goes back for drain.
func (s *settler) repeat(ctx context.Context, p pending) {
	defer s.metrics.pending.Dec()
	pause := firstPause
	for attempts := 0; attempts < maxAttempts && time.Since(p.since) < maxAge; {
		err := p.store.Settle(context.WithoutCancel(ctx), &p.r)
		if err == nil {
			return
		}
		if !errors.Is(err, ErrDown) {
			attempts++
		}
		select {
		case <-ctx.Done():
			s.later(p.store, &p.r)
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
	s.metrics.dropped.Inc()
}

// drain tries each waiting settlement once more, within drainTimeout.
func (s *settler) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	for {
		select {
		case p := <-s.queue:
			s.metrics.pending.Dec()
			if p.store.Settle(ctx, &p.r) != nil {
				s.metrics.dropped.Inc()
			}
		default:
			return
		}
	}
}
