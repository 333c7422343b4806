package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A guard is a configuration made ready: one trie over all words of the lists and all first words of phrases. It
// is set at load and never changes after.
type guard struct {
	settings
	ready     bool
	trie      trie
	patterns  []pattern
	phrases   []phrase
	particles []word
	denials   []word
}

// A pattern is what the trie finds: a word of a list, or the first word of a phrase.
type pattern struct {
	word   word
	list   int // -1: a phrase
	phrase int
}

// A phrase is a Phrase made ready.
type phrase struct {
	*Phrase
	slots []choice // but the first
	fill  choice
	next  pairs // what may follow the first slot
	// unless are words that take it back.
	unless []word
}

var scratch normal // for making words ready, and then for what texts hold

// configure makes the guard of a configuration.
func (g *guard) configure(config []byte) error {
	next := guard{settings: defaults(), ready: true}
	if err := next.read(config); err != nil {
		return err
	}
	for i := len(next.lists) - 1; i >= 0; i-- { // of two lists with the same word the first comes first
		if err := next.addList(i); err != nil {
			return err
		}
	}
	if next.injection != off {
		next.particlesAndPhrases()
	}
	next.particles = wordsOf(particles)
	if err := next.trie.build(next.patterns); err != nil {
		return err
	}
	*g = next
	return nil
}

func (g *guard) particlesAndPhrases() {
	g.denials = wordsOf(denials)
	for i := range Phrases {
		p := phrase{Phrase: &Phrases[i], fill: choiceOf(Phrases[i].Fill), unless: wordsOf(Phrases[i].Unless)}
		for _, slot := range p.Slots[1:] {
			p.slots = append(p.slots, choiceOf(slot))
		}
		if len(p.slots) > 0 {
			p.next.add(p.slots[0].words)
			p.next.add(p.fill.words)
		}
		g.phrases = append(g.phrases, p)
		for _, w := range wordsOf(p.Slots[0]) {
			g.patterns = append(g.patterns, pattern{word: w, list: -1, phrase: i})
		}
	}
}

func (g *guard) addList(i int) error {
	l := &g.lists[i]
	for _, text := range l.words {
		w := wordOf(text)
		if n := len(w.sym); n == 0 || n > maxWord {
			return nexus.Error("the word " + text + " of list " + l.name + " has no letters or more than 120")
		}
		if least := 3; l.act == mask && bytesOf(text) < least+boolean(l.substring) {
			return nexus.Error("the word " + text + " of list " + l.name + " is too short to be masked: 3 bytes are needed, 4 as a substring")
		}
		g.patterns = append(g.patterns, pattern{word: w, list: i})
	}
	return nil
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bytesOf counts the bytes of a text that its symbols stand for.
func bytesOf(text string) (n int) {
	w := wordOf(text)
	for i := range len(w.sym) {
		if w.gaps[i] != inside {
			n += boolean(!isHangul(w.sym[i])) + 3*boolean(isHangul(w.sym[i]))
		}
	}
	return n
}

// wordOf makes a word ready.
func wordOf(text string) word {
	s := &scratch
	s.read([]byte(text), true, false)
	w := word{sym: string(s.sym[:s.n]), gaps: string(s.gap[:s.n])}
	w.hangul = s.n > 0 && isHangul(s.sym[s.n-1])
	syllables := 0
	for i := range len(w.gaps) {
		syllables += boolean(w.gaps[i] != inside)
	}
	w.loose = w.hangul && syllables >= 4
	return w
}

// wordsOf makes words ready that are parted by |, the longest first.
func wordsOf(list string) (all []word) {
	for len(list) > 0 {
		i := 0
		for i < len(list) && list[i] != '|' {
			i++
		}
		w := wordOf(list[:i])
		list = list[min(i+1, len(list)):]
		at := len(all)
		for at > 0 && len(all[at-1].sym) < len(w.sym) {
			at--
		}
		all = append(all, word{})
		copy(all[at+1:], all[at:])
		all[at] = w
	}
	return all
}
