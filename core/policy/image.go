package policy

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// An image is input as OPA's Wasm holds it, so that nothing is parsed there: values as in OPA's value.h, of version
// 1.3 of its ABI. The first byte of a value is its type; addresses, sizes and counts are 32 bits, little-endian.
//
//	null     type
//	boolean  type, value
//	number   type, kept, 6 empty; 64 bits of an integer, or address, length and owner of a text
//	string   type, 3 empty, length, address
//	array    type, 3 empty, address of (index, value) pairs, count, room
//	object   type, 3 empty, address of buckets, their number, count
//	set      likewise
//
// A bucket is the address of (key, value, next), and for a set of (value, next).
const (
	typeNull = iota + 1
	typeBoolean
	typeNumber
	typeString
	typeArray
	typeObject
	typeSet
	typeStringInterned
	typeBooleanInterned
)

const (
	keptInt  = 1 // how a number is kept
	keptText = 2
	maxWord  = math.MaxInt32 // what is larger is kept as text: see exactOperand

	hashSeed     = 0x811c9dc5 // FNV-1
	hashPrime    = 0x01000193
	leastBuckets = 8 // a bucket for every member or two, as OPA has it
)

// An imager writes input as an image. Before that stand the module's memory of what its rules have come to, which
// is empty when a call begins, and the object that all begins with.
type imager struct {
	b     []byte
	table int // bytes of the memory
	facts *facts
	odd   bool // a text holds what the engines need not read the same

	made []made // members of the objects that are not finished
	open []level
}

var _ writer = (*imager)(nil)

type made struct{ key, hash, value uint32 }

type level struct {
	first     int // of made
	key, hash uint32
}

const (
	imageBase = 1 << 20 // where the images begin: behind all that the module itself has
	rootSize  = 16      // bytes
	front     = 24      // bytes: the root, and a text for opa_eval to parse, since the input is not one
)

// write makes the part of input that p has, as build does; what it returns is good until the next write.
func (p plan) write(f *facts, w *imager) []byte {
	w.facts, w.odd = f, false
	if w.b == nil {
		w.b = make([]byte, w.table+front, w.table+4096)
		w.b[w.table+rootSize] = '0'
	}
	w.b = w.b[:w.table+front]
	w.begin(level{})
	for i := range p {
		s := &p[i]
		if s.give != nil {
			w.member(s.name, s.give(f))
			continue
		}
		w.object(s.name)
		for j := range s.fields {
			w.member(s.fields[j].name, s.fields[j].give(f))
		}
		w.end()
	}
	w.fill(w.table, w.finish())
	return w.b
}

// fits reports whether what was written is for Wasm: it holds nothing odd, and there is room for it.
func (w *imager) fits() bool { return !w.odd && len(w.b) <= w.table+maxImage }

func (w *imager) begin(f level) {
	f.first = len(w.made)
	w.open = append(w.open, f)
}

func (w *imager) member(name string, value given) {
	if value.kind == absent {
		return
	}
	key, hash := w.key(name)
	w.add(key, hash, w.value(value))
}

func (w *imager) add(key, hash, value uint32) { w.made = append(w.made, made{key, hash, value}) }

func (w *imager) object(name string) {
	key, hash := w.key(name)
	w.begin(level{key: key, hash: hash})
}

func (w *imager) end() {
	f := w.open[len(w.open)-1]
	w.add(f.key, f.hash, w.header(w.finish()))
}

// A body is what the header of an object tells.
type body struct{ buckets, n, count uint32 }

// finish writes the members of the innermost object.
func (w *imager) finish() body {
	f := w.open[len(w.open)-1]
	w.open = w.open[:len(w.open)-1]
	all := w.made[f.first:]
	o := body{n: leastBuckets, count: uint32(len(all))}
	for o.count*10 > o.n*7 {
		o.n *= 2
	}
	at := w.room(4*int(o.n) + 12*len(all))
	o.buckets = w.address(at)
	for i, m := range all {
		bucket, element := at+4*int(m.hash%o.n), at+4*int(o.n)+12*i
		w.put(element, m.key)
		w.put(element+4, m.value)
		w.put(element+8, binary.LittleEndian.Uint32(w.b[bucket:]))
		w.put(bucket, w.address(element))
	}
	w.made = w.made[:f.first]
	return o
}

func (w *imager) header(o body) uint32 {
	at := w.room(rootSize)
	w.fill(at, o)
	return w.address(at)
}

func (w *imager) fill(at int, o body) {
	w.put(at, typeObject)
	w.put(at+4, o.buckets)
	w.put(at+8, o.n)
	w.put(at+12, o.count)
}

// room adds n empty bytes, and returns where they are.
func (w *imager) room(n int) int {
	at := (len(w.b) + 7) &^ 7
	w.b = append(w.b, make([]byte, at-len(w.b)+n)...)
	return at
}

func (w *imager) address(at int) uint32 { return imageBase + uint32(at) }

func (w *imager) put(at int, v uint32) { binary.LittleEndian.PutUint32(w.b[at:], v) }

func (w *imager) value(g given) uint32 {
	switch g.kind {
	case aBoolean:
		at := w.room(2)
		w.b[at], w.b[at+1] = typeBoolean, byte(g.integer)
		return w.address(at)
	case anInteger:
		return w.integer(g.integer)
	case aFloat:
		return w.float(g.float)
	case aText:
		return w.text(g.text)
	case aList:
		return w.list(g.list)
	case somePairs:
		w.begin(level{})
		for k, v := range g.pairs {
			key, hash := w.key(k)
			w.add(key, hash, w.text(cut(v, maxString)))
		}
	case someMembers:
		w.begin(level{})
		g.members(w.facts, w)
	}
	return w.header(w.finish())
}

func (w *imager) integer(n int64) uint32 {
	if n > maxWord || n < -maxWord {
		var text [20]byte
		return w.digits(strconv.AppendInt(text[:0], n, 10))
	}
	at := w.room(16)
	w.b[at], w.b[at+1] = typeNumber, keptInt
	binary.LittleEndian.PutUint64(w.b[at+8:], uint64(n))
	return w.address(at)
}

func (w *imager) float(x float64) uint32 {
	var text [24]byte
	return w.digits(strconv.AppendFloat(text[:0], x, 'g', -1, 64))
}

// digits writes a number as text.
func (w *imager) digits(number []byte) uint32 {
	at := w.room(16)
	w.b[at], w.b[at+1] = typeNumber, keptText
	w.put(at+8, w.address(len(w.b)))
	w.put(at+12, uint32(len(number)))
	w.b = append(w.b, number...)
	return w.address(at)
}

// text writes s, and a NUL behind it as OPA has it.
func (w *imager) text(s string) uint32 {
	s = clean(s)
	w.odd = w.odd || strings.IndexByte(s, 0) >= 0
	at := w.room(12)
	w.b[at] = typeString
	w.put(at+4, uint32(len(s)))
	w.put(at+8, w.address(len(w.b)))
	w.b = append(append(w.b, s...), 0)
	return w.address(at)
}

// key writes a name, and returns its hash too.
func (w *imager) key(name string) (address, hash uint32) {
	address = w.text(name)
	hash = hashSeed
	for _, c := range w.b[len(w.b)-1-int(binary.LittleEndian.Uint32(w.b[address-imageBase+4:])) : len(w.b)-1] {
		hash = hash*hashPrime ^ uint32(c)
	}
	return address, hash
}

func (w *imager) list(items []string) uint32 {
	at := w.room(16 + 8*len(items))
	w.b[at] = typeArray
	w.put(at+4, w.address(at+16))
	w.put(at+8, uint32(len(items)))
	w.put(at+12, uint32(len(items)))
	for i, s := range items {
		index, value := w.integer(int64(i)), w.text(cut(s, maxString))
		w.put(at+16+8*i, index)
		w.put(at+20+8*i, value)
	}
	return w.address(at)
}
