// Command system-prompt is a gateway plugin that tells models an organisation's system prompt, before, after or in place
// of the caller's own. The thought is in prompt; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, prompting.configure) }

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, onRequestOf) }

var prompting prompter

func onRequestOf(r *nexus.Request) { prompting.request(r) }

func main() {} // never runs: a plugin is a library
