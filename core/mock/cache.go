package mock

import "container/list"

// A prefixCache holds the blocks of prompts read before, the least recently used dropped first. A
// block's hash covers all before it, so a prompt's cached part is its longest run of known blocks.
type prefixCache struct {
	limit  int
	known  map[uint64]*list.Element
	recent list.List // of uint64, the most recent first
}

// cached counts the leading blocks that the cache holds, and makes it hold them all.
func (s *Server) cached(blocks []uint64) int {
	if len(blocks) == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.touch(blocks)
}

func (c *prefixCache) touch(blocks []uint64) (hits int) {
	if c.known == nil {
		c.known = map[uint64]*list.Element{}
	}
	for i, h := range blocks {
		if e, ok := c.known[h]; ok {
			c.recent.MoveToFront(e)
			if hits == i {
				hits++
			}
			continue
		}
		c.known[h] = c.recent.PushFront(h)
		if c.recent.Len() > c.limit {
			oldest := c.recent.Back()
			delete(c.known, c.recent.Remove(oldest).(uint64))
		}
	}
	return hits
}
