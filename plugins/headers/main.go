// Command headers is a gateway plugin that holds the headers of requests and replies to an operator's rules. The thought is
// in policy; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, rules.configure) }

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, onRequestOf) }

var rules policy

func onRequestOf(r *nexus.Request) { rules.request(r) }

func main() {} // never runs: a plugin is a library
