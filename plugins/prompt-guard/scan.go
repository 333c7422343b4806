package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A scan is one look at one piece of text.
type scan struct {
	g       *guard
	s       *normal
	lists   uint32 // that look at this text, by number
	phrases bool   // look at this text too
	data    bool   // the text is a tool's, or beside a conversation
	start   int    // of the text, behind its context
	size    int    // of both
	open    int    // where what is undecided begins
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
	one = scan{g: g, s: &scratch, start: start, size: len(b), open: len(b), masks: one.masks[:0]}
	if !one.scope(t) {
		return
	}
	at := max(0, start-before)
	for at < start && b[at]&0xc0 == 0x80 { // not within a character
		at++
	}
	role, channel := t.Role(), t.Channel()
	one.data = role == nexus.Tool || channel == nexus.Aside || channel == nexus.ToolArguments
	scratch.read(b, at, t.Final() || t.MustDecide(), role == nexus.Tool || channel == nexus.ToolArguments)
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

// walk goes through the symbols of the text.
func (c *scan) walk() {
	s, t := c.s, &c.g.trie
	first := 0
	for first < s.n && int(s.pos[first]) < c.start {
		first++
	}
	state := uint16(0)
	next, width := t.next, t.width
	for k, n := first, s.n; k < n; k++ {
		if state = next[int(state&^ends)*width+int(t.class[s.sym[k]])]; state&ends != 0 {
			if c.hits(int(state&^ends), k+1); c.blocked {
				break
			}
		}
	}
	c.settle(int(state &^ ends))
}

// hits looks at every word that ends before symbol k.
func (c *scan) hits(state, k int) {
	t := &c.g.trie
	for ; state != 0; state = int(t.fail[state]) {
		for id := t.words[state]; id != 0; id = t.chain[id-1] {
			p := &c.g.patterns[id-1]
			from := k - len(p.word.sym)
			if p.list >= 0 {
				c.word(p, from, k)
			} else if c.phrases {
				c.phrase(&c.g.phrases[p.phrase], &p.word, from, k)
			}
		}
	}
}

// word judges a word of a list that was found in the symbols [from, k).
func (c *scan) word(p *pattern, from, k int) {
	s, l := c.s, &c.g.lists[p.list]
	if c.lists>>p.list&1 == 0 || !s.spelt(&p.word, from) || !c.near(from, k) {
		return
	}
	is := s.whole(k)
	if is == found && !l.substring {
		is = c.standsAlone(&p.word, from, k)
	}
	switch {
	case is == open:
		c.undecided(from)
	case is == found && l.act == mask:
		c.cover(from, k, p.list)
	case is == found:
		c.seen |= 1 << p.list
		c.blocked = c.blocked || l.act == block
	}
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

// settle finds out where what is undecided begins: no later than any word that the end of the text has begun,
// and not within a place to mask.
func (c *scan) settle(state int) {
	t, s := &c.g.trie, c.s
	c.open = min(c.open, s.stop)
	if s.complete || c.blocked {
		return
	}
	for ; state != 0; state = int(t.fail[state]) {
		if at := int(s.pos[s.n-int(t.depth[state])]); c.size-at < span {
			c.open = min(c.open, at)
			break
		}
	}
	for n := len(c.masks); n > 0 && c.masks[n-1].end > c.open; n-- {
		c.open = min(c.open, c.masks[n-1].start)
		c.masks = c.masks[:n-1]
	}
}

// say tells the gateway.
func (c *scan) say(t *nexus.Text) {
	for _, m := range c.masks {
		c.seen |= 1 << m.list
	}
	if c.seen != 0 || c.classes != 0 {
		c.tell()
	}
	if c.blocked {
		t.Refuse(403, "content_blocked", c.g.message)
		return
	}
	for _, m := range c.masks {
		t.Replace(m.start-c.start, m.end-c.start, c.g.lists[m.list].cover, 0)
	}
	t.Hold(c.size - c.open)
}

// tell adds to the call's labels what was found, in the order of the configuration.
func (c *scan) tell() {
	had, _ := nexus.Label("prompt_guard")
	var names string
	add := func(name string, now bool) {
		if now || listed(had, name) {
			if names != "" {
				names += ","
			}
			names += name
		}
	}
	add(injection, c.classes != 0)
	for i := range c.g.lists {
		add(c.g.lists[i].name, c.seen>>i&1 != 0)
	}
	if names != had {
		nexus.SetLabel("prompt_guard", names)
	}
	if c.classes == 0 {
		return
	}
	had, _ = nexus.Label("prompt_guard_class")
	names = ""
	for i, name := range classNames {
		add(name, c.classes>>i&1 != 0)
	}
	if names != had {
		nexus.SetLabel("prompt_guard_class", names)
	}
}

// listed reports whether name is in a list parted by commas.
func listed(list, name string) bool {
	for len(list) > 0 {
		i := 0
		for i < len(list) && list[i] != ',' {
			i++
		}
		if list[:i] == name {
			return true
		}
		list = list[min(i+1, len(list)):]
	}
	return false
}
