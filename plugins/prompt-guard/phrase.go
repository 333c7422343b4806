package main

// maxFill is how many words may stand between two slots of a phrase.
const maxFill = 8

// phrase judges a phrase whose first word was found in the symbols [from, k).
func (c *scan) phrase(p *phrase, w *word, from, k int) state {
	if !c.begins(p, w, from) {
		return no
	}
	is := c.s.whole(k)
	if is == found {
		k, is = c.rest(p, from, k)
	}
	if is == found {
		is = c.ended(p, from, k)
	}
	return is
}

// begins reports whether a phrase may begin with word w at symbol from.
func (c *scan) begins(p *phrase, w *word, from int) bool {
	s := c.s
	g := s.gap[from]
	alone := g == tight || g == wide
	if !alone && (g == inside || !w.hangul || len(w.sym) <= 4) && !s.apart(from) || !alone && p.Pre != "" {
		return false // most end here: a call that is saved
	}
	if !s.free(w, from) || p.Pre == "[" && g != wide || p.Pre != "" && !endsWith(s.tail[from], p.Pre) {
		return false
	}
	if w.hangul && len(w.sym) > 4 {
		return true
	}
	return s.apart(from) && !(p.Pre == "" && p.Unless == "" && c.denied(from))
}

// denied reports whether the word before symbol k undoes what follows.
func (c *scan) denied(k int) bool {
	for i := range c.g.denials {
		w := &c.g.denials[i]
		at := k - len(w.sym)
		if at < 0 || string(c.s.sym[at:k]) != w.sym || c.s.pos[k]-c.s.pos[at] > before/2 {
			continue
		}
		if c.s.apart(at) && c.s.spelt(w, at) {
			return true
		}
	}
	return false
}

// rest looks for the phrase's further slots behind symbol k and returns where the last one ends.
func (c *scan) rest(p *phrase, from, k int) (int, state) {
	for i := range p.slots {
		for fills := 0; ; fills++ {
			n, is := c.oneOf(&p.slots[i], from, k)
			if is == open {
				return k, open
			}
			if is == found {
				k = n
				break
			}
			n, is = c.oneOf(&p.fill, from, k)
			if is == open {
				return k, open
			}
			if is == no || fills == maxFill {
				return k, no
			}
			k = n
		}
	}
	return k, found
}

// oneOf looks for one of the words at symbol k, the longest that is there, and returns where it ends.
func (c *scan) oneOf(o *choice, from, k int) (int, state) {
	if k == c.s.n {
		return k, c.s.unless()
	}
	first := c.s.sym[k] % shelves
	for i := o.start[first]; i < o.start[first+1]; i++ {
		w := &o.words[i]
		is := c.follow(w, k)
		if is == found && !c.near(from, k+len(w.sym)) {
			is = no
		}
		if is != no {
			return k + len(w.sym), is
		}
	}
	return k, no
}

// follow compares a word of a phrase with the symbols from k on.
func (c *scan) follow(w *word, k int) state {
	s := c.s
	for i := 0; i < len(w.sym); i++ {
		if k+i == s.n {
			return s.unless()
		}
		if s.sym[k+i] != w.sym[i] {
			return no
		}
	}
	if !s.free(w, k) {
		return no
	}
	return s.whole(k + len(w.sym))
}

// ended says whether a phrase that ends before symbol k ends well: behind a whole word, before the signs it needs,
// not undone by what follows and not only quoted.
func (c *scan) ended(p *phrase, from, k int) state {
	s := c.s
	if !isHangul(s.sym[k-1]) {
		if is := s.over(k); is != found {
			return is
		}
	}
	if p.Post != "" {
		return s.follows(k, p.Post)
	}
	if p.Unless != "" {
		if is := c.undone(p, k); is != no {
			return inverse(is)
		}
	}
	if c.g.quoted || c.data || s.gap[from] == none {
		return found
	}
	return inverse(c.inQuotes(from, k))
}

// inverse turns found to no and no to found.
func inverse(is state) state {
	switch is {
	case found:
		return no
	case no:
		return found
	}
	return open
}

// beyond is how far past a phrase its undoing or a closing quote may stand, in bytes.
const beyond = 96

// undone says whether words that take the phrase back stand behind it.
func (c *scan) undone(p *phrase, k int) state {
	s := c.s
	limit := s.end[k-1] + beyond
	for i := range p.unless {
		w := &p.unless[i]
		is := c.follow(w, k)
		switch {
		case is == found && s.end[k+len(w.sym)-1] > limit, is == open && c.known() > int(limit):
			continue
		case is != no:
			return is
		}
	}
	return no
}

// inQuotes says whether a phrase stands in quotes of its own: it is spoken of, not said.
func (c *scan) inQuotes(from, k int) state {
	s := c.s
	quote := byte(s.tail[from])
	if quote != '"' && quote != '\'' && quote != '`' {
		return no
	}
	limit := s.end[k-1] + beyond/2
	for k < s.n && isHangul(s.sym[k]) && (s.gap[k] == none || s.gap[k] == inside) && s.end[k] <= limit {
		k++ // a verb's ending
	}
	if k == s.n && s.open == none {
		return s.unless()
	}
	result := no
	for _, end := range [...]string{"\"", "'", "`", ".\"", ".'", ".`", "!\"", "!'", ",\"", ",'", "?\"", "?'"} {
		if end[len(end)-1] != quote {
			continue
		}
		if is := s.follows(k, end); is != no {
			result = is
		}
		if result == found {
			return found
		}
	}
	return result
}
