package nexus

import "strconv"

// A scanner walks over a JSON text without making anything of it.
type scanner struct {
	s       string
	i       int
	trusted bool // it is well-formed: names need no comparing
}

func (s *scanner) fault() error {
	return Error("not JSON: byte " + strconv.Itoa(s.i) + " of " + strconv.Itoa(len(s.s)) + " is out of place")
}

func (s *scanner) peek() byte {
	if s.i < len(s.s) {
		return s.s[s.i]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.peek() != c || s.i == len(s.s) {
		return false
	}
	s.i++
	return true
}

func (s *scanner) space() {
	for c := s.peek(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = s.peek() {
		s.i++
	}
}

// value passes over a value and reports whether there was one.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); c {
	case '"':
		return s.text()
	case '[', '{':
		return depth < maxDepth && s.many(c, depth+1)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

// many passes over a list or an object.
func (s *scanner) many(open byte, depth int) bool {
	end := open + 2 // ] and } in ASCII
	s.i++
	if s.space(); s.take(end) {
		return true
	}
	var names map[string]bool
	if open == '{' && !s.trusted {
		names = map[string]bool{}
	}
	for {
		if s.space(); open == '{' && !s.member(names) {
			return false
		}
		if !s.value(depth) {
			return false
		}
		if s.space(); s.take(end) {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

// member passes over a member's name, one that is not yet among names.
func (s *scanner) member(names map[string]bool) bool {
	start := s.i
	if s.trusted {
		s.name()
		return true
	}
	if !s.text() {
		return false
	}
	r := reader{b: []byte(s.s[start:s.i])}
	name, _ := r.string()
	if names[name] {
		s.i = start
		return false
	}
	names[name] = true
	if s.space(); !s.take(':') {
		return false
	}
	s.space()
	return true
}

// name reads a member's name where it is known to stand, and the colon behind it.
func (s *scanner) name() string {
	start := s.i
	s.text()
	r := reader{b: []byte(s.s[start:s.i])}
	name, _ := r.string()
	s.space()
	s.take(':')
	s.space()
	return name
}

func (s *scanner) word(w string) bool {
	if len(s.s)-s.i < len(w) || s.s[s.i:s.i+len(w)] != w {
		return false
	}
	s.i += len(w)
	return true
}

func (s *scanner) text() bool {
	if !s.take('"') {
		return false
	}
	for s.i < len(s.s) {
		switch c := s.s[s.i]; {
		case c == '"':
			s.i++
			return true
		case c < ' ' || c == '\\' && !s.escape():
			return false
		case c != '\\':
			s.i++
		}
	}
	return false
}

// escape passes over a backslash and what it stands for.
func (s *scanner) escape() bool {
	if s.i+1 >= len(s.s) {
		return false
	}
	switch s.s[s.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i += 2
		return true
	case 'u':
		for k := s.i + 2; k < s.i+6; k++ {
			if k >= len(s.s) || hex(s.s[k]) < 0 {
				return false
			}
		}
		s.i += 6
		return true
	}
	return false
}

func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	start := s.i
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.i++
	}
	return s.i > start
}
