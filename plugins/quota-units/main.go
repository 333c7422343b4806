// Command quota-units is a gateway plugin that counts calls in units which the operator defines, and keeps each key,
// tenant or team within so many of them a minute, hour, day or month. The thought is in quota; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, counting.configure) }

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, onRequestOf) }

//go:wasmexport nexus_on_usage
func onUsage(n uint32) uint64 { return nexus.HandleUsage(n, onUsageOf) }

//go:wasmexport nexus_on_end
func onEnd(n uint32) { nexus.HandleEnd(n, onEndOf) }

var counting quota

func onRequestOf(r *nexus.Request) { counting.request(r) }
func onUsageOf(u *nexus.Usage)     { counting.usage(u) }
func onEndOf(e *nexus.End)         { counting.end(e) }

func main() {} // never runs: a plugin is a library
