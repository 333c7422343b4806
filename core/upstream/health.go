package upstream

import (
	"sync"
	"time"
)

// Passive health: after failuresToEject failures in a row a backend takes no calls for ejection, then
// one call is let through as a probe; each further failed probe lengthens the pause up to longestEjection.
const (
	failuresToEject = 5
	ejection        = 5 * time.Second
	longestEjection = 30 * time.Second
)

type health struct {
	mu      sync.Mutex
	failed  int // in a row
	pauses  int // in a row
	until   time.Time
	probing bool
}

// take reports whether a call may be sent now; in the pause after an ejection it lets one probe through.
func (h *health) take(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed < failuresToEject {
		return true
	}
	if h.probing || now.Before(h.until) {
		return false
	}
	h.probing = true
	return true
}

// healthy reports the state without taking a probe; wait is how long the pause still lasts.
func (h *health) healthy(now time.Time) (ok bool, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed < failuresToEject {
		return true, 0
	}
	return false, max(h.until.Sub(now), 0)
}

func (h *health) succeed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed, h.pauses, h.probing = 0, 0, false
}

// abandon gives back what take took, with nothing learnt.
func (h *health) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probing = false
}

// fail notes a failure and reports whether the backend is ejected by it.
func (h *health) fail(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed++
	h.probing = false
	if h.failed < failuresToEject || now.Before(h.until) {
		return false
	}
	h.pauses++
	h.until = now.Add(min(time.Duration(h.pauses)*ejection, longestEjection))
	return true
}
