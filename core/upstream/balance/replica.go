package balance

import (
	"sync/atomic"
	"time"
)

// A Replica is what is known of one server's work. It outlives the configurations that name it.
type Replica struct {
	key      uint64       // of its name: the same in every gateway
	active   atomic.Int64 // calls of ours that run there
	uncached atomic.Int64 // prompt tokens of ours that it has yet to read
	report   atomic.Pointer[Report]
	shelf          // guarded by the index
	depth    int32 // blocks of the prompt at hand; guarded by the index
}

// NewReplica makes the replica called name, such as its address. Gateways that use the same name for it agree on
// what belongs there.
func NewReplica(name string) *Replica { return &Replica{key: Hash([]byte(name), 0)} }

// Active is the number of calls of ours that run there.
func (r *Replica) Active() int64 { return r.active.Load() }

// Uncached is the number of prompt tokens of ours that it has yet to read.
func (r *Replica) Uncached() int64 { return r.uncached.Load() }

// A Report is a replica's load as its engine tells it.
type Report struct {
	Waiting, Running int64     // calls, everybody's
	KV               float64   // share of the KV cache in use, 0 to 1; negative: not told
	At               time.Time // when it was asked for
	active           int64     // of ours among these
}

// Tell notes the engine's report.
func (r *Replica) Tell(rep Report) {
	rep.active = r.active.Load()
	r.report.Store(&rep)
}

// Forget drops the report: the engine no longer gives one.
func (r *Replica) Forget() { r.report.Store(nil) }

// Age of a report, from which on it is worth less, and from which on nothing.
const (
	Fresh = 2 * time.Second
	Stale = 10 * time.Second
)

// Load returns the last report and how far it is to be trusted: 1 while it is Fresh, falling to 0 when it is Stale
// or there is none.
func (r *Replica) Load(now time.Time) (rep Report, trust float64) {
	p := r.report.Load()
	if p == nil {
		return Report{KV: -1}, 0
	}
	if trust = p.trust(now); trust == 0 {
		return Report{KV: -1}, 0
	}
	return *p, trust
}

func (p *Report) trust(now time.Time) float64 {
	switch age := now.Sub(p.At); {
	case age <= Fresh:
		return 1
	case age >= Stale:
		return 0
	default:
		return float64(Stale-age) / float64(Stale-Fresh)
	}
}

// waitingCost is what a call that waits weighs against one that runs: it stands for a replica that has no room.
const waitingCost = 4

// fullKV is the share of a KV cache in use from which on an engine with calls waiting is full.
const fullKV = 0.95

// calls is how many calls a replica works on, those that wait counted by their cost: what the engine told, and what
// we have sent or seen end since. As the report ages, our own calls in flight take its place. full says that a
// further call would wait for room in the KV cache.
func (r *Replica) calls(now time.Time) (n float64, full bool) {
	own := float64(r.active.Load())
	p := r.report.Load()
	if p == nil {
		return own, false
	}
	trust := p.trust(now)
	if trust == 0 {
		return own, false
	}
	told := max(0, float64(p.Running+waitingCost*p.Waiting)+own-float64(p.active))
	return trust*told + (1-trust)*own, trust == 1 && p.Waiting > 0 && p.KV > fullKV
}

// A Lease is one call's weight on a replica: from Begin to End, its prompt's until First.
type Lease struct {
	replica *Replica
	prompt  atomic.Int64
	ended   atomic.Bool
}

// Begin puts a call on r whose prompt has so many tokens that r has yet to read.
func (l *Lease) Begin(r *Replica, uncached int64) {
	l.replica = r
	l.prompt.Store(uncached)
	r.uncached.Add(uncached)
	r.active.Add(1)
}

// First takes the prompt's weight off: the first of the answer is there. It may be called again.
func (l *Lease) First() {
	if n := l.prompt.Swap(0); n != 0 {
		l.replica.uncached.Add(-n)
	}
}

// End takes the call off. It may be called again, and on a lease that never began.
func (l *Lease) End() {
	if l.replica == nil || l.ended.Swap(true) {
		return
	}
	l.First()
	l.replica.active.Add(-1)
}
