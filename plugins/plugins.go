// Package plugins carries the shipped plugins, built into dist before the gateway is compiled, so that
// one binary is all there is to install.
package plugins

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// Shipped is a folder of modules, <name>.wasm, each with its manifest beside it, <name>.yaml. It is
// empty when the gateway was compiled before the plugins were built.
func Shipped() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // dist is a constant and a valid path
	}
	return sub
}
