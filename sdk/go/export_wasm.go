//go:build wasip1

package nexus

import (
	"unsafe"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

//go:wasmexport nexus_abi_1
func marker() {}

var table [abi.TableSize]byte

// buffers tells the host where the buffers stand. Package-level arrays do not move.
//
//go:wasmexport nexus_buffers
func buffers() uint32 {
	put32(table[abi.TableInPtr:], address(&in[0]))
	put32(table[abi.TableInCap:], inCap)
	put32(table[abi.TableEditPtr:], address(&edits[0]))
	put32(table[abi.TableEditCap:], editCap)
	put32(table[abi.TableOutPtr:], address(&out[0]))
	put32(table[abi.TableOutCap:], outCap)
	return address(&table[0])
}

func address(b *byte) uint32 { return uint32(uintptr(unsafe.Pointer(b))) }
