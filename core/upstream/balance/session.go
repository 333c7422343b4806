package balance

import "math"

// A Session keeps what belongs to one session on one replica, by consistent hashing with bounded loads: no replica
// gets more than its bound times the mean of what is in flight; beyond it a session moves to its next.
type Session struct {
	bound float64
	least *LeastInflight // for calls of no session
}

// DefaultBound is 1.25 times the mean.
const DefaultBound = 1.25

// NewSession makes a Session; bound is at least 1.
func NewSession(bound float64, d Dice) *Session { return &Session{max(bound, 1), NewLeastInflight(d)} }

func (s *Session) Pick(q *Query, set []Candidate) (int, int64) {
	if q.Session == 0 {
		return s.least.Pick(q, set)
	}
	sum := total(set)
	calls := int64(1)
	for i := range set {
		calls += set[i].active.Load()
	}
	each := s.bound * float64(calls) / float64(sum)
	return rendezvous(q.Session, set, func(c *Candidate) bool {
		return float64(c.active.Load()+1) <= math.Ceil(each*float64(c.weight()))
	}), 0
}
