package balance

import (
	"slices"
	"sync"
)

// An Index remembers which replicas were sent which prompts, and so which of their prefix caches most likely hold
// a prompt's beginning. It is a tree whose edges are runs of blocks; a block's hash stands for all before it, so
// that one map finds every run by its first block, and no more than a comparison of two hashes tells whether a run
// is the prompt's own.
//
// Each replica has a shelf of limited length from which the run used longest ago goes first. A run's parents are
// used whenever it is, and count as used later, so that what a replica holds is always whole from the prompt's
// beginning.
type Index struct {
	mu    sync.Mutex
	runs  map[uint64]*run
	limit int // blocks of one replica
	path  []*run
	spare []*run
}

// DefaultIndex is how many blocks are remembered of each replica: two million tokens. More than an engine's cache
// holds is right: a conversation that comes back when its blocks are gone belongs where it was all the same, since
// on another replica it would drive out blocks of those that are there.
const DefaultIndex = 31_250

// NewIndex makes an index that remembers up to limit blocks of each replica.
func NewIndex(limit int) *Index { return &Index{runs: make(map[uint64]*run), limit: max(limit, 1)} }

// runsPer is how many blocks of a shelf's limit allow one run, so that many short ones take little more memory than
// a few long ones: a block is 8 bytes, a run and a hold on it some 200. A split may leave more until the next prompt.
const runsPer = 4

// spareRuns are kept for reuse.
const spareRuns = 64

// loose is how many times over a run's array may be too long: one that was a long run's outweighs many short ones.
const loose = 4

// A run is blocks that follow each other in some prompt. Who holds it holds all of it.
type run struct {
	blocks []uint64
	holds  []*hold // one a replica
}

// A hold is a run's place on a replica's shelf.
type hold struct {
	run          *run
	replica      *Replica
	newer, older *hold
}

// A shelf is the runs that a replica holds, by when they were used.
type shelf struct {
	newest, oldest *hold
	blocks, runs   int
	gone           bool // nothing is put here any more
}

// depths sets the depth of each candidate: how many of blocks it holds, from the first on.
func (x *Index) depths(blocks []uint64, set []Candidate) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range set {
		set[i].depth = 0
	}
	if len(blocks) == 0 || x.runs[blocks[0]] == nil {
		return
	}
	for i := range set {
		set[i].Replica.depth = 0
	}
	x.follow(blocks)
	for i := range set {
		set[i].depth = set[i].Replica.depth
	}
}

// follow sets the depth of all replicas that hold some of blocks.
func (x *Index) follow(blocks []uint64) {
	for n := 0; n < len(blocks); {
		r := x.runs[blocks[n]]
		if r == nil {
			return
		}
		same := common(r.blocks, blocks[n:])
		n += same
		for _, h := range r.holds {
			h.replica.depth = int32(n)
		}
		if same < len(r.blocks) {
			return
		}
	}
}

// common is how many blocks a and b share from their beginning on. Where one is the same, all before it are.
func common(a, b []uint64) int {
	high := min(len(a), len(b))
	if high == 0 || a[high-1] == b[high-1] {
		return high
	}
	low := 0
	for high--; low < high; {
		if mid := (low + high) / 2; a[mid] == b[mid] {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// Add notes that r was sent a prompt of these blocks.
func (x *Index) Add(blocks []uint64, r *Replica) {
	if len(blocks) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.gone {
		return
	}
	x.path = x.path[:0]
	for n := 0; n < len(blocks); {
		found := x.runs[blocks[n]]
		if found == nil {
			found = x.newRun(blocks[n:])
		} else if same := common(found.blocks, blocks[n:]); same < len(found.blocks) {
			x.split(found, same)
		}
		n += len(found.blocks)
		x.path = append(x.path, found)
	}
	for i := len(x.path) - 1; i >= 0; i-- {
		x.use(x.path[i], r)
	}
	for r.blocks > x.limit || r.runs > x.limit/runsPer+1 {
		x.drop(r.oldest)
	}
}

// Remove forgets all that r holds, for good: calls that are still on their way there add nothing.
func (x *Index) Remove(r *Replica) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r.gone = true
	for r.oldest != nil {
		x.drop(r.oldest)
	}
}

// Len is how many blocks are remembered; those that several replicas were sent count once.
func (x *Index) Len() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.runs {
		n += len(r.blocks)
	}
	return n
}

func (x *Index) newRun(blocks []uint64) *run {
	var r *run
	if n := len(x.spare); n > 0 {
		r, x.spare = x.spare[n-1], x.spare[:n-1]
	} else {
		r = new(run)
	}
	if cap(r.blocks) > loose*len(blocks) {
		r.blocks = nil
	}
	r.blocks = append(r.blocks, blocks...)
	x.runs[blocks[0]] = r
	return r
}

// split cuts r behind its first n blocks. Who held all of it holds both parts.
func (x *Index) split(r *run, n int) {
	rest := x.newRun(r.blocks[n:])
	if r.blocks = r.blocks[:n]; cap(r.blocks) > loose*n {
		r.blocks = slices.Clone(r.blocks)
	}
	for _, h := range r.holds {
		h.replica.runs++
		behind := &hold{run: rest, replica: h.replica, newer: h, older: h.older}
		h.older = behind
		if behind.older != nil {
			behind.older.newer = behind
		} else {
			h.replica.oldest = behind
		}
		rest.holds = append(rest.holds, behind)
	}
}

// use puts a run in front on r's shelf.
func (x *Index) use(of *run, r *Replica) {
	for _, h := range of.holds {
		if h.replica == r {
			r.take(h)
			r.put(h)
			return
		}
	}
	h := &hold{run: of, replica: r}
	of.holds = append(of.holds, h)
	r.blocks += len(of.blocks)
	r.runs++
	r.put(h)
}

// drop takes a run off a shelf, and out of the index with its last holder.
func (x *Index) drop(h *hold) {
	of := h.run
	h.replica.take(h)
	h.replica.blocks -= len(of.blocks)
	h.replica.runs--
	for i, other := range of.holds {
		if other == h {
			last := len(of.holds) - 1
			of.holds[i], of.holds[last] = of.holds[last], nil
			of.holds = of.holds[:last]
			break
		}
	}
	if len(of.holds) > 0 {
		return
	}
	delete(x.runs, of.blocks[0])
	if len(x.spare) < spareRuns {
		of.blocks = of.blocks[:0]
		x.spare = append(x.spare, of)
	}
}

func (s *shelf) put(h *hold) {
	h.newer, h.older = nil, s.newest
	if s.newest != nil {
		s.newest.newer = h
	} else {
		s.oldest = h
	}
	s.newest = h
}

func (s *shelf) take(h *hold) {
	if h.newer != nil {
		h.newer.older = h.older
	} else {
		s.newest = h.older
	}
	if h.older != nil {
		h.older.newer = h.newer
	} else {
		s.oldest = h.newer
	}
}
