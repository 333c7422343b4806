package balance

import "math"

// rendezvous returns the candidate with the highest score for key among those that fit; -1 if none does. Each
// replica's score depends on the key and itself alone, so that gateways that share nothing agree, and one that
// comes or goes moves only its own share of the keys.
func rendezvous(key uint64, set []Candidate, fits func(*Candidate) bool) int {
	best, most := -1, 0.0
	last := int64(0) // weight
	even := true
	for i := range set {
		c := &set[i]
		w := c.weight()
		if w == 0 || !fits(c) {
			continue
		}
		if best >= 0 && w != last && even {
			even, most = false, weighted(most, last)
		}
		last = w
		score := c.score(key)
		if !even {
			score = weighted(score, w)
		}
		if best < 0 || score > most {
			best, most = i, score
		}
	}
	return best
}

// weighted turns a score into that of a replica of weight w. While all weigh the same it changes no order.
func weighted(score float64, w int64) float64 { return -float64(w) / math.Log(score) }

// score draws a number between 0 and 1, both excluded, from a key and the replica.
func (r *Replica) score(key uint64) float64 {
	x := mix(key^r.key^secret[0], r.key^secret[1])
	x = mix(x^secret[2], key^secret[3])
	return (float64(x>>12) + 0.5) / (1 << 52)
}
