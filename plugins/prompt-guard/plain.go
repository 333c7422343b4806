package main

// fill fills in the tables for plain text.
func (t *trie) fill() {
	for c := range t.plain {
		switch {
		case c >= 0x80 || c == '\\':
			t.plain[c] = stay
		case ascii[c] == 0:
			t.plain[c] = skip
		default:
			t.plain[c] = t.class[ascii[c]]
		}
	}
	for v := range t.syllables {
		var symbols [4]byte
		x := uint32(skip<<24 | skip<<16)
		for i := range spell(rune(firstSyllable+v), &symbols) {
			x = x&^(255<<(8*i)) | uint32(t.class[symbols[i]])<<(8*i)
		}
		t.syllables[v] = x
	}
}

// pass goes through plain text, letters of ASCII and composed Hangul, from state on, and returns where it stopped
// and in which state: before a character with which a word ends, or that is not plain. It calls nothing: calls are
// what costs in Wasm.
func (t *trie) pass(b []byte, from, start int) (int, int) {
	next, width, plain := t.next, uint(t.width), &t.plain
	i, state := uint(from), uint(start)
	for i < uint(len(b)) {
		c := plain[b[i]]
		if c < stay {
			at := state*width + uint(c)
			if at >= uint(len(next)) || next[at] >= ends {
				break
			}
			state = uint(next[at])
			i++
			continue
		}
		if c == skip {
			i++
			continue
		}
		if i+2 >= uint(len(b)) {
			break
		}
		v := uint(b[i])<<12 + uint(b[i+1])<<6 + uint(b[i+2]) - (0xe0<<12 + 0x80<<6 + 0x80 + firstSyllable)
		if v >= syllables {
			break
		}
		x := t.syllables[v]
		n := next[state*width+uint(x&255)]
		seen := n
		n = next[uint(n&^ends)*width+uint(x>>8&255)]
		seen |= n
		if x>>16&255 != skip {
			n = next[uint(n&^ends)*width+uint(x>>16&255)]
			seen |= n
			if x>>24 != skip {
				n = next[uint(n&^ends)*width+uint(x>>24)]
				seen |= n
			}
		}
		if seen >= ends {
			break
		}
		state = uint(n)
		i += 3
	}
	return int(i), int(state)
}
