package main

import "unicode/utf8"

// A cursor reads the characters of a JSON string, its escapes undone.
type cursor struct {
	b []byte
	i int
}

// next returns the next character, -1 at the end. A surrogate without its other half is U+FFFD.
func (c *cursor) next() rune {
	if c.i >= len(c.b) {
		return -1
	}
	if b := c.b[c.i]; b != '\\' {
		if b < utf8.RuneSelf {
			c.i++
			return rune(b)
		}
		r, n := utf8.DecodeRune(c.b[c.i:])
		c.i += n
		return r
	}
	c.i += 2
	switch b := c.b[c.i-1]; b {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'u':
		return c.unicode()
	default:
		return rune(b)
	}
}

// unicode reads the digits of an escape, and those of its other half when it is half a character.
func (c *cursor) unicode() rune {
	r, _ := hex4(c.b[c.i:])
	c.i += 4
	if r < 0xd800 || r > 0xdfff {
		return r
	}
	if rest := c.b[c.i:]; r < 0xdc00 && len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
		if low, _ := hex4(rest[2:]); low >= 0xdc00 && low <= 0xdfff {
			c.i += 6
			return (r-0xd800)<<10 + (low - 0xdc00) + 0x10000
		}
	}
	return utf8.RuneError
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// hashOf is the FNV-1a hash of a string's characters, however they are written.
func hashOf(b []byte, escaped bool) uint32 {
	const basis, prime = 2166136261, 16777619
	h := uint32(basis)
	if !escaped {
		for _, c := range b {
			h = (h ^ uint32(c)) * prime
		}
		return h
	}
	var buf [utf8.UTFMax]byte
	c := cursor{b: b}
	for r := c.next(); r >= 0; r = c.next() {
		for _, x := range buf[:utf8.EncodeRune(buf[:], r)] {
			h = (h ^ uint32(x)) * prime
		}
	}
	return h
}

// length counts a string's characters.
func length(b []byte, escaped bool) (n int) {
	if !escaped {
		return utf8.RuneCount(b)
	}
	c := cursor{b: b}
	for c.next() >= 0 {
		n++
	}
	return n
}

// sameText compares two strings of which at least one may hold escapes.
func sameText(a []byte, aEscaped bool, b []byte, bEscaped bool) bool {
	if !aEscaped && !bEscaped {
		return string(a) == string(b)
	}
	x, y := cursor{b: a}, cursor{b: b}
	for {
		r := x.next()
		if r != y.next() {
			return false
		}
		if r < 0 {
			return true
		}
	}
}

// sameName reports whether the members a of t and b of u have the same name.
func (t *tree) sameName(a int32, u *tree, b int32) bool {
	m, n := &t.nodes[a], &u.nodes[b]
	return m.hash == n.hash && sameText(t.text[m.name:m.stop], m.escName, u.text[n.name:n.stop], n.escName)
}

// member is the node of the object's member of that name, which is plain ASCII; 0: there is none.
func (t *tree) member(object int32, name string) int32 {
	if t.nodes[object].kind != isObject {
		return 0
	}
	for m, end := object+1, t.nodes[object].next; m < end; m = t.nodes[m].next {
		if string(t.name(m)) == name {
			return m
		}
	}
	return 0
}

// memberLike is the object's member of the name that the node n of u has; 0: there is none.
func (t *tree) memberLike(object int32, u *tree, n int32) int32 {
	for m, end := object+1, t.nodes[object].next; m < end; m = t.nodes[m].next {
		if t.sameName(m, u, n) {
			return m
		}
	}
	return 0
}

// memberOf is the object's member of the name that the string n of u says; 0: there is none.
func (t *tree) memberOf(object int32, u *tree, n int32) int32 {
	s := &u.nodes[n]
	text := u.text[s.start:s.end]
	for m, end := object+1, t.nodes[object].next; m < end; m = t.nodes[m].next {
		if x := &t.nodes[m]; sameText(t.text[x.name:x.stop], x.escName, text, s.escaped) {
			return m
		}
	}
	return 0
}

// name is a member's name, its escapes undone.
func (t *tree) name(m int32) []byte {
	n := &t.nodes[m]
	b := t.text[n.name:n.stop]
	if !n.escName {
		return b
	}
	return undo(b)
}

// string is a string's value, its escapes undone.
func (t *tree) string(v int32) []byte {
	n := &t.nodes[v]
	b := t.text[n.start:n.end]
	if !n.escaped {
		return b
	}
	return undo(b)
}

func undo(b []byte) []byte {
	s := make([]byte, 0, len(b))
	c := cursor{b: b}
	for r := c.next(); r >= 0; r = c.next() {
		s = utf8.AppendRune(s, r)
	}
	return s
}
