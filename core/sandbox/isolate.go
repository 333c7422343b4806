package sandbox

import (
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// A guest that serves one owner after another is put back, in between, to exactly what it was when it had
// started: its memory (see memory_linux.go), its mutable globals, which the meter exports for that, and what
// the stubs of WASI keep for it. What cannot be put back is not: a guest whose memory has grown is discarded
// (nothing can shrink a memory, and a guest may keep account of its size), and so is one of a module that can
// change its tables or drop its segments, or has globals that the host cannot set.

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
func (g *Guest) remember() {
	p := g.pool
	if !p.options.Isolate || p.fixed {
		return
	}
	g.origin = origin{globals: make([]savedGlobal, 0, len(p.mutable)), wasi: g.wasi.clone(), refused: g.gauge.refused}
	for _, i := range p.mutable {
		global := g.module.ExportedGlobal(globalExport + strconv.Itoa(int(i))).(api.MutableGlobal)
		g.origin.globals = append(g.origin.globals, savedGlobal{global, global.Get()})
	}
	if g.linear == nil {
		return
	}
	if i := g.linear.keep(p.image); p.image == nil { // Load makes the first guest before anyone else can
		p.image = i
	}
}

// reset puts the guest back to what it was; false if that cannot be.
func (g *Guest) reset() bool {
	if g.pool.fixed || g.linear != nil && !g.linear.reset() {
		return false
	}
	for _, s := range g.origin.globals {
		s.global.Set(s.value)
	}
	g.wasi.restore(&g.origin.wasi)
	g.gauge.refused = g.origin.refused
	return true
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
