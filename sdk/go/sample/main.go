// Command nexus-sample is a gateway plugin that masks configured words. The thought is in word.go; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, words.configure) }

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 { return nexus.HandleText(n, flags, mask) }

var words list // set by configure, which is asked before anything else

// mask is what the gateway asks about every text.
func mask(t *nexus.Text) { words.mask(t) }

func main() {} // never runs: a plugin is a library
