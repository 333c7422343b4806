package upstream

import (
	"slices"
	"time"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// A balancer chooses among a pool's backends as its configuration says.
type balancer struct {
	picker  balance.Picker // nil: two kinds of call are told apart
	chat    balance.Picker // for calls that generate
	other   balance.Picker
	prefix  bool // prompts are hashed and remembered
	session bool
	key     sessionKey
	index   *balance.Index
	count   *Metrics
}

func newBalancer(c PoolConfig, f *Fleet, count *Metrics) balancer {
	b := balancer{index: f.index, count: count}
	switch c.Balance {
	case "round-robin":
		b.picker = balance.NewRoundRobin(nil)
	case "weighted":
		b.picker = new(balance.Weighted)
	case "least-inflight":
		b.picker = balance.NewLeastInflight(nil)
	case "least-load":
		b.picker = balance.NewLeastLoad(nil)
	case "session":
		b.session = true
		b.picker = balance.NewSession(c.Session.Bound, nil)
		b.key = sessionKey{c.Session.header(), c.Session.Key == "user"}
	default:
		b.prefix = true
		o := balance.PrefixOptions{Hit: c.Prefix.Hit, Release: c.Prefix.Release, Running: c.Prefix.Running, Slack: c.Prefix.Slack}
		b.chat, b.other = balance.NewPrefix(f.index, o), balance.NewLeastInflight(nil)
		if c.Balance == "prefix" {
			b.other = b.chat
		}
	}
	return b
}

// of is the picker for a call.
func (b *balancer) of(q *query) balance.Picker {
	switch {
	case b.picker != nil:
		return b.picker
	case q.call != nil && generates(q.call.Route):
		return b.chat
	}
	return b.other
}

// choose takes one of all, which is not empty, and notes what the call means for it.
func (b *balancer) choose(now time.Time, q *query, p *pool, all []candidate) *backend {
	if len(all) == 1 && len(p.members()) == 1 { // nothing to choose, and nothing worth remembering
		if q.call != nil {
			q.fresh = promptTokens(q.call.Request)
		}
		return all[0].backend
	}
	w := q.prepare(now, p)
	w.set = slices.Grow(w.set[:0], len(all))[:len(all)]
	for i := range all {
		c := &all[i]
		w.set[i] = balance.Candidate{Replica: c.peer.replica, Weight: c.weight, Share: c.share}
	}
	place, cached := b.of(q).Pick(&w.Query, w.set)
	chosen := all[max(place, 0)].backend
	q.fresh = w.Tokens - cached
	if len(w.Blocks) > 0 {
		b.index.Add(w.Blocks, chosen.peer.replica)
		b.count.prompt(p.name, cached, q.fresh)
	}
	return chosen
}
