package plugins

import (
	"io/fs"
	"strings"
	"testing"
)

// TestShipped: each module that was built has its manifest beside it.
func TestShipped(t *testing.T) {
	files, err := fs.Glob(Shipped(), "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		base, isModule := strings.CutSuffix(name, ".wasm")
		if !isModule {
			continue
		}
		if _, err := fs.Stat(Shipped(), base+".yaml"); err != nil {
			t.Errorf("%s has no manifest: %v", name, err)
		}
	}
}
