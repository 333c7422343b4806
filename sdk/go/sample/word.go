package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A list is the words to mask and what stands in their place. It is set at load and never changes after: a plugin
// keeps no state between calls.
type list struct {
	words []string
	with  string
}

const longest = 64 // bytes of a word; what may become one is held back, and the manifest's max_hold bounds that

// configure reads {"words": ["secret", …], "with": "***"}, and takes these where they are not given.
func (l *list) configure(config []byte) error {
	settings, err := nexus.ParseJSON(config)
	if err != nil {
		return err
	}
	next := list{words: []string{"secret"}, with: "***"}
	err = settings.EachMember(func(name string, v nexus.JSON) error {
		ok := false
		switch name {
		case "words":
			next.words, ok = v.Texts()
		case "with":
			next.with, ok = v.Text()
		}
		if !ok {
			return nexus.Error(name + " is not a setting, or not of its kind")
		}
		return nil
	})
	for _, w := range next.words {
		if w == "" || len(w) > longest {
			return nexus.Error("words must have 1 to 64 bytes")
		}
	}
	if err == nil {
		*l = next
	}
	return err
}

// mask replaces every word, and holds back the end of the text where a word may have begun.
func (l *list) mask(t *nexus.Text) {
	b := t.Bytes()
	for i := 0; i < len(b); {
		n, open := l.at(b[i:])
		switch {
		case open && !t.Final():
			t.Hold(len(b) - i)
			return
		case n > 0:
			t.Replace(i, i+n, l.with, 1)
			i += n
		default:
			i++
		}
	}
}

// at is the length of the longest word that b begins with, 0 if none; open says that b is the beginning of a longer one.
func (l *list) at(b []byte) (n int, open bool) {
	for _, w := range l.words {
		switch {
		case len(w) <= len(b) && string(b[:len(w)]) == w:
			n = max(n, len(w))
		case len(w) > len(b) && w[:len(b)] == string(b):
			open = true
		}
	}
	return n, open
}
