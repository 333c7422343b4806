package upstream

import (
	"slices"
	"time"
)

// A window counts calls over a length of time, in eighths of it.
type window [8]tally

type tally struct {
	number      int64 // which eighth since the epoch
	failed, all int
}

// add counts a call.
func (w *window) add(now time.Time, length time.Duration, well bool) {
	t, number := w.at(now, length)
	if t.number != number {
		*t = tally{number: number}
	}
	t.all++
	if !well {
		t.failed++
	}
}

// at is the tally that now belongs to, and its number.
func (w *window) at(now time.Time, length time.Duration) (*tally, int64) {
	number := since(now) / max(int64(length)/int64(len(w)), 1)
	return &w[number%int64(len(w))], number
}

// sum is what the window holds now.
func (w *window) sum(now time.Time, length time.Duration) (failed, all int) {
	_, last := w.at(now, length)
	for _, t := range w {
		if t.number > last-int64(len(w)) {
			failed, all = failed+t.failed, all+t.all
		}
	}
	return failed, all
}

// firstTokens are the last times to the first token of a backend.
type firstTokens struct {
	last   [32]time.Duration
	n      int           // that were ever added
	middle time.Duration // their median; 0: not taken since the last was added
}

func (f *firstTokens) add(d time.Duration) {
	f.last[f.n%len(f.last)] = d
	f.n, f.middle = f.n+1, 0
}

// enoughFirstTokens is how many say something.
const enoughFirstTokens = 8

// median is 0 until something can be said.
func (f *firstTokens) median() time.Duration {
	if f.n < enoughFirstTokens {
		return 0
	}
	if f.middle == 0 {
		f.middle = median(slices.Clone(f.last[:min(f.n, len(f.last))]))
	}
	return f.middle
}

// median sorts of.
func median(of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[len(of)/2]
}

// firstToken notes how long a stream's first token took.
func (h *health) firstToken(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.first.add(d)
}

// firstTokenMedian is 0 while too little is known.
func (h *health) firstTokenMedian() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.first.median()
}

// slowFloor is a time to the first token that nobody is taken out for.
const slowFloor = 5 * time.Second

// slowEvery is how often a pool looks for a slow backend.
const slowEvery = time.Second

// slowest takes out the backend whose first tokens take many times as long as those of the rest, and returns
// it. It needs three backends to tell who is the odd one, and looks once in a while.
func (p *pool) slowest(now time.Time) *backend {
	last := p.looked.Load()
	if last != 0 && since(now)-last < int64(slowEvery) || !p.looked.CompareAndSwap(last, since(now)) {
		return nil
	}
	var medians []time.Duration
	var slow *backend
	var longest time.Duration
	for _, b := range p.members() {
		m := b.peer.health.firstTokenMedian()
		if m == 0 || b.peer.health.share(now) == 0 {
			continue
		}
		medians = append(medians, m)
		if m > longest {
			slow, longest = b, m
		}
	}
	if len(medians) < 3 || !slow.peer.health.tooSlow(longest, median(medians)) || !p.maySpare(now) || !slow.peer.health.eject(now, causeSlow) {
		return nil
	}
	return slow
}

func (h *health) tooSlow(own, pool time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.terms.Slow > 0 && own >= slowFloor && own > time.Duration(h.terms.Slow)*pool
}
