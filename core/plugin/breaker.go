package plugin

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// Breaker says when a plugin that fails is taken out of its calls' way for a while.
type Breaker struct {
	Failures int           `yaml:"failures" default:"5" doc:"A plugin is taken out when it has failed so often in the window, in at least half of its calls there; 0: never."`
	Window   time.Duration `yaml:"window" default:"10s" doc:"How long failures count."`
	Pause    time.Duration `yaml:"pause" default:"5s" doc:"How long its failure rule is applied at once before one call tries it again."`
}

const (
	maxFailures = 100_000
	maxPause    = time.Hour
)

// Validate notes what is wrong.
func (b *Breaker) Validate(p setting.Problems) {
	bound(p, "failures", int64(b.Failures), maxFailures, fmt.Sprint(maxFailures))
	if b.Failures == 0 {
		return
	}
	for _, d := range []struct {
		path string
		time.Duration
	}{{"window", b.Window}, {"pause", b.Pause}} {
		if d.Duration < 10*time.Millisecond || d.Duration > maxPause {
			p.Addf(d.path, "is out of range: write 10ms to %s", maxPause)
		}
	}
}

// A breaker takes a plugin out that fails too often. A call that goes well costs it an atomic addition, and a lock and
// a clock for one in many.
type breaker struct {
	rule Breaker
	name string
	log  *slog.Logger
	now  func() time.Duration // since some moment

	until atomic.Int64  // when a probe may go, as now tells it; 0: the plugin is in
	well  atomic.Uint32 // calls that went well and stand in no bucket yet

	mu      sync.Mutex // guards what follows
	probing bool
	buckets [buckets]bucket
}

const (
	buckets   = 10 // of the window
	batchSize = 8  // calls that are put into a bucket together
)

// A bucket counts the calls of a tenth of the window.
type bucket struct {
	slot            int64 // which tenth since the beginning
	calls, failures int64
}

func newBreaker(rule Breaker, name string, log *slog.Logger) *breaker {
	began := time.Now()
	return &breaker{rule: rule, name: name, log: log, now: func() time.Duration { return time.Since(began) + 1 }}
}

// errOpen is why a plugin that was taken out is not asked.
var errOpen = &failure{"breaker", errors.New("it has failed too often and is left alone for a while")}

// enter reports whether a call may ask the plugin, and whether it is the one that tries it out. What came of it is told
// by leave, with the same probe.
func (b *breaker) enter() (probe bool, err error) {
	until := b.until.Load()
	if until == 0 {
		return false, nil
	}
	if int64(b.now()) < until {
		return false, errOpen
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.Load() == 0 {
		return false, nil
	}
	if b.probing || int64(b.now()) < b.until.Load() {
		return false, errOpen
	}
	b.probing = true
	return true, nil
}

// open reports whether the plugin is taken out.
func (b *breaker) open() bool { return b.until.Load() != 0 }

// leave notes how a call ended: well, by the plugin's failure, or so that it says nothing of the plugin.
func (b *breaker) leave(probe bool, err error) {
	if err == nil && !probe {
		if b.well.Add(1) >= batchSize {
			b.settle()
		}
		return
	}
	var f *failure
	failed := errors.As(err, &f)
	if !failed && !probe {
		return
	}
	b.mu.Lock()
	before := b.until.Load()
	switch {
	case probe && err == nil:
		b.probing = false
		b.buckets = [buckets]bucket{}
		b.until.Store(0)
	case probe && failed:
		b.probing = false
		b.until.Store(int64(b.now() + b.rule.Pause))
	case probe: // its caller has left; another call tries
		b.probing = false
	case before == 0:
		b.fail()
	}
	after := b.until.Load()
	b.mu.Unlock()
	b.tell(before, after, f)
}

// fail counts a failure and takes the plugin out when it is one too many.
func (b *breaker) fail() {
	now := b.now()
	at := b.bucket(now)
	at.failures++
	at.calls += 1 + int64(b.well.Swap(0))
	var calls, failures int64
	for _, one := range b.buckets {
		if one.slot > b.slot(now)-buckets {
			calls, failures = calls+one.calls, failures+one.failures
		}
	}
	if b.rule.Failures > 0 && failures >= int64(b.rule.Failures) && 2*failures >= calls {
		b.until.Store(int64(now + b.rule.Pause))
	}
}

// settle puts the calls that went well into the bucket that is now.
func (b *breaker) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bucket(b.now()).calls += int64(b.well.Swap(0))
}

func (b *breaker) slot(now time.Duration) int64 {
	return int64(now) / max(1, int64(b.rule.Window)/buckets)
}

func (b *breaker) bucket(now time.Duration) *bucket {
	slot := b.slot(now)
	at := &b.buckets[slot%buckets]
	if at.slot != slot {
		*at = bucket{slot: slot}
	}
	return at
}

// tell logs that the plugin was taken out or is in again.
func (b *breaker) tell(before, after int64, why *failure) {
	switch {
	case before == 0 && after != 0:
		b.log.Warn("a plugin fails too often and is taken out; its failure rule is applied", "plugin", b.name,
			"pause", b.rule.Pause, "cause", why.cause, "err", why.err)
	case before != 0 && after == 0:
		b.log.Info("a plugin that was taken out is in again", "plugin", b.name)
	}
}
