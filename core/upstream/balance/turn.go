package balance

import (
	"math/bits"
	"sync/atomic"
)

// A RoundRobin asks each replica in turn, whatever its weight. One that comes back is passed over as its share
// says.
type RoundRobin struct {
	turn atomic.Uint64
	dice Dice
}

// NewRoundRobin makes a RoundRobin that begins at the set's first.
func NewRoundRobin(d Dice) *RoundRobin { return &RoundRobin{dice: d} }

func (r *RoundRobin) Pick(_ *Query, set []Candidate) (int, int64) {
	last := -1
	for range set {
		i := int((r.turn.Add(1) - 1) % uint64(len(set)))
		c := &set[i]
		if c.weight() == 0 {
			continue
		}
		if c.Share >= Whole || r.dice.below(Whole) < c.Share {
			return i, 0
		}
		last = i
	}
	return last, 0
}

// A Weighted gives each replica its share of the calls, spread evenly: the multiples of the golden ratio, modulo
// one, leave no gap and no bunch.
type Weighted struct{ turn atomic.Uint64 }

// golden is 2⁶⁴ over the golden ratio.
const golden = 0x9e3779b97f4a7c15

func (w *Weighted) Pick(_ *Query, set []Candidate) (int, int64) {
	point, _ := bits.Mul64(w.turn.Add(1)*golden, uint64(total(set)))
	return at(set, int64(point)), 0
}
