// Package upstream brings a call to a backend and its answer back: it picks the backend, tries, falls
// back along the decision's targets, watches each phase's time and the backends' health. It is the last
// handler of a chain.
package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// An Upstream answers calls from the backends of one configuration.
type Upstream struct {
	fleet *Fleet
	pools []*pool // sorted by name
	salt  salter
	count *Metrics
	trace pipeline.Tracer                           // nil: attempts are not traced
	sleep func(context.Context, time.Duration) bool // between attempts

	life  context.Context // of what no caller waits for
	end   context.CancelFunc
	extra sync.WaitGroup // what no caller waits for

	mu     sync.Mutex // guards the servers of the pools' sources
	closed bool
}

var _ pipeline.Handler = (*Upstream)(nil)

// New builds the pools of cfg, with connections and health held in fleet. Close gives them back.
func New(cfg Config, fleet *Fleet, count *Metrics, trace pipeline.Tracer) (*Upstream, error) {
	u := &Upstream{fleet: fleet, salt: newSalter(cfg.CacheKey), count: count, trace: trace, sleep: sleep}
	u.life, u.end = context.WithCancel(context.Background())
	out := newEgress(cfg.Egress)
	for name, pc := range cfg.Pools {
		p := &pool{name: name, models: pc.Models, model: pc.Model, timeouts: pc.Timeouts, panicAt: pc.Panic, retry: pc.Retry, hedge: pc.Hedge, goOn: pc.Continue, editions: &fleet.editions}
		p.balance = newBalancer(pc, fleet, count)
		a := fleet.account(name)
		p.retries, p.hedges = a.retries.under(pc.Retry.Share, pc.Retry.Floor), a.hedges.under(pc.Hedge.Share, 1)
		u.pools = append(u.pools, p)
		for _, id := range pc.Backends {
			s, err := newSource(id, cfg.Backends[id], out)
			if err != nil {
				u.Close()
				return nil, fmt.Errorf("upstream: backend %q: %w", id, err)
			}
			p.sources = append(p.sources, s)
		}
	}
	for _, p := range u.pools {
		for _, s := range p.sources {
			u.open(p, s, cfg.Backends[s.mould.id].Discovery)
		}
	}
	u.hangMirrors(cfg)
	slices.SortFunc(u.pools, func(a, b *pool) int { return compare(a.name, b.name) })
	return u, nil
}

// hangMirrors finds the pools that get copies of others' calls.
func (u *Upstream) hangMirrors(cfg Config) {
	for _, p := range u.pools {
		c := cfg.Pools[p.name].Mirror
		if i := slices.IndexFunc(u.pools, func(to *pool) bool { return to.name == c.Pool }); i >= 0 {
			p.mirror = newMirror(c, u.pools[i])
		}
	}
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// Handle asks the call's targets in order until one answers.
func (u *Upstream) Handle(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
	pools, err := u.targets(c)
	if err != nil {
		return nil, err
	}
	if c.Waiter != nil && c.Request.Stream && generates(c.Route) {
		c.Waiter.WaitBegins()
		defer c.Waiter.WaitEnds()
	}
	u.copy(c, pools[0])
	t := tries{u: u, call: c, pools: pools, plan: planOf(c, pools[0].goOn)}
	reply, f := t.answer(ctx)
	if f != nil {
		return f.answer(ctx)
	}
	return t.relayed(ctx, reply), nil
}

// targets lists the pools to ask: the decision's, else the one that a plugin chose, else every pool that serves
// the model.
func (u *Upstream) targets(c *pipeline.Call) ([]*pool, error) {
	switch {
	case len(c.Decision.Targets) > 0:
	case c.Pool != "":
		return u.chosen(c)
	default:
		return u.serving(c)
	}
	pools := make([]*pool, 0, len(c.Decision.Targets))
	for _, t := range c.Decision.Targets {
		i := slices.IndexFunc(u.pools, func(p *pool) bool { return p.name == t.Pool })
		if i < 0 {
			return nil, fmt.Errorf("upstream: rule %q targets the pool %q, which is not configured", c.Decision.Rule, t.Pool)
		}
		pools = append(pools, u.pools[i])
	}
	if i := draw(c.Decision.Targets); i > 0 {
		first := pools[i]
		copy(pools[1:i+1], pools[:i])
		pools[0] = first
	}
	return pools, nil
}

// chosen is the pool that a plugin chose.
func (u *Upstream) chosen(c *pipeline.Call) ([]*pool, error) {
	i := slices.IndexFunc(u.pools, func(p *pool) bool { return p.name == c.Pool })
	if i < 0 {
		return nil, fmt.Errorf("upstream: a plugin chose the pool %q, which is not configured", c.Pool)
	}
	return u.pools[i : i+1 : i+1], nil
}

// draw picks a target by weight, the first when none has a weight.
func draw(targets []pipeline.Target) int {
	total := 0
	for _, t := range targets {
		total += t.Weight
	}
	if total <= 0 {
		return 0
	}
	n := rand.IntN(total)
	for i, t := range targets {
		if n -= t.Weight; n < 0 {
			return i
		}
	}
	return 0
}

func (u *Upstream) serving(c *pipeline.Call) ([]*pool, error) {
	model := c.Request.Model
	if c.Decision.Set.Model != "" {
		model = c.Decision.Set.Model
	}
	var pools []*pool
	for _, p := range u.pools {
		if p.serves(model) {
			pools = append(pools, p)
		}
	}
	if pools == nil {
		return nil, pipeline.NoModel("upstream", model)
	}
	return pools, nil
}
