// Command vandal is a guest that breaks the promises of the hooks that are asked by records: what it is to do stands
// between two pairs of exclamation marks somewhere in what it is told.
package main

import (
	"bytes"
	"unsafe"
)

var (
	in    [64 << 10]byte
	edits [4 << 10]byte
	out   [4 << 10]byte
	table [6]uint32
)

//go:wasmexport nexus_abi_1
func marker() {}

//go:wasmexport nexus_buffers
func buffers() uint32 {
	table = [6]uint32{address(&in[0]), uint32(len(in)), address(&edits[0]), uint32(len(edits)), address(&out[0]), uint32(len(out))}
	return uint32(uintptr(unsafe.Pointer(&table[0])))
}

func address(b *byte) uint32 { return uint32(uintptr(unsafe.Pointer(b))) }

//go:wasmexport nexus_on_tool_call
func onToolCall(n uint32) uint64 { return obey(in[:n], "!!") }

//go:wasmexport nexus_on_usage
func onUsage(n uint32) uint64 { return obey(in[:n], "??") }

//go:wasmexport nexus_on_end
func onEnd(n uint32) { obey(in[:n], "##") }

func obey(told []byte, mark string) (result uint64) {
	_, rest, ok := bytes.Cut(told, []byte(mark))
	if !ok || len(rest) == 0 {
		return 0
	}
	switch rest[0] {
	case 'L':
		for {
		}
	case 'T':
		panic("as told")
	case 'R': // sixteen digits of result, and the out buffer in hexadecimal
		rest, _, _ = bytes.Cut(rest[1:], []byte(mark))
		for _, c := range rest[:16] {
			result = result<<4 | uint64(digit(c))
		}
		for i := 16; i+1 < len(rest); i += 2 {
			out[i/2-8] = digit(rest[i])<<4 | digit(rest[i+1])
		}
	}
	return result
}

func digit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

func main() {}
