package policy

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// An outcome is what came of one evaluation. All but decided have a failure rule.
type outcome string

const (
	decided   outcome = "decision"
	undefined outcome = "undefined"
	conflict  outcome = "conflict"
	timeout   outcome = "timeout"
	failed    outcome = "error"
	misshapen outcome = "schema"
)

// A failure says why there is no decision.
type failure struct {
	outcome outcome
	err     error
}

func (f *failure) Error() string { return "policy: " + string(f.outcome) + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(o outcome, format string, args ...any) *failure {
	return &failure{o, fmt.Errorf(format, args...)}
}

// A queue bounds the evaluations that run at once, so that each has a processor while its time runs: when
// thousands ran at once, most passed their deadline without having done anything. An evaluation holds its
// turn until it ends, even when it was given up.
type queue struct {
	turns  chan struct{}
	adrift atomic.Int64 // evaluations that were given up but still run, inside a builtin that cannot be interrupted
}

// calls is where evaluations for calls take their turns; those of shadow policies take theirs in shadows, so
// that no call ever waits for one.
var (
	calls   = &queue{turns: make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
	shadows = &queue{turns: make(chan struct{}, 1)}
)

const (
	maxWait = 250 // deadlines that a call waits for its turn
	maxBusy = 4   // times as many, where others have the machine meanwhile
)

// take waits for a turn. Where every turn is held by an evaluation that was given up, it waits no longer
// than such an evaluation was given.
func (e *Engine) take(ctx context.Context) error {
	q := e.queue
	select {
	case q.turns <- struct{}{}:
		return nil
	default:
	}
	tick := time.NewTicker(2 * e.cfg.Deadline)
	defer tick.Stop()
	begun := processTime()
	for ticks := 0; !e.waited(ticks, processTime()-begun); ticks++ {
		select {
		case q.turns <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if q.adrift.Load() >= int64(cap(q.turns)) {
			return fail(timeout, "all evaluations are past their deadline")
		}
	}
	return fail(timeout, "no turn to evaluate within %v", maxWait*e.cfg.Deadline)
}

// waited reports whether a call has waited for long enough: for maxWait deadlines, a tick being two, in which the
// process had its processors, as it wants them where no turn is free. Else it was not the evaluations that took long.
func (e *Engine) waited(ticks int, used time.Duration) bool {
	most := maxWait * e.cfg.Deadline
	used /= time.Duration(min(cap(e.queue.turns), runtime.GOMAXPROCS(0)))
	return ticks >= maxWait/2 && (used >= most*7/8 || ticks >= maxBusy*maxWait/2)
}

// evaluate asks for the decision on input. The evaluation is cancelled at the deadline and given up at
// twice that time: a builtin that does not look at the cancellation keeps a goroutine, never the caller.
func (e *Engine) evaluate(ctx context.Context, input ast.Object) (ast.Value, error) {
	return e.evaluateWithin(ctx, input, e.cfg.Deadline)
}

// evaluateWithin is evaluate with another deadline.
func (e *Engine) evaluateWithin(ctx context.Context, input ast.Object, deadline time.Duration) (ast.Value, error) {
	if err := e.take(ctx); err != nil {
		return nil, err
	}
	r := &evaluation{engine: e, input: input, deadline: deadline, cancel: topdown.NewCancel(), over: make(chan struct{})}
	select {
	case handoff <- r:
	default:
		go work(r)
	}
	select {
	case <-r.over:
		return r.result()
	case <-ctx.Done():
	}
	r.cancel.Cancel()
	<-r.over
	return nil, ctx.Err()
}

// handoff gives evaluations to workers that have just ended another one: their stacks have grown to what
// an evaluation needs, which halves its cost. A worker that gets nothing for a while ends. Nobody waits
// for workers: the one whose builtin cannot be interrupted is the reason they exist.
var handoff = make(chan *evaluation)

const linger = 200 * time.Millisecond

func work(r *evaluation) {
	idle := time.NewTimer(linger)
	defer idle.Stop()
	for {
		r.run()
		idle.Reset(linger)
		select {
		case r = <-handoff:
		case <-idle.C:
			return
		}
	}
}

// An evaluation is one run of the query.
type evaluation struct {
	engine *Engine
	input  ast.Object

	deadline time.Duration
	cancel   topdown.Cancel
	over     chan struct{} // closed when the evaluation has ended or is given up
	value    ast.Value     // nil: undefined; set, as err is, when it has ended
	err      error
	state    atomic.Int32
	begun    time.Duration // the process's processor time when it began
	stalls   int           // times that it was given longer
}

const (
	running int32 = iota
	ended
	givenUp
)

// run evaluates. Its time is counted from here, so that a machine that is busy does not deny calls that
// merely waited their turn.
func (r *evaluation) run() {
	defer r.end()
	r.begun = processTime()
	timer := time.AfterFunc(r.deadline, r.expire)
	defer timer.Stop()
	p := r.engine.prepared
	m := p.memories.Get().(*memory)
	q := topdown.NewQuery(p.query).
		WithCompiler(p.compiler).
		WithStore(p.store).
		WithTransaction(p.txn).
		WithInput(ast.NewTerm(r.input)).
		WithBaseCache(p.data).
		WithVirtualCache(m).
		WithCancel(r.cancel).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true).
		WithSeed(noSeed{})
	// Builtins get no context: they are cancelled, and may outlive the call.
	r.err = q.Iter(context.Background(), func(result topdown.QueryResult) error {
		r.value = result[resultVar].Value
		return nil
	})
	if r.err == nil {
		m.learn()
	}
	m.forget()
	p.memories.Put(m)
}

const resultVar = ast.Var("result")

// noSeed is the randomness of a policy: there is none, since every builtin that wants it is removed.
type noSeed struct{}

func (noSeed) Read([]byte) (int, error) { return 0, errors.New("policies have no randomness") }

// maxStalls is how often an evaluation may be given longer.
const maxStalls = 16

// expire cancels at the deadline.
func (r *evaluation) expire() {
	deadline := r.deadline
	if r.stalled(deadline, r.expire) {
		return
	}
	r.cancel.Cancel()
	time.AfterFunc(deadline, r.abandon)
}

// abandon gives the evaluation up at twice the deadline.
func (r *evaluation) abandon() {
	if r.stalled(2*r.deadline, r.abandon) {
		return
	}
	if r.state.CompareAndSwap(running, givenUp) {
		r.engine.queue.adrift.Add(1)
		close(r.over)
	}
}

// stalled puts f off when the evaluation cannot have had limit of a processor: when the process had less
// than that since it began, or less than that for each evaluation that runs now. Then others had the
// machine, or the container had used up its share of it.
func (r *evaluation) stalled(limit time.Duration, f func()) bool {
	sharing := time.Duration(max(1, len(r.engine.queue.turns))) // which are more than there are processors
	owed := limit - (processTime()-r.begun)/sharing
	if owed <= limit/8 || r.stalls == maxStalls {
		return false
	}
	r.stalls++
	time.AfterFunc(owed, f)
	return true
}

func (r *evaluation) end() {
	if p := recover(); p != nil {
		r.err = fmt.Errorf("evaluation panicked: %v", p)
	}
	inTime := r.state.CompareAndSwap(running, ended)
	if !inTime {
		r.engine.queue.adrift.Add(-1) // before another has the turn: nobody may count more adrift than there are turns
	}
	<-r.engine.queue.turns
	if inTime {
		close(r.over)
	}
}

// result is what came of an evaluation that is over. The value of one that was given up is not looked at:
// it may still be written.
func (r *evaluation) result() (ast.Value, error) {
	if r.state.Load() == givenUp {
		return nil, fail(timeout, "no decision within %v", 2*r.deadline)
	}
	return r.value, r.failure()
}

// failure turns what the evaluation gave into an outcome; nil when it gave a value.
func (r *evaluation) failure() error {
	var at *topdown.Error
	switch {
	case r.err == nil && r.value != nil:
		return nil
	case r.err == nil:
		return fail(undefined, "%s is undefined", entrypoint)
	case topdown.IsCancel(r.err):
		return &failure{timeout, r.err}
	case errors.As(r.err, &at) && at.Code == topdown.ConflictErr:
		return &failure{conflict, r.err}
	}
	return &failure{failed, r.err}
}
