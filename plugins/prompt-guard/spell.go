package main

import "unicode/utf8"

// character reads what stands at i, an escape as what it stands for, and its size; 0: b ends too early to tell.
func character(b []byte, i int, final, escapes bool) (rune, int) {
	c := b[i]
	switch {
	case c == '\\':
		return escape(b, i, final, escapes)
	case c < utf8.RuneSelf:
		return rune(c), 1
	case c >= 0xea && c <= 0xed && i+3 <= len(b):
		if r := rune(c&15)<<12 | rune(b[i+1]&0x3f)<<6 | rune(b[i+2]&0x3f); r >= firstSyllable && r <= lastSyllable {
			return r, 3
		}
	}
	return utf8.DecodeRune(b[i:])
}

// escape reads what a backslash at i begins. What is no escape of a letter is a sign.
func escape(b []byte, i int, final, escapes bool) (rune, int) {
	if i+1 >= len(b) {
		return '\\', boolean(final)
	}
	if escapes {
		switch b[i+1] {
		case 'n', 't', 'r', 'b', 'f':
			return ' ', 2
		case '"':
			return '"', 2
		}
	}
	if b[i+1] != 'u' {
		return '\\', 1
	}
	v := rune(0)
	for k := i + 2; k < i+6; k++ {
		if k >= len(b) {
			return '\\', boolean(final)
		}
		d := hexOf(b[k])
		if d < 0 {
			return '\\', 1
		}
		v = v<<4 | rune(d)
	}
	return v, 6
}

func hexOf(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// spell writes the symbols of a character and returns their number: those that normal.rune adds.
func spell(r rune, to *[4]byte) int {
	if r >= firstSyllable && r <= lastSyllable {
		v := int(r - firstSyllable)
		to[0], to[1] = consonant+byte(v/588), vowel+byte(v%588/28)
		return 2 + copy(to[2:], tails[v%28])
	}
	if isJamo(r) {
		loose, _ := letters(r)
		return copy(to[:], loose)
	}
	switch c := fold(r); c {
	case hidden:
		return 0
	case unknown:
		return utf8.EncodeRune(to[:], r)
	default:
		to[0] = ascii[c]
		return boolean(to[0] != 0)
	}
}
