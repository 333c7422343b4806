package balance

import (
	"math/rand/v2"
	"testing"
)

// naive is what an index means: each replica's prompts as they are, none forgotten.
type naive map[*Replica][][]uint64

func (n naive) depth(blocks []uint64, r *Replica) int {
	deepest := 0
	for _, known := range n[r] {
		deepest = max(deepest, common(known, blocks))
	}
	return deepest
}

func TestIndexKnowsTheLongestBeginning(t *testing.T) {
	d := rand.New(rand.NewPCG(1, 2))
	set := make([]Candidate, 5)
	for i := range set {
		set[i] = Candidate{Replica: NewReplica(string(rune('a' + i))), Weight: 1, Share: Whole}
	}
	x, want := NewIndex(1<<20), naive{}
	for range 3000 {
		blocks := walk(d)
		x.depths(blocks, set)
		for i := range set {
			if got, want := int(set[i].depth), want.depth(blocks, set[i].Replica); got != want {
				t.Fatalf("replica %d holds %d blocks of %v, want %d", i, got, blocks, want)
			}
		}
		r := set[d.IntN(len(set))].Replica
		x.Add(blocks, r)
		want[r] = append(want[r], blocks)
	}
	check(t, x, set)
}

// walk is a prompt from a tree of few branches, as a chain of hashes.
func walk(d *rand.Rand) []uint64 {
	blocks := make([]uint64, 1+d.IntN(12))
	h := uint64(0)
	for i := range blocks {
		branch := uint64(0)
		if d.IntN(4) == 0 {
			branch = uint64(d.IntN(3))
		}
		h = mix(h^secret[0]^branch, uint64(i)^secret[1])
		blocks[i] = h
	}
	return blocks
}

// check holds an index to its own rules.
func check(t *testing.T, x *Index, set []Candidate) {
	t.Helper()
	for i := range set {
		r := set[i].Replica
		blocks, runs := 0, 0
		for h := r.newest; h != nil; h = h.older {
			blocks, runs = blocks+len(h.run.blocks), runs+1
			if x.runs[h.run.blocks[0]] != h.run {
				t.Fatalf("replica %d holds a run that the index does not know", i)
			}
		}
		if blocks != r.blocks || runs != r.runs {
			t.Fatalf("replica %d holds %d blocks in %d runs and counts %d in %d", i, blocks, runs, r.blocks, r.runs)
		}
		if blocks > x.limit {
			t.Fatalf("replica %d holds %d blocks, over the limit of %d", i, blocks, x.limit)
		}
	}
	for first, r := range x.runs {
		if r.blocks[0] != first || len(r.holds) == 0 {
			t.Fatalf("run %x begins with %x and has %d holders", first, r.blocks[0], len(r.holds))
		}
	}
}

func TestIndexForgetsTheEndsOfOldPromptsFirst(t *testing.T) {
	d := rand.New(rand.NewPCG(3, 4))
	set := []Candidate{{Replica: NewReplica("a")}, {Replica: NewReplica("b")}}
	x := NewIndex(60)
	before := make(map[uint64]uint64) // block → the one before it
	for range 5000 {
		blocks := walk(d)
		for i, b := range blocks[1:] {
			before[b] = blocks[i]
		}
		r := set[d.IntN(2)].Replica
		x.Add(blocks, r)
		check(t, x, set)
		x.depths(blocks, set)
		if got := max(set[0].depth, set[1].depth); int(got) != len(blocks) {
			t.Fatalf("%d of the %d blocks just added are known", got, len(blocks))
		}
		if r.runs > x.limit/runsPer+1 {
			t.Fatalf("%d runs on a shelf of %d blocks", r.runs, x.limit)
		}
		whole(t, r, before)
	}
	x.Remove(set[0].Replica)
	x.Remove(set[1].Replica)
	x.Add([]uint64{1, 2}, set[1].Replica) // a call that was on its way
	if len(x.runs) != 0 || set[0].blocks != 0 || set[0].runs != 0 {
		t.Errorf("%d runs are left of replicas that are gone", len(x.runs))
	}
}

// whole checks that what r holds it holds from the prompt's beginning on.
func whole(t *testing.T, r *Replica, before map[uint64]uint64) {
	t.Helper()
	held := make(map[uint64]bool)
	for h := r.newest; h != nil; h = h.older {
		for _, b := range h.run.blocks {
			held[b] = true
		}
	}
	for b := range held {
		if parent, ok := before[b]; ok && !held[parent] {
			t.Fatalf("a block is held without the one before it")
		}
	}
}

func TestIndexIsBoundedByItsRuns(t *testing.T) {
	x, r := NewIndex(1000), NewReplica("a")
	for i := range uint64(5000) {
		x.Add([]uint64{i*2 + 1}, r)
	}
	if len(x.runs) > 1000/runsPer+1 {
		t.Errorf("%d runs of one block", len(x.runs))
	}
	long := make([]uint64, MaxBlocks)
	for i := range long {
		long[i] = uint64(i)<<32 | 1
	}
	x.Add(long, r) // longer than the shelf: the beginning stays unknown, nothing breaks
	check(t, x, []Candidate{{Replica: r}})
}

// What is kept follows from the blocks that are remembered, whatever was there before: long prompts that went, or that
// others parted from, leave no room behind in the short ones that stay.
func TestIndexKeepsNoRoomForWhatIsGone(t *testing.T) {
	for _, tt := range []struct {
		name string
		add  func(x *Index, r *Replica, i int)
	}{
		{"long and short in turn", func(x *Index, r *Replica, i int) {
			x.Add(prompt(-i-1, i, MaxBlocks), r)
		}},
		{"two long ones that part", func(x *Index, r *Replica, i int) {
			x.Add(prompt(i, i, MaxBlocks), r)
			x.Add(prompt(i, -i-1, MaxBlocks), r)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, r := NewIndex(4*MaxBlocks), NewReplica("a")
			for i := range 400 {
				tt.add(x, r, i)
				for stays := range i {
					x.Add(prompt(stays, 0, 1), r)
				}
			}
			check(t, x, []Candidate{{Replica: r}})
			kept := 0
			for _, of := range x.runs {
				kept += cap(of.blocks)
			}
			if kept > 4*x.Len() {
				t.Errorf("room for %d blocks is kept, of %d that are remembered", kept, x.Len())
			}
		})
	}
}

// prompt is one of n blocks, known by how it begins and how it goes on from the second block.
func prompt(begin, rest, n int) []uint64 {
	blocks := make([]uint64, n)
	blocks[0] = mix(uint64(begin)^secret[0], secret[1])
	for i := 1; i < n; i++ {
		blocks[i] = mix(uint64(rest)^secret[2], uint64(i)^secret[3]^blocks[0])
	}
	return blocks
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 1, 2, 4, 0, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		x := NewIndex(24)
		set := []Candidate{{Replica: NewReplica("a")}, {Replica: NewReplica("b")}}
		var blocks []uint64
		h := uint64(0)
		for i, b := range in {
			if b == 0 || len(blocks) == 40 {
				x.Add(blocks, set[i%2].Replica)
				check(t, x, set)
				blocks, h = blocks[:0], 0
				continue
			}
			h = mix(h^secret[0]^uint64(b&3), uint64(len(blocks))^secret[1])
			blocks = append(blocks, h)
		}
		x.depths(blocks, set)
	})
}
