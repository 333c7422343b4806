package upstream

import (
	"context"
	"sync"
	"time"
)

// A pulse beats while the gateway is given the processor. How late its beats come is how long the gateway
// was kept from its work, for which no backend is to blame.
type pulse struct {
	mu   sync.Mutex
	last time.Time // beat; zero: it does not run
	late [128]struct {
		second int64 // since the epoch
		time.Duration
	}
}

const (
	beat  = 50 * time.Millisecond
	punct = 10 * time.Millisecond // a beat that is late by less is in time
)

func (p *pulse) run(ctx context.Context) {
	t := time.NewTicker(beat)
	defer t.Stop()
	p.beat(time.Now())
	for {
		select {
		case <-ctx.Done():
			p.beat(time.Time{})
			return
		case <-t.C:
			p.beat(time.Now())
		}
	}
}

// beat notes how late the beat comes; a zero time ends the pulse.
func (p *pulse) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if late := now.Sub(p.last) - beat; !p.last.IsZero() && late > punct {
		second := since(now) / int64(time.Second)
		at := &p.late[second%int64(len(p.late))]
		if at.second != second {
			at.second, at.Duration = second, 0
		}
		at.Duration += late
	}
	p.last = now
}

// lost is how much of the time from then to now the gateway was kept from its work. It looks back two minutes.
func (p *pulse) lost(then, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		return 0
	}
	sum := max(now.Sub(p.last)-beat, 0) // the beat that should have come
	from, to := since(then)/int64(time.Second), since(now)/int64(time.Second)
	for _, l := range p.late {
		if l.second >= from && l.second <= to {
			sum += l.Duration
		}
	}
	return min(sum, now.Sub(then))
}

// starved reports whether the gateway was kept from its work for so much of a wait that its end says nothing
// of whom it waited for.
func (p *pulse) starved(then, now time.Time) bool {
	return p.lost(then, now)*4 > now.Sub(then)
}
