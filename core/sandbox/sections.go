package sandbox

import (
	"fmt"
	"slices"
	"strconv"
)

func (w *meter) typeSection(r *reader) {
	r.at = len(r.b)
	w.u32(uint32(len(w.types) + len(w.extra)))
	for _, t := range slices.Concat(w.types, w.extra) {
		w.out = append(w.out, 0x60)
		for _, list := range [][]Type{t.Params, t.Results} {
			w.u32(uint32(len(list)))
			w.out = append(w.out, typeBytes(list)...)
		}
	}
}

func (w *meter) importSection(r *reader) {
	n := r.count()
	w.u32(uint32(n + added))
	w.out = append(w.out, r.take(uint32(len(r.b)-r.at))...)
	for _, f := range []struct {
		name string
		typ  uint32
	}{{tickName, w.tickType}, {grownName, w.grownType}} {
		w.text(meterModule)
		w.text(f.name)
		w.out = append(w.out, byte(ExternFunc))
		w.u32(f.typ)
	}
}

// tableSection bounds every table: its elements lie in the host's memory, not in the guest's.
func (w *meter) tableSection(r *reader) {
	r.at = len(r.b)
	w.u32(uint32(len(w.tables)))
	for _, t := range w.tables {
		most := w.maxTable()
		if t.bounds.HasMax {
			most = min(most, t.bounds.Max)
		}
		w.out = append(w.out, byte(t.elem), 1)
		w.u32(t.bounds.Min)
		w.u32(most)
	}
}

func (w *meter) globalSection(r *reader) {
	n := r.count()
	w.u32(uint32(n + 2))
	for i := range n {
		t, mutable := r.valtype(), r.byte()
		w.out = append(w.out, byte(t), mutable)
		w.expression(r)
		if mutable != 0 {
			w.saves(w.globals-uint32(n-i), t)
		}
	}
	for range 2 {
		w.out = append(w.out, byte(I64), 1, opI64Const, 0, opEnd)
	}
}

// saves notes a global that must be put back, or that the host cannot do it.
func (w *meter) saves(global uint32, t Type) {
	number := t == I32 || t == I64 || t == F32 || t == F64
	if !number || len(w.mutable) == maxGlobals {
		w.fixed = true
		return
	}
	w.mutable = append(w.mutable, global)
}

func (w *meter) exportSection(r *reader) {
	r.at = len(r.b)
	all := append(slices.Clone(w.exports), exported{fuelExport, ExternGlobal, w.fuel}, exported{depthExport, ExternGlobal, w.depth})
	for _, i := range w.mutable {
		all = append(all, exported{globalExport + strconv.Itoa(int(i)), ExternGlobal, i})
	}
	if w.start >= 0 {
		all = append(all, exported{startExport, ExternFunc, uint32(w.start)})
	}
	w.u32(uint32(len(all)))
	for i, x := range all {
		if x.kind == ExternFunc {
			x.index = w.shift(x.index)
		} else if x.kind == ExternGlobal && i < len(w.exports) && x.index >= w.globals {
			r.err = fmt.Errorf("export %q: no global %d", x.name, x.index)
		}
		w.text(x.name)
		w.out = append(w.out, byte(x.kind))
		w.u32(x.index)
	}
}

// expression copies a constant expression.
func (w *meter) expression(r *reader) {
	for r.err == nil {
		at := r.at
		op := r.byte()
		switch op {
		case opI32Const, opI64Const, opF32Const, opF64Const:
			r.constant(op)
		case opGlobalGet:
			index(r, "global", int(w.globals))
		case opRefNull:
			r.reftype()
		case opVector:
			if r.byte() != vecConst {
				r.fail("opcode 0xfd at byte %d in a constant expression", at)
			}
			r.take(16)
		case opRefFunc:
			w.out = append(w.out, op)
			w.u32(w.shift(w.funcIndex(r)))
			continue
		case opEnd:
		default:
			r.fail("opcode %#x at byte %d in a constant expression", op, at)
		}
		w.out = append(w.out, r.b[at:r.at]...)
		if op == opEnd {
			return
		}
	}
}

// elementSection copies the segments of all eight kinds: bit 0 is passive or declarative, bit 1 gives a table
// or tells declarative from passive, bit 2 has expressions instead of indices.
func (w *meter) elementSection(r *reader) {
	n := r.count()
	w.u32(uint32(n))
	for range n {
		flag := r.u32()
		if flag > 7 {
			r.fail("element segment of unknown kind %d before byte %d", flag, r.at)
		}
		w.u32(flag)
		if flag&1 == 0 {
			if flag&2 != 0 {
				w.u32(r.u32())
			}
			w.expression(r)
		}
		if flag&3 != 0 {
			w.out = append(w.out, r.byte())
		}
		w.elements(r, flag&4 != 0)
		if r.err != nil {
			return
		}
	}
}

func (w *meter) elements(r *reader, expressions bool) {
	n := r.count()
	w.u32(uint32(n))
	for range n {
		if expressions {
			w.expression(r)
		} else {
			w.u32(w.shift(w.funcIndex(r)))
		}
		if r.err != nil {
			return
		}
	}
}

func (w *meter) dataSection(r *reader) {
	n := r.count()
	w.u32(uint32(n))
	for range n {
		flag := r.u32()
		w.u32(flag)
		switch flag {
		case 0:
			w.expression(r)
		case 1:
		case 2:
			w.u32(r.u32())
			w.expression(r)
		default:
			r.fail("data segment of unknown kind %d before byte %d", flag, r.at)
		}
		b := r.take(r.u32())
		w.u32(uint32(len(b)))
		w.out = append(w.out, b...)
		if r.err != nil {
			return
		}
	}
}

// names copies the names of functions, so that a trap's stack can be read. A name section that cannot be read
// is dropped: nothing depends on it.
func (w *meter) names() {
	if r := w.nameSection(); r != nil {
		w.functionNames(r)
	}
}

// nameSection reads the content of the name section; nil if there is none.
func (w *meter) nameSection() *reader {
	for _, s := range w.sections {
		r := &reader{b: w.wasm[:s.end], at: s.start}
		if s.id == secCustom && r.name() == "name" {
			return r
		}
	}
	return nil
}

func (w *meter) functionNames(r *reader) {
	for r.more() {
		id, size := r.byte(), r.u32()
		if id != 1 {
			r.take(size)
			continue
		}
		before := len(w.out)
		w.wrap(secCustom, func() {
			w.text("name")
			w.out = append(w.out, id)
			w.sized(func() { w.nameMap(r) })
		})
		if r.err != nil {
			w.out = w.out[:before]
		}
		return
	}
}

func (w *meter) nameMap(r *reader) {
	n := r.count()
	w.u32(uint32(n))
	for range n {
		w.u32(w.shift(w.funcIndex(r)))
		w.text(r.name())
		if r.err != nil {
			return
		}
	}
}
