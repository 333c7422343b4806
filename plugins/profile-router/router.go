package main

import (
	"unicode/utf8"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// A Profile is what kind of work a call is.
type Profile uint8

const (
	General Profile = iota
	Reasoning
	Longform
	Code
	Background
	profiles
)

var profileNames = [profiles]string{"general", "reasoning", "longform", "code", "background"}

// A router is a configuration made ready. It is set at load and never changes after.
type router struct {
	rank        [profiles]uint8 // the lower wins
	longBytes   int
	longTokens  int
	smallTokens int
	smallBytes  int
	smallTurns  int
	images      Profile // of calls with images; General: they say nothing
	codeTools   []string
	words       words
}

// Labels. profile_small says that the numbers allow a call to be background work, which words then decide.
const (
	labelProfile = "profile"
	labelBy      = "profile_by"
	labelSmall   = "profile_small"
)

// A Call is what is counted of a call.
type Call struct {
	Bytes, Turns, Images, Tools int
	MaxTokens                   int64 // -1: not said
	CodeTool                    bool  // one of the functions offered is a coding agent's
}

// byNumbers returns the profile that numbers alone give a call, and what decided.
func (r *router) byNumbers(c Call) (p Profile, by string, small bool) {
	small = c.Tools == 0 && c.Images == 0 && c.Bytes <= r.smallBytes && c.Turns <= r.smallTurns
	by = "default"
	consider := func(q Profile, reason string, is bool) {
		if is && r.rank[q] < r.rank[p] {
			p, by = q, reason
		}
	}
	consider(Background, "max_tokens", small && c.MaxTokens > 0 && c.MaxTokens <= int64(r.smallTokens))
	consider(Longform, "bytes", c.Bytes >= r.longBytes)
	consider(Longform, "max_tokens", c.MaxTokens >= int64(r.longTokens))
	consider(Code, "tools", c.CodeTool)
	consider(r.images, "images", c.Images > 0)
	return p, by, small
}

// request labels a call by its numbers.
func (r *router) request(q *nexus.Request) {
	c := Call{Bytes: q.Bytes(), Turns: q.Turns(), Images: q.Images(), Tools: q.Tools(), MaxTokens: q.MaxTokens()}
	q.EachTool(func(name []byte) { c.CodeTool = c.CodeTool || r.codes(name) })
	p, by, small := r.byNumbers(c)
	q.SetLabel(labelProfile, profileNames[p])
	q.SetLabel(labelBy, by)
	if small {
		q.SetLabel(labelSmall, "true")
	}
}

// codes reports whether a function's name is that of a coding agent's tool, in any case and behind any prefix.
func (r *router) codes(name []byte) bool {
	for _, s := range r.codeTools {
		if len(name) >= len(s) && folded(name[len(name)-len(s):], s) && (len(name) == len(s) || !alphanumeric(name[len(name)-len(s)-1])) {
			return true
		}
	}
	return false
}

func folded(b []byte, lower string) bool {
	for i, c := range b {
		if fold(c) != lower[i] {
			return false
		}
	}
	return true
}

// text raises the label by words in what the user said last, and in system messages for background work alone.
func (r *router) text(t *nexus.Text) {
	system := t.Role() == nexus.System || t.Role() == nexus.Developer
	if t.Direction() != nexus.ToModel || t.Channel() != nexus.Content || !system && !t.LastUser() {
		return
	}
	b, start := t.Window()
	s := search{b: b, from: max(0, start-reach), whole: start < context, final: t.Final() || t.MustDecide()}
	if s.whole {
		s.from = 0
	}
	best := General
	r.words.each(&s, func(p Profile, at int) {
		if p == Background && (!s.whole || at >= headBytes) || p != Background && system {
			return
		}
		if r.rank[p] < r.rank[best] {
			best = p
		}
	})
	if best != General {
		r.raise(best)
	}
	if s.open && start < len(b) { // so that there is something to ask about when nothing follows
		_, size := utf8.DecodeLastRune(b)
		t.Hold(size)
	}
}

// raise gives the call profile p unless it has one that stands above it.
func (r *router) raise(p Profile) {
	if p == Background {
		if small, _ := nexus.Label(labelSmall); small != "true" {
			return
		}
	}
	now, _ := nexus.Label(labelProfile)
	if has, known := profileOf(now); known && r.rank[has] <= r.rank[p] {
		return
	}
	nexus.SetLabel(labelProfile, profileNames[p])
	nexus.SetLabel(labelBy, "keyword")
}

func profileOf(name string) (Profile, bool) {
	for p := range profiles {
		if profileNames[p] == name {
			return p, true
		}
	}
	return General, false
}
