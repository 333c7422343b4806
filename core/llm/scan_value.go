package llm

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// Eight bytes are looked at as one word. In each expression below a byte's top bit comes out set where
// the byte matches; a borrow can only set further bits above a true match, so the lowest is always right.
const (
	ones    = 0x0101010101010101
	tops    = 0x80 * ones
	quotes  = '"' * ones
	slashes = '\\' * ones
	spaces  = ' ' * ones
)

// plain returns the index of the first quote, backslash or control byte of b at or after i, or len(b),
// and whether any byte before it was outside ASCII.
func plain(b []byte, i int) (end int, high bool) {
	var seen uint64
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		q, e := w^quotes, w^slashes
		if m := ((w-spaces)&^w | (q-ones)&^q | (e-ones)&^e) & tops; m != 0 {
			n := bits.TrailingZeros64(m) &^ 7
			seen |= w & (1<<n - 1)
			return i + n/8, seen&tops != 0
		}
		seen |= w
	}
	for ; i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' '; i++ {
		seen |= uint64(b[i])
	}
	return i, seen&tops != 0
}

// str takes the string whose opening quote is at hand and returns where its inside lies.
func (s *scanner) str() (at Span, escaped bool) {
	at.Start = s.i + 1
	high := false
	for i := at.Start; ; {
		end, h := plain(s.b, i)
		high = high || h
		s.i = end
		switch {
		case end == len(s.b):
			s.bad("it ends inside a string")
			return at, escaped
		case s.b[end] == '"':
			at.End = end
			s.i++
			if high && !utf8.Valid(s.b[at.Start:end]) {
				s.bad("a string is not valid UTF-8")
			}
			return at, escaped
		case s.b[end] == '\\':
			escaped = true
			if i = s.escape(end); s.err != nil {
				return at, escaped
			}
		default:
			s.bad("a control character inside a string")
			return at, escaped
		}
	}
}

// escape checks the escape sequence at i and returns the index after it.
func (s *scanner) escape(i int) int {
	r, size := unescape(s.b[i:])
	switch {
	case size == 0:
		s.bad("a wrong escape sequence")
	case s.strict && r < 0:
		s.bad("half of a surrogate pair")
	}
	return i + size
}

// unescape reads the escape sequence at the start of b and returns its rune and length in bytes. The
// length is 0 if it is none; the rune is -1 for half of a surrogate pair.
func unescape(b []byte) (r rune, size int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch c := b[1]; c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		return unescapeU(b)
	}
	return 0, 0
}

func unescapeU(b []byte) (r rune, size int) {
	hi := hex4(b[2:])
	switch {
	case hi < 0:
		return 0, 0
	case hi < 0xd800 || hi > 0xdfff:
		return hi, 6
	case hi > 0xdbff || len(b) < 12 || b[6] != '\\' || b[7] != 'u':
		return -1, 6
	}
	lo := hex4(b[8:])
	if lo < 0xdc00 || lo > 0xdfff {
		return -1, 6
	}
	return (hi-0xd800)<<10 + (lo - 0xdc00) + 0x10000, 12
}

// hex4 reads four hexadecimal digits; -1 if b does not start with them.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// number takes the number at hand and reports where it lies and whether it is written as a plain
// integer, without fraction or exponent.
func (s *scanner) number() (at Span, plain bool) {
	at.Start, plain = s.i, true
	i := s.i
	if s.b[i] == '-' {
		i++
	}
	first := i
	i = digits(s.b, i)
	if i == first || i > first+1 && s.b[first] == '0' {
		s.i = i
		s.bad("a wrong number")
		return at, false
	}
	for _, part := range [2]byte{'.', 'e'} {
		if i == len(s.b) || s.b[i] != part && (part == '.' || s.b[i] != 'E') {
			continue
		}
		plain = false
		i++
		if part == 'e' && i < len(s.b) && (s.b[i] == '+' || s.b[i] == '-') {
			i++
		}
		first = i
		if i = digits(s.b, i); i == first {
			s.i = i
			s.bad("a wrong number")
			return at, false
		}
	}
	s.i, at.End = i, i
	return at, plain
}

// digits returns the index after the run of digits at i.
func digits(b []byte, i int) int {
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:]) ^ '0'*ones // digits become 0-9
		m := (w + (0x80-10)*ones | w) & tops
		if w&tops == 0 && m == 0 {
			i += 8
			continue
		}
		break
	}
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}
