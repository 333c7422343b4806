package sandbox

// A site is a place in a function body where the meter changes something.
type site struct {
	kind  siteKind
	at    int   // where the copied bytes end
	next  int   // where copying goes on
	value int64 // of a charge: its units; of a call or ref.func: the function's index; of a return: the blocks open round it
}

type siteKind byte

const (
	siteCharge  siteKind = iota // behind a loop's header, or in the middle of long straight code
	siteFunc                    // an index of a function
	siteReturn                  // a whole return instruction
	siteGrow                    // a whole memory.grow
	siteMemory                  // a whole memory.init, memory.copy or memory.fill
	siteTable                   // a whole table.init, table.copy or table.fill
	siteTabGrow                 // a whole table.grow
)

// A scan reads one function body, checks that it names nothing that only the meter's additions would make
// exist, and notes what is to change and what has to be paid where.
//
// What is paid at a charge is the dearest way that leads there from the charges before it. Between charges
// control only goes forward, so one pass over the code finds it: due is the dearest unpaid way to where the
// scan is, a block's label keeps the dearest of the branches to it, and a loop's header pays for the dearest of
// the branches back. Nothing that runs is left unpaid, and no charge is larger than straight plus one instruction.
type scan struct {
	r      *reader
	m      *module
	locals uint32 // parameters included

	sites  []site
	blocks []block // open ones; the first is the function itself
	due    int64
	dead   bool // the code is never reached
	leave  int64
	nests  bool // calls what may call on: not just imports
	temps  int  // locals of type i32 that the changes need
}

// A block is one that is open while scanning.
type block struct {
	op     byte
	header int   // of a loop: the site of its charge
	enter  int64 // due where it was opened, for else
	dead   bool  // where it was opened
	join   int64 // the dearest branch to its end
	joined bool  // there is one
}

const (
	straight  = 100    // units of code that may run before it is charged
	maxLocals = 50_000 // of one function, as in browsers
	maxBlocks = 10_000 // open at one place; the compiler's time grows with its square
)

// body scans the code of a function whose locals have been read, up to its final end, which must be the last
// byte.
func (s *scan) body() {
	s.blocks = append(s.blocks[:0], block{op: opBlock})
	for len(s.blocks) > 0 {
		if s.r.err != nil {
			return
		}
		s.instruction()
	}
	s.leave = s.due
	if s.r.err == nil && s.r.at != len(s.r.b) {
		s.r.fail("code goes on behind the end of its function at byte %d", s.r.at)
	}
}

func (s *scan) note(kind siteKind, at int, value int64) {
	s.sites = append(s.sites, site{kind, at, s.r.at, value})
}

// instruction scans one, and puts a charge before it if too much is due.
func (s *scan) instruction() {
	r, at := s.r, s.r.at
	if s.due > straight && !s.dead {
		s.note(siteCharge, at, s.due)
		s.due = 0
	}
	op := r.byte()
	s.due += cost(op)
	switch {
	case plain(op):
		s.plain(op, at)
	case op <= opReturn:
		s.control(op, at)
	case op == opCall || op == opCallIndirect || op == opRefFunc:
		s.function(op)
	case op >= opLoadFirst && op <= opStoreLast:
		r.u32()
		r.u32()
	case op == opMisc:
		s.misc(at)
	case op == opVector:
		s.vector(at)
	default:
		s.immediate(op, at)
	}
}

func (s *scan) plain(op byte, at int) {
	switch op {
	case opReturn:
		s.note(siteReturn, at, int64(len(s.blocks)-1))
		s.branch(len(s.blocks) - 1)
		s.dead = true
	case opUnreachable:
		s.dead = true
	}
}

func (s *scan) control(op byte, at int) {
	switch op {
	case opBlock, opLoop, opIf:
		s.open(op)
	case opElse:
		s.otherwise(at)
	case opEnd:
		s.close()
	case opBr, opBrIf:
		s.label()
		s.dead = s.dead || op == opBr
	case opBrTable:
		for range s.r.count() {
			s.label()
		}
		s.label()
		s.dead = true
	default:
		s.unknown(op, at)
	}
}

func (s *scan) open(op byte) {
	at := s.r.at
	s.blockType()
	b := block{op: op, enter: s.due, dead: s.dead}
	if op == opLoop {
		b.header = len(s.sites)
		s.note(siteCharge, s.r.at, max(s.due, 1))
		s.due = 0
	}
	if len(s.blocks) > maxBlocks {
		s.r.fail("more than %d blocks open at byte %d", maxBlocks, at)
	}
	s.blocks = append(s.blocks, b)
}

func (s *scan) otherwise(at int) {
	b := &s.blocks[len(s.blocks)-1]
	if b.op != opIf {
		s.r.fail("else without if at byte %d", at)
		return
	}
	s.branch(0) // the first arm goes to the end
	b.op = opElse
	s.due, s.dead = b.enter, b.dead
}

// close ends a block: control is there if it came from its content or by a branch, or round an if without else.
func (s *scan) close() {
	b := s.blocks[len(s.blocks)-1]
	if b.op == opIf && !b.dead {
		b.join, b.joined = max(b.join, b.enter), true
	}
	s.blocks = s.blocks[:len(s.blocks)-1]
	if s.dead {
		s.due = 0
	}
	if b.joined {
		s.due = max(s.due, b.join)
	}
	s.dead = s.dead && !b.joined
}

// branch notes what is due when control goes to the label of the block with that number, counted from inside.
func (s *scan) branch(label int) {
	if s.dead {
		return
	}
	b := &s.blocks[len(s.blocks)-1-label]
	if b.op == opLoop {
		header := &s.sites[b.header]
		header.value = max(header.value, s.due)
		return
	}
	b.join, b.joined = max(b.join, s.due), true
}

func (s *scan) label() {
	n := index(s.r, "block round the branch with number", len(s.blocks))
	if s.r.err == nil {
		s.branch(int(n))
	}
}

// blockType reads a block's type: one byte for none or a single result, or the index of a function type.
// Longer spellings of the one-byte forms are refused, so that wazero cannot read them differently.
func (s *scan) blockType() {
	r, at := s.r, s.r.at
	if r.at >= len(r.b) {
		r.truncated()
		return
	}
	if c := r.b[at]; c == blockEmpty || typeNames[Type(c)] != "" {
		r.at++
		return
	}
	index := s.m.typeIndex(r)
	if r.err == nil && r.b[r.at-1]&0x40 != 0 {
		r.fail("unknown block type %d at byte %d", index, at)
	}
}

func (s *scan) function(op byte) {
	at := s.r.at
	if op == opCallIndirect {
		s.m.typeIndex(s.r)
		s.r.u32()
		s.nests = true
		return
	}
	f := s.m.funcIndex(s.r)
	s.note(siteFunc, at, int64(f))
	if op == opRefFunc {
		return
	}
	if int(f) >= s.m.imported {
		s.nests = true
	} else {
		s.due += costHostCall
	}
}

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
	case op <= miscMemoryFill:
		s.memory(op, at)
	case op <= miscTableFill:
		r.u32()
		if op == miscTableInit || op == miscTableCopy {
			r.u32()
		}
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
