// Command hostile is a guest that does what it is told by the text it is asked about: the first byte says
// what. It speaks the ABI by hand, so that it can break every promise of it.
package main

import "unsafe"

var (
	in    [64 << 10]byte
	edits [4 << 10]byte
	out   [4 << 10]byte
	table [6]uint32
	leak  [][]byte
)

//go:wasmexport nexus_abi_1
func marker() {}

//go:wasmexport nexus_buffers
func buffers() uint32 {
	table = [6]uint32{address(&in[0]), uint32(len(in)), address(&edits[0]), uint32(len(edits)), address(&out[0]), uint32(len(out))}
	return uint32(uintptr(unsafe.Pointer(&table[0])))
}

func address(b *byte) uint32 { return uint32(uintptr(unsafe.Pointer(b))) }

//go:wasmexport nexus_configure
func configure(n uint32) uint64 {
	if n > 2 { // anything but {}
		return 1<<40 | uint64(copy(out[:], "no such\x1b[31m setting"))
	}
	return 0
}

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 { return do(in[flags>>16:n], flags) }

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 {
	// What to do stands in the request's model, between two exclamation marks.
	for i := uint32(0); i+1 < n; i++ {
		if in[i] == '!' && in[i+1] == '!' {
			for j := i + 2; j+1 < n; j++ {
				if in[j] == '!' && in[j+1] == '!' {
					return do(in[i+2:j], 0)
				}
			}
		}
	}
	return 0
}

// do obeys an order. An order is followed by what belongs to it.
func do(order []byte, flags uint32) uint64 {
	if len(order) == 0 {
		return 0
	}
	switch order[0] {
	case 'L':
		for {
		}
	case 'T':
		var nothing *int
		*nothing = 1
	case 'D':
		return uint64(deep(1))
	case 'M':
		for {
			leak = append(leak, make([]byte, 1<<20))
		}
	case 'H': // hold everything
		return uint64(len(order))
	case 'N': // hold everything until it must decide
		if flags&6 == 0 {
			return uint64(len(order))
		}
	case 'C': // find what an earlier caller left
		for i := range in[len(order):] {
			if in[len(order)+i] != 0 {
				return 1 << 32 // refuse
			}
		}
	case 'R': // eight bytes of result, one of length, so many times 16 bytes of edits, and the out buffer
		return raw(order[1:])
	}
	return 0
}

func deep(n int) int { return deep(n+1) + n }

func raw(order []byte) (result uint64) {
	for i := 0; i < 8 && i < len(order); i++ {
		result |= uint64(order[i]) << (8 * i)
	}
	if len(order) > 9 {
		rest := order[9:]
		n := min(len(rest), int(order[8])*4)
		copy(edits[:], rest[:n])
		copy(out[:], rest[n:])
	}
	return result
}

func main() {}
