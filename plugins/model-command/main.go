// Command model-command is a gateway plugin that lets those who may choose the model of a call by the first line
// of their message. The thought is in read; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, orders.configure) }

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 { return nexus.HandleText(n, flags, onTextOf) }

var orders commander

func onTextOf(t *nexus.Text) { orders.text(t) }

func main() {} // never runs: a plugin is a library
