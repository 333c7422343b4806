package sandbox

// codeSection rewrites every function body.
func (w *meter) codeSection(r *reader) {
	n := r.count()
	if n != len(w.funcs)-w.imported {
		r.fail("%d functions, but %d bodies", len(w.funcs)-w.imported, n)
		return
	}
	w.u32(uint32(n))
	for i := range n {
		size := r.u32()
		start := r.at
		r.take(size)
		if r.err != nil {
			return
		}
		body := &reader{b: r.b[:r.at], at: start}
		w.sized(func() { w.function(body, w.funcs[w.imported+i]) })
		if body.err != nil {
			r.fail("function %d: %w", w.imported+i, body.err)
			return
		}
		w.code++
	}
}

// function rewrites one body of the given type.
func (w *meter) function(r *reader, typ uint32) {
	s := &w.scan
	*s = scan{r: r, m: w.module, sites: s.sites[:0], blocks: s.blocks[:0]}
	locals := r.at
	params := uint32(len(w.types[typ].Params))
	groups := s.readLocals(params)
	code := r.at
	s.body()
	if r.err != nil {
		return
	}
	w.locals(r.b[locals:code], groups, s.temps)
	weight := int64(0)
	if s.nests {
		weight = s.weight(len(r.b) - code)
	}
	w.enter(s, typ, weight)
	w.copy(s, code, len(r.b)-1, weight > 0)
	w.leave(weight)
}

// readLocals reads the declarations, sets how many locals there are, and returns how many groups they come in.
func (s *scan) readLocals(params uint32) int {
	total := uint64(params)
	groups := s.r.count()
	for range groups {
		total += uint64(s.r.u32())
		s.r.valtype()
	}
	if total > maxLocals {
		s.r.fail("more than %d locals before byte %d", maxLocals, s.r.at)
		return 0
	}
	s.locals = uint32(total)
	return groups
}

// weight is how many calls of depth one of this function counts for: its frame holds its locals, and at worst
// what the code leaves on the stack.
func (s *scan) weight(code int) int64 {
	return 1 + int64(s.locals)/64 + int64(code)/(16<<10)
}

func (w *meter) locals(declared []byte, groups, temps int) {
	if temps == 0 {
		w.out = append(w.out, declared...)
		return
	}
	old := &reader{b: declared}
	old.u32()
	w.u32(uint32(groups + 1))
	w.out = append(w.out, declared[old.at:]...)
	w.u32(uint32(temps))
	w.out = append(w.out, byte(I32))
}

// enter charges for a call of a function that calls others, and opens the block that every way out of it leads
// to the end of. What is due at its end is paid in advance. One that calls nothing owes little, and less than
// its caller pays for the call and its arguments many times over: it is let off.
func (w *meter) enter(s *scan, typ uint32, weight int64) {
	if weight == 0 {
		return
	}
	w.take(w.fuel, s.leave)
	w.take(w.depth, weight)
	w.tickIf(w.fuel, w.depth)
	w.out = append(w.out, opBlock)
	w.blockType(w.types[typ].Results)
}

func (w *meter) blockType(results []Type) {
	switch len(results) {
	case 0:
		w.out = append(w.out, blockEmpty)
	case 1:
		w.out = append(w.out, byte(results[0]))
	default:
		w.out = appendS64(w.out, int64(w.blockTypes[string(typeBytes(results))]))
	}
}

func (w *meter) leave(weight int64) {
	if weight > 0 {
		w.out = append(w.out, opEnd)
		w.take(w.depth, -weight)
	}
	w.out = append(w.out, opEnd)
}

// copy writes the code from start to end, changed at the sites.
func (w *meter) copy(s *scan, start, end int, wrapped bool) {
	for _, site := range s.sites {
		w.out = append(w.out, s.r.b[start:site.at]...)
		start = site.next
		whole := s.r.b[site.at:site.next]
		switch site.kind {
		case siteCharge:
			w.take(w.fuel, site.value)
			w.tickIf(w.fuel)
		case siteFunc:
			w.u32(w.shift(uint32(site.value)))
		case siteReturn:
			if wrapped {
				w.out = append(w.out, opBr)
				w.u32(uint32(site.value))
			} else {
				w.out = append(w.out, whole...)
			}
		case siteGrow:
			w.grow(s.locals, whole)
		default:
			w.bulk(s.locals, site.kind, whole)
		}
	}
	w.out = append(w.out, s.r.b[start:end]...)
}

// take subtracts units from a global.
func (w *meter) take(global uint32, units int64) {
	w.global(opGlobalGet, global)
	w.out = appendS64(append(w.out, opI64Const), units)
	w.out = append(w.out, opI64Sub)
	w.global(opGlobalSet, global)
}

func (w *meter) global(op byte, index uint32) {
	w.out = appendU32(append(w.out, op), index)
}

// tickIf calls tick if one of the globals is below zero. The branch goes round the call, not to it: wazero
// lays out registers for the first way that leads to a place.
func (w *meter) tickIf(globals ...uint32) {
	w.out = append(w.out, opBlock, blockEmpty)
	w.global(opGlobalGet, globals[0])
	for _, g := range globals[1:] {
		w.global(opGlobalGet, g)
		w.out = append(w.out, opI64Or)
	}
	w.out = append(w.out, opI64Const, 0, opI64GeS, opBrIf, 0, opCall)
	w.u32(w.tick)
	w.out = append(w.out, opEnd)
}

func (w *meter) local(op byte, index uint32) {
	w.out = appendU32(append(w.out, op), index)
}

// grow keeps what memory.grow was asked and what it answered, and tells the host, which charges for it.
func (w *meter) grow(temp uint32, whole []byte) {
	w.local(opLocalTee, temp)
	w.out = append(w.out, whole...)
	w.local(opLocalTee, temp+1)
	w.local(opLocalGet, temp)
	w.local(opLocalGet, temp+1)
	w.out = append(w.out, opCall)
	w.u32(w.grown)
}

// bulk charges an operation by its length, which is the value on top of the stack before it.
func (w *meter) bulk(temp uint32, kind siteKind, whole []byte) {
	w.local(opLocalTee, temp)
	w.out = append(w.out, whole...)
	w.global(opGlobalGet, w.fuel)
	w.local(opLocalGet, temp)
	if kind == siteTabGrow { // it may have been refused, whatever the length: charge for no more than a table can hold
		w.out = appendS64(append(w.out, opI32Const), 2*maxTable-1)
		w.out = append(w.out, opI32And)
	}
	w.out = append(w.out, opI64ExtendU)
	if kind == siteMemory {
		w.out = append(w.out, opI64Const, bytesShift, opI64ShrU)
	}
	w.out = append(w.out, opI64Sub)
	w.global(opGlobalSet, w.fuel)
	w.tickIf(w.fuel)
}
