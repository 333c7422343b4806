// Package balance chooses which replica of a model answers a call. It knows of no network: what it decides on is
// told to it, and so the same algorithms run in the gateway and, in virtual time, in the simulator.
package balance

import (
	"math/rand/v2"
	"time"
)

// A Picker chooses one replica. It may be used by many calls at once.
type Picker interface {
	// Pick returns the place in set of the replica to ask, and how many tokens of the prompt it is thought to
	// have read before; -1 if set holds none that takes calls. It keeps no hold on q or set.
	Pick(q *Query, set []Candidate) (place int, cached int64)
}

// A Query is what a picker may read of a call.
type Query struct {
	Now     time.Time
	Blocks  []uint64 // the prompt's Chain; nil: nothing of it can be cached
	Tokens  int64    // the prompt's length, estimated
	Session uint64   // hash of what the call's session is known by; 0: none
}

// A Candidate is a replica that may be asked now: it is well, and was not tried before.
type Candidate struct {
	*Replica
	Weight int64 // its configured share of the calls; 0 takes none
	Share  int64 // of Whole: how much of that it gets while it comes back; 0 takes none

	// The picker's own:
	depth         int32 // blocks of the prompt that it holds
	backlog, cost float64
}

// Whole is the share of a replica that is not starting slowly.
const Whole = 1000

// weight is the candidate's share of the calls, all told.
func (c *Candidate) weight() int64 {
	if c.Weight <= 0 || c.Share <= 0 {
		return 0
	}
	return c.Weight * min(c.Share, Whole)
}

// total is the weight of the whole set.
func total(set []Candidate) (sum int64) {
	for i := range set {
		sum += set[i].weight()
	}
	return sum
}

// at returns the place of the candidate in whose part of the total weight point lies.
func at(set []Candidate, point int64) int {
	for i := range set {
		if point -= set[i].weight(); point < 0 {
			return i
		}
	}
	return -1
}

// A Dice is where a picker takes chance from: uniform numbers, for many callers at once. nil is the process's own.
type Dice func() uint64

// below returns a number from 0 to n-1; n is positive.
func (d Dice) below(n int64) int64 {
	if d == nil {
		return rand.Int64N(n)
	}
	return int64(d() % uint64(n))
}
