package balance

// A LeastInflight draws two replicas and takes the one with fewer calls of ours in flight for its weight. Two are
// enough to keep the fullest near the mean, and gateways that share nothing do not all run to the same one.
type LeastInflight struct{ dice Dice }

// NewLeastInflight makes a LeastInflight.
func NewLeastInflight(d Dice) *LeastInflight { return &LeastInflight{d} }

func (l *LeastInflight) Pick(_ *Query, set []Candidate) (int, int64) {
	return l.better(set, func(c *Candidate) float64 { return float64(c.active.Load() + 1) }), 0
}

// better draws two by weight and returns the place of the one whose load is less for its weight.
func (l *LeastInflight) better(set []Candidate, load func(*Candidate) float64) int {
	sum := total(set)
	if sum <= 0 {
		return -1
	}
	a := at(set, l.dice.below(sum))
	rest := sum - set[a].weight()
	if rest == 0 {
		return a
	}
	b := other(set, a, l.dice.below(rest))
	if load(&set[b])/float64(set[b].weight()) < load(&set[a])/float64(set[a].weight()) {
		return b
	}
	return a
}

// other is at for the set without the one at place not.
func other(set []Candidate, not int, point int64) int {
	for i := range set {
		if i == not {
			continue
		}
		if point -= set[i].weight(); point < 0 {
			return i
		}
	}
	return not
}

// A LeastLoad takes the replica whose engine has the least to do: calls running and, dearer, waiting, and how full
// the KV cache is. What we have sent since the engine told of it is added, so that calls between two reports do not
// all run to one replica; and as a report ages, our own calls in flight take its place.
type LeastLoad struct{ dice Dice }

// NewLeastLoad makes a LeastLoad.
func NewLeastLoad(d Dice) *LeastLoad { return &LeastLoad{d} }

func (l *LeastLoad) Pick(q *Query, set []Candidate) (int, int64) {
	best, equals := -1, int64(0)
	for i := range set {
		c := &set[i]
		w := c.weight()
		if w == 0 {
			continue
		}
		c.cost = c.Replica.work(q) / float64(w)
		switch {
		case best < 0 || c.cost < set[best].cost:
			best, equals = i, 1
		case c.cost == set[best].cost:
			if equals++; l.dice.below(equals) == 0 {
				best = i
			}
		}
	}
	return best, 0
}

// work is how much a replica has to do, this call included, in running calls.
func (r *Replica) work(q *Query) float64 {
	n, _ := r.calls(q.Now)
	work := n + 1
	if r.report.Load() == nil {
		return work
	}
	if rep, trust := r.Load(q.Now); rep.KV > 0 {
		free := max(1-rep.KV, 0.01)
		work += trust * 0.15 * rep.KV / free * work // preemptions begin as the cache fills
	}
	return work
}
