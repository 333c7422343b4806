package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// A budget bounds what is done beyond the calls themselves to a share of them: each call earns a part of an extra
// attempt. Besides, a few a second are always allowed, so that a quiet pool can retry at all.
type budget struct {
	share int64   // thousandths of an extra attempt that a call earns
	floor float64 // extra attempts a second
	*savings
}

// savings are what may be spent. They outlive the budgets that configurations make of them.
type savings struct {
	earned atomic.Int64 // thousandths of an extra attempt

	mu    sync.Mutex
	spent float64 // of the floor, at asked
	asked time.Time
}

const (
	mostEarned = 50 * 1000 // thousandths that can be saved up
	mostSpare  = 10.0      // of the floor
)

func (s *savings) under(share, floor float64) budget { return budget{int64(share * 1000), floor, s} }

// An account is the savings of one pool.
type account struct {
	retries, hedges savings
	holders         int // configurations that have the pool; guarded by Fleet.mu
}

// account returns the pool's, as it is if another configuration has it: else each reload would allow a storm of retries
// anew. settle gives it back.
func (f *Fleet) account(pool string) *account {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.accounts[pool]
	if a == nil {
		a = new(account)
		f.accounts[pool] = a
	}
	a.holders++
	return a
}

func (f *Fleet) settle(pool string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.accounts[pool]; a.holders > 1 {
		a.holders--
		return
	}
	delete(f.accounts, pool)
}

// earn is told of every call.
func (b *budget) earn() {
	if b.earned.Load() < mostEarned {
		b.earned.Add(b.share)
	}
}

// spend takes one extra attempt if there is one.
func (b *budget) spend(now time.Time) bool {
	for {
		n := b.earned.Load()
		if n < 1000 {
			return b.spendSpare(now)
		}
		if b.earned.CompareAndSwap(n, n-1000) {
			return true
		}
	}
}

func (b *budget) spendSpare(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.floor <= 0 {
		return false
	}
	if past := now.Sub(b.asked); past > 0 {
		b.spent, b.asked = max(b.spent-past.Seconds()*b.floor, 0), now
	}
	if b.spent > mostSpare-1 {
		return false
	}
	b.spent++
	return true
}
