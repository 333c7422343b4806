package sandbox

import "fmt"

// adopted returns a module that has, as its own and of at least so many pages, the memory which wasm imports: compilers that let several modules
// share one memory, such as OPA's, emit modules that want theirs from outside. A module that imports none is
// returned as it is. What the memory holds at first is up to the module's own segments, as it was before.
func adopted(wasm []byte, pages uint32) ([]byte, error) {
	m, err := decode(wasm)
	if err != nil || len(m.shared) == 0 {
		return wasm, err
	}
	if len(m.shared)+len(m.memories) > 1 {
		return nil, fmt.Errorf("%d memories, of which %d imported: only one can be adopted", len(m.shared)+len(m.memories), len(m.shared))
	}
	m.shared[0].Min = max(m.shared[0].Min, pages)
	w := &meter{module: m, out: append(make([]byte, 0, len(wasm)+16), wasm[:8]...)}
	due := true
	for _, s := range m.sections {
		if due && s.id > secMemory {
			w.wrap(secMemory, func() { w.memory(m.shared[0]) })
			due = false
		}
		switch s.id {
		case secImport:
			w.wrap(s.id, func() { w.withoutMemory(&reader{b: wasm[:s.end], at: s.start}) })
		default:
			w.wrap(s.id, func() { w.out = append(w.out, wasm[s.start:s.end]...) })
		}
	}
	if due {
		w.wrap(secMemory, func() { w.memory(m.shared[0]) })
	}
	return w.out, nil
}

func (w *meter) memory(b Bounds) {
	w.u32(1)
	w.out = append(w.out, 0)
	if b.HasMax {
		w.out[len(w.out)-1] = 1
	}
	w.u32(b.Min)
	if b.HasMax {
		w.u32(b.Max)
	}
}

// withoutMemory copies an import section that has been read before, but for its memories.
func (w *meter) withoutMemory(r *reader) {
	n := r.count()
	w.u32(uint32(n - len(w.shared)))
	for range n {
		at := r.at
		r.name()
		r.name()
		kind := Extern(r.byte())
		switch kind {
		case ExternFunc:
			r.u32()
		case ExternTable:
			r.reftype()
			r.limits()
		case ExternMemory:
			r.limits()
			continue
		case ExternGlobal:
			r.valtype()
			r.byte()
		}
		w.out = append(w.out, r.b[at:r.at]...)
	}
}
