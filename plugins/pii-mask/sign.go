package main

import "unsafe"

// nextSign returns where the first byte at or after i stands that every match has one of: an ASCII digit, the
// first byte of a full-width one, or what may stand for an @; len(b) when there is none. Most text is far
// from any, and this looks at eight bytes at a time.
func nextSign(b []byte, i int) int {
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
	return i
}

// sign says what nextSign looks for, one byte at a time. % and & begin an escaped @; $ lies beside them.
func sign(c byte) bool {
	return c >= '0' && c <= '9' || c == '@' || c >= '$' && c <= '&' || c == 0xef
}

// each times a byte is that byte eight times.
const each = ^uint64(0) / 255

// below is not 0 when a byte of x is less than n, which is at most 128.
func below(x, n uint64) uint64 { return (x - each*n) & ^x & (each * 128) }
