package sim

import (
	"cmp"
	"math"
	"slices"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// An Algorithm is a way to balance: ours, or one that another router publishes.
type Algorithm struct {
	Name  string
	Rival bool
	// New makes a picker, and what it is told of calls that were sent; nil: nothing.
	New func(balance.Dice) (balance.Picker, func(*balance.Query, *balance.Replica))
}

// Algorithms are all that the table compares.
func Algorithms() []Algorithm {
	return []Algorithm{
		plain("round-robin", func(d balance.Dice) balance.Picker { return balance.NewRoundRobin(d) }),
		plain("least-inflight", func(d balance.Dice) balance.Picker { return balance.NewLeastInflight(d) }),
		plain("least-load", func(d balance.Dice) balance.Picker { return balance.NewLeastLoad(d) }),
		plain("session", func(d balance.Dice) balance.Picker { return balance.NewSession(balance.DefaultBound, d) }),
		Prefix("prefix", balance.DefaultPrefix),
		rival("rival: least-load", func(d balance.Dice) balance.Picker { return queuedTokens{} }),
		rival("rival: CHWBL", func(d balance.Dice) balance.Picker { return newRing() }),
		rival("rival: cache-aware", func(d balance.Dice) balance.Picker { return newCacheAware() }),
	}
}

// Prefix is ours with the settings o.
func Prefix(name string, o balance.PrefixOptions) Algorithm {
	return Algorithm{Name: name, New: func(balance.Dice) (balance.Picker, func(*balance.Query, *balance.Replica)) {
		index := balance.NewIndex(balance.DefaultIndex)
		return balance.NewPrefix(index, o), func(q *balance.Query, r *balance.Replica) { index.Add(q.Blocks, r) }
	}}
}

func plain(name string, make func(balance.Dice) balance.Picker) Algorithm {
	return Algorithm{Name: name, New: func(d balance.Dice) (balance.Picker, func(*balance.Query, *balance.Replica)) {
		return make(d), nil
	}}
}

func rival(name string, make func(balance.Dice) balance.Picker) Algorithm {
	a := plain(name, make)
	a.Rival = true
	return a
}

// queuedTokens is the least-load rule of SGLang's model gateway: what waits and what we have in flight, in tokens,
// over the throughput, and a penalty for a full KV cache.
type queuedTokens struct{}

func (queuedTokens) Pick(q *balance.Query, set []balance.Candidate) (int, int64) {
	const meanPrompt, throughput = 1024, 2000 // the rule's defaults
	best, least := -1, math.Inf(1)
	for i := range set {
		if set[i].Weight*set[i].Share == 0 {
			continue
		}
		report, _ := set[i].Load(q.Now)
		k := min(max(report.KV, 0), 0.99)
		score := float64(report.Waiting*meanPrompt+set[i].Uncached())/throughput + 0.15*k/(1-k)
		if score < least {
			best, least = i, score
		}
	}
	return best, 0
}

// A ring is consistent hashing with bounded loads over the first KiB of the prompt, as KubeAI does it.
type ring struct {
	points []point
	of     []balance.Candidate
}

type point struct {
	at    uint64
	place int
}

const (
	virtualNodes = 256
	loadBound    = 1.25
	firstBlocks  = 4 // 1 KiB
)

func newRing() *ring { return &ring{} }

func (r *ring) Pick(q *balance.Query, set []balance.Candidate) (int, int64) {
	if len(r.of) != len(set) {
		r.build(set)
	}
	calls := int64(1)
	for i := range set {
		calls += set[i].Active()
	}
	limit := loadBound * float64(calls) / float64(len(set))
	key := uint64(0)
	if n := min(len(q.Blocks), firstBlocks); n > 0 {
		key = q.Blocks[n-1]
	}
	from, _ := slices.BinarySearchFunc(r.points, key, func(p point, k uint64) int { return cmp.Compare(p.at, k) })
	first := -1
	for i := range r.points {
		place := r.points[(from+i)%len(r.points)].place
		if set[place].Weight*set[place].Share == 0 {
			continue
		}
		if first < 0 {
			first = place
		}
		if float64(set[place].Active()) < limit {
			return place, 0
		}
	}
	return first, 0
}

func (r *ring) build(set []balance.Candidate) {
	r.of, r.points = slices.Clone(set), nil
	for i := range set {
		for v := range virtualNodes {
			r.points = append(r.points, point{scramble(uint64(i)<<32 | uint64(v) + 1), i})
		}
	}
	slices.SortFunc(r.points, func(a, b point) int { return cmp.Compare(a.at, b.at) })
}

// A cacheAware is the rule of SGLang's router: the replica of the longest known prefix if that is more than 0.3 of
// the prompt, else the one with the fewest calls; and this one, too, while they differ by more than 64 and 1.5 times.
type cacheAware struct {
	last map[uint64]int // block → the replica it was sent to last
}

func newCacheAware() *cacheAware { return &cacheAware{last: make(map[uint64]int)} }

func (c *cacheAware) Pick(q *balance.Query, set []balance.Candidate) (int, int64) {
	const threshold, absolute, relative = 0.3, 64, 1.5
	low, high := -1, int64(0)
	for i := range set {
		if set[i].Weight*set[i].Share == 0 {
			continue
		}
		high = max(high, set[i].Active())
		if low < 0 || set[i].Active() < set[low].Active() {
			low = i
		}
	}
	if low < 0 {
		return -1, 0
	}
	place := low
	least := set[low].Active()
	if high-least <= absolute || float64(high) <= relative*float64(least) {
		matched := 0
		for matched < len(q.Blocks) {
			if _, ok := c.last[q.Blocks[matched]]; !ok {
				break
			}
			matched++
		}
		if float64(matched) > threshold*float64(len(q.Blocks)) {
			place = c.last[q.Blocks[matched-1]]
		}
	}
	for _, b := range q.Blocks {
		c.last[b] = place
	}
	return place, 0
}
