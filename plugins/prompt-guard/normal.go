package main

import "unicode/utf8"

// Gaps are what stands between a symbol and the one before it.
const (
	none   = 0 // nothing that can be seen
	tight  = 1 // punctuation or signs
	wide   = 2 // white space, with at most three signs behind it; also the start of a text
	inside = 3 // nothing: both belong to one Hangul syllable
)

// Bounds, in bytes of text.
const (
	span      = 448              // longest match
	look      = 192              // how far past its end a match may be decided by what follows
	before    = 64               // how far before the text symbols are read, to tell what the first one follows
	invisible = 32               // longest run of characters without a look that joins what stands around it
	most      = (48 << 10) + 512 // symbols of a piece: a Hangul syllable of 3 bytes has up to 4
)

// A normal is a text as symbols: case, width, accents, look-alikes and invisible characters taken away, Hangul
// as its letters in the order of the keyboard, which is the same for composed, decomposed and loose ones.
type normal struct {
	sym  [most]byte
	gap  [most]uint8
	pos  [most]uint32 // where the symbol's character begins
	end  [most]uint32 // and ends
	head [most]uint32 // of the gap before, unless there is none: its first signs, the first in the lowest byte
	tail [most]uint32 // and its last three signs, the last in the lowest byte
	n    int
	stop int // how much of the text was read: all but an escape that is not yet whole

	// The gap that is open behind the last symbol.
	open     uint8
	signs    int
	blank    bool // the last character of it is white space
	since    int  // signs since the last white space
	hd, tl   uint32
	unseen   int // bytes of the run of invisible characters
	escapes  bool
	lastHan  uint8 // of the last symbol: 1 a consonant, 2 a vowel, 0 neither
	complete bool  // nothing follows
}

// read makes symbols of b from at on. escapes says that \n and \u00e9 stand for what they escape.
func (s *normal) read(b []byte, at int, final, escapes bool) {
	s.n, s.open, s.signs, s.blank, s.since, s.hd, s.tl, s.unseen, s.lastHan = 0, wide, 0, false, 0, 0, 0, 0, 0
	s.escapes, s.complete = escapes, final
	for at < len(b) {
		c := b[at]
		if c == ' ' && s.open == none {
			s.open, s.blank, s.since, s.unseen = wide, true, 0, 0
			at++
			continue
		}
		if t := ascii[c]; t != 0 {
			s.letter(t, at, at+1)
			at = s.run(b, at+1)
			continue
		}
		if c == '\\' {
			size := s.escape(b, at)
			if size == 0 {
				break
			}
			at += size
			continue
		}
		if c < utf8.RuneSelf {
			s.separate(c)
			at++
			continue
		}
		if c >= 0xea && c <= 0xed && at+3 <= len(b) {
			if v := int(c&15)<<12 | int(b[at+1]&0x3f)<<6 | int(b[at+2]&0x3f); v >= 0xac00 && v <= 0xd7a3 {
				s.syllable(v-0xac00, at, at+3)
				at += 3
				continue
			}
		}
		r, size := utf8.DecodeRune(b[at:])
		s.rune(r, at, at+size)
		at += size
	}
	s.stop = at
}

// run adds the ASCII letters from at on and returns where they end: calls are what costs in Wasm.
func (s *normal) run(b []byte, at int) int {
	n := s.n
	for at < len(b) && n < most {
		t := ascii[b[at]]
		if t == 0 {
			break
		}
		s.sym[n], s.gap[n], s.pos[n], s.end[n] = t, none, uint32(at), uint32(at+1)
		n++
		at++
	}
	s.n = n
	return at
}

// letter adds a symbol that stands for [from, to) of the text.
func (s *normal) letter(c byte, from, to int) {
	n := s.n
	if n == most {
		return
	}
	s.sym[n], s.gap[n], s.pos[n], s.end[n] = c, s.open, uint32(from), uint32(to)
	if s.open != none {
		s.head[n], s.tail[n] = s.hd, s.tl
		s.open, s.signs, s.blank, s.since, s.hd, s.tl = none, 0, false, 0, 0, 0
	}
	s.unseen, s.lastHan = 0, 0
	s.n = n + 1
}

// separate notes a character between symbols; signs are kept by their ASCII.
func (s *normal) separate(c byte) {
	s.unseen = 0
	if c <= ' ' {
		s.open = wide
		if s.blank { // signs far apart say nothing together
			s.tl, s.signs = 0, max(s.signs, 4)
		}
		s.blank, s.since = true, 0
		return
	}
	s.blank = false
	if s.since++; s.since > 3 || s.open == none {
		s.open = tight
	}
	if s.signs < 4 {
		s.hd |= uint32(c) << (8 * s.signs)
	}
	s.tl = s.tl<<8&0xffffff | uint32(c)
	s.signs++
}

// hide notes characters that cannot be seen: they join what stands around them, unless there are many.
func (s *normal) hide(size int) {
	s.unseen += size
	if s.unseen > 6 {
		s.tl, s.signs = 0, max(s.signs, 4)
	}
	if s.unseen > invisible {
		s.open = tight
	}
}

// escape reads what a backslash at i begins, and returns its size; 0: the text ends too early to tell.
func (s *normal) escape(b []byte, i int) int {
	if i+1 >= len(b) && !s.complete {
		return 0
	}
	if i+1 < len(b) && s.escapes {
		switch b[i+1] {
		case 'n', 't', 'r', 'b', 'f':
			s.separate(' ')
			return 2
		case '"':
			s.separate('"')
			return 2
		}
	}
	if i+1 >= len(b) || b[i+1] != 'u' {
		s.separate('\\')
		return 1
	}
	v := rune(0)
	for k := i + 2; k < i+6; k++ {
		if k >= len(b) {
			if s.complete {
				break
			}
			return 0
		}
		d := hexOf(b[k])
		if d < 0 {
			s.separate('\\')
			return 1
		}
		v = v<<4 | rune(d)
	}
	if i+6 > len(b) {
		s.separate('\\')
		return 1
	}
	s.rune(v, i, i+6)
	return 6
}

func hexOf(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// rune adds what a character beyond ASCII, or an escaped one, stands for.
func (s *normal) rune(r rune, from, to int) {
	if r >= 0xac00 && r <= 0xd7a3 {
		s.syllable(int(r-0xac00), from, to)
		return
	}
	if r >= 0x1100 && r <= 0x11ff || r >= 0x3131 && r <= 0x3163 || r >= 0xffa1 && r <= 0xffdc {
		s.jamo(r, from, to)
		return
	}
	switch c := fold(r); c {
	case hidden:
		s.hide(to - from)
	case unknown:
		s.other(r, from, to)
	default:
		if t := ascii[c]; t != 0 {
			s.letter(t, from, to)
			return
		}
		s.separate(c)
	}
}

// other adds a letter of another script as its own bytes.
func (s *normal) other(r rune, from, to int) {
	var raw [utf8.UTFMax]byte
	n := utf8.EncodeRune(raw[:], r)
	for i, c := range raw[:n] {
		s.letter(c, from, to)
		if i > 0 {
			s.gap[s.n-1] = inside
		}
	}
}

// syllable adds a composed Hangul syllable.
func (s *normal) syllable(v, from, to int) {
	s.letter(consonant+byte(v/588), from, to)
	n := s.n
	if n >= most-3 {
		return
	}
	s.sym[n], s.gap[n], s.pos[n], s.end[n] = vowel+byte(v%588/28), inside, uint32(from), uint32(to)
	n++
	tail := tails[v%28]
	for i := 0; i < len(tail); i++ {
		s.sym[n], s.gap[n], s.pos[n], s.end[n] = tail[i], inside, uint32(from), uint32(to)
		n++
	}
	s.n = n
	s.lastHan = 2
	if tail != "" {
		s.lastHan = 3
	}
}

// jamo adds loose Hangul letters. A vowel behind a consonant belongs to its syllable, as does a final consonant.
func (s *normal) jamo(r rune, from, to int) {
	loose, kind := letters(r)
	if kind == 0 {
		s.hide(to - from)
		return
	}
	join := s.open == none && s.n > 0 && (kind == 2 && (s.lastHan == 1 || s.lastHan == 3) || kind == 3 && s.lastHan == 2)
	for i, c := range []byte(loose) {
		s.letter(c, from, to)
		if join || i > 0 {
			s.gap[s.n-1] = inside
		}
	}
	s.lastHan = kind
}

// Symbols of Hangul: consonants are upper-case letters, which nothing else is after folding, vowels control bytes.
const (
	consonant = 'A'
	vowel     = 1
	vowels    = 21
)

func isVowel(c byte) bool  { return c >= vowel && c < vowel+vowels }
func isHangul(c byte) bool { return isVowel(c) || c >= 'A' && c <= 'S' }

// tails are the final consonants in Unicode's order, double ones as two.
var tails = [28]string{"", "A", "B", "AJ", "C", "CM", "CS", "D", "F", "FA", "FG", "FH", "FJ", "FQ", "FR", "FS", "G", "H", "HJ",
	"J", "K", "L", "M", "O", "P", "Q", "R", "S"}

// loose are the consonants of the compatibility letters U+3131 to U+314E.
var loose = [30]string{"A", "B", "AJ", "C", "CM", "CS", "D", "E", "F", "FA", "FG", "FH", "FJ", "FQ", "FR", "FS", "G", "H", "I",
	"HJ", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S"}

const eachVowel = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15"
const eachConsonant = "ABCDEFGHIJKLMNOPQRS"

// letters returns the symbols of a loose Hangul letter, and 1 for a consonant, 2 for a vowel, 3 for a final
// consonant; 0 for what is not seen.
func letters(r rune) (symbols string, kind uint8) {
	switch {
	case r >= 0x1100 && r <= 0x1112:
		return eachConsonant[r-0x1100 : r-0x1100+1], 1
	case r >= 0x1161 && r <= 0x1175:
		return eachVowel[r-0x1161 : r-0x1161+1], 2
	case r >= 0x11a8 && r <= 0x11c2:
		return tails[r-0x11a8+1], 3
	case r >= 0x3131 && r <= 0x314e:
		return loose[r-0x3131], 1
	case r >= 0x314f && r <= 0x3163:
		return eachVowel[r-0x314f : r-0x314f+1], 2
	case r >= 0xffa1 && r <= 0xffbe:
		return loose[r-0xffa1], 1
	case r >= 0xffc2 && (r-0xffc2)%8 < 6 && r <= 0xffdc:
		i := (r-0xffc2)/8*6 + (r-0xffc2)%8
		return eachVowel[i : i+1], 2
	}
	return "", 0
}
