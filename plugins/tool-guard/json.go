package main

import (
	"unicode/utf8"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// A kind is what a JSON value is. Kinds are bits, so that a set of them is one too.
type kind uint8

const (
	isNull kind = 1 << iota
	isFalse
	isTrue
	isNumber
	isString
	isArray
	isObject
	isBool = isFalse | isTrue
)

// Bounds of a JSON text.
const (
	maxNodes  = 1 << 16
	maxDepth  = 64
	maxProbes = 64 // comparisons for one name, on average, before an object counts as hostile
)

// A node is one value of a tree, or one member of an object: a value with a name. Strings and names stand without
// their quotes. A node's children follow it; next is the node behind the last of them.
type node struct {
	start, end uint32
	name, stop uint32
	next       int32
	count      int32 // children
	hash       uint32
	kind       kind
	escaped    bool // the string holds escapes
	escName    bool // the name does
}

// A tree is a JSON text taken apart. It is used again and again: its slices stay.
type tree struct {
	text  []byte
	nodes []node
	seen  []int32 // a table of an object's names, while they are compared
}

// Faults of a JSON text.
const (
	errText   = nexus.Error("they are not JSON")
	errTwice  = nexus.Error("a member is named twice")
	errLarge  = nexus.Error("there are too many values to check")
	errDeep   = nexus.Error("they are nested too deep")
	errNumber = nexus.Error("a number is too large to check")
)

// parse takes text apart. The tree looks into text for as long as it is used.
func (t *tree) parse(text []byte) error {
	t.text, t.nodes = text, t.nodes[:0]
	if !utf8.Valid(text) {
		return errText
	}
	r := reader{tree: t}
	if r.peek(); !r.value(node{}, 0) {
		return r.err()
	}
	if r.peek(); r.i < len(text) {
		return errText
	}
	return nil
}

type reader struct {
	*tree
	i     int
	fault error
}

func (r *reader) err() error {
	if r.fault == nil {
		return errText
	}
	return r.fault
}

func (r *reader) failed(err error) bool {
	r.fault = err
	return false
}

// peek returns the next byte after white space, 0 at the end.
func (r *reader) peek() byte {
	for ; r.i < len(r.text); r.i++ {
		if c := r.text[r.i]; c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

func (r *reader) take(c byte) bool {
	if r.peek() != c || r.i == len(r.text) {
		return false
	}
	r.i++
	return true
}

// value reads a value into n, which has its name already, and adds it to the tree.
func (r *reader) value(n node, depth int) bool {
	if len(r.nodes) == maxNodes {
		return r.failed(errLarge)
	}
	at := len(r.nodes)
	r.nodes = append(r.nodes, n)
	c := r.peek()
	r.nodes[at].start = uint32(r.i)
	ok := false
	switch c {
	case '{':
		ok = r.many(at, isObject, depth+1)
	case '[':
		ok = r.many(at, isArray, depth+1)
	case '"':
		n.start, n.end, n.escaped, ok = r.str()
		r.nodes[at].kind, r.nodes[at].start, r.nodes[at].end, r.nodes[at].escaped = isString, n.start, n.end, n.escaped
		r.nodes[at].next = int32(len(r.nodes))
		return ok
	case 't':
		ok = r.word(at, isTrue, "true")
	case 'f':
		ok = r.word(at, isFalse, "false")
	case 'n':
		ok = r.word(at, isNull, "null")
	default:
		ok = r.number(at)
	}
	r.nodes[at].end = uint32(r.i)
	r.nodes[at].next = int32(len(r.nodes))
	return ok
}

func (r *reader) word(at int, k kind, word string) bool {
	r.nodes[at].kind = k
	if len(r.text)-r.i < len(word) || string(r.text[r.i:r.i+len(word)]) != word {
		return false
	}
	r.i += len(word)
	return true
}

func (r *reader) many(at int, k kind, depth int) bool {
	if depth > maxDepth {
		return r.failed(errDeep)
	}
	r.nodes[at].kind = k
	end := byte(']')
	if k == isObject {
		end = '}'
	}
	r.i++
	for count := int32(0); ; count++ {
		switch {
		case count == 0 && r.take(end):
			return true
		case count > 0 && r.take(end):
			r.nodes[at].count = count
			return k == isArray || r.distinct(at) || r.failed(errTwice)
		case count > 0 && !r.take(','):
			return false
		case !r.member(k, depth):
			return false
		}
	}
}

// member reads one element of an array, or one member of an object.
func (r *reader) member(k kind, depth int) bool {
	var n node
	if k == isObject {
		ok := false
		if r.peek() != '"' {
			return false
		}
		if n.name, n.stop, n.escName, ok = r.str(); !ok || !r.take(':') {
			return false
		}
		n.hash = hashOf(r.text[n.name:n.stop], n.escName)
	}
	return r.value(n, depth)
}

// distinct reports whether an object names no member twice. One whose names were chosen to be slow to compare
// counts as one that does.
func (t *tree) distinct(at int) bool {
	o := t.nodes[at]
	size := 8
	for size < int(o.count)*2 {
		size *= 2
	}
	if cap(t.seen) < size {
		t.seen = make([]int32, size)
	}
	t.seen = t.seen[:size]
	clear(t.seen)
	probes := int(o.count) * maxProbes
	for m, end := int32(at)+1, int32(len(t.nodes)); m < end; m = t.nodes[m].next {
		slot := int(t.nodes[m].hash) & (size - 1)
		for ; t.seen[slot] != 0; slot = (slot + 1) & (size - 1) {
			if probes--; probes < 0 || t.sameName(m, t, t.seen[slot]) {
				return false
			}
		}
		t.seen[slot] = m
	}
	return true
}

// str reads a string and returns where it stands within its quotes.
func (r *reader) str() (start, end uint32, escaped, ok bool) {
	r.i++
	start = uint32(r.i)
	for r.i < len(r.text) {
		switch c := r.text[r.i]; {
		case c == '"':
			r.i++
			return start, uint32(r.i - 1), escaped, true
		case c < ' ' || c == '\\' && !r.escape():
			return 0, 0, false, false
		case c == '\\':
			escaped = true
		default:
			r.i++
		}
	}
	return 0, 0, false, false
}

// escape passes over a backslash and what it stands for.
func (r *reader) escape() bool {
	if r.i+1 >= len(r.text) {
		return false
	}
	switch r.text[r.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		r.i += 2
		return true
	case 'u':
		_, ok := hex4(r.text[r.i+2:])
		r.i += 6
		return ok
	}
	return false
}

// number reads a number. One whose exponent has more than four digits is refused: nothing sensible is so large, and
// sums about it would take long.
func (r *reader) number(at int) bool {
	r.nodes[at].kind = isNumber
	r.lone('-')
	if !r.lone('0') && r.digits() == 0 {
		return false
	}
	if r.lone('.') && r.digits() == 0 {
		return false
	}
	if r.lone('e') || r.lone('E') {
		if !r.lone('+') {
			r.lone('-')
		}
		switch n := r.digits(); {
		case n == 0:
			return false
		case n > 4:
			return r.failed(errNumber)
		}
	}
	return true
}

func (r *reader) lone(c byte) bool {
	if r.i < len(r.text) && r.text[r.i] == c {
		r.i++
		return true
	}
	return false
}

func (r *reader) digits() int {
	start := r.i
	for r.i < len(r.text) && r.text[r.i] >= '0' && r.text[r.i] <= '9' {
		r.i++
	}
	return r.i - start
}
