// Package plugins carries the shipped plugins, built into dist before the gateway is compiled, so that
// one binary is all there is to install.
package plugins

import (
	"archive/zip"
	"bytes"
	"embed"
	"io/fs"
	"sync"
)

//go:embed all:dist
var dist embed.FS

// Shipped is a folder of modules, <name>.wasm, each with its manifest beside it, <name>.yaml. It is
// empty when the gateway was compiled before the plugins were built.
func Shipped() fs.FS { return shipped() }

var shipped = sync.OnceValue(func() fs.FS {
	packed, err := dist.ReadFile("dist/shipped.zip")
	if err != nil {
		return embed.FS{}
	}
	files, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		panic(err) // make plugins wrote it
	}
	return files
})
