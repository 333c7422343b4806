package quota

import (
	"context"
	"errors"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

const stage = "quota"

// admission is the stage that counts requests. It stands before plugins and policy, so that a principal
// whose minute is used up, in requests or in tokens, costs nothing more than the count.
type admission struct{ *keeper }

var _ pipeline.Stage = (*admission)(nil)

// A claim is a reservation with room for its usual charges, so that it is one allocation.
type claim struct {
	Reservation
	room [3]Charge
}

func (r *claim) add(kind Kind, name string, limit, amount int64) {
	if r.Charges == nil {
		r.Charges = r.room[:0]
	}
	r.Charges = append(r.Charges, Charge{Counter: Counter{kind, name}, Limit: min(limit, maxLimit), Amount: amount})
}

// Handle counts the request and tells the caller, on the way out, what is left. A request counts once it
// is admitted, whatever becomes of it; its tokens are reserve's affair.
func (a *admission) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	who := caller(c)
	limits := a.config.Limits.of(who)
	c.Quota = pipeline.QuotaView{RequestsLeft: -1, TokensLeft: -1}
	tokens := limits.Tokens > 0 && spends(c.Route)
	if limits.Requests <= 0 && !tokens {
		return next.Handle(ctx, c)
	}
	r := &claim{Reservation: Reservation{Tenant: who.Tenant}}
	if limits.Requests > 0 {
		r.add(KeyRequests, who.ID, limits.Requests, 1)
	}
	if tokens {
		r.add(KeyTokens, who.ID, limits.Tokens, 0)
	}
	if err := a.take(ctx, &r.Reservation); err != nil {
		return nil, err
	}
	if !r.Taken {
		return nil, a.exhausted(&r.Reservation)
	}
	a.passes[r.place].Inc()
	c.Quota = view(c.Quota, &r.Reservation)
	reply, err := next.Handle(ctx, c)
	if err != nil {
		return nil, annotate(err, &r.Reservation)
	}
	tell(reply, &r.Reservation, KeyRequests)
	return reply, nil
}

// annotate puts the headers of r on a refusal of reserve's.
func annotate(err error, r *Reservation) error {
	var f *pipeline.Refusal
	if errors.As(err, &f) && f.Stage == stage && f.Kind == pipeline.Exhausted {
		addHeaders(f, r)
	}
	return err
}

func tell(reply *llm.Reply, r *Reservation, kind Kind) {
	if reply.Header == nil {
		reply.Header = make(map[string][]string, 8)
	}
	setHeaders(reply.Header, r, kind)
}

// nobody stands for callers where no stage says who they are.
var nobody = &pipeline.Principal{}

func caller(c *pipeline.Call) *pipeline.Principal {
	if c.Principal == nil {
		return nobody
	}
	return c.Principal
}

// spends reports whether calls of e use a model, and so tokens.
func spends(e llm.Endpoint) bool { return e != llm.Models && e != llm.Tokenize }

// view adds what r says is left of the principal's own limits.
func view(v pipeline.QuotaView, r *Reservation) pipeline.QuotaView {
	if r.place == nowhere {
		return v
	}
	for i := range r.Charges {
		switch c := &r.Charges[i]; c.Counter.Kind {
		case KeyRequests:
			v.RequestsLeft = c.Left
		case KeyTokens:
			v.TokensLeft, v.TokensLimit = c.Left, c.Limit
		}
	}
	return v
}
