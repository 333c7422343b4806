//go:build wasip1

// Command guest is a plain Go reactor for the sandbox's tests: a scanner, allocation, recursion, and ways to
// misbehave.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
	"unsafe"
)

func main() {}

var buffer [64 << 10]byte

// Buffer is where the host writes the text.
//
//go:wasmexport buffer
func Buffer() uint32 { return uint32(uintptr(unsafe.Pointer(&buffer))) }

//go:wasmexport empty
func Empty() {}

//go:wasmexport add
func Add(a, b int32) int64 { return int64(a) + int64(b) }

// Scan masks what looks like an e-mail address or a long number, in place, and returns how many it masked.
//
//go:wasmexport scan
func Scan(n int32) int32 {
	return int32(scan(buffer[:n]))
}

func scan(b []byte) int {
	masked := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '@':
			masked += maskMail(b, i)
		case c >= '0' && c <= '9':
			n := digits(b[i:])
			if n >= 9 {
				fill(b[i : i+n])
				masked++
			}
			i += n - 1
		}
	}
	return masked
}

func digits(b []byte) int {
	n := 0
	for n < len(b) && (b[n] >= '0' && b[n] <= '9' || b[n] == '-' && n > 0) {
		n++
	}
	return n
}

func maskMail(b []byte, at int) int {
	start, end := at, at+1
	for start > 0 && letter(b[start-1]) {
		start--
	}
	for end < len(b) && (letter(b[end]) || b[end] == '.') {
		end++
	}
	if start == at || end == at+1 {
		return 0
	}
	fill(b[start:end])
	return 1
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' }

func fill(b []byte) {
	for i := range b {
		b[i] = '*'
	}
}

// Work exercises maps, sorting, formatting and the collector, and returns a checksum.
//
//go:wasmexport work
func Work(n int32) int64 {
	words := map[string]int{}
	for i := range int(n) {
		words[fmt.Sprintf("w%d", i*7919%101)] += i
	}
	var lines []string
	for w, c := range words {
		lines = append(lines, fmt.Sprintf("%s=%d", w, c))
	}
	sort.Strings(lines)
	var sum int64
	for _, c := range []byte(strings.Join(lines, ",")) {
		sum = sum*31 + int64(c)
	}
	return sum
}

//go:wasmexport recurse
func Recurse(n int32) int32 {
	if n == 0 {
		return 0
	}
	return Recurse(n-1) + 1
}

//go:wasmexport spin
func Spin() {
	for {
	}
}

var kept [][]byte

//go:wasmexport leak
func Leak(bytes int32) {
	kept = append(kept, make([]byte, bytes))
	kept[len(kept)-1][0] = 1
}

//go:wasmexport panics
func Panics() { panic("on purpose") }

//go:wasmexport exit
func Exit(code int32) { os.Exit(int(code)) }

//go:wasmexport say
func Say(n int32) {
	for i := range n {
		println("line", i)
	}
}

//go:wasmexport now
func Now() int64 { return time.Now().UnixNano() }
