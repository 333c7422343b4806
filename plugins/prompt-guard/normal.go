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

// A normal is a part of a text as symbols: case, width, accents, look-alikes and invisible characters taken away,
// Hangul as its letters in the order of the keyboard, which is the same for composed, decomposed and loose ones.
type normal struct {
	sym  [most]byte
	gap  [most]uint8
	pos  [most]uint32 // where the symbol's character begins
	end  [most]uint32 // and ends
	head [most]uint32 // of the gap before, unless there is none: its first signs, the first in the lowest byte
	tail [most]uint32 // and its last three signs, the last in the lowest byte
	n    int
	from int // where reading began
	stop int // where it goes on

	// The gap that is open behind the last symbol.
	open     uint8
	signs    int
	blank    bool // the last character of it is white space
	since    int  // signs since the last white space
	hd, tl   uint32
	unseen   int // bytes of the run of invisible characters
	escapes  bool
	lastHan  uint8 // of the last symbol: 1 a consonant, 2 a vowel, 0 neither
	final    bool  // nothing follows the text
	all      bool  // all is read, but an escape that is not yet whole
	complete bool  // both
}

// read makes symbols of all of b. escapes says that \n and \u00e9 stand for what they escape.
func (s *normal) read(b []byte, final, escapes bool) {
	s.begin(0, final, escapes)
	s.more(b, len(b))
}

// begin makes ready to read from at on.
func (s *normal) begin(at int, final, escapes bool) {
	s.n, s.open, s.signs, s.blank, s.since, s.hd, s.tl, s.unseen, s.lastHan = 0, wide, 0, false, 0, 0, 0, 0, 0
	s.from, s.stop, s.final, s.escapes, s.all, s.complete = at, at, final, escapes, false, false
}

// more goes on reading b, to the first character that begins at to or later.
func (s *normal) more(b []byte, to int) {
	at := s.stop
	to = min(to, len(b))
	for at < to {
		c := b[at]
		if c == ' ' && s.open == none {
			s.open, s.blank, s.since, s.unseen = wide, true, 0, 0
			at++
			continue
		}
		if ascii[c] != 0 {
			at = s.run(b[:to], at)
			continue
		}
		if c < utf8.RuneSelf && c != '\\' {
			s.separate(c)
			at++
			continue
		}
		r, size := character(b, at, s.final, s.escapes)
		if size == 0 {
			s.all = true
			break
		}
		s.rune(r, at, at+size)
		at += size
	}
	s.stop = at
	s.all = s.all || at == len(b)
	s.complete = s.all && s.final
}

// run adds the ASCII letters from at on and returns where they end: calls are what costs in Wasm.
func (s *normal) run(b []byte, at int) int {
	first := s.n
	n, i := uint(first), uint(at)
	for i < uint(len(b)) && n < most {
		t := ascii[b[i]]
		if t == 0 {
			break
		}
		s.sym[n], s.gap[n], s.pos[n], s.end[n] = t, none, uint32(i), uint32(i+1)
		n++
		i++
	}
	s.n = int(n)
	s.close(first)
	return max(int(i), at+1)
}

// close puts the open gap before symbol n, if there is one.
func (s *normal) close(n int) {
	if s.open != none && n < s.n {
		s.gap[n], s.head[n], s.tail[n] = s.open, s.hd, s.tl
		s.open, s.signs, s.blank, s.since, s.hd, s.tl = none, 0, false, 0, 0, 0
	}
	s.unseen, s.lastHan = 0, 0
}

// letter adds a symbol that stands for [from, to) of the text.
func (s *normal) letter(c byte, from, to int) {
	n := s.n
	if n == most {
		return
	}
	s.sym[n], s.gap[n], s.pos[n], s.end[n] = c, none, uint32(from), uint32(to)
	s.n = n + 1
	s.close(n)
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

// rune adds what a character beyond ASCII, or an escaped one, stands for.
func (s *normal) rune(r rune, from, to int) {
	if r >= firstSyllable && r <= lastSyllable {
		s.syllable(int(r-firstSyllable), from, to)
		return
	}
	if isJamo(r) {
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
