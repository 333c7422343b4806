package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A cause is why a backend was taken out of traffic; they are the values of a label.
type cause string

const (
	causeConnect   cause = "connect"          // nobody listens, the host cannot be reached, the name is unknown
	causeTimeout   cause = "timeout"          // no connection, headers, first or further token in time
	causeAnswer    cause = "answer"           // 502 to 504, an answer that breaks off, or none at all
	causeErrorRate cause = "error_rate"       // too many of its calls fail
	causeSlow      cause = "slow_first_token" // far slower than the rest of its pool
	causeProbe     cause = "probe"            // its own health endpoint says so, or does not answer
)

// health is one backend's circuit breaker: closed, it takes calls; open, it takes none until a pause is over;
// then it is half open and takes one, whose outcome closes it or opens it for twice as long. Closed again it
// starts slowly. Only the backend's own failures count: not what a caller or the gateway did wrong.
//
// Pickers read it for every call and every backend, so what they read is atomic.
type health struct {
	out    atomic.Int64 // 0: closed; else when the pause is over, as since counts; forever while it is sick
	joined atomic.Int64 // when the slow start began; 0: none
	dead   atomic.Bool  // while open: known to be no use, not just suspected

	mu     sync.Mutex
	terms  HealthConfig
	failed int // in a row
	pause  time.Duration
	opened time.Time // the last time
	closed time.Time // the last time
	trial  time.Time // when the one call of a half-open state was let through; zero: none runs
	cause  cause     // of the last opening
	sick   bool      // says the backend's own health endpoint
	unwell int       // probes in a row that said so or failed
	wellAt time.Time // last call that went well
	window window
	first  firstTokens
}

// trialLapse is after how long another call is let through to a half-open backend whose trial has no outcome
// yet: that one's prompt may take minutes to read.
const trialLapse = 2 * time.Second

// untried is after how long a half-open backend that no call has tried is given its slow start without one, and
// goes out again at its first failure. It may be that nobody sends it a call because it is said to be out.
const untried = 5 * time.Second

// forgiven is how long a backend must have been in traffic for its pauses to be short again.
const forgiven = 30 * time.Second

// forever is the pause of a backend that a probe must find well first; sickWait is what is said of it.
const (
	forever  = math.MaxInt64
	sickWait = 5 * time.Second
)

// epoch makes times small numbers that no change of the clock disturbs.
var epoch = time.Now()

func since(t time.Time) int64 { return max(int64(t.Sub(epoch)), 1) }

// agree takes the terms of the newest configuration.
func (h *health) agree(t HealthConfig) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.terms = t
	if t.Path == "" && h.sick {
		h.recover(time.Now()) // nobody will ask it again
	}
}

// join begins a slow start: the backend came into running traffic.
func (h *health) join(now time.Time) { h.joined.Store(since(now)) }

// full is the whole of a backend's share.
const full = 1000

// share is how much of its weight a backend takes now, in thousandths: full when it is well, less in its slow
// start, 0 while it is out.
func (h *health) share(now time.Time) int64 {
	if out := h.out.Load(); out != 0 && !h.lapse(now, out) {
		return 0
	}
	joined := h.joined.Load()
	if joined == 0 {
		return full
	}
	return h.ramp(since(now) - joined)
}

// lapse closes a backend that has been half open for long, and reports whether it did.
func (h *health) lapse(now time.Time, out int64) bool {
	if out == forever || since(now)-out < int64(untried) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if out != h.out.Load() || !h.trial.IsZero() {
		return false
	}
	h.close(now)
	h.failed = max(h.terms.Failures-1, 0)
	return true
}

func (h *health) ramp(passed int64) int64 {
	h.mu.Lock()
	whole := int64(h.terms.SlowStart)
	h.mu.Unlock()
	if passed >= whole {
		h.joined.Store(0)
		return full
	}
	return max(full/10, full*passed/whole)
}

// due reports whether a backend that is out may be tried with a call, which take decides.
func (h *health) due(now time.Time) bool {
	if h.out.Load() == 0 || h.wait(now) > 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.free(now)
}

// free reports whether no call tries the backend, or one has for so long that another may.
func (h *health) free(now time.Time) bool { return h.trial.IsZero() || now.Sub(h.trial) >= trialLapse }

// wait is how long a backend stays out for sure.
func (h *health) wait(now time.Time) time.Duration {
	switch until := h.out.Load(); until {
	case 0:
		return 0
	case forever:
		return sickWait
	default:
		return max(time.Duration(until-since(now)), 0)
	}
}

// take reports whether a call may be sent now. An open backend whose pause is over lets one through.
func (h *health) take(now time.Time) bool {
	if h.out.Load() == 0 {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out.Load() == 0 {
		return true
	}
	if h.wait(now) > 0 || !h.free(now) {
		return false
	}
	h.trial = now
	return true
}

// abandon gives back what take took, with nothing learnt: the call was sent at that time, and left.
func (h *health) abandon(sent time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !sent.Before(h.trial) {
		h.trial = time.Time{}
	}
}

// succeed notes that a call sent at that time went well. Of an open backend only calls sent since tell anything.
func (h *health) succeed(now, sent time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.window.add(now, h.terms.Window, true)
	h.wellAt = now
	if h.out.Load() == 0 {
		h.failed = 0
		return
	}
	if !sent.Before(h.opened) && !h.sick {
		h.close(now)
	}
}

// fail notes that a call sent at that time failed, and reports whether that takes the backend out.
func (h *health) fail(now, sent time.Time, why cause) (ejected bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out.Load() != 0 {
		h.failAgain(now, sent, why)
		return false
	}
	if sent.Before(h.closed) {
		return false // of the time before it came back
	}
	h.failed++
	h.window.add(now, h.terms.Window, false)
	if h.terms.Failures > 0 && h.failed >= h.terms.Failures {
		h.open(now, why)
		return true
	}
	return h.openAtRate(now)
}

// failAgain notes a failure of an open backend: that of a trial doubles the pause.
func (h *health) failAgain(now, sent time.Time, why cause) {
	if sent.Before(h.opened) || h.wait(now) > 0 {
		return
	}
	h.open(now, why)
}

// stumble notes a call that failed by its own misfortune, such as a single 500: it tells nothing when it is
// one in a row, but something when it is many of all. It reports whether that takes the backend out.
func (h *health) stumble(now, sent time.Time) (ejected bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out.Load() != 0 {
		h.failAgain(now, sent, causeErrorRate)
		return false
	}
	h.window.add(now, h.terms.Window, false)
	return h.openAtRate(now)
}

func (h *health) openAtRate(now time.Time) bool {
	failed, all := h.window.sum(now, h.terms.Window)
	if h.terms.ErrorRate == 0 || all < max(h.terms.MinCalls, 1) || failed*100 <= h.terms.ErrorRate*all {
		return false
	}
	h.open(now, causeErrorRate)
	return true
}

// open takes the backend out. The pause doubles while it does not stay in traffic.
func (h *health) open(now time.Time, why cause) {
	if h.out.Load() == 0 && now.Sub(h.closed) > forgiven {
		h.pause = 0
	}
	h.pause = min(max(2*h.pause, h.terms.Ejection), max(h.terms.Longest, h.terms.Ejection))
	h.cause, h.opened, h.trial, h.failed = why, now, time.Time{}, 0
	h.dead.Store(why == causeConnect || h.sick)
	if h.sick {
		h.out.Store(forever)
	} else {
		h.out.Store(since(now.Add(h.pause)))
	}
	h.window, h.first = window{}, firstTokens{}
}

// close brings the backend back, slowly.
func (h *health) close(now time.Time) {
	h.closed, h.trial, h.failed = now, time.Time{}, 0
	h.dead.Store(false)
	if h.terms.SlowStart > 0 {
		h.joined.Store(since(now))
	}
	h.out.Store(0)
}

// eject takes a backend out that is in traffic, and reports whether it was.
func (h *health) eject(now time.Time, why cause) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out.Load() != 0 {
		return false
	}
	h.open(now, why)
	return true
}

// A finding is what a probe began at some time found out.
type finding int

const (
	foundWell   finding = iota // it answers, and not that it is ill
	foundSick                  // it says that it cannot work, or nobody listens
	foundSilent                // no answer in time, or one that is none
)

// probed notes a probe's finding, and reports whether it takes the backend out.
func (h *health) probed(now, began time.Time, f finding) (ejected bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f == foundWell {
		h.recover(now)
		return false
	}
	if f == foundSilent && h.wellAt.After(began) {
		return false // busy, not dead: calls go well meanwhile
	}
	h.unwell++
	if f == foundSilent && h.unwell < max(h.terms.Failures, 1) {
		return false
	}
	h.sick, h.trial = true, time.Time{}
	ejected = h.out.Load() == 0
	if ejected {
		h.open(now, causeProbe)
	}
	h.out.Store(forever)
	h.dead.Store(true)
	return ejected
}

// recover ends the pause of a backend that can be reached again; a call must still try it.
func (h *health) recover(now time.Time) {
	was := h.sick
	h.sick, h.unwell = false, 0
	if h.out.Load() != 0 && (was || h.cause == causeConnect) {
		h.dead.Store(false)
		h.out.Store(min(h.out.Load(), since(now)))
	}
}

// A standing is a backend's health for those who look at it.
type standing struct {
	state string    // one of states
	cause cause     // why it is open or half open
	until time.Time // when an open one is tried again; zero: when a probe finds it well
}

// The states of a backend.
const (
	stateHealthy  = "healthy"
	stateSlow     = "slow_start"
	stateOpen     = "open"
	stateHalfOpen = "half_open"
)

var states = []string{stateHealthy, stateSlow, stateOpen, stateHalfOpen}

func (h *health) standing(now time.Time) standing {
	h.mu.Lock()
	out, why := h.out.Load(), h.cause
	h.mu.Unlock()
	switch {
	case out == forever:
		return standing{state: stateOpen, cause: why}
	case out > since(now):
		return standing{state: stateOpen, cause: why, until: epoch.Add(time.Duration(out))}
	case out != 0:
		return standing{state: stateHalfOpen, cause: why}
	case h.share(now) < full:
		return standing{state: stateSlow}
	}
	return standing{state: stateHealthy}
}
