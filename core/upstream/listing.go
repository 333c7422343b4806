package upstream

import (
	"maps"
	"slices"
	"strings"
)

// models are the names that a server lists under /v1/models; nil: it has not been asked, or does not tell.
type models map[string]struct{}

// names are m's, sorted.
func (m *models) names() []string { return slices.Sorted(maps.Keys(*m)) }

// lists reports whether the backend's server says that it serves model; one that has not told may serve
// anything.
func (b *backend) lists(model string) bool {
	m := b.peer.models.Load()
	if m == nil {
		return true
	}
	if _, ok := (*m)[model]; ok {
		return true
	}
	if base, _, adapted := strings.Cut(model, ":"); adapted && b.kind == "sglang" { // base:adapter
		_, ok := (*m)[base]
		return ok
	}
	return false
}

// A shelf keeps which members list a model, for the models last asked for. It is never written to.
type shelf struct {
	members *[]*backend // of which it holds true
	edition uint64      // of what the fleet's servers list
	of      map[string][]*backend
}

// maxShelf bounds the models on a shelf: callers can ask for any name that a pattern admits.
const maxShelf = 256

// listing are the members that list model, or do not say. If none does, it is all: then their own answer says
// best what is wrong with the name, and a server that answers to names it does not list goes on to do so.
func (p *pool) listing(model string) []*backend {
	members := p.live.Load()
	if members == nil {
		return nil
	}
	edition := p.editions.Load()
	s := p.shelf.Load()
	if s != nil && s.members == members && s.edition == edition {
		if found, ok := s.of[model]; ok {
			return found
		}
	} else {
		s = &shelf{members: members, edition: edition}
	}
	found := listing(*members, model)
	if len(s.of) < maxShelf {
		next := &shelf{members, edition, maps.Clone(s.of)}
		if next.of == nil {
			next.of = make(map[string][]*backend)
		}
		next.of[strings.Clone(model)] = found
		p.shelf.Store(next)
	}
	return found
}

func listing(members []*backend, model string) []*backend {
	var found []*backend
	for _, b := range members {
		if b.lists(model) {
			found = append(found, b)
		}
	}
	if len(found) == 0 || len(found) == len(members) {
		return members
	}
	return found
}
