package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// An action is what happens when something is found.
type action uint8

const (
	off action = iota
	label
	mask
	block
)

// A list is words of the operator and what becomes of them.
type list struct {
	name      string
	act       action
	substring bool
	where     scope
	cover     string // what stands in a masked word's place
	words     []string
}

// A scope says which texts are looked at.
type scope struct {
	directions uint8  // bit 0 requests, bit 1 replies
	roles      uint16 // of requests, by number; 0: all
}

// has reports whether a text is in the scope.
func (s scope) has(d nexus.Direction, r nexus.Role) bool {
	return s.directions>>d&1 != 0 && (d == nexus.ToCaller || s.roles == 0 || s.roles>>r&1 != 0)
}

// Bounds of a configuration.
const (
	maxLists  = 32
	maxName   = 32  // bytes
	maxWord   = 120 // symbols
	maxLabel  = 256 // bytes of a label's value
	injection = "injection"
)

// settings are a configuration as it is written.
type settings struct {
	injection action
	where     scope
	quoted    bool // phrases in quotes count too
	message   string
	lists     []list
}

func defaults() settings {
	return settings{
		injection: label, where: scope{1, 1<<nexus.NoRole | 1<<nexus.User | 1<<nexus.Tool},
		message: "The text was blocked by a content rule of this gateway.",
	}
}

// read reads a configuration. An empty one is all defaults.
func (s *settings) read(config []byte) error {
	if len(config) == 0 {
		return nil
	}
	j, err := nexus.ParseJSON(config)
	if err != nil {
		return err
	}
	return j.EachMember(func(key string, v nexus.JSON) (err error) {
		switch key {
		case "injection":
			s.injection, err = oneAction(key, v, "off", "label", "block")
		case "injection_directions":
			s.where.directions, err = directions(key, v)
		case "injection_roles":
			s.where.roles, err = roles(key, v)
		case "quoted":
			text, _ := v.Text()
			if s.quoted = text == "count"; text != "count" && text != "skip" {
				err = nexus.Error("quoted must be count or skip")
			}
		case "message":
			s.message, err = textOf(key, v, 500)
		case "lists":
			err = s.readLists(v)
		default:
			err = nexus.Error("unknown key " + key + ": write injection, injection_directions, injection_roles, quoted, message or lists")
		}
		return err
	})
}

func (s *settings) readLists(v nexus.JSON) error {
	if v.Kind() != nexus.KindList {
		return nexus.Error("lists must be a list")
	}
	total := len(injection)
	err := v.EachElement(func(_ int, v nexus.JSON) error {
		l := list{act: label, where: scope{directions: 3}, cover: "***"}
		if err := l.read(v); err != nil {
			return err
		}
		for _, o := range s.lists {
			if o.name == l.name {
				return nexus.Error("two lists are named " + l.name)
			}
		}
		total += 1 + len(l.name)
		s.lists = append(s.lists, l)
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(s.lists) > maxLists:
		return nexus.Error("more than 32 lists")
	case total > maxLabel:
		return nexus.Error("the lists' names are longer than a label of 256 bytes: shorten them")
	}
	return nil
}

func (l *list) read(v nexus.JSON) error {
	if v.Kind() != nexus.KindObject {
		return nexus.Error("each of lists must be an object")
	}
	err := v.EachMember(func(key string, v nexus.JSON) (err error) {
		ok := true
		switch key {
		case "name":
			l.name, err = textOf(key, v, maxName)
		case "words":
			l.words, ok = v.Texts()
		case "match":
			text, _ := v.Text()
			l.substring, ok = text == "substring", text == "substring" || text == "word"
		case "action":
			l.act, err = oneAction(key, v, "label", "mask", "block")
		case "directions":
			l.where.directions, err = directions(key, v)
		case "roles":
			l.where.roles, err = roles(key, v)
		case "mask":
			l.cover, err = textOf(key, v, 64)
		default:
			err = nexus.Error("unknown key " + key + " of a list: write name, words, match, action, directions, roles or mask")
		}
		if !ok {
			err = nexus.Error(key + " of a list: words is a list of texts, match is word or substring")
		}
		return err
	})
	if err != nil {
		return err
	}
	return l.check()
}

func (l *list) check() error {
	if l.name == "" || l.name == injection || len(l.words) == 0 {
		return nexus.Error("a list needs a name, which is not injection, and words")
	}
	for i := 0; i < len(l.name); i++ {
		if c := l.name[i]; ascii[c] == 0 && c != '_' && c != '-' && c != '.' {
			return nexus.Error("the name of a list is letters, digits, hyphens, underscores and dots: " + l.name)
		}
	}
	for i := 0; i < len(l.cover); i++ {
		if c := l.cover[i]; c < ' ' || c == '"' || c == '\\' {
			return nexus.Error("mask must hold no quotes, backslashes or control characters")
		}
	}
	return nil
}

func textOf(key string, v nexus.JSON, most int) (string, error) {
	text, ok := v.Text()
	if !ok || text == "" || len(text) > most {
		return "", nexus.Error(key + " must be a text that is neither empty nor too long")
	}
	return text, nil
}

var actions = [...]string{off: "off", label: "label", mask: "mask", block: "block"}

func oneAction(key string, v nexus.JSON, allowed ...string) (action, error) {
	text, _ := v.Text()
	for _, name := range allowed {
		for a := range actions {
			if actions[a] == name && text == name {
				return action(a), nil
			}
		}
	}
	return off, nexus.Error(key + " must be " + enumerate(allowed))
}

func enumerate(names []string) (s string) {
	for i, n := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			s += " or "
		default:
			s += ", "
		}
		s += n
	}
	return s
}

func directions(key string, v nexus.JSON) (uint8, error) {
	set, err := names(key, v, []string{"request", "reply"})
	return uint8(set), err
}

func roles(key string, v nexus.JSON) (uint16, error) {
	return names(key, v, []string{nexus.NoRole: "none", nexus.System: "system", nexus.Developer: "developer", nexus.User: "user",
		nexus.Assistant: "assistant", nexus.Tool: "tool"})
}

// names reads a list of names as a set of their places.
func names(key string, v nexus.JSON, all []string) (set uint16, err error) {
	texts, ok := v.Texts()
	for _, text := range texts {
		known := false
		for i, name := range all {
			if name == text {
				set |= 1 << i
				known = true
			}
		}
		ok = ok && known
	}
	if !ok || set == 0 {
		return 0, nexus.Error(key + " must be a list of " + enumerate(all))
	}
	return set, nil
}
