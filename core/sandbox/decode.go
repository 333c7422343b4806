package sandbox

import (
	"fmt"
	"slices"
)

// Section ids of the binary format.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

// sectionOrder is the order in which sections must stand; data count stands before code.
var sectionOrder = []byte{secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport, secStart, secElement, secDataCount, secCode, secData}

// A module is what the decoder reads of one; function bodies, segments and initial values are left in place.
type module struct {
	wasm     []byte
	sections []section

	types    []Signature
	imports  []Import
	funcs    []uint32 // type of each function, imported ones first
	imported int      // how many of funcs are imported
	tables   []table  // own ones
	memories []Bounds // own ones
	shared   []Bounds // imported ones
	globals  uint32   // how many, imported ones included
	exports  []exported
	start    int // index of the start function, -1 if there is none
	customs  []string
}

// A section is where one stands in the module; body excludes its id and size.
type section struct {
	id         byte
	start, end int
}

type table struct {
	elem   Type
	bounds Bounds
}

type exported struct {
	name  string
	kind  Extern
	index uint32
}

// decode reads the outline of a module and checks all its references to functions and types.
func decode(wasm []byte) (*module, error) {
	if err := header(wasm); err != nil {
		return nil, err
	}
	m := &module{wasm: wasm, start: -1}
	r := &reader{b: wasm, at: 8}
	last := -1
	for r.more() {
		s, at := section{id: r.byte()}, r.at-1
		size := r.u32()
		s.start = r.at
		r.take(size)
		s.end = r.at
		if s.id != secCustom {
			place := slices.Index(sectionOrder, s.id)
			if place < 0 {
				r.fail("unknown section %d at byte %d", s.id, at)
			}
			if place <= last {
				r.fail("section %d at byte %d is out of order or repeated", s.id, at)
			}
			last = place
		}
		if r.err != nil {
			return nil, r.err
		}
		m.sections = append(m.sections, s)
		if err := m.read(s); err != nil {
			return nil, err
		}
	}
	return m, r.err
}

// read decodes one section of the outline.
func (m *module) read(s section) error {
	r := &reader{b: m.wasm[:s.end], at: s.start}
	switch s.id {
	case secCustom:
		m.customs = append(m.customs, r.name())
		return r.err
	case secType:
		m.readTypes(r)
	case secImport:
		m.readImports(r)
	case secFunction:
		for range r.count() {
			m.funcs = append(m.funcs, m.typeIndex(r))
		}
	case secTable:
		for range r.count() {
			m.tables = append(m.tables, table{r.reftype(), r.limits()})
		}
	case secMemory:
		for range r.count() {
			m.memories = append(m.memories, r.limits())
		}
	case secGlobal:
		m.globals += uint32(r.count())
		return r.err
	case secExport:
		m.readExports(r)
	case secStart:
		m.start = int(m.funcIndex(r))
	default:
		return nil
	}
	if r.err == nil && r.at != s.end {
		r.fail("section %d ends at byte %d, but its content at %d", s.id, s.end, r.at)
	}
	return r.err
}

func (m *module) readTypes(r *reader) {
	for range r.count() {
		at := r.at
		if form := r.byte(); form != 0x60 {
			r.fail("unknown form of type %#x at byte %d", form, at)
			return
		}
		m.types = append(m.types, Signature{Params: r.valtypes(), Results: r.valtypes()})
	}
}

func (m *module) readImports(r *reader) {
	for range r.count() {
		i := Import{Module: r.name(), Name: r.name()}
		at := r.at
		i.Kind = Extern(r.byte())
		switch i.Kind {
		case ExternFunc:
			index := m.typeIndex(r)
			if r.err != nil {
				return
			}
			i.Signature = m.types[index]
			m.funcs = append(m.funcs, index)
			m.imported++
		case ExternTable:
			r.reftype()
			r.limits()
		case ExternMemory:
			m.shared = append(m.shared, r.limits())
		case ExternGlobal:
			r.valtype()
			r.byte()
			m.globals++
		default:
			r.fail("unknown kind of import %#x at byte %d", byte(i.Kind), at)
		}
		if r.err != nil {
			return
		}
		m.imports = append(m.imports, i)
	}
}

func (m *module) readExports(r *reader) {
	seen := map[string]bool{}
	for range r.count() {
		at := r.at
		x := exported{name: r.name()}
		x.kind = Extern(r.byte())
		switch x.kind {
		case ExternFunc:
			x.index = m.funcIndex(r)
		case ExternTable, ExternMemory, ExternGlobal:
			x.index = r.u32()
		default:
			r.fail("unknown kind of export %#x at byte %d", byte(x.kind), r.at-1)
		}
		if seen[x.name] {
			r.fail("export %q at byte %d is repeated", x.name, at)
		}
		if r.err != nil {
			return
		}
		seen[x.name] = true
		m.exports = append(m.exports, x)
	}
}

func (m *module) typeIndex(r *reader) uint32 { return index(r, "type", len(m.types)) }

func (m *module) funcIndex(r *reader) uint32 { return index(r, "function", len(m.funcs)) }

// index reads an index into a space of n.
func index(r *reader, what string, n int) uint32 {
	at := r.at
	i := r.u32()
	if r.err == nil && uint64(i) >= uint64(n) {
		r.fail("%s", fmt.Sprintf("no %s %d at byte %d", what, i, at))
	}
	return i
}
