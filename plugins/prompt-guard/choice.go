package main

// shelves is how many groups the words of a choice are in, by their first symbols.
const shelves = 32

// A choice is words of which one is wanted, in groups by the first symbol, the longest of each first.
type choice struct {
	words []word
	start [shelves + 1]uint8
}

func choiceOf(list string) (o choice) {
	all := wordsOf(list)
	for first := range byte(shelves) {
		for _, w := range all {
			if w.sym[0]%shelves == first {
				o.words = append(o.words, w)
			}
		}
		o.start[first+1] = uint8(len(o.words))
	}
	return o
}
