package policy

import (
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A memory is what one evaluation has found so far; OPA asks it before it evaluates a rule again. It
// stands in for OPA's own cache for two reasons: it is cheaper where rules are few, and it knows what the
// rules that read nothing of input have come to, so that they are evaluated once and not for each call.
type memory struct {
	shelf *shelf
	found []found              // by place
	news  []*shelf             // fixed rules that this evaluation was the first to find
	other topdown.VirtualCache // calls of functions, and everything while a `with` holds; nil until needed
	withs int                  // that hold now
}

var _ topdown.VirtualCache = (*memory)(nil)

// found is what is known of a rule: its value, nil where it is undefined.
type found struct {
	value *ast.Term
	known bool
}

func newMemory(s *shelf) *memory { return &memory{shelf: s, found: make([]found, s.places)} }

// Get returns the value of ref, if it is known, and whether it is known to be undefined.
func (m *memory) Get(ref ast.Ref) (value *ast.Term, undefined bool) {
	if m.withs == 0 {
		if s := m.shelf.at(ref); s != nil {
			f := m.found[s.place]
			if always := s.always.Load(); always != nil && always.known {
				f = *always
			}
			return f.value, f.known && f.value == nil
		}
	}
	if m.other == nil {
		return nil, false
	}
	return m.other.Get(ref)
}

// Put keeps the value of ref; nil says that it is undefined.
func (m *memory) Put(ref ast.Ref, value *ast.Term) {
	if m.withs == 0 {
		if s := m.shelf.at(ref); s != nil {
			m.found[s.place] = found{value, true}
			if s.fixed && s.always.Load() == nil {
				m.news = append(m.news, s)
			}
			return
		}
	}
	if m.other == nil {
		m.other = topdown.NewVirtualCache()
	}
	m.other.Put(ref, value)
}

// Push begins a `with`: what was found before need not hold under it.
func (m *memory) Push() {
	if m.other == nil {
		m.other = topdown.NewVirtualCache()
	}
	m.withs++
	m.other.Push()
}

// Pop ends a `with`.
func (m *memory) Pop() {
	m.withs--
	m.other.Pop()
}

// Keys returns nothing: no evaluation asks for it.
func (m *memory) Keys() []ast.Ref { return nil }

// learn makes known to all later evaluations what this one found of fixed rules. It is for evaluations
// that ended well: in one that failed, what a failing builtin belongs to looks undefined.
func (m *memory) learn() {
	for _, s := range m.news {
		f := m.found[s.place]
		if budget := maxShared; f.value != nil && !quiet(f.value, &budget) {
			f = found{}
		}
		s.always.Store(&f)
	}
}

// forget makes m ready for another evaluation.
func (m *memory) forget() {
	clear(m.found)
	m.news = m.news[:0]
	m.other, m.withs = nil, 0
}

// maxShared bounds the terms of a value that is kept from call to call. Arrays of arrays may have more of
// them than can be visited; such a value is worked out by each call that asks for it.
const maxShared = 10_000

// quiet makes t safe to be read by several evaluations at once: OPA puts the members of objects and sets
// in order when it first needs them so, and other reads do not wait for that. It reports false when t has
// more than budget terms.
func quiet(t *ast.Term, budget *int) bool {
	if *budget--; *budget < 0 {
		return false
	}
	switch v := t.Value.(type) {
	case ast.Object:
		return !v.Until(func(key, value *ast.Term) bool { return !quiet(key, budget) || !quiet(value, budget) })
	case ast.Set:
		return !v.Until(func(element *ast.Term) bool { return !quiet(element, budget) })
	case *ast.Array:
		return !v.Until(func(element *ast.Term) bool { return !quiet(element, budget) })
	}
	return true
}

// A shelf gives each rule its place in a memory. It is a tree of the names in the rules' paths.
type shelf struct {
	below  map[ast.String]*shelf
	place  int  // of the rule that ends here; 0: none does
	fixed  bool // that rule comes to the same in every call
	always atomic.Pointer[found]
	places int // at the root: one more than there are rules
}

// shelfOf lists the rules of c that stand alone.
func shelfOf(c *ast.Compiler) *shelf {
	root := &shelf{places: 1}
	moving := movingRules(c)
	for _, m := range c.Modules {
		for _, rule := range m.Rules {
			if !standsAlone(c, rule) {
				continue
			}
			s := root.grow(rule.Ref())
			if s.place != 0 {
				continue // another definition of a rule that is listed
			}
			s.place = root.places
			s.fixed = !moving.any(c.GetRulesExact(rule.Ref()))
			root.places++
		}
	}
	return root
}

// standsAlone reports whether rule has its value by itself, as data.nexus.routes.tier has: it is no
// function, and not one of several that make up an object or a set.
func standsAlone(c *ast.Compiler, rule *ast.Rule) bool {
	depth := len(rule.Module.Package.Path) + 1
	for _, r := range c.GetRulesWithPrefix(rule.Ref()[:depth]) {
		if len(r.Head.Args) > 0 || r.Head.RuleKind() != ast.SingleValue || len(r.Ref()) != depth {
			return false
		}
	}
	return true
}

// grow returns the shelf of ref, made if need be.
func (s *shelf) grow(ref ast.Ref) *shelf {
	for _, t := range ref[1:] {
		name := t.Value.(ast.String) // the path of a rule that stands alone has no variable
		next := s.below[name]
		if next == nil {
			if s.below == nil {
				s.below = map[ast.String]*shelf{}
			}
			next = &shelf{}
			s.below[name] = next
		}
		s = next
	}
	return s
}

// at is the shelf of the rule at ref; nil when it has none.
func (s *shelf) at(ref ast.Ref) *shelf {
	if root, ok := ref[0].Value.(ast.Var); !ok || root != dataVar {
		return nil
	}
	for _, t := range ref[1:] {
		name, ok := t.Value.(ast.String)
		if !ok {
			return nil
		}
		if s = s.below[name]; s == nil {
			return nil
		}
	}
	if s.place == 0 {
		return nil
	}
	return s
}

const dataVar = ast.Var("data")

// A document is the data as OPA asks for it before it asks the store, which is slower: it makes a path
// of each reference. Where the document has nothing, the store answers.
type document struct{ data ast.Object }

var _ topdown.BaseCache = document{}

// Get returns the value at ref, nil when there is none.
func (d document) Get(ref ast.Ref) ast.Value {
	if len(ref) == 1 {
		return nil // all of data: the store leaves a part of it out
	}
	value, err := d.data.Find(ref[1:])
	if err != nil {
		return nil
	}
	return value
}

// Put keeps nothing: the document is whole.
func (document) Put(ast.Ref, ast.Value) {}
