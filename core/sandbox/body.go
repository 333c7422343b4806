package sandbox

// codeSection rewrites every function body.
func (w *meter) codeSection(r *reader) {
	n := r.count()
	if n != len(w.funcs)-w.imported {
		r.fail("%d functions, but %d bodies", len(w.funcs)-w.imported, n)
		return
	}
	w.u32(uint32(n + w.added()))
	for i := range n {
		size := r.u32()
		start := r.at
		r.take(size)
		if r.err != nil {
			return
		}
		body := &reader{b: r.b[:r.at], at: start}
		w.splice = w.splices[uint32(w.imported+i)]
		w.sized(func() { w.function(body, w.funcs[w.imported+i]) })
		if body.err != nil {
			r.fail("function %d: %w", w.imported+i, body.err)
			return
		}
		w.code++
	}
	if w.bulky {
		w.longBodies()
	}
}

// function rewrites one body of the given type.
func (w *meter) function(r *reader, typ uint32) {
	locals := r.at
	s := w.look(r, typ, &w.debts)
	if r.err != nil {
		return
	}
	code := s.code
	w.fixed = w.fixed || s.fixes
	w.locals(r.b[locals:code], s.groups)
	w.enter(typ, len(r.b)-code)
	w.copy(code, len(r.b)-1)
	w.leave(len(r.b) - code)
}

// look scans one body.
func (w *meter) look(r *reader, typ uint32, d *debts) *scan {
	s := &w.scan
	*s = scan{r: r, m: w.module, debts: d, sites: s.sites[:0], blocks: s.blocks[:0]}
	s.groups = s.readLocals(uint32(len(w.types[typ].Params)))
	s.code = r.at
	s.body()
	return s
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
// what the code leaves on the stack, each value in a place of its own. That is up to four bytes for a byte of code,
// so that no unit of depth takes much more than 8 KiB.
func (s *scan) weight(code int) int64 {
	return 1 + int64(s.locals)/64 + int64(code)/(2<<10)
}

// locals declares what the changes need behind the function's own: first the i32s, then the fuel.
func (w *meter) locals(declared []byte, groups int) {
	s := &w.scan
	old := &reader{b: declared}
	old.u32()
	w.u32(uint32(groups) + 2)
	w.out = append(w.out, declared[old.at:]...)
	w.u32(uint32(s.temps))
	w.out = append(w.out, byte(I32))
	w.u32(uint32(s.scratch()))
	w.out = append(w.out, byte(I64))
}

// scratch is how many locals of type i64 the changes need: one, where there is a loop.
func (s *scan) scratch() int {
	if s.loops {
		return 1
	}
	return 0
}

// keeps reports whether the function has its fuel in a local while it runs: it loops, and seldom calls.
func (s *scan) keeps() bool { return s.loops && !s.nests }

// hand puts the fuel that a function keeps where others find it; fetch takes it back.
func (w *meter) hand() {
	if w.scan.keeps() {
		w.local(opLocalGet, w.kept())
		w.global(opGlobalSet, w.fuel)
	}
}

func (w *meter) fetch() {
	if w.scan.keeps() {
		w.global(opGlobalGet, w.fuel)
		w.local(opLocalSet, w.kept())
	}
}

func (w *meter) kept() uint32 { return w.scan.locals + uint32(w.scan.temps) }

// enter charges for a call of a function that calls others, and opens the block that every way out of it leads
// to the end of. What is due at its end is paid in advance. One that calls nothing owes little, and less than
// its caller pays for the call and its arguments many times over: it is let off.
func (w *meter) enter(typ uint32, code int) {
	s := &w.scan
	if s.nests {
		w.take(w.fuel, s.leave)
		w.take(w.depth, s.weight(code))
		w.tickIf(w.fuel, w.depth)
	}
	w.fetch()
	if w.wraps() {
		w.out = append(w.out, opBlock)
		w.blockType(w.types[typ].Results)
	}
	w.put(w.splice.Enter)
}

// wraps reports whether the body becomes a block: something is to be done when it is left.
func (w *meter) wraps() bool { return w.scan.nests || w.scan.keeps() || len(w.splice.Leave) > 0 }

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

func (w *meter) leave(code int) {
	s := &w.scan
	if w.wraps() {
		w.out = append(w.out, opEnd)
	}
	w.put(w.splice.Leave)
	w.hand()
	if s.nests {
		w.take(w.depth, -s.weight(code))
	}
	w.out = append(w.out, opEnd)
}

// copy writes the code from start to end, changed at the sites.
func (w *meter) copy(start, end int) {
	s := &w.scan
	for _, site := range s.sites {
		w.out = append(w.out, s.r.b[start:site.at]...)
		start = site.next
		w.change(site, s.r.b[site.at:site.next])
	}
	w.out = append(w.out, s.r.b[start:end]...)
}

func (w *meter) change(site site, whole []byte) {
	switch site.kind {
	case siteCharge:
		w.charge(site.value)
	case siteBack:
		w.back(uint32(site.label), site.value)
	case siteBackIf:
		w.out = append(w.out, opIf, blockEmpty)
		w.back(uint32(site.label)+1, site.value)
		w.out = append(w.out, opEnd)
	case siteFunc:
		w.u32(w.shift(uint32(site.value)))
	case siteCall:
		w.hand()
		w.out = append(w.out, opCall)
		w.u32(w.shift(uint32(site.value)))
		w.fetch()
	case siteIndirect:
		w.hand()
		w.out = append(w.out, whole...)
		w.fetch()
	case siteReturn:
		w.goBack(site, whole)
	case siteGrow:
		w.grow(whole)
	default:
		w.bulk(site.kind, whole)
	}
}

// goBack is a return: out of the block round the body, if there is one.
func (w *meter) goBack(site site, whole []byte) {
	if !w.wraps() {
		w.out = append(w.out, whole...)
		return
	}
	w.out = append(w.out, opBr)
	w.u32(uint32(site.value))
}

// charge takes units of fuel in the middle of a function.
func (w *meter) charge(units int64) {
	w.amount(func() { w.out = appendS64(append(w.out, opI64Const), units) })
}

// amount takes fuel, as much as units puts on the stack, and asks the host if it is used up.
func (w *meter) amount(units func()) {
	w.spend(units)
	w.out = append(w.out, opBlock, blockEmpty)
	w.left()
	w.out = append(w.out, opI64Const, 0, opI64GeS, opBrIf, 0)
	w.ask()
	w.out = append(w.out, opEnd)
}

// spend takes fuel, as much as units puts on the stack; left then puts there what is left of it.
func (w *meter) spend(units func()) {
	s := &w.scan
	if s.keeps() {
		w.local(opLocalGet, w.kept())
	} else {
		w.global(opGlobalGet, w.fuel)
	}
	units()
	w.out = append(w.out, opI64Sub)
	switch {
	case s.keeps():
		w.local(opLocalSet, w.kept())
	case s.loops:
		w.local(opLocalTee, w.kept())
		w.global(opGlobalSet, w.fuel)
	default:
		w.global(opGlobalSet, w.fuel)
	}
}

func (w *meter) left() {
	if w.scan.loops {
		w.local(opLocalGet, w.kept())
	} else {
		w.global(opGlobalGet, w.fuel)
	}
}

// ask calls tick.
func (w *meter) ask() {
	w.hand()
	w.out = append(w.out, opCall)
	w.u32(w.tick)
	w.fetch()
}

// back is a br to a loop that pays on its way. While there is fuel, nothing but the jump itself is taken: what a
// processor pays for is not the subtraction but one more jump.
func (w *meter) back(label uint32, units int64) {
	w.spend(func() { w.out = appendS64(append(w.out, opI64Const), units) })
	w.out = append(w.out, opBlock, blockEmpty)
	w.left()
	w.out = append(w.out, opI64Const, 0, opI64LtS, opBrIf, 0)
	w.local(opBr, label+1)
	w.out = append(w.out, opEnd)
	w.ask()
	w.local(opBr, label)
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
func (w *meter) grow(whole []byte) {
	temp := w.scan.locals
	w.local(opLocalTee, temp)
	w.out = append(w.out, whole...)
	w.local(opLocalTee, temp+1)
	w.local(opLocalGet, temp)
	w.local(opLocalGet, temp+1)
	w.hand()
	w.out = append(w.out, opCall)
	w.u32(w.grown)
	w.fetch()
}
