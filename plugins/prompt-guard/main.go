// Command prompt-guard is a gateway plugin that finds prompt injection and banned words, in requests and in
// replies, and labels, masks or blocks them. The thought is in guard.look; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, filter.configure) }

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 { return nexus.HandleText(n, flags, onTextOf) }

var filter guard

func onTextOf(t *nexus.Text) { filter.text(t) }

func main() {} // never runs: a plugin is a library
