package main

import "unsafe"

// nextSign returns where the first byte at or after i stands that every match has one of: a digit with enough
// others near it, the first byte of a full-width digit, or what may stand for an @; len(b) when there is none.
// Most text is far from any, and this looks at eight bytes at a time.
func nextSign(b []byte, i int) int {
	for i < len(b) {
		for ; i+8 <= len(b); i += 8 {
			// Loads need no alignment on the machines that Go and Wasm run on, and bytes are counted in any order.
			x := *(*uint64)(unsafe.Pointer(&b[i]))
			if below(x^each*'0', 10)|below(x^each*'@', 1)|below(x^each*'$', 3)|below(x^each*0xef, 1) != 0 {
				break
			}
		}
		for i < len(b) && !sign(b[i]) {
			i++
		}
		end := idle(b, i)
		if end == i {
			return i
		}
		i = end
	}
	return i
}

// sign says what nextSign looks for, one byte at a time. % and & begin an escaped @; $ lies beside them.
func sign(c byte) bool {
	return c >= '0' && c <= '9' || c == '@' || c >= '$' && c <= '&' || c == 0xef
}

// fewest is less than the digits of any number that is looked for.
const fewest = 8

// idle returns where to look on when the sign at i leads nowhere: a %, & or wide byte that goes on to nothing,
// or digits that are too few with all that could join others to them. It is i when the sign may lead somewhere,
// or when the text ends too early to tell.
func idle(b []byte, i int) int {
	digits := 0
	for at := i; at+1 < len(b); at++ {
		switch c, next := b[at], b[at+1]; {
		case c >= '0' && c <= '9':
			if digits++; digits == fewest {
				return i
			}
		case c == '@' && digits == 0:
			return i
		case c == '%' && (next == '2' || next == '4'), c == '&' && next == '#', c == 0xef && next == 0xbc:
			return i
		case digits == 0: // $, or one of the above that goes on to nothing
			return at + 1
		case c != ' ' && c != '-' && c != '.' && c != '(' && c != ')' && c < 0x80:
			return at
		}
	}
	return i
}

// each times a byte is that byte eight times.
const each = ^uint64(0) / 255

// below is not 0 when a byte of x is less than n, which is at most 128.
func below(x, n uint64) uint64 { return (x - each*n) & ^x & (each * 128) }
