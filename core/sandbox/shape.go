package sandbox

import (
	"bytes"
	"errors"
	"fmt"
)

// An Extern is what kind of thing is imported or exported, in its binary encoding.
type Extern byte

// The kinds of imports and exports.
const (
	ExternFunc Extern = iota
	ExternTable
	ExternMemory
	ExternGlobal
)

func (e Extern) String() string {
	return [...]string{"function", "table", "memory", "global"}[e]
}

// An Import is what a module asks of its host.
type Import struct {
	Module, Name string
	Kind         Extern
	Signature    // of a function
}

// An Export is what a module offers its host.
type Export struct {
	Kind      Extern
	Signature // of a function
}

// Bounds are the size of a memory in pages, or of a table in elements.
type Bounds struct {
	Min, Max uint32
	HasMax   bool
}

// A Shape is what a module says of itself, read without compiling it.
type Shape struct {
	Imports   []Import
	Exports   map[string]Export
	Memory    Bounds   // pages of 64 KiB; zero if it has none of its own
	Customs   []string // names of custom sections
	Functions int      // imported ones included
	starts    bool     // has a start function
	remembers bool     // has a memory
}

// Inspect reads the shape of a module. It does not look into function bodies: a shape is not a promise that
// the module is valid. Errors name the offset.
func Inspect(wasm []byte) (*Shape, error) {
	m, err := decode(wasm)
	if err != nil {
		return nil, err
	}
	s := &Shape{Imports: m.imports, Exports: make(map[string]Export, len(m.exports)), Customs: m.customs, Functions: len(m.funcs), starts: m.start >= 0}
	if len(m.memories) > 0 {
		s.Memory, s.remembers = m.memories[0], true
	}
	for _, x := range m.exports {
		e := Export{Kind: x.kind}
		if x.kind == ExternFunc {
			e.Signature = m.types[m.funcs[x.index]]
		}
		s.Exports[x.name] = e
	}
	return s, nil
}

var errEmpty = errors.New("not a WebAssembly module (it is empty)")

// header checks the first eight bytes.
func header(wasm []byte) error {
	magic, version := []byte("\x00asm"), []byte{1, 0, 0, 0}
	switch {
	case len(wasm) == 0:
		return errEmpty
	case !bytes.HasPrefix(wasm, magic):
		return fmt.Errorf("not a WebAssembly module (starts with %q)", wasm[:min(len(wasm), 8)])
	case len(wasm) < 8:
		return fmt.Errorf("truncated at byte %d", len(wasm))
	case bytes.Equal(wasm[6:8], []byte{1, 0}):
		return errors.New("a component, not a core module")
	case !bytes.Equal(wasm[4:8], version):
		return fmt.Errorf("WebAssembly of unknown version % x", wasm[4:8])
	}
	return nil
}
