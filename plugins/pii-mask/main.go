// Command pii-mask is a gateway plugin that puts placeholders in place of personal data: mail addresses,
// phone numbers, Korean registration numbers and payment cards. The thought is in Next; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, mask.configure) }

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 { return nexus.HandleText(n, flags, onTextOf) }

var mask = masker{want: All, placeholders: fill("[{kind}]")}

func onTextOf(t *nexus.Text) { mask.text(t) }

func main() {} // never runs: a plugin is a library
