package policy

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A decision that Wasm has come to is copied out of the module's memory in one go, each value as a letter, its
// length or count, and what it holds: that tells one decision from another, and most calls need no more (see
// answers). What lies in a guest's memory is not believed: every address is checked, and there is an end to depth
// and size.
const (
	wireNull   = 'n'
	wireTrue   = 't'
	wireFalse  = 'f'
	wireNumber = 'd'
	wireString = 's'
	wireArray  = 'a'
	wireObject = 'o'
	wireSet    = 'e'
)

const (
	maxWireDepth = 64
	maxWire      = 256 << 10 // bytes
)

// A copier copies one value.
type copier struct {
	memory []byte
	out    []byte
	depth  int
	bad    bool
}

func (c *copier) u32(at uint32) uint32 {
	if uint64(at)+4 > uint64(len(c.memory)) {
		c.bad = true
		return 0
	}
	return binary.LittleEndian.Uint32(c.memory[at:])
}

func (c *copier) head(letter byte, n uint32) {
	c.out = binary.AppendUvarint(append(c.out, letter), uint64(n))
	c.bad = c.bad || len(c.out) > maxWire
}

func (c *copier) value(at uint32) {
	c.depth++
	defer func() { c.depth-- }()
	kind := c.u32(at)
	if c.depth > maxWireDepth || c.bad {
		c.bad = true
		return
	}
	switch byte(kind) {
	case typeNull:
		c.out = append(c.out, wireNull)
	case typeBoolean, typeBooleanInterned:
		c.boolean(byte(kind >> 8))
	case typeNumber:
		c.number(at, byte(kind>>8))
	case typeString, typeStringInterned:
		c.bytes(wireString, c.u32(at+8), c.u32(at+4))
	case typeArray:
		c.array(c.u32(at+4), c.u32(at+8))
	case typeObject:
		c.buckets(wireObject, at)
	case typeSet:
		c.buckets(wireSet, at)
	default:
		c.bad = true
	}
}

func (c *copier) boolean(b byte) {
	if b == 0 {
		c.out = append(c.out, wireFalse)
		return
	}
	c.out = append(c.out, wireTrue)
}

func (c *copier) number(at uint32, kept byte) {
	if kept == keptText {
		c.bytes(wireNumber, c.u32(at+8), c.u32(at+12))
		return
	}
	var text [20]byte
	n := int64(uint64(c.u32(at+8)) | uint64(c.u32(at+12))<<32)
	digits := strconv.AppendInt(text[:0], n, 10)
	c.head(wireNumber, uint32(len(digits)))
	c.out = append(c.out, digits...)
}

func (c *copier) bytes(letter byte, at, n uint32) {
	if uint64(at)+uint64(n) > uint64(len(c.memory)) || n > maxWire {
		c.bad = true
		return
	}
	c.head(letter, n)
	c.out = append(c.out, c.memory[at:at+n]...)
}

func (c *copier) array(elements, n uint32) {
	c.head(wireArray, n)
	for i := uint32(0); i < n && !c.bad; i++ {
		c.value(c.u32(elements + 8*i + 4))
	}
}

// buckets copies the members of an object, or the elements of a set.
func (c *copier) buckets(letter byte, at uint32) {
	buckets, n, count := c.u32(at+4), c.u32(at+8), c.u32(at+12)
	c.head(letter, count)
	for i := uint32(0); i < n && !c.bad; i++ {
		for element := c.u32(buckets + 4*i); element != 0 && !c.bad; count-- {
			c.value(c.u32(element))
			next := element + 4
			if letter == wireObject {
				c.value(c.u32(element + 4))
				next += 4
			}
			element = c.u32(next)
		}
	}
	c.bad = c.bad || count != 0
}

// exactAt reports whether the number at that address is an integer, and not larger than most.
func exactAt(memory []byte, at uint32, most int64) bool {
	c := copier{memory: memory}
	if c.value(at); c.bad {
		return false
	}
	v, ok := parseWire(c.out)
	number, isNumber := v.(ast.Number)
	if !ok || !isNumber || strings.Trim(string(number), "-0123456789") != "" {
		return false
	}
	n, err := strconv.ParseInt(string(number), 10, 64)
	return err == nil && n >= -most && n <= most
}

// A wireReader reads what a copier has written.
type wireReader struct {
	b   []byte
	bad bool
}

// parseWire reads one value; false if b is not just that.
func parseWire(b []byte) (ast.Value, bool) {
	r := &wireReader{b: b}
	t := r.value()
	return t.Value, !r.bad && len(r.b) == 0
}

func (r *wireReader) fail() *ast.Term {
	r.bad, r.b = true, nil
	return ast.NullTerm()
}

func (r *wireReader) count() int {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > maxWire {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return int(n)
}

func (r *wireReader) text() string {
	n := r.count()
	if n > len(r.b) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *wireReader) value() *ast.Term {
	if len(r.b) == 0 {
		return r.fail()
	}
	letter := r.b[0]
	r.b = r.b[1:]
	switch letter {
	case wireNull:
		return ast.NullTerm()
	case wireTrue, wireFalse:
		return ast.BooleanTerm(letter == wireTrue)
	case wireNumber:
		s := r.text()
		if !json.Valid([]byte(s)) || s[0] != '-' && (s[0] < '0' || s[0] > '9') {
			return r.fail()
		}
		return ast.NumberTerm(json.Number(s))
	case wireString:
		s := r.text()
		if !utf8.ValidString(s) {
			return r.fail()
		}
		return ast.StringTerm(s)
	case wireArray:
		return ast.ArrayTerm(r.terms(r.count())...)
	case wireSet:
		return ast.SetTerm(r.terms(r.count())...)
	case wireObject:
		object := ast.NewObject()
		members := r.terms(2 * r.count())
		for i := 0; i+1 < len(members); i += 2 {
			object.Insert(members[i], members[i+1])
		}
		return ast.NewTerm(object)
	}
	return r.fail()
}

func (r *wireReader) terms(n int) []*ast.Term {
	var list []*ast.Term
	for range n {
		if r.bad {
			return nil
		}
		list = append(list, r.value())
	}
	return list
}

// appendValue writes v as OPA's Wasm reads values, which is JSON with sets; false if it cannot be written so.
func appendValue(b []byte, v ast.Value) ([]byte, bool) {
	switch v := v.(type) {
	case ast.Null:
		return append(b, "null"...), true
	case ast.Boolean:
		return strconv.AppendBool(b, bool(v)), true
	case ast.Number:
		return append(b, v...), true
	case ast.String:
		return appendText(b, string(v))
	case *ast.Array:
		return appendElements(append(b, '['), v.Len(), v.Iter, ']')
	case ast.Set:
		if v.Len() == 0 {
			return append(b, "set()"...), true
		}
		return appendElements(append(b, '{'), v.Len(), v.Iter, '}')
	case ast.Object:
		return appendMembers(b, v)
	}
	return b, false
}

func appendText(b []byte, s string) ([]byte, bool) {
	text, err := json.Marshal(s)
	return append(b, text...), err == nil && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func appendElements(b []byte, n int, each func(func(*ast.Term) error) error, end byte) (_ []byte, ok bool) {
	ok = true
	_ = each(func(t *ast.Term) error {
		var whole bool
		b, whole = appendValue(b, t.Value)
		ok = ok && whole
		b = append(b, ',')
		return nil
	})
	if n > 0 {
		b = b[:len(b)-1]
	}
	return append(b, end), ok
}

func appendMembers(b []byte, o ast.Object) (_ []byte, ok bool) {
	ok = true
	b = append(b, '{')
	o.Foreach(func(k, v *ast.Term) {
		var key, value bool
		b, key = appendValue(b, k.Value)
		b, value = appendValue(append(b, ':'), v.Value)
		ok = ok && key && value
		b = append(b, ',')
	})
	if o.Len() > 0 {
		b = b[:len(b)-1]
	}
	return append(b, '}'), ok
}
