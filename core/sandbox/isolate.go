package sandbox

import (
	"reflect"
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// A guest that serves one owner after another is put back, in between, to exactly what it was when it had
// started: its memory (see memory_linux.go) and its size (see shrink), its mutable globals, which the meter exports
// for that, and what the stubs of WASI keep for it. What cannot be put back is not: a guest is discarded if its
// module can change its tables or drop its segments, or has globals that the host cannot set.

const (
	globalExport = "nexus:global:" // and the index
	maxGlobals   = 1024            // that are put back
)

// An origin is what a guest was when it had started, apart from its memory.
type origin struct {
	globals []savedGlobal
	wasi    wasiState
	refused bool
}

type savedGlobal struct {
	global api.MutableGlobal
	value  uint64
}

// remember notes what the guest is now.
func (g *Guest) remember() error {
	p := g.pool
	if !p.options.Isolate || p.fixed {
		return nil
	}
	g.origin = origin{globals: make([]savedGlobal, 0, len(p.mutable)), wasi: g.wasi.clone(), refused: g.gauge.refused}
	for _, i := range p.mutable {
		global := g.module.ExportedGlobal(globalExport + strconv.Itoa(int(i))).(api.MutableGlobal)
		g.origin.globals = append(g.origin.globals, savedGlobal{global, global.Get()})
	}
	if g.linear == nil {
		return nil
	}
	i, err := g.linear.keep(p.image)
	if p.image == nil { // Load makes the first guest before anyone else can
		p.image = i
	}
	return err
}

// reset puts the guest back to what it was; false if that cannot be.
func (g *Guest) reset() bool {
	if g.pool.fixed || g.linear != nil && !shrink(g.memory, g.linear.reset()) {
		return false
	}
	for _, s := range g.origin.globals {
		s.global.Set(s.value)
	}
	g.wasi.restore(&g.origin.wasi)
	g.gauge.refused = g.origin.refused
	return true
}

// shrink makes b the whole of a memory, which may have grown beyond it. WebAssembly knows no such thing, nor does
// wazero have a function for it; but its memory is a struct with a slice in it, and tells the compiled code where
// that ends whenever it grows: so the slice becomes a page shorter than is wanted, and grows by one. A Go guest's
// heap grows in its first calls, and to make an instance anew takes it milliseconds.
func shrink(m api.Memory, b []byte) bool {
	if b == nil || uint64(m.Size()) == uint64(len(b)) {
		return b != nil
	}
	at := reflect.Indirect(reflect.ValueOf(m))
	if at.Kind() != reflect.Struct || len(b) < pageSize {
		return false
	}
	buffer := at.FieldByName("Buffer")
	if !buffer.CanSet() || buffer.Type() != reflect.TypeFor[[]byte]() {
		return false
	}
	buffer.SetBytes(b[:len(b)-pageSize])
	_, grew := m.Grow(1)
	return grew && uint64(m.Size()) == uint64(len(b))
}

func (w wasiState) clone() wasiState {
	if w.random != nil {
		random := *w.random
		w.random = &random
	}
	return w
}

func (w *wasiState) restore(from *wasiState) {
	if w.random == nil || from.random == nil {
		*w = from.clone()
		return
	}
	w.readings = from.readings
	*w.random = *from.random
}
