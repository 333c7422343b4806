package main

// A state is what a call has reserved, as its label says it: 12500000/1758380400.
type state struct {
	reserved amount
	start    int64 // of the window, in Unix milliseconds
}

func (s *state) String() string {
	var space [64]byte
	b := appendInt(space[:0], int64(s.reserved))
	return string(appendInt(append(b, '/'), s.start/second))
}

// parseState reads a label; ok is false when it says nothing, or that the call is settled.
func parseState(label []byte) (s state, ok bool) {
	var n [2]int64
	at := 0
	digits := 0
	for _, c := range label {
		switch {
		case c == '/' && digits > 0 && at < 1:
			at, digits = at+1, 0
		case c >= '0' && c <= '9' && digits < 16:
			n[at], digits = n[at]*10+int64(c-'0'), digits+1
		default:
			return state{}, false
		}
	}
	s = state{reserved: amount(n[0]), start: n[1] * second}
	return s, at == 1 && digits > 0 && s.reserved <= maxAmount && n[1] < 1<<40
}

// maxWhole is how many bytes of an id stand in a counter's key as they are.
const maxWhole = 64

// appendID writes an id of any length so that a key has room for it: a long one as its beginning and a hash of
// the whole.
func appendID(b, id []byte) []byte {
	if len(id) <= maxWhole {
		return append(b, id...)
	}
	const basis, prime = 14695981039346656037, 1099511628211
	h := uint64(basis)
	for _, c := range id {
		h = (h ^ uint64(c)) * prime
	}
	b = append(append(b, id[:maxWhole]...), '#')
	return appendInt(b, int64(h>>1))
}
