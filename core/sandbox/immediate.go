package sandbox

func (s *scan) immediate(op byte, at int) {
	r := s.r
	switch op {
	case opSelectTyped:
		if r.byte() != 1 {
			r.fail("select with other than one type at byte %d", at)
		}
		r.valtype()
	case opLocalGet, opLocalSet, opLocalTee:
		index(r, "local", int(s.locals))
	case opGlobalGet, opGlobalSet:
		index(r, "global", int(s.m.globals))
	case opTableGet, opTableSet:
		r.u32()
		s.fixes = s.fixes || op == opTableSet
	case opMemorySize, opMemoryGrow:
		s.zero(at)
		if op == opMemoryGrow {
			s.note(siteGrow, at, 0)
			s.temps = 2
		}
	case opI32Const, opI64Const, opF32Const, opF64Const:
		r.constant(op)
	case opRefNull:
		r.reftype()
	default:
		s.unknown(op, at)
	}
}

// zero reads the index of a memory, which must be 0 in a single byte.
func (s *scan) zero(at int) {
	if s.r.byte() != 0 {
		s.r.fail("more than one memory at byte %d", at)
	}
}

func (s *scan) misc(at int) {
	r := s.r
	switch op := r.byte(); {
	case op < miscMemoryInit: // saturating truncation
	case op == miscDataDrop, op == miscElemDrop, op == miscTableSize:
		r.u32()
		s.fixes = s.fixes || op != miscTableSize
	case op <= miscMemoryFill:
		s.memory(op, at)
	case op <= miscTableFill:
		r.u32()
		if op == miscTableInit || op == miscTableCopy {
			r.u32()
		}
		s.fixes = true
		kind := siteTable
		if op == miscTableGrow {
			kind = siteTabGrow
		}
		s.bulk(kind, at)
	default:
		r.fail("opcode 0xfc %#x at byte %d: not part of WebAssembly 2.0", op, at)
	}
}

func (s *scan) memory(op byte, at int) {
	if op == miscMemoryInit {
		s.r.u32()
	}
	s.zero(at)
	s.bulky = s.bulky || op != miscMemoryInit
	if op == miscMemoryCopy {
		s.zero(at)
	}
	s.bulk(siteMemory, at)
}

func (s *scan) bulk(kind siteKind, at int) {
	s.note(kind, at, 0)
	s.temps = max(s.temps, 1)
}

// vector scans an instruction behind the prefix 0xfd. wazero reads the opcode as one byte and the second one,
// which is always 1 for opcodes from 128, as a nop; anything else there it would read differently from us.
func (s *scan) vector(at int) {
	r := s.r
	op := r.byte()
	if op >= 0x80 && r.byte() != 1 {
		r.fail("opcode 0xfd %#x at byte %d: not part of WebAssembly 2.0", op, at)
	}
	switch {
	case op <= vecStore, op == vecLoadZero-1, op == vecLoadZero:
		r.u32()
		r.u32()
	case op == vecConst, op == vecShuffle:
		r.take(16)
	case op >= vecLaneFirst && op <= vecLaneLast:
		r.byte()
	case op >= vecLoadLane && op <= vecStoreLane:
		r.u32()
		r.u32()
		r.byte()
	}
}

func (s *scan) unknown(op byte, at int) {
	s.r.fail("opcode %#x at byte %d: %s", op, at, unsupported(op))
}
