package sandbox

import "slices"

// A draft is a module that a test puts together.
type draft struct {
	types, imports, funcs, tables, memories, globals, exports, elements, code, data [][]byte
	start                                                                           []byte
	dataCount                                                                       bool
}

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func u(v uint32) []byte { return appendU32(nil, v) }

func s64(v int64) []byte { return appendS64(nil, v) }

func str(s string) []byte { return cat(u(uint32(len(s))), []byte(s)) }

func i32c(v int32) []byte { return cat([]byte{opI32Const}, s64(int64(v))) }

func (d *draft) typ(params, results []Type) uint32 {
	d.types = append(d.types, cat([]byte{0x60}, u(uint32(len(params))), typeBytes(params), u(uint32(len(results))), typeBytes(results)))
	return uint32(len(d.types) - 1)
}

// imp imports a function; all imports come before the first function.
func (d *draft) imp(module, name string, typ uint32) uint32 {
	d.imports = append(d.imports, cat(str(module), str(name), []byte{0}, u(typ)))
	return uint32(len(d.imports) - 1)
}

// fn adds a function with i32 locals, exported under name if that is not empty; end is added to the code.
func (d *draft) fn(name string, typ uint32, locals uint32, code ...[]byte) uint32 {
	index := uint32(len(d.imports) + len(d.funcs))
	d.funcs = append(d.funcs, u(typ))
	body := cat([]byte{1}, u(locals), []byte{byte(I32)}, cat(code...), []byte{opEnd})
	d.code = append(d.code, cat(u(uint32(len(body))), body))
	if name != "" {
		d.exports = append(d.exports, cat(str(name), []byte{0}, u(index)))
	}
	return index
}

func (d *draft) memory(lo, hi uint32) {
	d.memories = append(d.memories, cat([]byte{1}, u(lo), u(hi)))
	d.exports = append(d.exports, cat(str("memory"), []byte{2, 0}))
}

func (d *draft) bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, content []byte) { out = append(out, cat([]byte{id}, u(uint32(len(content))), content)...) }
	vector := func(id byte, items [][]byte) {
		if len(items) > 0 {
			section(id, cat(u(uint32(len(items))), cat(items...)))
		}
	}
	vector(secType, d.types)
	vector(secImport, d.imports)
	vector(secFunction, d.funcs)
	vector(secTable, d.tables)
	vector(secMemory, d.memories)
	vector(secGlobal, d.globals)
	vector(secExport, d.exports)
	if d.start != nil {
		section(secStart, d.start)
	}
	vector(secElement, d.elements)
	if d.dataCount {
		section(secDataCount, u(uint32(len(d.data))))
	}
	vector(secCode, d.code)
	vector(secData, d.data)
	return out
}

// single is a module whose one function, run, takes nothing, gives nothing and does code.
func single(locals uint32, code ...[]byte) []byte {
	d := &draft{}
	d.memory(1, 65536)
	d.fn("run", d.typ(nil, nil), locals, code...)
	return d.bytes()
}

func ops(b ...byte) []byte { return b }
