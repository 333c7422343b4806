package sandbox

// piece is how much of a long memory.fill or memory.copy is done before the host is asked whether it may go on.
// Nothing can interrupt one while it runs, neither a deadline nor Go's collector, and 4 GiB take seconds. Of memory that
// was never touched even a MiB takes tens of milliseconds where a hypervisor has to find it first.
const piece = 64 << 10 // bytes

// The functions that the meter adds behind the module's own, if it fills or copies memory. Both take what the
// operation takes, and do it piece by piece.
const (
	longFill = iota
	longCopy
	longs // their number
)

func (w *meter) long(f int) uint32 { return uint32(len(w.funcs) + added + f) }

// bulk charges an operation by its length, which is the value on top of the stack before it.
func (w *meter) bulk(kind siteKind, whole []byte) {
	w.local(opLocalTee, w.scan.locals)
	if kind != siteMemory || whole[1] == miscMemoryInit { // a segment is no longer than the module
		w.whole(kind, whole)
		return
	}
	w.local(opLocalGet, w.scan.locals)
	w.out = append(appendS64(append(w.out, opI32Const), piece), opI32GtU, opIf)
	w.out = appendS64(w.out, int64(w.longType))
	w.hand()
	if whole[1] == miscMemoryFill {
		w.local(opCall, w.long(longFill))
	} else {
		w.local(opCall, w.long(longCopy))
	}
	w.fetch()
	w.out = append(w.out, opElse)
	w.whole(kind, whole)
	w.out = append(w.out, opEnd)
}

// whole does an operation in one, and charges for it then.
func (w *meter) whole(kind siteKind, whole []byte) {
	temp := w.scan.locals
	w.out = append(w.out, whole...)
	w.amount(func() {
		w.local(opLocalGet, temp)
		if kind == siteTabGrow { // it may have been refused, whatever the length: charge for no more than a table can hold
			w.out = appendS64(append(w.out, opI32Const), 2*maxTable-1)
			w.out = append(w.out, opI32And)
		}
		w.out = append(w.out, opI64ExtendU)
		if kind == siteMemory {
			w.out = append(w.out, opI64Const, bytesShift, opI64ShrU)
		}
	})
}

// longBodies writes the two functions. Their parameters are where to, what or where from, and how much; a local is
// how much of it comes next. What does not fit is left to the operation itself, which traps and writes nothing.
func (w *meter) longBodies() {
	const to, from, much, next = 0, 1, 2, 3
	get := func(locals ...byte) {
		for _, l := range locals {
			w.out = append(w.out, opLocalGet, l)
		}
	}
	step := func(local, op byte) {
		get(local, next)
		w.out = append(w.out, op, opLocalSet, local)
	}
	w.longBody([]byte{to}, []byte{opMisc, miscMemoryFill, 0}, func() {
		get(to, from, next)
		w.out = append(w.out, opMisc, miscMemoryFill, 0)
		step(to, opI32Add)
	})
	w.longBody([]byte{to, from}, []byte{opMisc, miscMemoryCopy, 0, 0}, func() {
		get(to, from)
		w.out = append(w.out, opI32LeU, opIf, blockEmpty)
		get(to, from, next)
		w.out = append(w.out, opMisc, miscMemoryCopy, 0, 0)
		step(to, opI32Add)
		step(from, opI32Add)
		w.out = append(w.out, opElse) // the end first, as the two may overlap
		for _, start := range []byte{to, from} {
			get(start, much)
			w.out = append(w.out, opI32Add, opLocalGet, next, opI32Sub)
		}
		get(next)
		w.out = append(w.out, opMisc, miscMemoryCopy, 0, 0, opEnd)
	})
}

// longBody writes one of them: starts are the parameters that are addresses, one does the next piece.
func (w *meter) longBody(starts, whole []byte, one func()) {
	const much, next = 2, 3
	w.sized(func() {
		w.out = append(w.out, 1, 1, byte(I32))
		for i, start := range starts {
			w.out = append(w.out, opLocalGet, start, opI64ExtendU, opLocalGet, much, opI64ExtendU, opI64Add)
			w.out = append(w.out, opMemorySize, 0, opI64ExtendU, opI64Const, 16, opI64Shl, opI64GtU)
			if i > 0 {
				w.out = append(w.out, opI32Or)
			}
		}
		w.out = append(w.out, opIf, blockEmpty, opLocalGet, 0, opLocalGet, 1, opLocalGet, much)
		w.out = append(append(w.out, whole...), opEnd)
		w.out = append(w.out, opLoop, blockEmpty, opLocalGet, much)
		w.out = append(appendS64(append(w.out, opI32Const), piece), opLocalGet, much)
		w.out = append(appendS64(append(w.out, opI32Const), piece), opI32LtU, opSelect, opLocalSet, next)
		one()
		w.global(opGlobalGet, w.fuel)
		w.out = append(w.out, opLocalGet, next, opI64ExtendU, opI64Const, bytesShift, opI64ShrU, opI64Sub)
		w.global(opGlobalSet, w.fuel)
		w.tickIf(w.fuel)
		w.out = append(w.out, opLocalGet, much, opLocalGet, next, opI32Sub, opLocalTee, much, opBrIf, 0, opEnd, opEnd)
	})
}

// functionSection adds those two to the module's own functions.
func (w *meter) functionSection(r *reader) {
	n := r.count()
	w.u32(uint32(n + w.added()))
	w.out = append(w.out, r.take(uint32(len(r.b)-r.at))...)
	for range w.added() {
		w.u32(w.longType)
	}
}

func (w *meter) added() int {
	if w.bulky {
		return longs
	}
	return 0
}
