package llm

import "strconv"

const (
	maxDepth = 64      // levels of nesting in a body or payload
	maxKeys  = 10_000  // members of one object
	maxTexts = 1 << 16 // texts of one body or payload: three bytes can make one, and each is kept track of
)

// A scanner walks JSON text in place and checks all of it against RFC 8259. A strict one (requests)
// also refuses what two parsers could read differently: repeated keys, keys that case-fold onto names
// the gateway reads, lone surrogates. Whoever walks an object or array takes each value exactly once,
// by skip or by a reader; after the first fault every call does nothing and every loop ends.
type scanner struct {
	b       []byte
	i       int
	depth   int
	strict  bool
	syntax  bool // err is a fault of the JSON text itself, so no member is to blame
	err     *BodyError
	keys    []keyMark // keys of the open objects, innermost last
	scratch []byte    // the current key, when it had to be decoded
}

// fail notes the first fault. Param is relative to the value being read: the loops that unwind put
// their keys and indices in front of it. The predicate follows the param's name in the final sentence.
func (s *scanner) fail(param, predicate string) {
	if s.err == nil {
		s.err = &BodyError{Offset: s.i, Param: param, Reason: predicate}
	}
}

// bad notes that the text is not JSON.
func (s *scanner) bad(what string) {
	if s.err == nil {
		s.syntax = true
		s.err = &BodyError{Offset: s.i, Reason: "is not valid JSON: " + what + " at byte " + strconv.Itoa(s.i)}
	}
}

// wrong notes that the value at hand is not what its member wants.
func (s *scanner) wrong(want string) {
	at, kind := s.i, s.kind()
	s.skip() // what is no value at all is a syntax error, not one of the wrong kind
	if s.err == nil {
		s.i = at
		s.fail("", "must be "+want+", not "+kind)
	}
}

// kind names the value at hand for a human.
func (s *scanner) kind() string {
	switch c := s.peek(); {
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	}
	return "a number"
}

// peek skips white space and returns the byte at hand, or 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		c := s.b[s.i]
		if c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c
		}
		s.i++
	}
	return 0
}

// unexpected notes that the byte at hand cannot stand there.
func (s *scanner) unexpected() {
	if s.i >= len(s.b) {
		s.bad("it ends too early")
		return
	}
	s.bad("unexpected character " + strconv.QuoteRune(rune(s.b[s.i])))
}

// skip takes any value.
func (s *scanner) skip() {
	if s.err != nil {
		return
	}
	switch c := s.peek(); {
	case c == '"':
		s.str()
	case c == '{':
		o := s.object(nil)
		for s.next(&o) {
			s.skip()
		}
	case c == '[':
		s.skipArray()
	case c == 't':
		s.word("true")
	case c == 'f':
		s.word("false")
	case c == 'n':
		s.word("null")
	case c == '-' || c-'0' <= 9:
		s.number()
	default:
		s.unexpected()
	}
}

func (s *scanner) skipArray() {
	a := s.array()
	for s.elem(&a) {
		if s.b[s.i]-'0' <= 9 || s.b[s.i] == '-' {
			s.number()
			continue
		}
		s.skip()
	}
}

func (s *scanner) word(w string) {
	if end := s.i + len(w); end <= len(s.b) && string(s.b[s.i:end]) == w {
		s.i = end
		return
	}
	s.unexpected()
}

// null takes a null if one is at hand.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.word("null")
	return true
}

// down enters a level of nesting.
func (s *scanner) down() {
	s.i++
	s.depth++
	if s.depth > maxDepth {
		s.fail("", "is nested deeper than "+strconv.Itoa(maxDepth)+" levels")
		s.syntax = true
	}
}

// end checks that nothing but white space follows the value.
func (s *scanner) end() {
	if s.err == nil && (s.peek() != 0 || s.i < len(s.b)) {
		s.bad("more text after the value")
	}
}

// An array is a walk through the elements of an array.
type array struct {
	n    int  // elements begun so far
	none bool // there is no array at hand
}

// array enters the array at hand.
func (s *scanner) array() array {
	s.down()
	return array{}
}

// elem stands the scanner before the next element; false at the end.
func (s *scanner) elem(a *array) bool {
	if a.none {
		return false
	}
	if s.err != nil {
		s.blame("[" + strconv.Itoa(a.n-1) + "]")
		return false
	}
	switch c := s.peek(); {
	case c == ']':
		s.i++
		s.depth--
		return false
	case a.n == 0:
	case c == ',':
		s.i++
		if s.peek() == ']' {
			s.unexpected()
			return false
		}
	default:
		s.unexpected()
		return false
	}
	if s.i >= len(s.b) {
		s.unexpected()
		return false
	}
	a.n++
	return true
}

// blame puts the name of an enclosing member or index in front of the param at fault.
func (s *scanner) blame(name string) {
	switch p := s.err.Param; {
	case s.syntax:
	case p == "" || p[0] == '[':
		s.err.Param = name + p
	default:
		s.err.Param = name + "." + p
	}
}
