package llm

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"
	"strconv"
	"unicode/utf8"
)

// fewKeys is how many keys of an object are compared one by one; larger objects are sorted at their end.
const fewKeys = 16

// seed keeps callers from choosing keys that collide.
var seed = maphash.MakeSeed()

// An object is a walk through the members of an object.
type object struct {
	known names  // names that no key may merely resemble; nil: none
	key   []byte // decoded; valid until the next key is read
	hash  uint64 // of key; only when strict
	at    Span   // the key without its quotes, as it stands
	base  int    // where its keys begin in scanner.keys
	n     int    // members begun so far
	none  bool   // there is no object at hand
}

// A keyMark remembers a key of an object that is still open.
type keyMark struct {
	hash uint64
	at   Span
}

// names is a set of member names.
type names map[string]struct{}

// object enters the object at hand.
func (s *scanner) object(known names) object {
	s.down()
	return object{known: known, base: len(s.keys)}
}

// next reads the next key and its colon and stands the scanner before the value; false at the end.
func (s *scanner) next(o *object) bool {
	if o.none {
		return false
	}
	if s.err != nil {
		s.blame(s.name(o.at))
		return false
	}
	c := s.peek()
	if c == '}' {
		s.i++
		s.depth--
		s.shut(o)
		return false
	}
	if o.n > 0 {
		if c != ',' {
			s.unexpected()
			return false
		}
		s.i++
		c = s.peek()
	}
	if c != '"' {
		s.unexpected()
		return false
	}
	o.n++
	return s.readKey(o)
}

func (s *scanner) readKey(o *object) bool {
	at, escaped := s.str()
	if s.err != nil {
		return false
	}
	o.at, o.key = at, s.b[at.Start:at.End]
	if escaped {
		s.scratch = appendDecoded(s.scratch[:0], o.key)
		o.key = s.scratch
	}
	if s.strict {
		s.register(o)
	}
	if s.peek() != ':' {
		s.unexpected()
		return false
	}
	s.i++
	s.peek()
	return s.err == nil
}

// register refuses a key that repeats one of its object or resembles a known name.
func (s *scanner) register(o *object) {
	o.hash = maphash.Bytes(seed, o.key)
	keys := s.keys[o.base:]
	if len(keys) <= fewKeys {
		for _, k := range keys {
			if k.hash == o.hash {
				s.same(k.at, o.at)
			}
		}
	}
	if len(keys) >= maxKeys {
		s.fail("", "has an object of more than "+strconv.Itoa(maxKeys)+" members")
		s.syntax = true
	}
	s.keys = append(s.keys, keyMark{o.hash, o.at})
	if o.known != nil && s.err == nil {
		s.resembles(o)
	}
}

// shut forgets the keys of an object that ends, after a last look for repeats.
func (s *scanner) shut(o *object) {
	if !s.strict {
		return
	}
	keys := s.keys[o.base:]
	if len(keys) > fewKeys+1 {
		slices.SortFunc(keys, func(a, b keyMark) int { return cmp.Compare(a.hash, b.hash) })
		for i := 1; i < len(keys); i++ {
			if keys[i].hash == keys[i-1].hash {
				s.same(keys[i-1].at, keys[i].at)
			}
		}
	}
	s.keys = s.keys[:o.base]
}

// same notes a fault if the keys at a and b, whose hashes agree, are equal once decoded.
func (s *scanner) same(a, b Span) {
	x := appendDecoded(nil, s.b[a.Start:a.End])
	if bytes.Equal(x, appendDecoded(nil, s.b[b.Start:b.End])) {
		s.fail(s.name(b), "is given more than once")
	}
}

// resembles notes a fault if the key is not a known name but case-folds onto one: some parsers would
// take it for that name (Go's encoding/json does), others would not.
func (s *scanner) resembles(o *object) {
	var folded [48]byte
	n, changed := foldKey(&folded, o.key)
	if !changed {
		return
	}
	if _, ok := o.known[string(folded[:n])]; ok {
		s.fail(s.name(o.at), "differs only in letter case from "+strconv.Quote(string(folded[:n]))+", which is written exactly so")
	}
}

// foldKey writes key's simple case folding into dst. Of all that is not ASCII only the Kelvin sign and
// the long s fold onto ASCII letters, and all known names are ASCII. changed is false when there is
// nothing to fold or the key is longer than any known name.
func foldKey(dst *[48]byte, key []byte) (n int, changed bool) {
	for i := 0; i < len(key) && n < len(dst); {
		c, size := rune(key[i]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRune(key[i:])
		}
		i += size
		switch {
		case c >= 'A' && c <= 'Z':
			c, changed = c+'a'-'A', true
		case c == '\u212a':
			c, changed = 'k', true
		case c == '\u017f':
			c, changed = 's', true
		case c >= utf8.RuneSelf:
			return 0, false
		}
		dst[n] = byte(c)
		n++
	}
	return n, changed
}

// name returns the key at for an error's param, shortened if it is absurd.
func (s *scanner) name(at Span) string {
	const longest = 64 // bytes
	key := appendDecoded(nil, s.b[at.Start:at.End])
	if len(key) > longest {
		key = append(bytes.ToValidUTF8(key[:longest], nil), "…"...)
	}
	return string(key)
}
