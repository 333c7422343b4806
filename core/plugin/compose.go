package plugin

import "github.com/nexus-gateway/nexus/core/llm"

// apply appends text with edits to dst.
func apply(dst, text []byte, edits []llm.Edit) []byte {
	at := 0
	for _, e := range edits {
		dst = append(dst, text[at:e.Start]...)
		dst = append(dst, e.With...)
		at = e.End
	}
	return append(dst, text[at:]...)
}

// compose returns edits that do to a text what first and then second, on what first makes of it, do.
func compose(first, second []llm.Edit) []llm.Edit {
	if len(first) == 0 || len(second) == 0 {
		return append(first[:len(first):len(first)], second...)
	}
	c := composer{first: first, second: second}
	for len(c.first) > 0 || len(c.second) > 0 {
		c.step()
	}
	return c.out
}

// A composer walks two lists of edits by the place in the text between them.
type composer struct {
	first, second []llm.Edit // what is left
	shift         int        // how much longer the edits of first that are gone made the text
	out           []llm.Edit
}

// step takes the next edit of one list, or all that overlap from both.
func (c *composer) step() {
	switch {
	case len(c.second) == 0 || len(c.first) > 0 && c.made().End <= c.second[0].Start:
		c.out = append(c.out, c.takeFirst())
	case len(c.first) == 0 || c.second[0].End <= c.made().Start:
		e := c.second[0]
		e.Start, e.End = e.Start-c.shift, e.End-c.shift
		c.out = append(c.out, e)
		c.second = c.second[1:]
	default:
		c.merge()
	}
}

// made is where what the next edit of first put in stands in the text between.
func (c *composer) made() llm.Span {
	start := c.first[0].Start + c.shift
	return llm.Span{Start: start, End: start + len(c.first[0].With)}
}

func (c *composer) takeFirst() llm.Edit {
	e := c.first[0]
	c.first = c.first[1:]
	c.shift += len(e.With) - (e.End - e.Start)
	return e
}

// merge makes one edit of all that overlap. Every byte between its ends was put in by first or is taken
// out by second, so that the original text is not needed.
func (c *composer) merge() {
	start, before := min(c.made().Start, c.second[0].Start), c.shift
	m := merger{start: start, end: start}
	m.first(c)
	m.second(c)
	for {
		if len(c.first) > 0 && c.made().Start < m.end {
			m.first(c)
			continue
		}
		if len(c.second) == 0 || c.second[0].Start >= m.end {
			break
		}
		m.second(c)
	}
	c.out = append(c.out, llm.Edit{Start: start - before, End: m.end - c.shift, With: apply(nil, m.between, m.over), Kind: m.kind})
}

// A merger gathers overlapping edits: what stands between start and end once first is done, and the edits
// of second on it.
type merger struct {
	start, end int
	between    []byte
	over       []llm.Edit
	kind       uint16
}

func (m *merger) first(c *composer) {
	at := c.made()
	e := c.takeFirst()
	m.reach(at.End, e.Kind)
	copy(m.between[at.Start-m.start:], e.With)
}

func (m *merger) second(c *composer) {
	e := c.second[0]
	c.second = c.second[1:]
	m.reach(e.End, e.Kind)
	e.Start, e.End = e.Start-m.start, e.End-m.start
	m.over = append(m.over, e)
}

func (m *merger) reach(end int, kind uint16) {
	m.end = max(m.end, end)
	for len(m.between) < m.end-m.start {
		m.between = append(m.between, 0) // second takes it out
	}
	if m.kind == 0 {
		m.kind = kind
	}
}
