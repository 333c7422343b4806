package main

// An outcome is what a value is to a schema. Unknown is for what this validator does not judge, such as pattern: it goes
// through not, anyOf and oneOf as itself, so that what is not judged never turns into a refusal.
type outcome uint8

const (
	fits outcome = iota
	unknown
	misfits
)

func and(a, b outcome) outcome { return max(a, b) }

func outcomeOf(ok bool) outcome {
	if ok {
		return fits
	}
	return misfits
}

// Bounds of one check.
const (
	maxSteps = 100_000 // schemas applied and values compared
	maxNest  = 96      // schemas applied within each other
)

// A check holds one value against one schema. What it says of pattern, format and the other keywords that it does not
// judge is Unknown, or nothing where they would not apply.
type check struct {
	schema, value *tree
	root          int32 // of the schema: where $ref begins
	steps         int
	nest          int
	quiet         int    // within anyOf, oneOf and not: a misfit there explains nothing
	keyword       string // the first that did not fit
	at            int32  // the value's node that did not fit it
	tooMuch       bool   // the check was given up
}

// run holds the value's node v against the schema at root.
func (c *check) run() outcome {
	c.steps = maxSteps
	return c.fits(c.root, 0)
}

// fits holds the value v against the schema s.
func (c *check) fits(s, v int32) outcome {
	if c.steps--; c.steps < 0 || c.nest == maxNest {
		c.tooMuch = true
		return unknown
	}
	n := &c.schema.nodes[s]
	switch {
	case n.kind == isTrue:
		return fits
	case n.kind == isFalse:
		return c.misfit("false", v)
	case n.kind != isObject:
		return unknown
	}
	c.nest++
	got := c.members(s, v)
	c.nest--
	return got
}

func (c *check) members(s, v int32) outcome {
	if c.value.nodes[v].kind == isNull {
		if n := c.schema.member(s, "nullable"); n != 0 && c.schema.nodes[n].kind == isTrue {
			return fits
		}
	}
	got := fits
	for m, end := s+1, c.schema.nodes[s].next; m < end && got != misfits; m = c.schema.nodes[m].next {
		c.steps--
		word := keywordOf(c.schema.name(m))
		if word.test == nil || word.on != 0 && word.on&c.value.nodes[v].kind == 0 {
			continue
		}
		one := word.test(c, place{s, m, v})
		if one == misfits && word.own {
			c.misfit(word.name, v)
		}
		got = and(got, one)
	}
	return got
}

// misfit notes what did not fit first.
func (c *check) misfit(keyword string, v int32) outcome {
	if c.quiet == 0 && c.keyword == "" {
		c.keyword, c.at = keyword, v
	}
	return misfits
}

// A place is a keyword in front of a value.
type place struct {
	schema int32 // that the keyword belongs to
	word   int32 // the keyword's value
	value  int32
}

func (c *check) typed(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind == isString {
		return c.isOf(p.word, p.value)
	}
	if n.kind != isArray {
		return unknown
	}
	best := misfits
	for m := p.word + 1; m < n.next; m = c.schema.nodes[m].next {
		best = min(best, c.isOf(m, p.value))
	}
	return best
}

// isOf reports whether a value is of the type that the schema's node t names.
func (c *check) isOf(t, v int32) outcome {
	n := &c.value.nodes[v]
	switch c.string(t) {
	case "object":
		return outcomeOf(n.kind == isObject)
	case "array":
		return outcomeOf(n.kind == isArray)
	case "string":
		return outcomeOf(n.kind == isString)
	case "number":
		return outcomeOf(n.kind == isNumber)
	case "boolean":
		return outcomeOf(n.kind&isBool != 0)
	case "null":
		return outcomeOf(n.kind == isNull)
	case "integer":
		if n.kind != isNumber {
			return misfits
		}
		d := c.number(v)
		return outcomeOf(d.isInteger())
	}
	return unknown
}

// string is the value of the schema's node as a word to switch on.
func (c *check) string(s int32) string {
	if c.schema.nodes[s].kind != isString {
		return ""
	}
	return string(c.schema.string(s))
}

func (c *check) number(v int32) decimal {
	n := &c.value.nodes[v]
	return decimalOf(c.value.text[n.start:n.end])
}

func (c *check) enum(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind != isArray {
		return unknown
	}
	for m := p.word + 1; m < n.next; m = c.schema.nodes[m].next {
		if c.same(c.schema, m, p.value) {
			return fits
		}
	}
	return misfits
}

func (c *check) constant(p place) outcome { return outcomeOf(c.same(c.schema, p.word, p.value)) }

// against compares a number with a keyword's; ok is false when that is none, as in an older draft's exclusiveMinimum.
func (c *check) against(p place) (order int, ok bool) {
	n := &c.schema.nodes[p.word]
	if n.kind != isNumber {
		return 0, false
	}
	return c.number(p.value).compare(decimalOf(c.schema.text[n.start:n.end])), true
}

func known(ok, is bool) outcome {
	if !ok {
		return unknown
	}
	return outcomeOf(is)
}

func (c *check) minimum(p place) outcome { order, ok := c.against(p); return known(ok, order >= 0) }
func (c *check) maximum(p place) outcome { order, ok := c.against(p); return known(ok, order <= 0) }
func (c *check) above(p place) outcome   { order, ok := c.against(p); return known(ok, order > 0) }
func (c *check) below(p place) outcome   { order, ok := c.against(p); return known(ok, order < 0) }

func (c *check) multiple(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind != isNumber {
		return unknown
	}
	is, ok := c.number(p.value).multipleOf(decimalOf(c.schema.text[n.start:n.end]))
	return known(ok, is)
}

// sizes are how much there is of a value, in characters or members, and how much a keyword says.
func (c *check) sizes(p place) (has, said int, ok bool) {
	n := &c.schema.nodes[p.word]
	if n.kind != isNumber {
		return 0, 0, false
	}
	said, ok = decimalOf(c.schema.text[n.start:n.end]).count()
	v := &c.value.nodes[p.value]
	if v.kind == isString {
		return length(c.value.text[v.start:v.end], v.escaped), said, ok
	}
	return int(v.count), said, ok
}

func (c *check) atLeast(p place) outcome { has, said, ok := c.sizes(p); return known(ok, has >= said) }
func (c *check) atMost(p place) outcome  { has, said, ok := c.sizes(p); return known(ok, has <= said) }

// unique compares every two elements of a list; a list too long for that gives the check up.
func (c *check) unique(p place) outcome {
	if c.schema.nodes[p.word].kind != isTrue {
		return fits
	}
	end := c.value.nodes[p.value].next
	for x := p.value + 1; x < end; x = c.value.nodes[x].next {
		for y := c.value.nodes[x].next; y < end; y = c.value.nodes[y].next {
			if c.same(c.value, x, y) {
				return misfits
			}
			if c.steps < 0 {
				c.tooMuch = true
				return unknown
			}
		}
	}
	return fits
}

// same reports whether the value b equals a value of another tree, or its own, as JSON Schema has it: numbers by
// value, objects without regard to order. What it costs depends on how much is compared.
func (c *check) same(t *tree, a, b int32) bool {
	m, n := &t.nodes[a], &c.value.nodes[b]
	if c.steps--; c.steps < 0 {
		c.tooMuch = true
		return false
	}
	if m.kind != n.kind || m.count != n.count {
		return false
	}
	switch m.kind {
	case isNumber:
		c.steps -= int(n.end-n.start) / 16
		return c.number(b).compare(decimalOf(t.text[m.start:m.end])) == 0
	case isString:
		c.steps -= int(n.end-n.start) / 16
		return sameText(t.text[m.start:m.end], m.escaped, c.value.text[n.start:n.end], n.escaped)
	case isArray:
		for x, y := a+1, b+1; x < m.next; x, y = t.nodes[x].next, c.value.nodes[y].next {
			if !c.same(t, x, y) {
				return false
			}
		}
	case isObject:
		return c.sameMembers(t, a, b)
	}
	return true
}

func (c *check) sameMembers(t *tree, a, b int32) bool {
	for x := a + 1; x < t.nodes[a].next; x = t.nodes[x].next {
		c.steps -= int(c.value.nodes[b].count)
		y := c.value.memberLike(b, t, x)
		if y == 0 || !c.same(t, x, y) {
			return false
		}
	}
	return true
}
