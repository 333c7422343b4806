package sandbox

import "encoding/binary"

// A generator makes a valid module out of arbitrary bytes, which choose what comes next. Its functions call
// each other, loop, branch in every way, grow memory and tables; a global that counts down ends what would not.
type generator struct {
	in     []byte
	d      *draft
	types  []Signature
	funcs  []Signature // by index
	locals []Type
	labels []([]Type) // what a branch to each open block must bring, the function first
	size   int
}

var generatorTypes = []Signature{
	{}, {[]Type{I32}, []Type{I32}}, {[]Type{I32, I32}, []Type{I32, I64}}, {nil, []Type{I64}},
	{[]Type{I64, I32}, []Type{I32, I64, I32}}, {nil, []Type{I32}}, {[]Type{I32}, nil},
}

const steps = 3000 // loop headers and calls of one run

func generate(in []byte) []byte {
	g := &generator{in: in, d: &draft{}, types: generatorTypes}
	for _, t := range g.types {
		g.d.typ(t.Params, t.Results)
	}
	g.d.imp("test", "nop", 0)
	g.funcs = append(g.funcs, g.types[0])
	n := 2 + g.pick(4)
	for range n {
		g.funcs = append(g.funcs, g.types[g.pick(len(g.types))])
	}
	g.funcs = append(g.funcs, g.types[3])
	g.d.memory(1, uint32(2+g.pick(4)))
	g.d.tables = [][]byte{cat(ops(0x70, 1), u(8), u(12))}
	g.d.globals = [][]byte{cat(ops(byte(I32), 1), i32c(steps), ops(opEnd)), cat(ops(byte(I64), 1, opI64Const, 5, opEnd))}
	g.d.exports = append(g.d.exports, cat(str("steps"), ops(3, 0)), cat(str("sum"), ops(3, 1)))
	g.d.elements = [][]byte{
		cat(u(0), i32c(1), ops(opEnd), u(2), u(uint32(n)), u(0)),
		cat(u(5), ops(0x70), u(2), ops(opRefFunc), u(1), ops(opEnd), ops(opRefNull, 0x70, opEnd)),
		cat(u(3), ops(0), u(1), u(uint32(n+1))),
	}
	g.d.data = [][]byte{cat(u(0), i32c(16), ops(opEnd), str("the quick brown fox")), cat(u(1), str("passive"))}
	g.d.dataCount = true
	for i, s := range g.funcs[1:] {
		name := ""
		if i == len(g.funcs)-2 {
			name = "run"
		}
		g.function(name, s)
	}
	if g.pick(3) == 0 {
		for i, s := range g.funcs {
			if i > 0 && len(s.Params)+len(s.Results) == 0 {
				g.d.start = u(uint32(i))
			}
		}
	}
	return g.d.bytes()
}

func (g *generator) pick(n int) int {
	if len(g.in) == 0 {
		return 0
	}
	c := g.in[0]
	g.in = g.in[1:]
	return int(c) % n
}

func (g *generator) typeOf(s Signature) byte {
	for i, t := range g.types {
		if t.equal(s) {
			return byte(i)
		}
	}
	panic("no such type")
}

func (g *generator) function(name string, s Signature) {
	g.size = 0
	g.locals = append(append([]Type{}, s.Params...), I32, I32, I32)
	g.labels = append(g.labels[:0], s.Results)
	code := cat(g.guard(), g.statements(3), g.values(s.Results, 3))
	g.d.fn(name, uint32(g.typeOf(s)), 3, code)
}

// guard counts down and traps below zero, in place of not ending.
func (g *generator) guard() []byte {
	return cat(ops(opGlobalGet, 0), i32c(1), ops(0x6b, opGlobalSet, 0, opGlobalGet, 0), i32c(0), ops(0x48, opIf, blockEmpty, opUnreachable, opEnd))
}

func (g *generator) statements(depth int) []byte {
	var out []byte
	for range g.pick(4) {
		out = append(out, g.statement(depth)...)
	}
	return out
}

func (g *generator) values(types []Type, depth int) []byte {
	var out []byte
	for _, t := range types {
		out = append(out, g.value(t, depth)...)
	}
	return out
}

// local is one of the type, or -1.
func (g *generator) local(t Type) int {
	at := g.pick(len(g.locals))
	for i := range g.locals {
		if j := (at + i) % len(g.locals); g.locals[j] == t {
			return j
		}
	}
	return -1
}

func (g *generator) constant(t Type) []byte {
	v := int64(int8(g.pick(256)))
	if g.pick(4) == 0 {
		v *= 1 << 20
	}
	if t == I64 {
		return cat(ops(opI64Const), s64(v<<12))
	}
	return i32c(int32(v))
}

func (g *generator) value(t Type, depth int) []byte {
	g.size++
	l := g.local(t)
	if depth <= 0 || g.size > 400 {
		if l >= 0 {
			return ops(opLocalGet, byte(l))
		}
		return g.constant(t)
	}
	depth--
	switch g.pick(14) {
	case 0:
		if l >= 0 {
			return ops(opLocalGet, byte(l))
		}
		return g.constant(t)
	case 1:
		return g.constant(t)
	case 2, 3:
		return g.binary(t, depth)
	case 4: // a load near the start of memory
		op := byte(0x28)
		if t == I64 {
			op = 0x29
		}
		return cat(g.value(I32, depth), i32c(0xffff), ops(opI32And, op, 0, 4))
	case 5:
		return cat(ops(opBlock, byte(t)), g.inside([]Type{t}, func() []byte { return cat(g.statements(depth), g.value(t, depth)) }), ops(opEnd))
	case 6:
		return cat(g.value(I32, depth), ops(opIf, byte(t)), g.inside([]Type{t}, func() []byte {
			return cat(g.statements(depth), g.value(t, depth), ops(opElse), g.statements(depth), g.value(t, depth))
		}), ops(opEnd))
	case 7: // a call with several results
		return cat(g.values(g.types[4].Params, depth), ops(opBlock, 4), g.inside(g.types[4].Results, func() []byte {
			return cat(ops(0x1a, 0x1a), g.statements(depth), g.values(g.types[4].Results, depth))
		}), ops(opEnd, 0x1a), g.narrow(t))
	case 8:
		return g.multi(t, depth)
	case 9:
		return cat(g.value(t, depth), g.value(t, depth), g.value(I32, depth), ops(0x1b))
	case 10:
		return g.odd(t, depth)
	case 11: // branch away with what the label wants; what follows is never reached
		n := g.pick(len(g.labels))
		return cat(g.values(g.labels[len(g.labels)-1-n], depth-1), ops(opBr, byte(n)))
	case 12:
		return g.vector(t, depth)
	}
	return g.call(t, depth)
}

func (g *generator) binary(t Type, depth int) []byte {
	i32, i64 := []byte{0x6a, 0x6b, 0x6c, 0x6d, 0x70, 0x71, 0x73, 0x74, 0x78}, []byte{0x7c, 0x7d, 0x7e, 0x7f, 0x82, 0x83, 0x85, 0x86, 0x8a}
	choice := g.pick(len(i32))
	if t == I64 {
		return cat(g.value(t, depth), g.value(t, depth), i64[choice:choice+1])
	}
	return cat(g.value(t, depth), g.value(t, depth), i32[choice:choice+1])
}

// inside makes code in a block whose label wants the types.
func (g *generator) inside(label []Type, code func() []byte) []byte {
	g.labels = append(g.labels, label)
	defer func() { g.labels = g.labels[:len(g.labels)-1] }()
	return code()
}

// narrow leaves one value of the type where there were an i32 and an i64.
func (g *generator) narrow(t Type) []byte {
	if t == I32 {
		return ops(0x1a)
	}
	return cat(ops(opGlobalSet, 1, 0x1a, opGlobalGet, 1))
}

// multi is a loop with a parameter, or a block with parameters and two results.
func (g *generator) multi(t Type, depth int) []byte {
	if t == I64 {
		s := g.types[2]
		return cat(g.values(s.Params, depth), ops(opBlock, 2), g.inside(s.Results, func() []byte {
			return cat(ops(0x1a, 0x1a), g.statements(depth), g.values(s.Results, depth))
		}), ops(opEnd), g.narrow(t))
	}
	s := g.types[1]
	return cat(g.values(s.Params, depth), ops(opLoop, 1), g.inside(s.Params, func() []byte {
		return cat(g.guard(), ops(opLocalSet, byte(g.local(I32))), g.statements(depth),
			g.value(I32, depth), g.value(I32, depth), ops(opBrIf, 0))
	}), ops(opEnd))
}

// odd are instructions that read or change the size of things.
func (g *generator) odd(t Type, depth int) []byte {
	var code []byte
	switch g.pick(7) {
	case 0:
		code = ops(opMemorySize, 0)
	case 1:
		code = cat(i32c(int32(g.pick(3))), ops(opMemoryGrow, 0))
	case 2:
		code = ops(opMisc, miscTableSize, 0)
	case 3:
		code = cat(ops(opRefFunc), u(1), i32c(int32(g.pick(3))), ops(opMisc, miscTableGrow, 0))
	case 4:
		code = cat(i32c(int32(g.pick(9))), ops(opTableGet, 0, 0xd1))
	case 5:
		code = cat(g.value(I32, depth), i32c(int32(g.pick(16))), ops(opTableGet, 0, 0xd1, 0x6a))
	default:
		code = ops(opGlobalGet, 0)
	}
	if t == I64 {
		return cat(code, ops(opI64ExtendU))
	}
	return code
}

func (g *generator) vector(t Type, depth int) []byte {
	var lanes [16]byte
	binary.LittleEndian.PutUint64(lanes[:], uint64(g.pick(256)))
	code := cat(ops(opVector, vecConst), lanes[:], g.value(I64, depth), ops(opVector, 0x12, opVector, 0xce, 1, opVector, 0x1d, byte(g.pick(2))))
	if t == I32 {
		return cat(code, ops(0xa7))
	}
	return code
}

func (g *generator) call(t Type, depth int) []byte {
	at := g.pick(len(g.funcs))
	for i := range g.funcs {
		f := (at + i) % len(g.funcs)
		if s := g.funcs[f]; len(s.Results) == 1 && s.Results[0] == t {
			return cat(g.values(s.Params, depth), ops(opCall), u(uint32(f)))
		}
	}
	return cat(g.value(I32, depth), ops(opCallIndirect), u(uint32(g.typeOf(Signature{Results: []Type{t}}))), u(0))
}

func (g *generator) statement(depth int) []byte {
	g.size++
	if depth <= 0 || g.size > 400 {
		return nil
	}
	depth--
	switch g.pick(16) {
	case 0, 1:
		if l := g.local(I32); l >= 0 {
			return cat(g.value(I32, depth), ops(opLocalSet, byte(l)))
		}
	case 2:
		return cat(g.value(I32, depth), i32c(0xffff), ops(opI32And), g.value(I64, depth), ops(0x37, 0, 8))
	case 3:
		return cat(ops(opGlobalGet, 1), g.value(I64, depth), ops(0x85, opGlobalSet, 1))
	case 4:
		return cat(ops(opBlock, blockEmpty), g.inside(nil, func() []byte { return g.statements(depth) }), ops(opEnd))
	case 5, 6:
		return cat(ops(opLoop, blockEmpty), g.inside(nil, func() []byte {
			return cat(g.guard(), g.statements(depth), g.value(I32, depth), ops(opBrIf, 0))
		}), ops(opEnd))
	case 7:
		n := g.pick(len(g.labels))
		want := g.labels[len(g.labels)-1-n]
		code := cat(g.values(want, depth), g.value(I32, depth), ops(opBrIf, byte(n)))
		for range want {
			code = append(code, 0x1a)
		}
		return code
	case 8:
		return g.table(depth)
	case 9:
		return cat(g.value(I32, depth), ops(opIf, blockEmpty), g.inside(nil, func() []byte { return g.statements(depth) }), ops(opEnd))
	case 10:
		return g.bulk(depth)
	case 11:
		f := 1 + g.pick(len(g.funcs)-1)
		code := cat(g.values(g.funcs[f].Params, depth), ops(opCall), u(uint32(f)))
		for range g.funcs[f].Results {
			code = append(code, 0x1a)
		}
		return code
	case 12:
		return cat(g.values(g.labels[0], depth), ops(opReturn))
	case 13:
		return ops(opCall, 0)
	case 14:
		return cat(i32c(0), g.value(I32, depth), ops(opCallIndirect, 1, 0, 0x1a))
	}
	return nil
}

// table is a br_table over the labels that want nothing.
func (g *generator) table(depth int) []byte {
	var empty []byte
	for i, l := range g.labels {
		if len(l) == 0 {
			empty = append(empty, byte(len(g.labels)-1-i))
		}
	}
	if len(empty) == 0 {
		return ops(0x01)
	}
	return cat(g.value(I32, depth), ops(opBrTable), u(uint32(len(empty)-1)), empty)
}

func (g *generator) bulk(depth int) []byte {
	at, n := i32c(int32(g.pick(256))*300), i32c(int32(g.pick(256)*8))
	switch g.pick(7) {
	case 0:
		return cat(at, g.value(I32, depth), n, ops(opMisc, miscMemoryFill, 0))
	case 1:
		return cat(at, i32c(100), n, ops(opMisc, miscMemoryCopy, 0, 0))
	case 2:
		return cat(at, i32c(1), i32c(int32(g.pick(8))), ops(opMisc, miscMemoryInit, 1, 0))
	case 3:
		return cat(i32c(int32(g.pick(8))), i32c(0), i32c(int32(g.pick(3))), ops(opMisc, miscTableInit, 1, 0))
	case 4:
		return cat(i32c(int32(g.pick(8))), i32c(1), i32c(int32(g.pick(3))), ops(opMisc, miscTableCopy, 0, 0))
	case 5:
		return cat(i32c(int32(g.pick(8))), ops(opRefNull, 0x70), i32c(int32(g.pick(3))), ops(opMisc, miscTableFill, 0))
	}
	return ops(opMisc, miscDataDrop, 1, opMisc, miscElemDrop, 1)
}
