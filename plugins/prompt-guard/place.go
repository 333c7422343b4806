package main

// ahead is how many bytes behind a word are read at first: what follows it mostly decides soon.
const ahead = 20

// behind is how many bytes before a word are read for what denies it.
const behind = before/2 + 8

// known is how far the text is known to the symbols.
func (c *scan) known() int {
	if c.s.all {
		return c.size
	}
	return c.s.stop
}

// place makes symbols of what stands around a word of size symbols that ends with the n-th symbol of the character
// at i, and returns where it stands among them; from is -1 when the word is longer than a match may be.
func (c *scan) place(i, n, size int) (from, k int) {
	if i < c.s.from || i > c.s.stop+ahead {
		c.restart(i - 3*size - behind)
	}
	for _, lo := range [...]int{i, i - 3*size - behind, i - span - behind} {
		if c.s.from > lo {
			c.restart(lo)
		}
		c.s.more(c.b, i+ahead)
		k = c.s.at(i) + n
		from = k - size
		if c.s.from == c.first || from >= 0 && int(c.s.pos[from]) >= c.s.from+behind {
			break
		}
	}
	return from, k
}

// last returns where the last size symbols of the text begin, which ends at stop.
func (c *scan) last(size, stop int) int {
	if stop > c.s.stop+ahead {
		c.restart(stop - 3*size)
	}
	for {
		c.s.more(c.b, stop)
		from := c.s.n - size
		if from >= 0 && (c.s.from == c.first || int(c.s.pos[from]) > c.s.from+8) {
			return int(c.s.pos[from])
		}
		if c.s.from == c.first || c.s.from < stop-span-8 {
			return 0
		}
		c.restart(stop - span - 9)
	}
}

// restart begins to read at a letter that stands at lo or not far before it, so that what stands between letters is
// read from its start.
func (c *scan) restart(lo int) {
	for least := lo - before; lo > c.first && lo > least; lo-- {
		if b := c.b[lo]; ascii[b] != 0 || b >= 0xea && b <= 0xed {
			break
		}
	}
	lo = max(lo, c.first)
	for lo > c.first && c.b[lo]&0xc0 == 0x80 {
		lo--
	}
	c.s.begin(lo, c.s.final, c.s.escapes)
}

// at returns the first symbol of the character at i.
func (s *normal) at(i int) int {
	low, high := 0, s.n
	for low < high {
		if mid := (low + high) / 2; int(s.pos[mid]) < i {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}
