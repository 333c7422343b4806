package plugin

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// A Scope names calls: those that stand in every list that is not empty.
type Scope struct {
	Routes  []string `yaml:"routes" doc:"Endpoints: chat, completions, embeddings, responses, rerank, score, tokenize."`
	Tenants []string `yaml:"tenants" doc:"Tenants of the caller."`
	Teams   []string `yaml:"teams" doc:"Teams of the caller."`
	Tiers   []string `yaml:"tiers" doc:"Tiers of the caller."`
	Keys    []string `yaml:"keys" doc:"Ids of the caller's key."`
}

// maxScope bounds each list of a scope.
const maxScope = 1000 // names

// Validate notes what is wrong.
func (s *Scope) Validate(p setting.Problems) {
	for i, r := range s.Routes {
		if !slices.Contains(routes(), r) {
			p.Addf("routes["+strconv.Itoa(i)+"]", "there is no endpoint %q%s; there are %v", r, meant(r, routes()), routes())
		}
	}
	for _, list := range s.lists() {
		if len(list.names) > maxScope {
			p.Addf(list.path, "has %d names; the most is %d", len(list.names), maxScope)
		}
		if at := slices.Index(list.names, ""); at >= 0 {
			p.Addf(list.path+"["+strconv.Itoa(at)+"]", "is empty: write a name, or leave the list out")
		}
	}
}

type scopeList struct {
	path  string
	names []string
}

func (s *Scope) lists() []scopeList {
	return []scopeList{{"tenants", s.Tenants}, {"teams", s.Teams}, {"tiers", s.Tiers}, {"keys", s.Keys}}
}

func routes() []string {
	names := make([]string, len(llm.WithBody))
	for i, e := range llm.WithBody {
		names[i] = string(e)
	}
	return names
}

// meant is "; did you mean …?" where a known name is near.
func meant(name string, known []string) string {
	if near := setting.Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

func (s *Scope) empty() bool {
	return len(s.Routes)+len(s.Tenants)+len(s.Teams)+len(s.Tiers)+len(s.Keys) == 0
}

// A reach is which calls a plugin is asked about, made of an entry's scopes for quick answers.
type reach struct {
	only, except *area // nil: every call, no call
}

// An area is a Scope whose lists are sets; nil sets hold everything.
type area struct{ routes, tenants, teams, tiers, keys map[string]bool }

func newReach(e *Entry) reach { return reach{newArea(&e.Only), newArea(&e.Except)} }

func newArea(s *Scope) *area {
	if s.empty() {
		return nil
	}
	return &area{setOf(s.Routes), setOf(s.Tenants), setOf(s.Teams), setOf(s.Tiers), setOf(s.Keys)}
}

func setOf(names []string) map[string]bool {
	if len(names) == 0 {
		return nil
	}
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// holds reports whether every set has the call's own. A call of nobody is in no list of callers.
func (a *area) holds(c *pipeline.Call) bool {
	if a.routes != nil && !a.routes[string(c.Route)] {
		return false
	}
	who := c.Principal
	if who == nil {
		return a.tenants == nil && a.teams == nil && a.tiers == nil && a.keys == nil
	}
	in := func(set map[string]bool, name string) bool { return set == nil || set[name] }
	return in(a.tenants, who.Tenant) && in(a.teams, who.Team) && in(a.tiers, who.Tier) && in(a.keys, who.ID)
}

// applies reports whether the plugin is asked about the call at all.
func (p *plugin) applies(c *pipeline.Call) bool {
	r := &p.reach
	return (r.only == nil || r.only.holds(c)) && (r.except == nil || !r.except.holds(c))
}
