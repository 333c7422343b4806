package main

import "unicode/utf8"

// Bounds, in bytes.
const (
	context   = 512 // the manifest's: what is looked back on
	reach     = 300 // how far a word may reach back over a cut
	longest   = 256 // a word in a text
	headBytes = 256 // where words of background work must begin
)

// A keyword is a word in lower case, Hangul composed; a space in it is any white space, or none.
type keyword struct {
	runes   []rune
	profile Profile
	code    int // of its first letters
}

// words are keywords by the character they begin with.
type words struct {
	buckets [256][]keyword
	starts  [256]bool // of ASCII and, above, of the low bits of others
	quick   quick
}

func bucket(r rune) int {
	if r < utf8.RuneSelf {
		return int(r)
	}
	return 128 + int(r&127)
}

// add reads a keyword as texts are read. One without letters is not added.
func (w *words) add(text string, p Profile) bool {
	b := []byte(text)
	var k keyword
	for i := 0; i < len(b); {
		r, size := next(b, i)
		i += size
		if r == ' ' && (len(k.runes) == 0 || k.runes[len(k.runes)-1] == ' ') || r == 0 {
			continue
		}
		k.runes = append(k.runes, r)
	}
	for n := len(k.runes); n > 0 && k.runes[n-1] == ' '; n-- {
		k.runes = k.runes[:n-1]
	}
	if len(k.runes) == 0 || len(k.runes) > 60 {
		return false
	}
	k.profile, k.code = p, codeOf(k.runes)
	i := bucket(k.runes[0])
	w.buckets[i] = append(w.buckets[i], k)
	w.starts[i] = true
	w.quick.add(k.runes)
	return true
}

// A search is where keywords are looked for.
type search struct {
	b     []byte
	from  int
	whole bool // b begins where the text begins
	final bool
	open  bool // a keyword ends where b ends: what follows decides
}

// each calls f for every keyword, with where it begins.
func (w *words) each(s *search, f func(p Profile, at int)) {
	b := s.b
	before := s.from > 0 && class[b[s.from-1]] // a letter of Latin stands before
	for i := w.quick.pass(b, s.from, before); i < len(b); i = w.quick.pass(b, i, before) {
		c := b[i]
		if before = class[c]; c < utf8.RuneSelf {
			w.at(s, rune(fold(c)), i, f)
			i++
			continue
		}
		r, size := next(b, i)
		if w.starts[bucket(r)] {
			w.at(s, r, i, f)
		}
		i += size
	}
}

func (w *words) at(s *search, r rune, i int, f func(p Profile, at int)) {
	second := byte(0)
	if i+1 < len(s.b) && s.b[i] < utf8.RuneSelf {
		second = fold(s.b[i+1])
	}
	list, letters := w.buckets[bucket(r)], code(s.b[i:])
	for k := range list {
		if own := list[k].code; own != letters && letters >= 0 && own != short {
			continue
		}
		if list[k].runes[0] == r && list[k].may(second) && list[k].stands(s, i) {
			f(list[k].profile, i)
		}
	}
}

// may reports whether the keyword may go on with the byte c; most do not, and this is quick.
func (k *keyword) may(c byte) bool {
	return !alphanumeric(c) || len(k.runes) == 1 || k.runes[1] == ' ' || k.runes[1] == rune(c)
}

// stands reports whether the keyword is at i: Latin letters as a word of their own, Hangul before anything. At a cut
// that is open: it is found when the next piece has come.
func (k *keyword) stands(s *search, i int) bool {
	start := i
	for _, want := range k.runes {
		if want == ' ' {
			for i < len(s.b) && i-start < longest {
				r, size := next(s.b, i)
				if r != ' ' && r != 0 {
					break
				}
				i += size
			}
			continue
		}
		if i < len(s.b) && class[s.b[i]] && i-start < longest {
			if rune(fold(s.b[i])) != want {
				return false
			}
			i++
			continue
		}
		r, size := rune(0), 0
		for r == 0 && i < len(s.b) && i-start < longest { // what cannot be seen is passed over
			r, size = next(s.b, i)
			i += size
		}
		if r != want {
			return false
		}
	}
	if i-start > longest {
		return false
	}
	if i == len(s.b) {
		s.open = s.open || !s.final
		return s.final
	}
	after, _ := next(s.b, i)
	last := k.runes[len(k.runes)-1]
	return !(latin(last) && latin(after))
}

// latin reports whether a character is part of words that are parted by spaces.
func latin(r rune) bool { return r < utf8.RuneSelf && alphanumeric(byte(r)) }

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

var class = func() (t [256]bool) {
	for c := range t {
		t[c] = c < utf8.RuneSelf && alphanumeric(byte(c))
	}
	return t
}()

func fold(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
