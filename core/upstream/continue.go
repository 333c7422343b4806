package upstream

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A relay is the stream of an answer that may go on at another backend. It owns the stream of the attempt at hand and
// opens the next when that one breaks off; whoever reads it sees one answer.
type relay struct {
	u     *Upstream
	ctx   context.Context // of the call: a stream is given none, and a further attempt needs one
	call  *pipeline.Call
	pools []*pool // the call's targets
	plan  plan
	keep  *transcript
	loan  *loan // keep's, given back by Close
	order order // the first attempt's: what is not for the caller

	mu     sync.Mutex // guards the next three
	inner  *stream    // written by Next alone
	cancel func()     // ends what opens the next; nil: nothing does
	closed bool

	left   bool           // the first attempt broke off
	broken error          // what inner ended with, while the next is to be opened
	seam   *seam          // where inner takes up the answer; nil: it is the first
	first  error          // how the answer broke off first; what the caller is told if nobody takes it up
	own    *pipeline.Call // inner's, with an outcome of its own; nil: it is the first
	hidden order          // what inner was asked for that is not for the caller
	from   int            // tokens in the transcript before inner's
	told   spending       // of the attempts before inner
	queue  []llm.Chunk    // to be handed out before inner's
	ended  bool           // by the queue
	buf    []byte         // the chunk handed out
	spent  []*backend     // where the answer broke off
	late   []*backend     // of them those that are not asked again: they were silent, or it broke off there twice
	tries  int            // to take the answer up this time
	times  int            // that the answer went on
	barred bool           // a provider's filter has refused it
	bare   bool           // what was said may hold what the decision hides from other pools
	err    error          // of every further Next
}

// A spending is what earlier attempts have used.
type spending struct {
	usage  llm.Usage
	prompt bool // its prompt was counted, not guessed
	answer bool // so was what was written
}

// relayed makes a call's reply one that goes on elsewhere, if it is a stream that may.
func (t *tries) relayed(ctx context.Context, reply *llm.Reply) *llm.Reply {
	s, ok := reply.Stream.(*stream)
	if !ok || !t.plan.armed {
		return reply
	}
	most, loan := int(s.pool.goOn.Memory), t.u.fleet.commons.lend()
	s.keep = &transcript{room: most, most: most, loan: loan}
	reply.Stream = &relay{u: t.u, ctx: ctx, call: t.call, pools: t.pools, plan: t.plan, keep: s.keep, loan: loan, order: s.order, inner: s, bare: !t.call.Decision.Hides(s.pool.name)}
	return reply
}

// Next returns the next chunk of the answer, whoever it comes from.
func (r *relay) Next() (llm.Chunk, error) {
	if !r.left {
		chunk, err := r.inner.Next()
		if err == nil || err == io.EOF {
			return chunk, err
		}
		return r.pause(err)
	}
	return r.next()
}

// next is Next of an answer that broke off.
func (r *relay) next() (llm.Chunk, error) {
	for r.err == nil {
		if r.broken != nil && !r.goOn() {
			break
		}
		if len(r.queue) > 0 {
			chunk := r.queue[0]
			r.queue = r.queue[1:]
			return chunk, nil
		}
		if r.ended {
			r.err = io.EOF
			break
		}
		chunk, err := r.inner.Next()
		if err == nil {
			chunk, err = r.fit(chunk)
		}
		switch {
		case err == nil && len(chunk.Raw) == 0 && !chunk.More:
			return chunk, nil
		case err == nil && len(chunk.Raw) == 0:
		case err == nil || err == io.EOF:
			return chunk, err
		default:
			return r.pause(err)
		}
	}
	return llm.Chunk{}, r.err
}

// pause looks at what ended an attempt. Where the answer may go on, what has been said leaves first: an empty chunk is
// flushed.
func (r *relay) pause(err error) (llm.Chunk, error) {
	if r.ctx.Err() != nil || !r.mayGoOn() {
		if r.left {
			r.call.Outcome.Finish, r.err = "error", err
		}
		return llm.Chunk{}, err // and again from inner
	}
	r.left, r.broken = true, err
	return llm.Chunk{Kind: llm.Comment}, nil
}

// mayGoOn reports whether what broke off can be taken up.
func (r *relay) mayGoOn() bool {
	f := r.inner.fault
	return f != nil && f.movable && !f.overflow && !r.keep.closed && r.times < r.inner.pool.goOn.Most
}

// goOn opens the next attempt. It reports false, with the first error in r.err, when there is none.
func (r *relay) goOn() bool {
	if r.first == nil {
		r.first = r.broken
	}
	r.broken = nil
	_ = r.inner.Close()
	r.note(r.inner)
	ctx, ok := r.open()
	if !ok {
		r.err = io.ErrClosedPipe
		return false
	}
	if r.full() {
		return true
	}
	if w := r.call.Waiter; w != nil {
		w.WaitBegins()
		defer w.WaitEnds()
	}
	if r.elsewhere(ctx) {
		r.times++
		r.call.Outcome.Continued++
		return true
	}
	r.call.Outcome.Finish = "error"
	r.err = r.first
	if ctx.Err() != nil {
		r.err = context.Cause(ctx)
	}
	return false
}

// open returns the context of the next attempts; false: the relay is closed.
func (r *relay) open() (context.Context, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false
	}
	if r.cancel != nil {
		r.cancel()
	}
	ctx, cancel := context.WithCancel(r.ctx)
	r.cancel = cancel
	return ctx, true
}

// note keeps what an attempt that is over has used, and where it was.
func (r *relay) note(s *stream) {
	again := was(r.spent, s.backend)
	if s.fault.settled || again {
		r.late = append(r.late, s.backend)
	}
	if !again {
		r.spent = append(r.spent, s.backend)
	}
	o := &r.call.Outcome
	if r.seam != nil {
		r.merge()
		r.told = spending{o.Usage, r.told.prompt || r.own.Outcome.Counted, o.Counted}
		return
	}
	r.told = spending{o.Usage, o.Counted, o.Counted}
	if n := int64(r.keep.tokens.count()); n > 0 && r.keep.listed {
		r.told.usage.Completion, r.told.answer = n, true
	}
	if n := int64(r.keep.prompt.count()); n > 0 && !o.Counted {
		r.told.usage.Prompt, r.told.prompt = n, true
	}
	o.Usage, o.Counted = r.told.usage, r.told.prompt && r.told.answer
}

// mostTries bounds the attempts to take up one answer once. Where nobody listens is none.
const mostTries = 3

// elsewhere asks backends to take up the answer: others of the same model first, then the same one again, then those of
// other models, which may only write it anew.
func (r *relay) elsewhere(ctx context.Context) bool {
	asked, model := append([]*backend(nil), r.spent...), r.inner.pool.sent(r.call)
	r.tries = 0
	ask := func(same bool, not []*backend) (took bool) {
		for _, p := range r.near() {
			for (p.sent(r.call) == model) == same && r.tries < mostTries && !r.barred && ctx.Err() == nil {
				b := r.pick(p, not)
				if b == nil {
					break
				}
				asked, not = append(asked, b), append(not[:len(not):len(not)], b)
				if r.at(ctx, p, b, same) {
					return true
				}
			}
		}
		return false
	}
	if ask(true, asked) {
		return true
	}
	again := append(append([]*backend(nil), r.late...), asked[len(r.spent):]...)
	if len(again) < len(asked) && r.u.sleep(ctx, r.inner.pool.retry.Backoff) && ask(true, again) {
		return true
	}
	return ask(false, asked)
}

// pick chooses a backend that none of not stands for.
func (r *relay) pick(p *pool, not []*backend) *backend {
	q := r.u.query(r.call, p)
	defer q.release()
	b, _ := p.pick(time.Now(), &q, not...)
	return b
}

// near lists the targets, the pool at hand first.
func (r *relay) near() []*pool {
	pools := []*pool{r.inner.pool}
	for _, p := range r.pools {
		if p != r.inner.pool {
			pools = append(pools, p)
		}
	}
	return pools
}

// at asks one backend in each form that it may understand.
func (r *relay) at(ctx context.Context, p *pool, b *backend, same bool) bool {
	forms := []form{anew}
	if same && !(r.bare && len(r.call.Edits) > 0 && r.call.Decision.Hides(p.name)) {
		forms = r.plan.formsAt(b, r.keep)
	}
	for _, f := range forms {
		took, unfit := r.ask(ctx, p, b, f)
		if took {
			return true
		}
		if !unfit || r.barred {
			return false
		}
	}
	return false
}

// ask asks one backend in one form. unfit says that it may do in another.
func (r *relay) ask(ctx context.Context, p *pool, b *backend, f form) (took, unfit bool) {
	own := *r.call
	own.Outcome = pipeline.Outcome{Attempts: r.call.Outcome.Attempts}
	t := try{pool: p, backend: b, fresh: promptTokens(r.call.Request), plan: r.plan, resume: &resume{f, r.keep, r.generated()}}
	t.last = !p.spare(time.Now(), p.sent(r.call), r.spent, b)
	reply, fault := r.u.attempt(ctx, &own, t)
	r.call.Outcome.Attempts = own.Outcome.Attempts
	if fault == nil || !fault.unsent {
		r.tries++
	}
	if fault != nil {
		fault.drop()
		r.u.count.continued(b.name, f, "refused")
		r.barred = r.barred || fault.filtered
		return false, !fault.movable
	}
	s := reply.Stream.(*stream) // an answer that is no stream would be a fault
	r.own, r.hidden, s.order = &own, s.order, order{}
	if f == byIDs && !r.keep.resumes(s.prompt()) {
		b.peer.renders.Store(true)
		r.drop(s)
		r.u.count.continued(b.name, f, "ignored")
		return false, true
	}
	if !r.takeOver(s) {
		r.drop(s)
		return false, false
	}
	r.seam = newSeam(f, r.keep, stops(r.call))
	if r.from = r.keep.spoken; f == byIDs {
		r.keep.tokens = r.keep.tokens[:r.from*numberSize]
	} else {
		r.keep.listed = false
	}
	o := &r.call.Outcome
	o.Backend, o.Server, o.Pool, o.Finish = b.name, b.peer.key.dial, p.name, ""
	r.u.count.continued(b.name, f, "taken")
	return true, false
}

// generated is how many tokens of the delivered answer count against the caller's bound.
func (r *relay) generated() int64 {
	if r.keep.exact() {
		return int64(r.keep.spoken)
	}
	return r.told.usage.Completion
}

// prompt is the list of the prompt's tokens in the first event, which has not been handed out yet.
func (s *stream) prompt() []byte {
	if s.held.View == nil {
		return nil
	}
	at := s.held.View.Prompt.Value
	return s.held.Data[at.Start:at.End]
}

// drop ends an attempt that was not taken, and counts what it cost.
func (r *relay) drop(s *stream) {
	_ = s.Close()
	r.told.usage.Completion += r.own.Outcome.Usage.Completion
	r.call.Outcome.Usage = r.told.usage
}

// takeOver makes s the stream that is read; false: the relay is closed.
func (r *relay) takeOver(s *stream) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.inner = s
	return true
}

// Close ends what is under way. What waits in Next returns.
func (r *relay) Close() error {
	r.mu.Lock()
	r.closed = true
	s, cancel := r.inner, r.cancel
	r.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	r.loan.end()
	return s.Close()
}
