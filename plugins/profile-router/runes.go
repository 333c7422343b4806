package main

import "unicode/utf8"

// next reads the character at i as keywords are written: lower case, full width made narrow, Hangul composed, white
// space as one space; 0 is a character that cannot be seen.
func next(b []byte, i int) (r rune, size int) {
	if c := b[i]; c < utf8.RuneSelf {
		if c == '\n' || c == '\t' || c == '\r' || c == ' ' {
			return ' ', 1
		}
		return rune(max(fold(c), 1)), 1
	}
	r, size = utf8.DecodeRune(b[i:])
	switch {
	case r >= 0x1100 && r <= 0x1112:
		return compose(b, i, r, size)
	case r >= 0xac00 && r <= 0xd7a3 && (r-0xac00)%28 == 0:
		tail, more := final(b, i+size)
		return r + tail, size + more
	case r >= 0xff01 && r <= 0xff5e:
		return rune(fold(byte(r - 0xff01 + '!'))), size
	case r == 0xa0, r == 0x3000, r >= 0x2000 && r <= 0x200a, r == 0x202f:
		return ' ', size
	case r == 0xad, r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x2064, r == 0xfeff, r >= 0xfe00 && r <= 0xfe0f:
		return 0, size
	}
	return r, size
}

// compose puts a syllable together that was written as its letters.
func compose(b []byte, i int, lead rune, size int) (rune, int) {
	v, n := utf8.DecodeRune(b[i+size:])
	if v < 0x1161 || v > 0x1175 {
		return lead, size
	}
	tail, more := final(b, i+size+n)
	return 0xac00 + ((lead-0x1100)*21+(v-0x1161))*28 + tail, size + n + more
}

// final returns the number of the final consonant at i, 0 when there is none, and its size.
func final(b []byte, i int) (rune, int) {
	if t, n := utf8.DecodeRune(b[i:]); t > 0x11a7 && t <= 0x11c2 {
		return t - 0x11a7, n
	}
	return 0, 0
}
