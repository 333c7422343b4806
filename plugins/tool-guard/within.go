package main

// This file holds the keywords that apply schemas to a value or to what is in it.

func (c *check) properties(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind != isObject {
		return unknown
	}
	got := fits
	for m := p.word + 1; m < n.next && got != misfits; m = c.schema.nodes[m].next {
		c.steps -= int(c.value.nodes[p.value].count) / 8
		if v := c.value.memberLike(p.value, c.schema, m); v != 0 {
			got = and(got, c.fits(m, v))
		}
	}
	return got
}

func (c *check) required(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind != isArray {
		return unknown // true and false are what an older draft wrote
	}
	for m := p.word + 1; m < n.next; m = c.schema.nodes[m].next {
		c.steps -= int(c.value.nodes[p.value].count) / 8
		if c.schema.nodes[m].kind != isString {
			return unknown
		}
		if c.value.memberOf(p.value, c.schema, m) == 0 {
			return misfits
		}
	}
	return fits
}

// additional holds every member that properties does not name against a schema. Which of them patternProperties would
// name is not known here.
func (c *check) additional(p place) outcome {
	named := c.schema.member(p.schema, "properties")
	patterns := c.schema.member(p.schema, "patternProperties") != 0
	if patterns {
		c.quiet++
		defer func() { c.quiet-- }()
	}
	got := fits
	end := c.value.nodes[p.value].next
	for v := p.value + 1; v < end && got != misfits; v = c.value.nodes[v].next {
		if named != 0 {
			c.steps -= int(c.schema.nodes[named].count) / 8
			if c.schema.memberLike(named, c.value, v) != 0 {
				continue
			}
		}
		one := c.fits(p.word, v)
		if one == misfits && patterns {
			one = unknown
		}
		if one == misfits && c.schema.nodes[p.word].kind == isFalse {
			c.explain("additionalProperties", v)
		}
		got = and(got, one)
	}
	return got
}

// explain says better what was noted for v.
func (c *check) explain(keyword string, v int32) {
	if c.keyword == "false" && c.at == v {
		c.keyword = keyword
	}
}

func (c *check) prefix(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind != isArray {
		return unknown
	}
	got := fits
	v, end := p.value+1, c.value.nodes[p.value].next
	for m := p.word + 1; m < n.next && v < end && got != misfits; m = c.schema.nodes[m].next {
		got = and(got, c.fits(m, v))
		v = c.value.nodes[v].next
	}
	return got
}

// items holds every element behind prefixItems against a schema. A list of schemas is what an older draft called
// prefixItems.
func (c *check) items(p place) outcome {
	if c.schema.nodes[p.word].kind == isArray {
		return c.prefix(p)
	}
	return c.each(p, c.schema.member(p.schema, "prefixItems"))
}

// rest is what the older draft called items behind a list of schemas.
func (c *check) rest(p place) outcome {
	items := c.schema.member(p.schema, "items")
	if items == 0 || c.schema.nodes[items].kind != isArray {
		return fits
	}
	return c.each(p, items)
}

// each holds the elements behind those that the list of schemas prefix speaks of against one schema.
func (c *check) each(p place, prefix int32) outcome {
	skip := int32(0)
	if prefix != 0 {
		skip = c.schema.nodes[prefix].count
	}
	got := fits
	for v, end := p.value+1, c.value.nodes[p.value].next; v < end && got != misfits; v = c.value.nodes[v].next {
		if skip--; skip < 0 {
			got = and(got, c.fits(p.word, v))
		}
	}
	return got
}

func (c *check) allOf(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind != isArray {
		return unknown
	}
	got := fits
	for m := p.word + 1; m < n.next && got != misfits; m = c.schema.nodes[m].next {
		got = and(got, c.fits(m, p.value))
	}
	return got
}

func (c *check) anyOf(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind != isArray {
		return unknown
	}
	c.quiet++
	best := misfits
	for m := p.word + 1; m < n.next && best != fits; m = c.schema.nodes[m].next {
		best = min(best, c.fits(m, p.value))
	}
	c.quiet--
	return best
}

func (c *check) oneOf(p place) outcome {
	n := &c.schema.nodes[p.word]
	if n.kind != isArray {
		return unknown
	}
	c.quiet++
	var count [3]int
	for m := p.word + 1; m < n.next && count[fits] < 2; m = c.schema.nodes[m].next {
		count[c.fits(m, p.value)]++
	}
	c.quiet--
	switch {
	case count[fits] > 1 || count[fits] == 0 && count[unknown] == 0:
		return misfits
	case count[unknown] > 0:
		return unknown
	}
	return fits
}

func (c *check) not(p place) outcome {
	c.quiet++
	got := c.fits(p.word, p.value)
	c.quiet--
	return misfits - got
}

func (c *check) ref(p place) outcome {
	target, ok := c.schema.resolve(c.root, p.word)
	if !ok {
		return unknown
	}
	return c.fits(target, p.value)
}

// resolve finds the schema that a $ref names: # or a JSON pointer below it.
func (t *tree) resolve(root, ref int32) (target int32, ok bool) {
	n := &t.nodes[ref]
	path := t.text[n.start:n.end]
	if n.kind != isString || n.escaped || len(path) == 0 || path[0] != '#' {
		return 0, false
	}
	target = root
	for path = path[1:]; len(path) > 0; {
		if path[0] != '/' {
			return 0, false
		}
		end := 1
		for end < len(path) && path[end] != '/' {
			if path[end] == '%' {
				return 0, false
			}
			end++
		}
		if target = t.step(target, path[1:end]); target < 0 {
			return 0, false
		}
		path = path[end:]
	}
	return target, true
}

// step goes one step of a JSON pointer; -1: there is nothing.
func (t *tree) step(from int32, name []byte) int32 {
	index, isIndex := 0, t.nodes[from].kind == isArray && len(name) > 0 && len(name) < 6
	for _, c := range name {
		isIndex = isIndex && c >= '0' && c <= '9'
		index = index*10 + int(c-'0')
	}
	if !isIndex && t.nodes[from].kind != isObject {
		return -1
	}
	for m, i := from+1, 0; m < t.nodes[from].next; m, i = t.nodes[m].next, i+1 {
		if isIndex && i == index || !isIndex && pointsAt(name, t.name(m)) {
			return m
		}
	}
	return -1
}

// pointsAt reports whether a step of a JSON pointer, in which ~1 is / and ~0 is ~, names a member.
func pointsAt(step, name []byte) bool {
	for len(step) > 0 {
		c, n := step[0], 1
		if c == '~' && len(step) > 1 {
			n = 2
			switch step[1] {
			case '0':
			case '1':
				c = '/'
			default:
				return false
			}
		}
		if len(name) == 0 || name[0] != c {
			return false
		}
		step, name = step[n:], name[1:]
	}
	return len(name) == 0
}
