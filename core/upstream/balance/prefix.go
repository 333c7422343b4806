package balance

import "sync/atomic"

// A Prefix sends a call where its prompt's beginning was sent before, until that replica is saturated: "sticky
// until saturated". Replicas that enough of the prompt was sent to are preferred to all others, unless the backlog
// of prompt tokens there exceeds another's by the release and what reading again would cost. Among those preferred,
// or among all if none is, the one with the least to do before the call's first token wins. Where none is preferred,
// rendezvous hashing decides among those that have about as little to do, by the first block that nobody was sent:
// gateways that share nothing send the beginning of a conversation to the same replica, and so the rest of it.
type Prefix struct {
	index *Index
	o     PrefixOptions
	turn  atomic.Uint64
}

// PrefixOptions are a Prefix's settings.
type PrefixOptions struct {
	Hit     float64 // share of a prompt's blocks that makes a replica preferred
	Release int64   // prompt tokens of backlog
	Running int64   // prompt tokens that a call in flight weighs, for the tokens that it generates
	Slack   int64   // prompt tokens that replicas may differ by where none is preferred
}

// DefaultPrefix are the settings where none are given: half a second of prompts at 16,000 tokens a second, which a
// model of 32 billion parameters reads on two H100.
var DefaultPrefix = PrefixOptions{Hit: 0.5, Release: 8000, Running: 512, Slack: 4096}

// NewPrefix makes a Prefix over index, to which its caller adds the calls that are sent.
func NewPrefix(index *Index, o PrefixOptions) *Prefix { return &Prefix{index: index, o: o} }

func (p *Prefix) Pick(q *Query, set []Candidate) (int, int64) {
	p.index.depths(q.Blocks, set)
	least, preferred := p.weigh(q, set)
	if least < 0 {
		return -1, 0
	}
	limit := set[least].cost
	depth := deepest(set)
	switch {
	case preferred:
	case depth == 0:
		limit += float64(p.o.Slack) / coldSlack / Whole
	default:
		limit += float64(p.o.Slack) / Whole
	}
	fits := func(c *Candidate) bool { return c.cost <= limit && (!preferred || p.holds(q, c)) }
	place := -1
	if n := len(q.Blocks); n > 0 {
		place = rendezvous(q.Blocks[min(depth, n-1)], set, fits)
	} else {
		place = p.inTurn(set, fits)
	}
	return place, cached(q, &set[place])
}

// inTurn chooses for a prompt that is too short to be known by.
func (p *Prefix) inTurn(set []Candidate, fits func(*Candidate) bool) int {
	start := p.turn.Add(1)
	for i := range set {
		place := int((start + uint64(i)) % uint64(len(set)))
		if c := &set[place]; c.weight() > 0 && fits(c) {
			return place
		}
	}
	return -1
}

// coldSlack divides the slack for a prompt that has nothing in common with any other: most such prompts come once,
// and agreement would buy nothing.
const coldSlack = 16

// weigh sets what the call would cost at each candidate and returns the place of the cheapest: of those that hold
// the prompt, where these are preferred, else of all.
func (p *Prefix) weigh(q *Query, set []Candidate) (least int, preferred bool) {
	holder, other := -1, -1
	for i := range set {
		c := &set[i]
		w := c.weight()
		if w == 0 {
			continue
		}
		c.backlog = p.backlog(q, c)
		c.cost = (c.backlog + float64(q.Tokens-cached(q, c))) / float64(w)
		best := &other
		if p.holds(q, c) {
			best = &holder
		}
		if *best < 0 || c.cost < set[*best].cost {
			*best = i
		}
	}
	switch {
	case holder < 0:
		return other, false
	case other < 0 || !p.released(q, &set[holder], &set[other]):
		return holder, true
	}
	return other, false
}

// backlog is how many prompt tokens stand before a call, but for its own.
func (p *Prefix) backlog(q *Query, c *Candidate) float64 {
	calls, full := c.calls(q.Now)
	backlog := float64(c.uncached.Load()) + float64(p.o.Running)*calls
	if full {
		backlog += float64(p.o.Release)
	}
	return backlog
}

// rereadCost is what a token weighs that is read again because its prompt left the replica that held it: the time
// to read it, and as much again for what it drives out of the other's cache.
const rereadCost = 2

// released reports whether the holder has so much more to do than the other that it is better to read again.
func (p *Prefix) released(q *Query, holder, other *Candidate) bool {
	again := float64(cached(q, holder) - cached(q, other))
	return holder.backlog-other.backlog > float64(p.o.Release)+rereadCost*again
}

// holds reports whether enough of the prompt was sent to c before.
func (p *Prefix) holds(q *Query, c *Candidate) bool {
	return c.depth > 0 && float64(c.depth) >= p.o.Hit*float64(len(q.Blocks))
}

// cached is how many of the prompt's tokens c is thought to hold.
func cached(q *Query, c *Candidate) int64 {
	if c.depth == 0 {
		return 0
	}
	return q.Tokens * int64(c.depth) / int64(len(q.Blocks))
}

// deepest is how many blocks the candidates know at most.
func deepest(set []Candidate) int {
	most := int32(0)
	for i := range set {
		most = max(most, set[i].depth)
	}
	return int(most)
}
