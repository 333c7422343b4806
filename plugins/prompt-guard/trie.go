package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A trie finds all words in symbols in one pass, whatever their number (Aho and Corasick). It is built when
// the plugin is configured and bounded.
type trie struct {
	class [256]uint8 // of each symbol; 0: in no word
	width int        // classes
	next  []uint16   // by state and class; the highest bit says that words end there
	fail  []uint16   // the longest shorter end of what has been read that begins a word
	depth []uint8    // symbols read
	words []int32    // by state: 1 + the first pattern that ends there, 0 none
	chain []int32    // by pattern: 1 + the next that ends there
	size  int

	// For plain text: the class of each byte, skip or stay, and the classes of each syllable's letters.
	plain     [256]uint8
	syllables [syllables]uint32
}

const (
	ends      = 1 << 15
	maxStates = ends - 1
)

// What plain says of bytes that have no class.
const (
	skip = 255 // stands between letters
	stay = 254 // begins a character to look at
)

const tooMany = nexus.Error("too many words: all of them together have more than 32000 letters")

// build makes the trie of the patterns' symbols.
func (t *trie) build(patterns []pattern) error {
	*t = trie{width: 1}
	total := 1
	for _, p := range patterns {
		total += len(p.word.sym)
		for i := 0; i < len(p.word.sym); i++ {
			if c := p.word.sym[i]; t.class[c] == 0 {
				t.class[c] = uint8(t.width)
				t.width++
			}
		}
	}
	total = min(total, maxStates)
	t.next, t.depth, t.words = make([]uint16, total*t.width), make([]uint8, total), make([]int32, total)
	t.chain, t.size = make([]int32, len(patterns)), 1
	for i := range patterns {
		if !t.add(patterns[i].word.sym, int32(i+1)) {
			return tooMany
		}
	}
	t.link()
	t.fill()
	return nil
}

func (t *trie) add(sym string, id int32) bool {
	state := 0
	for i := 0; i < len(sym); i++ {
		at := state*t.width + int(t.class[sym[i]])
		if t.next[at] == 0 {
			if t.size >= maxStates {
				return false
			}
			t.next[at] = uint16(t.size)
			t.depth[t.size] = uint8(i + 1)
			t.size++
		}
		state = int(t.next[at])
	}
	t.chain[id-1] = t.words[state]
	t.words[state] = id
	return true
}

// link fills in where to go on when a word breaks off, state by state in the order of depth.
func (t *trie) link() {
	t.fail = make([]uint16, t.size)
	queue := make([]uint16, 0, t.size)
	for c := 1; c < t.width; c++ {
		if n := t.next[c]; n != 0 {
			queue = append(queue, n)
		}
	}
	for i := 0; i < len(queue); i++ {
		s, f := int(queue[i]), int(t.fail[queue[i]])
		for c := 1; c < t.width; c++ {
			at, other := s*t.width+c, t.next[f*t.width+c]
			if n := t.next[at]; n != 0 {
				t.fail[n] = other
				queue = append(queue, n)
			} else {
				t.next[at] = other
			}
		}
	}
	t.mark(queue)
}

// mark sets the highest bit where a word ends at a state or at one of its shorter ends.
func (t *trie) mark(queue []uint16) {
	has := make([]bool, t.size)
	for _, s := range queue {
		has[s] = t.words[s] != 0 || has[t.fail[s]]
	}
	for i, n := range t.next[:t.size*t.width] {
		if has[n] {
			t.next[i] = n | ends
		}
	}
}
