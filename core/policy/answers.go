package policy

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
)

// Answers keeps what decisions of Wasm came to, by what was copied out of the guest: they are few, and to read one
// costs more than to find it here. Where a policy computes each anew, none comes a second time, and none is kept.
type answers struct {
	known atomic.Pointer[map[string]answered]
	once  [maxOnce]atomic.Uint64 // the hashes of those that came once, the last for each place
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
	maxOnce    = 1024
)

var answersSeed = maphash.MakeSeed()

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
	if len(wire) <= maxKept && a.again(wire) {
		a.keep(string(wire), answered{v, err})
	}
	return v, err
}

// again reports whether wire came before, not too long ago.
func (a *answers) again(wire []byte) bool {
	hash := maphash.Bytes(answersSeed, wire)
	return a.once[hash%maxOnce].Swap(hash) == hash
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
