package quota

import (
	"context"
	"sync"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// reservation is the stage that reserves tokens before the answer and settles them after it. It stands
// after policy, which may change the model and lay limits of its own on the call.
type reservation struct{ *keeper }

var _ pipeline.Stage = (*reservation)(nil)

// Handle reserves what the call may cost at most, and hands the reply on in a stream that settles what
// it did cost when it is closed. A call that ends before anything was generated costs no tokens.
func (s *reservation) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	who := caller(c)
	tokens := s.config.Limits.of(who).Tokens
	if tokens <= 0 && len(c.Decision.Limits) == 0 {
		return next.Handle(ctx, c)
	}
	m := &meter{keeper: s.keeper, call: c}
	m.Tenant = who.Tenant
	m.charge(c, who.ID, tokens)
	if len(m.Charges) == 0 {
		return next.Handle(ctx, c)
	}
	asked := s.price(&m.claim, c)
	for i := range m.Charges {
		if asked > m.Charges[i].Limit && m.Charges[i].tokens() {
			return nil, s.oversized(&m.Charges[i], asked)
		}
	}
	if err := s.take(ctx, &m.Reservation); err != nil {
		return nil, err
	}
	if !m.Taken {
		return nil, s.exhausted(&m.Reservation)
	}
	s.passes[m.place].Inc()
	c.Quota = view(c.Quota, &m.Reservation)
	return m.follow(ctx, c, next)
}

// charge lists what the call is charged to: its principal's tokens and the limits of the decision.
func (r *claim) charge(c *pipeline.Call, who string, tokens int64) {
	spends := spends(c.Route)
	if tokens > 0 && spends {
		r.add(KeyTokens, who, tokens, 0)
	}
	for _, l := range c.Decision.Limits {
		if l.Requests > 0 {
			r.merge(PolicyRequests, l.Key, l.Requests, 1)
		}
		if l.Tokens > 0 && spends {
			r.merge(PolicyTokens, l.Key, l.Tokens, 0)
		}
	}
}

// merge adds a charge, or tightens the one on the same counter: two would each find the other's share free.
func (r *claim) merge(kind Kind, name string, limit, amount int64) {
	for i := range r.Charges {
		if r.Charges[i].Counter == (Counter{kind, name}) {
			r.Charges[i].Limit = min(r.Charges[i].Limit, limit)
			return
		}
	}
	r.add(kind, name, limit, amount)
}

// price sets the amount of each token charge: the prompt and the longest answer. It returns what the call
// asked for by itself: the prompt, and the answer where the request or the policy bounds it. An answer that
// nobody bounded is reserved as the configuration supposes, at most what a whole window allows.
func (s *reservation) price(r *claim, c *pipeline.Call) (asked int64) {
	priced := int64(-1)
	for i := range r.Charges {
		charge := &r.Charges[i]
		if !charge.tokens() {
			continue
		}
		if priced < 0 {
			asked = promptTokens(c.Request)
			priced = asked + s.completionTokens(c) // each at most maxLimit
			if c.Request.MaxTokens >= 0 || c.Decision.Set.MaxTokens > 0 {
				asked = priced
			}
			c.Metered = true
		}
		charge.Amount = min(priced, charge.Limit)
	}
	return asked
}

func (c *Charge) tokens() bool {
	return c.Counter.Kind == KeyTokens || c.Counter.Kind == PolicyTokens
}

// A meter is the stream of a reply whose tokens are reserved.
type meter struct {
	claim
	keeper *keeper
	call   *pipeline.Call
	stream llm.Stream

	mu     sync.Mutex // held during the stream's Next, which writes call.Outcome
	settle sync.Once
}

var _ llm.Stream = (*meter)(nil)

// follow lets the call on and settles at once when no reply comes of it, be it by a panic.
func (m *meter) follow(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	handed := false
	defer func() {
		if !handed {
			m.finish(context.WithoutCancel(ctx))
		}
	}()
	reply, err := next.Handle(ctx, c)
	if err != nil {
		return nil, err
	}
	tell(reply, &m.Reservation, KeyTokens)
	m.stream, reply.Stream = reply.Stream, m
	handed = true
	return reply, nil
}

// Next passes on the next chunk.
func (m *meter) Next() (llm.Chunk, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stream.Next()
}

// Close closes the stream and settles, once. Closing makes a waiting Next return; only after it has is
// the usage final.
func (m *meter) Close() error {
	err := m.stream.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finish(context.Background())
	return err
}

// finish settles what the call has used by now. It ends within the store's timeout, whatever ctx says.
func (m *meter) finish(ctx context.Context) {
	m.settle.Do(func() {
		used := m.used()
		for i := range m.Charges {
			m.Charges[i].Used = m.Charges[i].Amount // a request counts, whatever came of it
			if m.Charges[i].tokens() {
				m.Charges[i].Used = used
			}
		}
		settled := m.keeper.metrics.estimated
		if m.call.Outcome.Counted {
			settled = m.keeper.metrics.counted
		}
		settled.Add(float64(used))
		m.keeper.settle(ctx, &m.Reservation)
	})
}

// used is what the call has cost. A backend may say anything: sums stay within bounds, and a negative
// count never becomes a credit (CVE-2026-71479 of another gateway).
func (m *meter) used() int64 {
	u := m.call.Outcome.Usage
	if m.stream == nil && u.Completion <= 0 {
		return 0 // it failed before anything was generated
	}
	return min(max(u.Prompt, 0), maxLimit/2) + min(max(u.Completion, 0), maxLimit/2)
}
