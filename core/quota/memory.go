package quota

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// Memory is a store within this process, for one replica alone.
type Memory struct {
	window time.Duration
	now    func() time.Time
	seed   maphash.Seed
	shards [shards]shard
}

var _ Store = (*Memory)(nil)

const (
	shards      = 32
	maxCounters = 1 << 15 // in one shard and window, about 4 MiB each when full
)

// A shard holds the counters of some tenants in the window now running; those of earlier windows are gone.
type shard struct {
	mu     sync.Mutex
	window int64
	used   map[counterKey]int64
	_      [64]byte // keeps the locks of two shards out of one cache line
}

type counterKey struct {
	tenant string
	Counter
}

// NewMemory returns an empty store. now is its clock, nil for one that does not follow jumps of the
// system's: a clock set back would otherwise stretch a window, and one set forward cut it short.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		start := time.Now()
		now = func() time.Time { return start.Round(0).Add(time.Since(start)) }
	}
	m := &Memory{window: Window, now: now, seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].used = map[counterKey]int64{}
	}
	return m
}

// Take never fails but for want of room.
func (m *Memory) Take(_ context.Context, r *Reservation) error {
	s := m.shard(r.Tenant)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Window, r.Reset = m.enter(s)
	r.Taken = true
	fresh := 0
	for i := range r.Charges {
		c := &r.Charges[i]
		used, there := s.used[counterKey{r.Tenant, c.Counter}]
		if !there {
			fresh++
		}
		c.Left = max(0, c.Limit-used)
		r.Taken = r.Taken && c.fits(used)
	}
	if !r.Taken {
		return nil
	}
	if len(s.used)+fresh > maxCounters {
		r.Taken, r.Window = false, 0
		return errFull
	}
	for i := range r.Charges {
		c := &r.Charges[i]
		s.add(r.Tenant, c.Counter, c.Amount)
		c.Left -= c.Amount
	}
	return nil
}

// Settle never fails.
func (m *Memory) Settle(_ context.Context, r *Reservation) error {
	s := m.shard(r.Tenant)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.settled || !r.Taken {
		return nil
	}
	r.settled = true
	window, _ := m.enter(s)
	for i := range r.Charges {
		c := &r.Charges[i]
		if change := c.Used - c.Amount; window == r.Window || change > 0 {
			s.add(r.Tenant, c.Counter, change)
		}
	}
	return nil
}

// Close does nothing.
func (m *Memory) Close() error { return nil }

func (m *Memory) shard(tenant string) *shard {
	return &m.shards[maphash.String(m.seed, tenant)%shards]
}

// enter brings s to the window now running. The number only grows, so that a clock that stands at the
// edge of two windows does not empty the counters twice.
func (m *Memory) enter(s *shard) (window int64, reset time.Duration) {
	now := m.now().UnixNano()
	if window := now / int64(m.window); window > s.window {
		s.window = window
		clear(s.used)
	}
	return s.window, time.Duration((s.window+1)*int64(m.window) - now)
}

// add changes a counter; one that would fall below 0 stands at 0, one beyond all limits stands still.
func (s *shard) add(tenant string, c Counter, change int64) {
	if change == 0 {
		return
	}
	key := counterKey{tenant, c}
	s.used[key] = min(max(0, s.used[key]+change), 2*maxLimit)
}
