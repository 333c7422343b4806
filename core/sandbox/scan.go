package sandbox

// A site is a place in a function body where the meter changes something.
type site struct {
	kind  siteKind
	at    int   // where the copied bytes end
	next  int   // where copying goes on
	label int   // of a branch back: which
	value int64 // of a charge or a branch back: its units; of a call or ref.func: the function's index; of a return: the blocks open round it
}

type siteKind byte

const (
	siteCharge   siteKind = iota // before or behind a loop's header, before a br_table, or in the middle of long straight code
	siteBack                     // a whole br to a loop
	siteBackIf                   // a whole br_if to a loop
	siteFunc                     // an index of a function
	siteCall                     // a whole call
	siteIndirect                 // a whole call_indirect
	siteReturn                   // a whole return instruction
	siteGrow                     // a whole memory.grow
	siteMemory                   // a whole memory.init, memory.copy or memory.fill
	siteTable                    // a whole table.init, table.copy or table.fill
	siteTabGrow                  // a whole table.grow
)

// A scan reads one function body, checks that it names nothing that only the meter's additions would make
// exist, and notes what is to change and what has to be paid where.
//
// What is paid at a charge is the dearest way that leads there from the charges before it. Between charges
// control only goes forward, so one pass over the code finds it: due is the dearest unpaid way to where the
// scan is, and a block's label keeps the dearest of the branches to it. A branch back to a loop pays what has come
// due since the loop was entered, so that round after round no more is unpaid in its header than at first; that
// costs less than to pay in the header, as what follows is a jump that is taken in any case.
// Where values travel on that branch the header pays, for the dearest of the branches back. Nothing that runs is
// left unpaid, and no charge is larger than straight plus one instruction and what its callee left owing (see debts).
type scan struct {
	r      *reader
	m      *module
	locals uint32 // parameters included
	groups int    // in which they are declared
	code   int    // where the code begins

	sites  []site
	blocks []block // open ones; the first is the function itself
	due    int64
	dead   bool // the code is never reached
	leave  int64
	nests  bool // calls what may call on: not just imports
	loops  bool
	bulky  bool // fills or copies memory
	fixes  bool // changes a table, or drops a segment
	temps  int  // locals of type i32 that the changes need
	debts  *debts
}

// A block is one that is open while scanning.
type block struct {
	op     byte
	header int   // of a loop: the site of its charge
	free   bool  // of a loop: its header charges nothing, the branches back do
	enter  int64 // due where it was opened, for else
	dead   bool  // where it was opened
	join   int64 // the dearest branch to its end
	joined bool  // there is one
}

const (
	straight  = 100    // units of code that may run before it is charged
	maxLocals = 50_000 // of one function, as in browsers
	before    = 20     // units that may be unpaid where a loop is entered
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
	s.sites = append(s.sites, site{kind: kind, at: at, next: s.r.at, value: value})
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
		s.jump(op, at)
		s.dead = s.dead || op == opBr
	case opBrTable:
		s.table(at)
		s.dead = true
	default:
		s.unknown(op, at)
	}
}

func (s *scan) open(op byte) {
	at := s.r.at
	params := s.blockType()
	b := block{op: op, dead: s.dead}
	if op == opLoop {
		s.loops = true
		b.free = params == 0
		if !b.free {
			b.header = len(s.sites)
			s.note(siteCharge, s.r.at, max(s.due, 1))
			s.due = 0
		} else if s.due > before && !s.dead {
			s.pay(at - 1)
		}
	}
	b.enter = s.due
	if len(s.blocks) > maxBlocks {
		s.r.fail("more than %d blocks open at byte %d", maxBlocks, at)
	}
	s.blocks = append(s.blocks, b)
}

// pay charges what is due before the instruction at that offset.
func (s *scan) pay(at int) {
	s.sites = append(s.sites, site{kind: siteCharge, at: at, next: at, value: max(s.due, 1)})
	s.due = 0
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
	b := &s.blocks[len(s.blocks)-1-label]
	switch {
	case s.dead, b.free: // a branch back has paid
	case b.op == opLoop:
		header := &s.sites[b.header]
		header.value = max(header.value, s.due)
	default:
		b.join, b.joined = max(b.join, s.due), true
	}
}

// label reads the number of a block round the branch.
func (s *scan) label() int {
	return int(index(s.r, "block round the branch with number", len(s.blocks)))
}

// back reports whether a branch to the label pays for itself.
func (s *scan) back(label int) bool {
	return s.r.err == nil && !s.dead && s.blocks[len(s.blocks)-1-label].free
}

func (s *scan) jump(op byte, at int) {
	label := s.label()
	if s.r.err != nil {
		return
	}
	if s.back(label) {
		kind := siteBack
		if op == opBrIf {
			kind = siteBackIf
		}
		units := max(s.due-s.blocks[len(s.blocks)-1-label].enter, 1)
		s.sites = append(s.sites, site{kind: kind, at: at, next: s.r.at, label: label, value: units})
	}
	s.branch(label)
}

// table scans a br_table, which pays before it if any of its ways leads back.
func (s *scan) table(at int) {
	n, start, pays := s.r.count()+1, s.r.at, false
	for range n {
		pays = s.back(s.label()) || pays
	}
	if s.r.err != nil {
		return
	}
	if pays {
		s.pay(at)
	}
	s.r.at = start
	for range n {
		s.branch(s.label())
	}
}

// blockType reads a block's type: one byte for none or a single result, or the index of a function type.
// Longer spellings of the one-byte forms are refused, so that wazero cannot read them differently. It returns
// how many values the block takes.
func (s *scan) blockType() int {
	r, at := s.r, s.r.at
	if r.at >= len(r.b) {
		r.truncated()
		return 0
	}
	if c := r.b[at]; c == blockEmpty || typeNames[Type(c)] != "" {
		r.at++
		return 0
	}
	index := s.m.typeIndex(r)
	if r.err == nil && r.b[r.at-1]&0x40 != 0 {
		r.fail("unknown block type %d at byte %d", index, at)
	}
	if r.err != nil {
		return 0
	}
	return len(s.m.types[index].Params)
}

func (s *scan) function(op byte) {
	at := s.r.at
	if op == opCallIndirect {
		typ := s.m.typeIndex(s.r)
		s.r.u32()
		s.note(siteIndirect, at-1, 0)
		s.nests = true
		s.due += s.debts.ofType(typ)
		return
	}
	f := s.m.funcIndex(s.r)
	if op == opRefFunc {
		s.note(siteFunc, at, int64(f))
		return
	}
	s.note(siteCall, at-1, int64(f))
	if int(f) >= s.m.imported {
		s.nests = true
		s.due += s.debts.ofFunc(int(f) - s.m.imported)
	} else {
		s.due += costHostCall
	}
}
