package main

// A word is something to find: its symbols, and which of them stand behind a gap.
type word struct {
	sym    string
	gaps   string // per symbol: a gap's number
	hangul bool
	loose  bool // Hangul so long that spaces in it mean little
}

// A state says how a comparison ended.
type state uint8

const (
	no    state = iota
	found       // and decided
	open        // the text ends too early to tell
)

// unless is what to say at the end of the symbols.
func (s *normal) unless() state {
	if s.complete {
		return no
	}
	return open
}

// whole says whether a Hangul syllable ends before symbol k.
func (s *normal) whole(k int) state {
	switch {
	case k < s.n && s.gap[k] == inside:
		return no
	case k == s.n && s.open == none && !s.complete:
		return open
	}
	return found
}

// spelt reports whether the gaps within a word, found at k, are such as people leave: where the word has its own,
// of signs alone, or between all letters.
func (s *normal) spelt(w *word, k int) bool {
	if s.gap[k] == inside {
		return false
	}
	blanks, joints := s.count(w, k)
	return w.loose || blanks == 0 || joints == 0 && blanks > 1
}

// count counts, where the word has no gaps of its own, white space and places without a gap.
func (s *normal) count(w *word, k int) (blanks, joints int) {
	for i := 1; i < len(w.sym); i++ {
		g := s.gap[k+i]
		if g == inside || w.gaps[i] != none && w.gaps[i] != inside {
			continue
		}
		if g == wide {
			blanks++
		}
		if g == none {
			joints++
		}
	}
	return blanks, joints
}

// free is spelt for phrases, where spaces in Hangul mean little, as in short words that are spaced out.
func (s *normal) free(w *word, k int) bool {
	if s.gap[k] == inside {
		return false
	}
	blanks, joints := s.count(w, k)
	return w.hangul || blanks == 0 || joints == 0
}

// apart reports whether symbol k begins a word.
func (s *normal) apart(k int) bool {
	return s.gap[k] == tight || s.gap[k] == wide || k > 0 && s.gap[k] == none && script(s.sym[k]) != script(s.sym[k-1])
}

// script tells Latin letters and digits from Hangul and from the rest.
func script(c byte) int {
	switch {
	case isHangul(c):
		return 1
	case c >= 0x80:
		return 2
	}
	return 0
}

// over says whether a word ends before symbol k: at a gap, or where another script begins.
func (s *normal) over(k int) state {
	switch {
	case k == s.n && s.open == none && !s.complete:
		return open
	case k == s.n || s.gap[k] == tight || s.gap[k] == wide:
		return found
	case s.gap[k] == none && script(s.sym[k]) != script(s.sym[k-1]):
		return found
	}
	return no
}

// particle says whether a word that ends before k goes on to a Korean particle and then ends.
func (s *normal) particle(k int, list []word) state {
	limit := s.end[k-1] + look - 64
	for i := range list {
		w := &list[i]
		is := s.join(w, k, limit)
		if is == found {
			is = s.over(k + len(w.sym))
		}
		if is != no {
			return is
		}
	}
	return no
}

// join compares a word with the symbols from k on, without gaps and not past limit.
func (s *normal) join(w *word, k int, limit uint32) state {
	for i := 0; i < len(w.sym); i++ {
		switch {
		case k+i == s.n:
			if s.open != none {
				return no
			}
			return s.unless()
		case s.sym[k+i] != w.sym[i] || s.gap[k+i] == tight || s.gap[k+i] == wide || s.end[k+i] > limit:
			return no
		}
	}
	return s.whole(k + len(w.sym))
}

// startsWith reports whether the signs in a head begin with want, endsWith whether those in a tail end with it.
func startsWith(head uint32, want string) bool {
	for i := 0; i < len(want); i++ {
		if byte(head>>(8*i)) != want[i] {
			return false
		}
	}
	return true
}

func endsWith(tail uint32, want string) bool {
	for i := 0; i < len(want); i++ {
		if byte(tail>>(8*i)) != want[len(want)-1-i] {
			return false
		}
	}
	return true
}

// follows says whether the signs behind the symbol before k begin with want.
func (s *normal) follows(k int, want string) state {
	head, known := s.hd, s.complete || s.signs >= 4
	if k < s.n {
		if s.gap[k] == none || s.gap[k] == inside {
			return no
		}
		head, known = s.head[k], true
	}
	switch {
	case startsWith(head, want):
		return found
	case known:
		return no
	}
	for i := 0; i < min(s.signs, len(want)); i++ {
		if byte(head>>(8*i)) != want[i] {
			return no
		}
	}
	return open
}
