// Command profile-router is a gateway plugin that labels every call general, reasoning, longform, code or background,
// for policy to choose a backend by. The thought is in router.byNumbers and words.each; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, routes.configure) }

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, onRequestOf) }

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 { return nexus.HandleText(n, flags, onTextOf) }

var routes = defaults()

func onRequestOf(r *nexus.Request) { routes.request(r) }
func onTextOf(t *nexus.Text)       { routes.text(t) }

func main() {} // never runs: a plugin is a library
