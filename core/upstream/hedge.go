package upstream

import (
	"context"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A runner is one of two attempts that race for the first token, with a call of its own to write to.
type runner struct {
	call   pipeline.Call
	try    try
	cancel context.CancelFunc
	reply  *llm.Reply
	fault  *fault
}

// race makes the attempt of t, and when its first token is late a second one at another backend beside it. Whoever is
// first answers; the other one is cancelled at once.
func (t *tries) race(ctx context.Context, r *round, first try) (*llm.Reply, *fault) {
	hedge := r.pool.hedge
	if hedge.After <= 0 || !t.call.Request.Stream || !generates(t.call.Route) || first.last {
		return t.u.attempt(ctx, t.call, first)
	}
	r.pool.hedges.earn()
	results := make(chan *runner, 2)
	one := t.start(ctx, first, results)
	timer := time.NewTimer(hedge.After)
	defer timer.Stop()
	select {
	case <-results:
		return t.adopt(one)
	case <-timer.C:
	}
	second, ok := t.second(r, first)
	if !ok {
		<-results
		return t.adopt(one)
	}
	return t.best(r, results, one, t.start(ctx, second, results))
}

// start begins an attempt beside others.
func (t *tries) start(ctx context.Context, what try, results chan<- *runner) *runner {
	w := &runner{call: *t.call, try: what}
	t.call.Outcome.Attempts++ // the next one has a number of its own
	ctx, w.cancel = context.WithCancel(ctx)
	t.u.extra.Go(func() {
		w.reply, w.fault = t.u.attempt(ctx, &w.call, what)
		results <- w
	})
	return w
}

// second is the attempt that is made beside first; false: there is none to make, or too many have been made.
func (t *tries) second(r *round, first try) (try, bool) {
	now := time.Now()
	tried := append(r.tried[:len(r.tried):len(r.tried)], first.backend)
	if !r.pool.spare(now, r.query.model, tried, nil) {
		return try{}, false
	}
	if !r.pool.hedges.spend(now) {
		t.u.count.hedge(r.pool.name, "over_budget")
		return try{}, false
	}
	b, _ := r.pool.pick(now, &r.query, tried...)
	if b == nil {
		return try{}, false
	}
	t.u.count.hedge(r.pool.name, "sent")
	first.backend, first.fresh = b, r.query.fresh
	return first, true
}

// best waits for the first that answers well, or that a content filter refuses: nobody is asked to get round that. With
// neither, the fault of the first attempt counts.
func (t *tries) best(r *round, results <-chan *runner, one, two *runner) (*llm.Reply, *fault) {
	won := <-results
	lost := one
	if won == one {
		lost = two
	}
	if won.fault == nil || won.fault.filtered {
		lost.cancel()
		t.u.extra.Go(func() { (<-results).discard() })
		if won == two && won.fault == nil {
			t.u.count.hedge(r.pool.name, "won")
		}
		return t.adopt(won)
	}
	<-results
	if lost.fault != nil {
		if lost.fault.filtered {
			one, two = lost, won
		}
		t.note(r, two.try.backend, two.fault)
		two.fault.drop()
		two.cancel()
		return t.adopt(one)
	}
	t.note(r, won.try.backend, won.fault)
	won.fault.drop()
	won.cancel()
	return t.adopt(lost)
}

// adopt makes an attempt's outcome the call's.
func (t *tries) adopt(w *runner) (*llm.Reply, *fault) {
	attempts := max(t.call.Outcome.Attempts, w.call.Outcome.Attempts)
	t.call.Outcome, t.call.Trace = w.call.Outcome, w.call.Trace
	t.call.Outcome.Attempts = attempts
	if w.fault != nil {
		w.cancel()
		return nil, w.fault
	}
	s, ok := w.reply.Stream.(*stream)
	if !ok {
		w.cancel() // it is whole
		return w.reply, nil
	}
	s.live.call = t.call
	end := s.live.end
	s.live.end = func(err error) {
		if end != nil {
			end(err)
		}
		w.cancel()
	}
	return w.reply, nil
}

// discard lets go of an attempt that came too late.
func (w *runner) discard() {
	w.cancel()
	w.fault.drop()
	if w.reply != nil {
		_ = w.reply.Stream.Close()
	}
}
