package sandbox

// A Splice is code that the embedder adds to one function of a module: instructions in the binary format, without a
// final end. They may use the function's parameters and its memory, and call what the module imports, by its index
// there. They pay no fuel, and so must not loop. The sandbox trusts them as it trusts its embedder.
type Splice struct {
	Enter []byte // when the function is entered; it leaves the stack as it was, or leaves the function by br 0
	Leave []byte // when it returns, with its results on the stack, and leaves them there; it may overwrite parameters
}

// findSplices finds the functions that the splices are for. What a module says of names may be wrong: a splice that
// does not fit its function is refused by the compiler.
func (w *meter) findSplices(splices map[string]Splice) {
	r := w.nameSection()
	if len(splices) == 0 || r == nil {
		return
	}
	w.splices = make(map[uint32]Splice, len(splices))
	for r.more() {
		id, size := r.byte(), r.u32()
		if id != 1 {
			r.take(size)
			continue
		}
		for range r.count() {
			index := w.funcIndex(r)
			if s, ok := splices[r.name()]; ok && r.err == nil {
				w.splices[index] = s
			}
		}
		return
	}
}

// put adds the code of a splice, with the fuel where an import looks for it.
func (w *meter) put(code []byte) {
	if len(code) == 0 {
		return
	}
	w.hand()
	w.out = append(w.out, code...)
	w.fetch()
}
