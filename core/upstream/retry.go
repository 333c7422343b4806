package upstream

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// tries are one call's attempts, as long as nothing of an answer has been handed out.
type tries struct {
	u      *Upstream
	call   *pipeline.Call
	pools  []*pool
	plan   plan       // how the answer may go on elsewhere
	spent  []*backend // not asked again: they were late, or would say the same again
	deaths int        // backends that cut the connection under the call
}

// maxDeaths is how many backends a call may have died with: it may be the call that kills them.
const maxDeaths = 2

// answer asks the targets in order until one answers.
func (t *tries) answer(ctx context.Context) (*llm.Reply, *fault) {
	var last *fault
	var full string // the model that the prompt is too long for
	for i, p := range t.pools {
		if last != nil && last.overflow && full == p.sent(t.call) {
			continue
		}
		reply, f := t.ask(ctx, i)
		if f == nil {
			last.drop()
			if i > 0 {
				t.call.Outcome.Fallback = p.sent(t.call)
				t.u.count.fallback(p.name)
			}
			return reply, nil
		}
		if last == nil || !f.unasked {
			last.drop()
			last = f
		}
		if f.overflow {
			full = p.sent(t.call)
		}
		if !f.movable || t.deaths >= maxDeaths || ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// A round is a call's attempts in one pool.
type round struct {
	pool  *pool
	query query
	tried []*backend
	count int       // attempts
	again int       // of them at a backend that was asked before
	ready time.Time // when a backend that was asked may be asked again
}

// ask tries the i-th target: a backend that was not asked yet first, then one that was, after a pause.
func (t *tries) ask(ctx context.Context, i int) (*llm.Reply, *fault) {
	r := round{pool: t.pools[i], query: t.u.query(t.call, t.pools[i]), tried: t.spent}
	defer r.query.release()
	r.pool.retries.earn()
	b, wait := r.pool.pick(time.Now(), &r.query, r.tried...)
	if b == nil {
		return nil, unavailable(r.pool, wait)
	}
	for {
		r.count++
		reply, f := t.race(ctx, &r, try{pool: r.pool, backend: b, fresh: r.query.fresh, last: !t.others(i, &r, b), plan: t.plan})
		if f == nil {
			return reply, nil
		}
		t.note(&r, b, f)
		if b = t.next(ctx, &r, f); b == nil {
			return nil, f
		}
		f.drop()
	}
}

// note keeps what a fault says of where to go on.
func (t *tries) note(r *round, b *backend, f *fault) {
	if f.died && !was(r.tried, b) { // one that dies twice is ill; two that die may have the call to thank
		t.deaths++
	}
	r.tried = append(r.tried[:len(r.tried):len(r.tried)], b)
	if f.settled {
		t.spent = append(t.spent, b)
	}
	if at := time.Now().Add(f.after); f.after > 0 && at.After(r.ready) {
		r.ready = at
	}
}

// next is the backend to ask after f; nil: none of this pool.
func (t *tries) next(ctx context.Context, r *round, f *fault) *backend {
	c := r.pool.retry
	if !f.movable || f.overflow || r.count >= c.Attempts || t.deaths >= maxDeaths || ctx.Err() != nil {
		return nil
	}
	now := time.Now()
	fresh := r.pool.spare(now, r.query.model, r.tried, nil)
	if !fresh && !r.pool.spare(now, r.query.model, t.spent, nil) {
		return nil
	}
	if !f.unsent && !f.died && !r.pool.retries.spend(now) {
		t.u.count.retry(r.pool.name, "over_budget")
		return nil
	}
	if fresh {
		if b, _ := r.pool.pick(now, &r.query, r.tried...); b != nil {
			t.u.count.retry(r.pool.name, "elsewhere")
			return b
		}
	}
	if !t.pause(ctx, r, now) {
		return nil
	}
	b, _ := r.pool.pick(time.Now(), &r.query, t.spent...)
	if b != nil {
		t.u.count.retry(r.pool.name, "again")
	}
	return b
}

// pause waits before a backend is asked again; false: not in this pool, or the caller has left.
func (t *tries) pause(ctx context.Context, r *round, now time.Time) bool {
	c := r.pool.retry
	asked := r.ready.Sub(now)
	if asked > c.RetryAfter {
		return false
	}
	d := min(c.Backoff<<min(r.again, 20), max(c.Longest, c.Backoff))
	r.again++
	return t.u.sleep(ctx, max(d-rand.N(d/2+1), asked))
}

// sleep waits for d; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// others reports whether anybody besides b could still be asked.
func (t *tries) others(i int, r *round, b *backend) bool {
	now := time.Now()
	if r.count < r.pool.retry.Attempts && r.pool.spare(now, r.query.model, r.tried, b) {
		return true
	}
	for _, p := range t.pools[i+1:] {
		if p.spare(now, p.sent(t.call), t.spent, b) {
			return true
		}
	}
	return false
}

// spare reports whether a member that is neither b nor one of tried could take a call for model.
func (p *pool) spare(now time.Time, model string, tried []*backend, b *backend) bool {
	for _, m := range p.listing(model) {
		if m.weight > 0 && (b == nil || m.peer != b.peer) && !was(tried, m) && m.peer.health.share(now) > 0 {
			return true
		}
	}
	return false
}
