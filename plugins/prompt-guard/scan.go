package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A scan is one look at one piece of text.
type scan struct {
	g       *guard
	b       []byte
	s       *normal // what stands around what was found
	lists   uint32  // that look at this text, by number
	phrases bool    // look at this text too
	data    bool    // the text is a tool's, or beside a conversation
	first   int     // what symbols may be made of
	start   int     // of the text, behind its context
	size    int     // of both
	open    int     // where what is undecided begins
	masks   []cover
	seen    uint32 // lists found
	classes uint32 // of phrases found
	blocked bool
}

// A cover is a place to mask.
type cover struct{ start, end, list int }

var one scan

// text looks at one piece of text, says what it found and holds back what is still open.
func (g *guard) text(t *nexus.Text) {
	if !g.ready {
		if err := g.configure(nil); err != nil {
			t.Fail(err.Error())
			return
		}
	}
	b, start := t.Window()
	one = scan{g: g, b: b, s: &scratch, first: max(0, start-before), start: start, size: len(b), open: len(b), masks: one.masks[:0]}
	if !one.scope(t) {
		return
	}
	for one.first < start && b[one.first]&0xc0 == 0x80 { // not within a character
		one.first++
	}
	role, channel := t.Role(), t.Channel()
	one.data = role == nexus.Tool || channel == nexus.Aside || channel == nexus.ToolArguments
	scratch.begin(one.first, t.Final() || t.MustDecide(), role == nexus.Tool || channel == nexus.ToolArguments)
	one.walk()
	one.say(t)
}

// scope finds out what looks at the text, and whether anything does.
func (c *scan) scope(t *nexus.Text) bool {
	d, r := t.Direction(), t.Role()
	for i := range c.g.lists {
		if c.g.lists[i].where.has(d, r) {
			c.lists |= 1 << i
		}
	}
	c.phrases = c.g.injection != off && c.g.where.has(d, r)
	return c.lists != 0 || c.phrases
}

// walk goes through the text. Most of it is passed over as it stands: what looks closer is called only where a word
// ends, and at characters that are not plain.
func (c *scan) walk() {
	t, state, i := &c.g.trie, 0, c.begin()
	for {
		if i, state = t.pass(c.b, i, state); i >= len(c.b) {
			break
		}
		var symbols [4]byte
		r, size := character(c.b, i, c.s.final, c.s.escapes)
		if size == 0 {
			break
		}
		n := spell(r, &symbols)
		for k := range n {
			next := t.next[state*t.width+int(t.class[symbols[k]])]
			if state = int(next &^ ends); next&ends != 0 && k == n-1 {
				c.hits(state, i, i+size, n)
			}
		}
		if c.blocked {
			return
		}
		i += size
	}
	c.settle(state, i)
}

// begin returns where the text begins: behind an escape that its context has begun.
func (c *scan) begin() int {
	for i := max(c.first, c.start-5); i < c.start; i++ {
		if c.b[i] != '\\' {
			continue
		}
		_, size := character(c.b, i, c.s.final, c.s.escapes)
		if i+size > c.start {
			return i + size
		}
	}
	return c.start
}

// hits looks at every word that ends with the n-th and last symbol of the character [i, end).
func (c *scan) hits(state, i, end, n int) {
	t := &c.g.trie
	for ; state != 0; state = int(t.fail[state]) {
		for id := t.words[state]; id != 0; id = t.chain[id-1] {
			p := &c.g.patterns[id-1]
			if !c.may(p, i, end) || !c.goesOn(p, i, n) {
				continue
			}
			if from, k := c.place(i, n, len(p.word.sym)); from >= 0 {
				c.found(p, from, k)
			}
		}
	}
}

// found judges what was found in the symbols [from, k), and reads on for as long as that does not tell.
func (c *scan) found(p *pattern, from, k int) {
	is := c.judge(p, from, k)
	for is == open && !c.s.all {
		c.s.more(c.b, c.s.stop+max(ahead, c.s.stop-c.s.from))
		is = c.judge(p, from, k)
	}
	switch {
	case is == open:
		c.undecided(from)
	case is == no:
	case p.list < 0:
		c.classes |= 1 << c.g.phrases[p.phrase].Class
		c.blocked = c.blocked || c.g.injection == block
	case c.g.lists[p.list].act == mask:
		c.cover(from, k, p.list)
	default:
		c.seen |= 1 << p.list
		c.blocked = c.blocked || c.g.lists[p.list].act == block
	}
}

func (c *scan) judge(p *pattern, from, k int) state {
	if p.list < 0 {
		return c.phrase(&c.g.phrases[p.phrase], &p.word, from, k)
	}
	return c.word(p, from, k)
}

// word judges a word of a list that was found in the symbols [from, k).
func (c *scan) word(p *pattern, from, k int) state {
	if !c.s.spelt(&p.word, from) || !c.near(from, k) {
		return no
	}
	is := c.s.whole(k)
	if is == found && !c.g.lists[p.list].substring {
		is = c.standsAlone(&p.word, from, k)
	}
	return is
}

// standsAlone says whether a word is not part of a longer one. Korean particles may follow.
func (c *scan) standsAlone(w *word, from, k int) state {
	if !c.s.apart(from) {
		return no
	}
	is := c.s.over(k)
	if is != no || k == c.s.n || !isHangul(c.s.sym[k]) {
		return is
	}
	return c.s.particle(k, c.g.particles)
}

// near reports whether the symbols [from, k) are no longer than a match may be.
func (c *scan) near(from, k int) bool { return c.s.end[k-1]-c.s.pos[from] <= span }

// undecided notes that what begins at symbol from must wait.
func (c *scan) undecided(from int) {
	if at := int(c.s.pos[from]); c.size-at <= span+look {
		c.open = min(c.open, at)
	}
}

// cover notes a word to mask, unless the one before overlaps it.
func (c *scan) cover(from, k, list int) {
	start, end := int(c.s.pos[from]), int(c.s.end[k-1])
	if n := len(c.masks); n == 0 || c.masks[n-1].end <= start {
		c.masks = append(c.masks, cover{start, end, list})
	}
}

// settle finds out where what is undecided begins: no later than any word that the end of the text, at stop, has
// begun, and not within a place to mask.
func (c *scan) settle(state, stop int) {
	t := &c.g.trie
	c.open = min(c.open, stop)
	if c.s.final || c.blocked {
		return
	}
	for ; state != 0; state = int(t.fail[state]) {
		if at := c.last(int(t.depth[state]), stop); c.size-at < span {
			c.open = min(c.open, at)
			break
		}
	}
	for n := len(c.masks); n > 0 && c.masks[n-1].end > c.open; n-- {
		c.open = min(c.open, c.masks[n-1].start)
		c.masks = c.masks[:n-1]
	}
}
