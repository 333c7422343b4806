package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// commands are how a text that begins with one asks for more than masking.
var commands = []string{"!trap", "!fail", "!refuse", "!hold", "!bad", "!label"}

func text(t *nexus.Text) {
	b := t.Bytes()
	if _, start := t.Window(); start > 0 {
		mask(t, b)
		return
	}
	switch c := command(b); {
	case c == "" && opens(b) && !t.Final():
		t.Hold(len(b))
	case c == "!trap":
		panic("asked to trap")
	case c == "!fail":
		t.Fail("asked to fail")
	case c == "!refuse":
		t.Refuse(403, "probe_refused", "asked to refuse")
	case c == "!hold":
		t.Hold(len(b))
	case c == "!bad":
		bad = true
	default:
		if c == "!label" {
			nexus.SetLabel("probe", label("seen"))
		}
		mask(t, b)
	}
}

// command is the command that b begins with, empty if none.
func command(b []byte) string {
	for _, c := range commands {
		if len(b) >= len(c) && string(b[:len(c)]) == c {
			return c
		}
	}
	return ""
}

// opens reports whether b may yet become a command.
func opens(b []byte) bool {
	for _, c := range commands {
		if len(b) > 0 && len(b) < len(c) && string(b) == c[:len(b)] {
			return true
		}
	}
	return false
}

func label(name string) string {
	v, ok := nexus.Label(name)
	return or(v, ok)
}

func or(v string, ok bool) string {
	if !ok {
		return "none"
	}
	return v
}

// mask replaces the word and holds back what may become it.
func mask(t *nexus.Text, b []byte) {
	word := settings.word
	for i := 0; i < len(b); {
		switch rest := b[i:]; {
		case len(rest) >= len(word) && string(rest[:len(word)]) == word:
			t.Replace(i, i+len(word), settings.with, 1)
			i += len(word)
		case !t.Final() && len(rest) < len(word) && string(rest) == word[:len(rest)]:
			t.Hold(len(rest))
			return
		default:
			i++
		}
	}
}
