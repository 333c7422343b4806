package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/tetratelabs/wazero/api"
)

const (
	// slice is the fuel given out at a time: a guest asks the host whether it may go on once in so many units,
	// which is some ten microseconds, and a millisecond or two where each of them misses the caches.
	slice = 25_000
	// yieldEvery is how long a guest may keep a processor from other goroutines. That Go's collector can stop
	// the world needs no more than the tick itself.
	yieldEvery = 100 * time.Microsecond
	// pageCost is charged for a page of new or moved memory, which the host clears or copies.
	pageCost = 4096 // units
)

// A gauge is one guest's account of the call that is running. Times are since processStart.
type gauge struct {
	fuel, depth api.MutableGlobal
	granted     int64 // fuel handed out to this call, what is left in the guest's global included
	began       time.Duration
	deadline    time.Duration
	yielded     time.Duration
	refused     bool // memory.grow has failed in this guest
	// The limits of this call: those of start-up are others.
	limit time.Duration
	most  int64 // 0: as much as time allows
}

var (
	errDeadline = errors.New("time is up")
	errFuel     = errors.New("fuel is used up")
	errDepth    = errors.New("too many nested calls")
	errMemory   = errors.New("memory was refused")
)

// now is the time since the process began, read from the monotonic clock alone.
func now() time.Duration { return time.Since(processStart) }

// begin readies the account for a call.
func (u *gauge) begin() {
	u.granted = slice
	if u.most > 0 {
		u.granted = min(slice, u.most)
	}
	u.fuel.Set(uint64(u.granted))
	u.began = now()
	u.deadline = u.began + u.limit
	u.yielded = u.began
}

// used is the fuel that the running call has used.
func (u *gauge) used() int64 { return u.granted - int64(u.fuel.Get()) }

// tick is what a guest calls when its fuel or its depth has fallen below zero. It ends the call or gives it
// more fuel.
func tick(g *Guest, _ []uint64) {
	u := &g.gauge
	now, used := now(), u.used()
	switch {
	case int64(u.depth.Get()) < 0:
		g.stop(Depth, fmt.Errorf("%w: the limit is %d", errDepth, g.pool.options.Limits.Depth))
	case u.most > 0 && used >= u.most:
		g.stop(Fuel, fmt.Errorf("%w: the limit is %d units", errFuel, u.most))
	case now >= u.deadline && !g.late(now):
		g.stop(Deadline, fmt.Errorf("%w: the limit is %v", errDeadline, u.limit))
	case g.call.Err() != nil:
		g.stop(Canceled, context.Cause(g.call.Context))
	default:
		u.refill(used)
		u.yield(now)
	}
}

// late reports whether a call whose time is up is given more.
func (g *Guest) late(now time.Duration) bool {
	if g.pool.options.Late == nil || !g.started {
		return false
	}
	more := g.pool.options.Late(g)
	g.gauge.deadline = now + more
	return more > 0
}

func (u *gauge) refill(used int64) {
	give := int64(slice)
	if u.most > 0 {
		give = min(give, u.most-used)
	}
	u.granted = used + give
	u.fuel.Set(uint64(give))
}

func (u *gauge) yield(at time.Duration) {
	if at-u.yielded >= yieldEvery {
		runtime.Gosched()
		u.yielded = now()
	}
}

// grown is what a guest calls after memory.grow, with what it asked for and what it got.
func grown(g *Guest, stack []uint64) {
	asked, was := uint32(stack[0]), uint32(stack[1])
	if was == ^uint32(0) {
		g.gauge.refused = true
		return
	}
	if asked > 0 {
		g.Charge((uint64(asked) + uint64(was)) * pageCost)
	}
}

// meterHosts are the functions that a metered module imports besides its own.
var meterHosts = []HostFunc{
	{Module: meterModule, Name: tickName, Func: tick},
	{Module: meterModule, Name: grownName, Signature: Signature{Params: []Type{I32, I32}}, Func: grown},
}

// attach finds the account's globals in a new instance.
func (u *gauge) attach(m api.Module, l *Limits) error {
	fuel, ok := m.ExportedGlobal(fuelExport).(api.MutableGlobal)
	depth, also := m.ExportedGlobal(depthExport).(api.MutableGlobal)
	if !ok || !also {
		return errors.New("the module was not metered")
	}
	u.fuel, u.depth = fuel, depth
	u.depth.Set(uint64(l.Depth))
	u.limit, u.most = l.Startup, 0
	return nil
}

// ready sets the limits of ordinary calls, once a guest has started.
func (u *gauge) ready(l *Limits) { u.limit, u.most = l.Deadline, int64(min(l.Fuel, math.MaxInt64)) }

// Remaining is how much of the running call's time is left, for host functions that wait.
func (g *Guest) Remaining() time.Duration { return g.gauge.deadline - now() }

// Limit is how much time the running call was given when it began.
func (g *Guest) Limit() time.Duration { return g.gauge.limit }

// Used is the fuel that the call which is running, or the last one, has used.
func (g *Guest) Used() uint64 { return uint64(g.gauge.used()) }

// Charge, called by a host function, takes fuel from the running call for work done on its behalf.
func (g *Guest) Charge(units uint64) {
	const most = 1 << 40 // far above any limit, far below an overflow
	u := &g.gauge
	u.fuel.Set(u.fuel.Get() - min(units, most))
}
