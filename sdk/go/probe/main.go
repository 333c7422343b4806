// Command probe is a plugin that does on demand everything a plugin can do, so that the gateway, the SDK and the
// conformance suite are held to the same page: ../../conformance/PROBE.md.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, settings.read) }

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 {
	bad = false
	answer := nexus.HandleText(n, flags, text)
	if bad { // said of a byte more than there is, the edit is out of bounds, and the SDK none the wiser
		return nexus.HandleText(n+1, flags, func(t *nexus.Text) { t.Replace(0, len(t.Bytes()), "", 0) })
	}
	return answer
}

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, request) }

//go:wasmexport nexus_on_tool_call
func onToolCall(n uint32) uint64 { return nexus.HandleToolCall(n, toolCall) }

//go:wasmexport nexus_on_usage
func onUsage(n uint32) uint64 { return nexus.HandleUsage(n, usage) }

//go:wasmexport nexus_on_end
func onEnd(n uint32) { nexus.HandleEnd(n, end) }

// bad says that the text in hand asks for an answer that the typed API does not give.
var bad bool

func main() {} // never runs: a plugin is a library
