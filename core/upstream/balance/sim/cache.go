package sim

// A cache is an engine's prefix cache: blocks, those used longest ago dropped first, the end of a prompt before its
// beginning.
type cache struct {
	limit          int
	at             map[uint64]int32
	blocks         []block
	newest, oldest int32
}

type block struct {
	hash         uint64
	newer, older int32
}

const none = -1

func newCache(limit int) *cache {
	return &cache{limit: limit, at: make(map[uint64]int32, limit), newest: none, oldest: none}
}

// hits counts the leading blocks that the cache holds.
func (c *cache) hits(blocks []uint64) int {
	for i, h := range blocks {
		if _, ok := c.at[h]; !ok {
			return i
		}
	}
	return len(blocks)
}

// add makes the cache hold all of blocks.
func (c *cache) add(blocks []uint64) {
	for i := len(blocks) - 1; i >= 0; i-- {
		h := blocks[i]
		if at, ok := c.at[h]; ok {
			c.take(at)
			c.put(at)
			continue
		}
		c.put(c.room(h))
	}
}

// room is a place for a new block: one of its own, or that of the block used longest ago.
func (c *cache) room(hash uint64) int32 {
	at := c.oldest
	if len(c.blocks) < c.limit {
		at = int32(len(c.blocks))
		c.blocks = append(c.blocks, block{})
	} else {
		c.take(at)
		delete(c.at, c.blocks[at].hash)
	}
	c.blocks[at].hash = hash
	c.at[hash] = at
	return at
}

func (c *cache) put(at int32) {
	c.blocks[at].newer, c.blocks[at].older = none, c.newest
	if c.newest != none {
		c.blocks[c.newest].newer = at
	} else {
		c.oldest = at
	}
	c.newest = at
}

func (c *cache) take(at int32) {
	b := c.blocks[at]
	if b.newer != none {
		c.blocks[b.newer].older = b.older
	} else {
		c.newest = b.older
	}
	if b.older != none {
		c.blocks[b.older].newer = b.newer
	} else {
		c.oldest = b.newer
	}
}
