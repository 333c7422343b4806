package quota

import (
	"context"
	"errors"
	"time"
)

// Window is the length of the fixed windows that limits are counted in. They are aligned to the minute
// of the store's own clock, so that all replicas that share a store share its windows.
const Window = time.Minute

// A Store counts what is used, window by window. It is safe for concurrent use.
//
// A reservation counts in the window it was made in and in no other: that window's end is its lease, so
// that what a killed replica had reserved comes free by itself within a minute.
type Store interface {
	// Take takes every charge of r in the window now running, or none of them: a charge fits when
	// something is left of its limit and its amount is not more than what is left. An amount of 0
	// takes nothing and still does not fit where nothing is left. Take fills in r.Taken, r.Window,
	// r.Reset and each charge's Left. An error says that the store did not answer: it may have taken
	// or not, and a Settle with nothing used makes sure of not.
	Take(ctx context.Context, r *Reservation) error

	// Settle replaces, for each charge of r, the amount taken by the amount used. When the window of r
	// has passed, nothing is given back, and what was used beyond the amount is charged to the window
	// now running, even beyond the limit: no use goes uncounted. Settle may be repeated after an
	// error, for a minute; only one of all its calls for a reservation has an effect. It is not called at the same
	// time for one reservation.
	Settle(ctx context.Context, r *Reservation) error

	// Close gives the store's connections back. It may be called twice.
	Close() error
}

// A Reservation is what one call takes from some of its tenant's counters. It belongs to whoever made
// it; a store reads it during Take and Settle and keeps nothing of it.
type Reservation struct {
	Tenant  string // hard partition: the same counter of two tenants is two counters
	Charges []Charge

	Taken  bool
	Window int64         // number of the window it was made in; 0: not known to have been taken
	Reset  time.Duration // until that window ends

	id      uint64 // given by the store that needs one
	settled bool   // for stores that cannot fail
	place   place
}

// A Charge is what a reservation takes from one counter.
type Charge struct {
	Counter Counter
	Limit   int64 // 1 or more
	Amount  int64 // 0 or more
	Used    int64 // for Settle
	Left    int64 // set by Take: what is left of the limit after it, never below 0
}

// A Counter names what is counted, within a tenant. Name is any text.
type Counter struct {
	Kind Kind
	Name string
}

// A Kind keeps counters of the same name apart.
type Kind byte

const (
	KeyRequests    Kind = 'r' // requests of a principal; Name is its id
	KeyTokens      Kind = 't' // tokens of a principal
	PolicyRequests Kind = 'R' // requests under a decision's limit; Name is the limit's key
	PolicyTokens   Kind = 'T' // tokens under a decision's limit
)

// fits reports whether c fits where used is taken.
func (c *Charge) fits(used int64) bool { return used < c.Limit && c.Amount <= c.Limit-used }

// short is the first charge of r that did not fit, nil when all do. After a refused Take, Left is what
// was found, so that the one rule decides here too.
func (r *Reservation) short() *Charge {
	for i := range r.Charges {
		if c := &r.Charges[i]; c.Left == 0 || c.Amount > c.Left {
			return c
		}
	}
	return nil
}

var (
	// ErrDown says that the store was not even asked, because it failed a moment ago.
	ErrDown = errors.New("quota: the store is known to be down")
	// errFull says that the memory store holds as many counters as it may.
	errFull = errors.New("quota: too many counters in one window")
)
