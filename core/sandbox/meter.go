package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

// The meter rewrites a module so that it counts its own fuel and depth:
//
//   - two mutable i64 globals are added behind the module's own: the fuel left until the host is asked again,
//     and the number of calls that may still nest;
//   - each branch back to a loop, each function that calls others, and straight code where it is long, take the
//     cost of what has run from the fuel (see scan.go);
//   - a function that loops and calls nothing keeps the fuel in a local while it runs. If it traps, what it spent
//     since is not told;
//   - a function that calls others takes its weight from the depth when it is entered and gives it back when it
//     is left: its body becomes a block, and return a branch out of it;
//   - bulk operations pay by length once they have succeeded, so that they trap as they would have; long fills and
//     copies of memory are done in pieces (see bulk.go);
//   - where fuel or depth falls below zero, the imported function tick is called: the host refills the fuel or
//     ends the call. After memory.grow, the imported function grown is told;
//   - the start function becomes an export, so that the host can run it under the same limits, and so do the
//     mutable globals, so that it can put them back (see isolate.go).
//
// What is added can be named by nothing in the module, because every index in it is checked against what it
// had before. Custom sections are dropped but for the names of functions.
const (
	meterModule = "nexus:meter"
	tickName    = "tick"  // () → ()
	grownName   = "grown" // (pages asked for, what memory.grow answered) → ()
	added       = 2       // functions imported by the meter

	fuelExport  = "nexus:fuel"
	depthExport = "nexus:depth"
	startExport = "nexus:start"
)

const (
	maxTable     = 1 << 20 // elements of all tables of a module together
	maxSignature = 1000    // parameters, or results, as in browsers
	bytesShift   = 3       // a unit pays for 8 bytes of a bulk memory operation
)

// A meter is one module being rewritten.
type meter struct {
	*module
	out   []byte
	fuel  uint32 // the index of the global
	depth uint32
	tick  uint32 // the index of the function
	grown uint32
	code  int // functions whose bodies have been rewritten

	extra               []Signature // types behind the module's own, which its code cannot name
	tickType, grownType uint32
	longType            uint32
	bulky               bool              // it fills or copies memory (see bulk.go)
	blockTypes          map[string]uint32 // types that take nothing, by their results
	scan                scan
	debts               debts
	splices             map[uint32]Splice // by function
	splice              Splice            // of the function being rewritten

	// What it takes to put an instance back to its start (see isolate.go).
	fixed   bool     // it cannot be
	mutable []uint32 // the indices of the module's own mutable globals
}

// metered returns the rewritten module.
func metered(wasm []byte) ([]byte, error) {
	w, err := rewritten(wasm, nil)
	if err != nil {
		return nil, err
	}
	return w.out, nil
}

// rewritten returns a meter that has done its work, and put the splices into the functions of these names.
func rewritten(wasm []byte, splices map[string]Splice) (*meter, error) {
	m, err := decode(wasm)
	if err != nil {
		return nil, err
	}
	w := &meter{module: m, blockTypes: map[string]uint32{}}
	if err := w.check(); err != nil {
		return nil, err
	}
	w.findSplices(splices)
	w.tick, w.grown = uint32(m.imported), uint32(m.imported)+1
	w.fuel, w.depth = m.globals, m.globals+1
	w.out = append(make([]byte, 0, len(wasm)+len(wasm)/3), wasm[:8]...)
	w.addTypes()
	w.survey()
	if err := w.rewrite(); err != nil {
		return nil, err
	}
	return w, nil
}

// check refuses what wazero would take, but at a price that no guest may ask for.
func (w *meter) check() error {
	for i, t := range w.types {
		if len(t.Params) > maxSignature || len(t.Results) > maxSignature {
			return fmt.Errorf("type %d has more than %d parameters or results: give it fewer", i, maxSignature)
		}
	}
	for _, x := range w.exports {
		if x.name == fuelExport || x.name == depthExport || x.name == startExport || strings.HasPrefix(x.name, globalExport) {
			return fmt.Errorf("export %q has a name that the sandbox keeps for itself: give it another", x.name)
		}
	}
	for i, t := range w.tables {
		if t.bounds.Min > w.maxTable() {
			return fmt.Errorf("table %d has %d elements, more than %d: build it with a smaller one", i, t.bounds.Min, w.maxTable())
		}
	}
	if w.start < 0 {
		return nil
	}
	if w.start < w.imported {
		return fmt.Errorf("the start function is an import: let it be one of the module's own")
	}
	if s := w.types[w.funcs[w.start]]; len(s.Params)+len(s.Results) > 0 {
		return fmt.Errorf("the start function takes or gives values: let it do neither")
	}
	return nil
}

func (w *meter) maxTable() uint32 { return maxTable / uint32(max(len(w.tables), 1)) }

// addTypes puts the types that the meter needs behind the module's own.
func (w *meter) addTypes() {
	add := func(s Signature) uint32 {
		w.extra = append(w.extra, s)
		return uint32(len(w.types) + len(w.extra) - 1)
	}
	for _, f := range w.funcs[w.imported:] {
		results := w.types[f].Results
		if _, known := w.blockTypes[string(typeBytes(results))]; len(results) > 1 && !known {
			w.blockTypes[string(typeBytes(results))] = add(Signature{Results: results})
		}
	}
	w.tickType = add(Signature{})
	w.grownType = add(Signature{Params: []Type{I32, I32}})
	w.longType = add(Signature{Params: []Type{I32, I32, I32}})
}

func typeBytes(types []Type) []byte {
	b := make([]byte, len(types))
	for i, t := range types {
		b[i] = byte(t)
	}
	return b
}

// shift is the index that a function has in the rewritten module.
func (w *meter) shift(f uint32) uint32 {
	if f < uint32(w.imported) {
		return f
	}
	return f + added
}

// rewrite emits all sections in order, those that the module lacks included where the meter adds to them.
func (w *meter) rewrite() error {
	writers := map[byte]func(*reader){
		secType: w.typeSection, secImport: w.importSection, secFunction: w.functionSection, secTable: w.tableSection, secGlobal: w.globalSection,
		secExport: w.exportSection, secElement: w.elementSection, secCode: w.codeSection, secData: w.dataSection,
	}
	for _, id := range sectionOrder {
		s, present := w.section(id)
		write := writers[id]
		switch {
		case id == secStart:
		case write != nil && (present || id == secType || id == secImport || id == secGlobal || id == secExport):
			if err := w.emit(s, id, write); err != nil {
				return err
			}
		case present:
			w.wrap(id, func() { w.out = append(w.out, w.wasm[s.start:s.end]...) })
		}
	}
	if w.code != len(w.funcs)-w.imported {
		return fmt.Errorf("%d functions, but %d bodies", len(w.funcs)-w.imported, w.code)
	}
	w.names()
	return nil
}

func (w *meter) section(id byte) (section, bool) {
	i := slices.IndexFunc(w.sections, func(s section) bool { return s.id == id })
	if i < 0 {
		return section{}, false
	}
	return w.sections[i], true
}

// emit writes a section by a function that gets a reader of the old content, or of a lone 0 if there was none.
func (w *meter) emit(s section, id byte, write func(*reader)) error {
	r := &reader{b: w.wasm[:s.end], at: s.start}
	if s.end == 0 {
		r = &reader{b: []byte{0}}
	}
	w.wrap(id, func() { write(r) })
	if r.err == nil && r.at != len(r.b) {
		r.fail("section %d ends at byte %d, but its content at %d", id, len(r.b), r.at)
	}
	return r.err
}

// wrap writes a section, its size first: five bytes are kept for it, as any number of bytes up to that is valid.
func (w *meter) wrap(id byte, content func()) {
	w.out = append(w.out, id)
	w.sized(content)
}

func (w *meter) sized(content func()) {
	at := len(w.out)
	w.out = append(w.out, 0, 0, 0, 0, 0)
	content()
	n := uint32(len(w.out) - at - 5)
	for i := range 5 {
		w.out[at+i] = byte(n>>(7*i))&0x7f | 0x80
	}
	w.out[at+4] &= 0x7f
}

func (w *meter) u32(v uint32) { w.out = appendU32(w.out, v) }

func (w *meter) text(s string) {
	w.u32(uint32(len(s)))
	w.out = append(w.out, s...)
}

func appendU32(b []byte, v uint32) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func appendS64(b []byte, v int64) []byte {
	for v < -0x40 || v > 0x3f {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v)&0x7f)
}
