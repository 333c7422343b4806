// Command chaos is a guest that does harm in one hook: its configuration says which harm, and where.
package main

import (
	"os"
	"strings"
	"unsafe"

	"github.com/nexus-gateway/nexus/sdk/abi"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

var (
	harm, place string
	leak        [][]byte
	sink        uint64
)

//go:wasmexport nexus_configure
func configure(n uint32) uint64 {
	return nexus.HandleConfigure(n, func(config []byte) error {
		return nexus.EachSetting(config, func(key string, value nexus.Value) error {
			switch text, _ := value.String(); key {
			case "harm":
				harm = text
			case "place":
				place = text
			}
			if harm == "start" {
				trap()
			}
			return nil
		})
	})
}

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 {
	if place == "on_request" {
		return do()
	}
	return 0
}

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 {
	if place == "on_text" {
		return do()
	}
	return 0
}

//go:wasmexport nexus_on_tool_call
func onToolCall(n uint32) uint64 {
	if place == "on_tool_call" {
		return do()
	}
	return 0
}

//go:wasmexport nexus_on_usage
func onUsage(n uint32) uint64 {
	if place == "on_usage" {
		return do()
	}
	return 0
}

//go:wasmexport nexus_on_end
func onEnd(n uint32) {
	if place == "on_end" {
		do()
	}
}

func do() uint64 {
	switch harm {
	case "loop":
		for {
			sink++
		}
	case "exponential":
		return fib(100)
	case "deep":
		return deep(1)
	case "grow":
		for {
			leak = append(leak, make([]byte, 64<<20)) // to 4 GiB, if it may
		}
	case "trap":
		trap()
	case "exit":
		os.Exit(3)
	case "flood":
		for {
			nexus.Log(strings.Repeat("noise ", 80))
		}
	case "garbage":
		return ^uint64(0) &^ (0xff << 40)
	case "range":
		edit(1000, 2000, 0, 1)
		return 1 << 48
	case "huge":
		edit(0, 1, 0, 1<<30)
		return 1 << 48
	}
	return 0
}

// edit writes an edit past the SDK, which would not.
func edit(fields ...uint32) {
	at := *(*uint32)(unsafe.Pointer(uintptr(buffers()) + abi.TableEditPtr))
	for i, f := range append(fields, 0) {
		*(*uint32)(unsafe.Pointer(uintptr(at) + uintptr(4*i))) = f
	}
}

//go:linkname buffers github.com/nexus-gateway/nexus/sdk/go.buffers
func buffers() uint32

//go:noinline
func fib(n uint64) uint64 {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

//go:noinline
func deep(n uint64) uint64 { return deep(n+1) + n }

func trap() {
	var nothing *int
	*nothing = 1
}

func main() {}
