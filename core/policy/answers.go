package policy

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Answers keeps what decisions of Wasm came to, by what was copied out of the guest: they are few, and to read one
// costs more than to find it here.
type answers struct {
	known atomic.Pointer[map[string]answered]
	mu    sync.Mutex
}

// answered is what a decision came to once its shape was checked; many calls share it.
type answered struct {
	verdict *verdict
	err     error
}

const (
	maxAnswers = 256
	maxKept    = 4 << 10 // bytes of one that is kept
)

// read is what a decision comes to.
func (a *answers) read(wire []byte, pools map[string]bool) (*verdict, error) {
	if known := a.known.Load(); known != nil {
		if found, ok := (*known)[string(wire)]; ok {
			return found.verdict, found.err
		}
	}
	value, ok := parseWire(wire)
	if !ok {
		return nil, errDoubt
	}
	v, err := check(value, pools)
	if err != nil {
		v, err = nil, &failure{misshapen, err}
	}
	if len(wire) <= maxKept {
		a.keep(string(wire), answered{v, err})
	}
	return v, err
}

// keep forgets all when there is no more room: what a policy computes anew for each call is not worth more.
func (a *answers) keep(wire string, found answered) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := map[string]answered{wire: found}
	if known := a.known.Load(); known != nil && len(*known) < maxAnswers {
		maps.Copy(next, *known)
	}
	a.known.Store(&next)
}
