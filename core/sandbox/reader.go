package sandbox

import (
	"fmt"
	"unicode/utf8"
)

// A reader reads the binary format. Its first error stays, names the offset in the whole module, and makes
// every later read return zero, so that callers check it once.
type reader struct {
	b   []byte // the module up to where this reader may read
	at  int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.at = len(r.b)
}

// truncated notes that the bytes end before what is being read does.
func (r *reader) truncated() { r.fail("truncated at byte %d", len(r.b)) }

func (r *reader) more() bool { return r.err == nil && r.at < len(r.b) }

func (r *reader) byte() byte {
	if r.at >= len(r.b) {
		r.truncated()
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.at) {
		r.truncated()
		return nil
	}
	b := r.b[r.at : r.at+int(n) : r.at+int(n)]
	r.at += int(n)
	return b
}

func (r *reader) u32() uint32 {
	start := r.at
	var v uint32
	for shift := 0; ; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			r.fail("number too long at byte %d", start)
			return 0
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
}

// signed skips a signed number of at most bits bits.
func (r *reader) signed(bits int) {
	start := r.at
	for shift := 0; r.byte() >= 0x80; shift += 7 {
		if shift+7 >= bits {
			r.fail("number too long at byte %d", start)
			return
		}
	}
}

// count reads the length of a vector, whose members take at least one byte each.
func (r *reader) count() int {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)-r.at) {
		r.truncated()
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	at := r.at
	b := r.take(r.u32())
	if !utf8.Valid(b) {
		r.fail("name at byte %d is not UTF-8", at)
	}
	return string(b)
}

// valtype reads the type of a value.
func (r *reader) valtype() Type {
	at := r.at
	t := Type(r.byte())
	if _, ok := typeNames[t]; !ok {
		r.fail("unknown value type %#x at byte %d", byte(t), at)
	}
	return t
}

// reftype reads the type of a reference.
func (r *reader) reftype() Type {
	at := r.at
	t := r.valtype()
	if t != FuncRef && t != ExternRef {
		r.fail("%v at byte %d is not a reference type", t, at)
	}
	return t
}

func (r *reader) valtypes() []Type {
	types := make([]Type, r.count())
	for i := range types {
		types[i] = r.valtype()
	}
	return types
}

// limits reads the bounds of a memory or table.
func (r *reader) limits() Bounds {
	at := r.at
	flag := r.byte()
	if flag > 1 {
		r.fail("limits flag %#x at byte %d: shared and 64-bit memories are not supported", flag, at)
	}
	b := Bounds{Min: r.u32(), HasMax: flag == 1}
	if b.HasMax {
		b.Max = r.u32()
	}
	return b
}

// constant passes over what follows the opcode of a numeric constant.
func (r *reader) constant(op byte) {
	switch op {
	case opI32Const:
		r.signed(32)
	case opI64Const:
		r.signed(64)
	case opF32Const:
		r.take(4)
	case opF64Const:
		r.take(8)
	}
}
