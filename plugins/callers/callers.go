// Package callers tells which calls a rule of a shipped plugin's configuration is about.
package callers

import (
	"unicode/utf8"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// A Call is what a rule may ask for.
type Call struct{ Key, Tenant, Team, Tier, Route, Model []byte }

// Facts are what a hook is told of a call.
type Facts interface {
	Principal() []byte
	Tenant() []byte
	Team() []byte
	Tier() []byte
}

// Of is who calls, without route and model.
func Of(f Facts) Call {
	return Call{Key: f.Principal(), Tenant: f.Tenant(), Team: f.Team(), Tier: f.Tier()}
}

// Rule lists patterns, each a whole name or the beginning of one with a * behind it. An empty list is every name.
type Rule struct{ Keys, Tenants, Teams, Tiers, Routes, Models []string }

// Names reports whether a call is one of those that the rule is about.
func (r *Rule) Names(c *Call) bool {
	return names(r.Keys, c.Key) && names(r.Tenants, c.Tenant) && names(r.Teams, c.Team) &&
		names(r.Tiers, c.Tier) && names(r.Routes, c.Route) && names(r.Models, c.Model)
}

func names(patterns []string, s []byte) bool { return len(patterns) == 0 || AnyMatches(patterns, s) }

// AnyMatches reports whether s matches one of the patterns.
func AnyMatches(patterns []string, s []byte) bool {
	for _, p := range patterns {
		if Matches(p, s) {
			return true
		}
	}
	return false
}

// Matches reports whether s is the pattern, or begins with it when it ends in *.
func Matches(pattern string, s []byte) bool {
	if n := len(pattern) - 1; n >= 0 && pattern[n] == '*' {
		return len(s) >= n && string(s[:n]) == pattern[:n]
	}
	return string(s) == pattern
}

// Set reads the rule's setting name; known is false when it is none of the rule's.
func (r *Rule) Set(name string, v nexus.JSON) (known bool, err error) {
	list := r.list(name)
	if list == nil {
		return false, nil
	}
	*list, err = Patterns(name, v)
	return true, err
}

func (r *Rule) list(name string) *[]string {
	switch name {
	case "keys":
		return &r.Keys
	case "tenants":
		return &r.Tenants
	case "teams":
		return &r.Teams
	case "tiers":
		return &r.Tiers
	case "routes":
		return &r.Routes
	case "models":
		return &r.Models
	}
	return nil
}

// Bounds of a list of patterns.
const (
	maxPatterns = 256
	maxPattern  = 128 // bytes
)

// Patterns reads a list of patterns.
func Patterns(name string, v nexus.JSON) ([]string, error) {
	list, ok := v.Texts()
	if !ok || len(list) == 0 || len(list) > maxPatterns {
		return nil, nexus.Error(name + " must be a list of 1 to 256 names; the last character of one may be *")
	}
	for _, p := range list {
		if err := Pattern(name, p); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Pattern says what is wrong with one pattern.
func Pattern(name, p string) error {
	for i := 0; i < len(p)-1; i++ {
		if p[i] == '*' {
			return nexus.Error(name + `: in "` + string(AppendPlain(nil, []byte(p), 64)) + `" a * stands before the end, where it would mean itself`)
		}
	}
	if p == "" || len(p) > maxPattern {
		return nexus.Error(name + ": a name has 1 to 128 bytes")
	}
	return nil
}

// AppendPlain appends at most most bytes of a text that a caller or a model wrote, with ? for what would not be plain
// text and … for what is left out.
func AppendPlain(b, text []byte, most int) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if most -= n; most < 0 {
			return append(b, "…"...)
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			r = '?'
		}
		b = utf8.AppendRune(b, r)
		text = text[n:]
	}
	return b
}
