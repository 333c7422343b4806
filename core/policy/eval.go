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

// adrift counts evaluations that were given up but still run, inside a builtin that cannot be
// interrupted. Too many of them, and decisions are refused at once rather than pile up.
var adrift atomic.Int64

var maxAdrift = int64(2 * runtime.GOMAXPROCS(0))

// evaluate asks for the decision on input. The evaluation is cancelled at the deadline and given up at
// twice that time: a builtin that does not look at the cancellation keeps a goroutine, never the caller.
func (e *Engine) evaluate(ctx context.Context, input ast.Object) (ast.Value, error) {
	if adrift.Load() >= maxAdrift {
		return nil, fail(timeout, "%d evaluations are past their deadline", maxAdrift)
	}
	r := &evaluation{
		engine: e, input: input, cancel: topdown.NewCancel(),
		done: make(chan struct{}), late: make(chan struct{}),
	}
	select {
	case handoff <- r:
	default:
		go work(r)
	}
	select {
	case <-r.done:
		return r.value, r.failure()
	case <-r.late:
		return nil, fail(timeout, "no decision within %v", 2*e.cfg.Deadline)
	case <-ctx.Done():
	}
	r.cancel.Cancel()
	select {
	case <-r.done:
	case <-r.late:
	}
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
	cancel topdown.Cancel
	done   chan struct{} // closed when value and err are set
	late   chan struct{} // closed when the evaluation is given up
	value  ast.Value     // nil: undefined
	err    error
	state  atomic.Int32
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
	timer := time.AfterFunc(r.engine.cfg.Deadline, r.expire)
	defer timer.Stop()
	p := r.engine.prepared
	q := topdown.NewQuery(p.query).
		WithCompiler(p.compiler).
		WithStore(p.store).
		WithTransaction(p.txn).
		WithInput(ast.NewTerm(r.input)).
		WithCancel(r.cancel).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true).
		WithSeed(noSeed{})
	// Builtins get no context: they are cancelled, and may outlive the call.
	r.err = q.Iter(context.Background(), func(result topdown.QueryResult) error {
		r.value = result[resultVar].Value
		return nil
	})
}

const resultVar = ast.Var("result")

// noSeed is the randomness of a policy: there is none, since every builtin that wants it is removed.
type noSeed struct{}

func (noSeed) Read([]byte) (int, error) { return 0, errors.New("policies have no randomness") }

// expire cancels at the deadline, and gives up at twice that time.
func (r *evaluation) expire() {
	r.cancel.Cancel()
	time.AfterFunc(r.engine.cfg.Deadline, func() {
		if r.state.CompareAndSwap(running, givenUp) {
			adrift.Add(1)
			close(r.late)
		}
	})
}

func (r *evaluation) end() {
	if p := recover(); p != nil {
		r.err = fmt.Errorf("evaluation panicked: %v", p)
	}
	if r.state.CompareAndSwap(running, ended) {
		close(r.done)
		return
	}
	adrift.Add(-1)
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
