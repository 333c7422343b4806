package upstream

import "time"

// A candidate is a backend that may be asked now, with the share of its weight that it takes, 1 to 1000.
type candidate struct {
	*backend
	share int64
}

// candidates appends to dst the members that may be asked for model, except those tried. due is one that is
// out and whose turn it is to be tried with a call, if its health's take agrees. With nobody to ask, wait is how
// long until there may be.
//
// When more than the pool's panic threshold are out, more is amiss than a few backends, and what is left would
// be overrun: then all are asked but those that are known to be of no use, because nobody listens there or
// their own health endpoint says so. One backend alone is no pool: there is no rest to overrun.
func (p *pool) candidates(now time.Time, model string, tried []*backend, dst []candidate) (all []candidate, due *backend, wait time.Duration) {
	members := p.listing(model)
	out, total := 0, 0
	wait = longestWait
	for _, b := range members {
		if b.weight == 0 {
			continue
		}
		total++
		share := b.peer.health.share(now)
		if share == 0 {
			out++
		}
		switch {
		case was(tried, b):
		case share > 0:
			dst = append(dst, candidate{b, share})
		case due == nil && b.peer.health.due(now):
			due, wait = b, 0 // another call may be faster to take it
		default:
			wait = min(wait, b.peer.health.wait(now))
		}
	}
	if !p.panics(out, total) {
		return dst, due, max(wait, time.Second)
	}
	return appendSuspects(dst, members, tried), due, max(wait, time.Second)
}

// longestWait is the most that a caller is told to wait for a backend.
const longestWait = 30 * time.Second

// was reports whether b is among those tried, be it as another pool knows it.
func was(tried []*backend, b *backend) bool {
	for _, t := range tried {
		if t.peer == b.peer {
			return true
		}
	}
	return false
}

func (p *pool) panics(out, total int) bool {
	return p.panicAt > 0 && total > 1 && out*100 > p.panicAt*total
}

// maySpare reports whether the pool would not panic with one backend less.
func (p *pool) maySpare(now time.Time) bool {
	out, total := 1, 0
	for _, b := range p.members() {
		if b.weight > 0 {
			total++
			if b.peer.health.share(now) == 0 {
				out++
			}
		}
	}
	return total > 1 && (p.panicAt == 0 || out*100 <= p.panicAt*total)
}

// appendSuspects appends the members that are out on suspicion.
func appendSuspects(dst []candidate, members, tried []*backend) []candidate {
	for _, b := range members {
		h := &b.peer.health
		if b.weight > 0 && h.out.Load() != 0 && !h.dead.Load() && !was(tried, b) {
			dst = append(dst, candidate{b, full})
		}
	}
	return dst
}
