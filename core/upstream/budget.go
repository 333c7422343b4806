package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// A budget bounds what is done beyond the calls themselves to a share of them: each call earns a part of an extra
// attempt. Besides, a few a second are always allowed, so that a quiet pool can retry at all.
type budget struct {
	share  int64        // thousandths of an extra attempt that a call earns
	earned atomic.Int64 // thousandths
	floor  float64      // extra attempts a second

	mu    sync.Mutex
	spare float64 // of the floor, at asked
	asked time.Time
}

const (
	mostEarned = 50 * 1000 // thousandths that can be saved up
	mostSpare  = 10.0      // of the floor
)

func (b *budget) set(share, floor float64) {
	b.share, b.floor, b.spare = int64(share*1000), floor, mostSpare
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
		b.spare, b.asked = min(b.spare+past.Seconds()*b.floor, mostSpare), now
	}
	if b.spare < 1 {
		return false
	}
	b.spare--
	return true
}
