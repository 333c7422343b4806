package main

// may reports whether it matters that a word was found that ends with the character [i, end), and may be what is
// looked for, as far as plain text around it tells. Most of what is found is not, and to say so here saves to look
// closer.
func (c *scan) may(p *pattern, i, end int) bool {
	size := len(p.word.sym)
	if p.list >= 0 {
		if c.lists>>p.list&1 == 0 {
			return false
		}
		apart := c.g.lists[p.list].substring || end == len(c.b) || c.b[end] >= 0x80 || c.b[end] == '\\'
		return apart || !c.within(i, size) && !(c.letter(i) && c.letter(end))
	}
	f := &c.g.phrases[p.phrase]
	if !c.phrases || f.Data && !c.data || c.classes>>f.Class&1 != 0 && c.g.injection == label {
		return false
	}
	return (len(f.slots) == 0 || c.begun(&f.next, end)) && !c.within(i, size)
}

// letter reports whether a letter of ASCII stands at i.
func (c *scan) letter(i int) bool { return i >= c.first && ascii[c.b[i]] != 0 }

// within reports whether size letters of ASCII, the last at i, stand behind another, none of them part of an escape.
func (c *scan) within(i, size int) bool {
	first := i - size
	for ; i >= first; i-- {
		if !c.letter(i) {
			return false
		}
	}
	for ; i >= max(c.first, first-5); i-- {
		if c.b[i] == '\\' {
			return false
		}
	}
	return true
}

// pairs is a set of two symbols each, or of more than was put in.
type pairs [32]uint32

func (p *pairs) has(a, b byte) bool { return p[a&31]>>(b&31)&1 != 0 }

// add puts in what words begin with.
func (p *pairs) add(words []word) {
	for i := range words {
		if sym := words[i].sym; len(sym) > 1 {
			p[sym[0]&31] |= 1 << (sym[1] & 31)
		} else {
			p[sym[0]&31] = 1<<32 - 1
		}
	}
}

// begun reports whether the text from i on may begin with one of the words; if it is not plain it may.
func (c *scan) begun(next *pairs, i int) bool {
	var symbols [4]byte
	for n := 0; n < 2; {
		for i < len(c.b) && c.g.trie.plain[c.b[i]] == skip {
			i++
		}
		if i == len(c.b) || c.b[i] == '\\' {
			return true
		}
		r, size := character(c.b, i, true, false)
		if r >= 0x80 && (r < firstSyllable || r > lastSyllable) {
			return true
		}
		var one [4]byte
		n += copy(symbols[n:], one[:spell(r, &one)])
		i += size
	}
	return next.has(symbols[0], symbols[1])
}

// goesOn reports whether a phrase whose first word ends with the n-th symbol of the character at i goes on after it, or
// may. What stands before is not yet read for that.
func (c *scan) goesOn(p *pattern, i, n int) bool {
	if p.list >= 0 || len(c.g.phrases[p.phrase].slots) == 0 {
		return true
	}
	if i < c.s.from || i > c.s.stop {
		c.s.begin(i, c.s.final, c.s.escapes)
	}
	c.s.more(c.b, i+ahead)
	k := c.s.at(i) + n
	_, is := c.rest(&c.g.phrases[p.phrase], k-1, k)
	return is != no
}
