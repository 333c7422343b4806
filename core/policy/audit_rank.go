package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A rank is where a rule stands among those that claim the same.
type rank struct {
	rule     *ast.Rule
	name     string // routes.local
	priority float64
	always   bool // it claims every call
	verb     string
}

// overruled finds rules that can never win: where one that claims every call stands above them, or claims it with equal
// priority, which is a conflict for every call.
func (l *look) overruled() {
	if !usesLibrary(l.compiler) {
		return
	}
	ranks := l.ranks()
	for _, kind := range []string{"access", "routes", "masks"} {
		for _, top := range ranks[kind] {
			if !top.always {
				continue
			}
			for _, other := range ranks[kind] {
				l.hold(kind, top, other)
			}
		}
	}
	for _, top := range ranks["access"] {
		if top.always && top.verb == "deny" && alone(ranks["access"], top) {
			l.problem(top.rule.Location, "%s denies every call: no other rule ever decides", top.name)
		}
	}
}

// hold says what becomes of other below top, which claims every call.
func (l *look) hold(kind string, top, other rank) {
	switch {
	case top.name == other.name || other.priority > top.priority:
	case kind == "access" && top.verb == other.verb && top.verb == "deny":
		// denials agree with one another
	case other.priority == top.priority && kind == "access" && top.verb == other.verb:
	case other.priority < top.priority:
		l.problem(other.rule.Location, "%s can never win: %s claims every call with the priority %s, this one has %s",
			other.name, top.name, number64(top.priority), number64(other.priority))
	case top.name < other.name || !other.always:
		l.problem(other.rule.Location, "%s is a conflict whenever it holds: %s claims every call with the same priority %s",
			other.name, top.name, number64(top.priority))
	}
}

// alone reports whether nothing of a priority as high as top's says otherwise.
func alone(ranks []rank, top rank) bool {
	return !slices.ContainsFunc(ranks, func(r rank) bool { return r.verb != top.verb && r.priority >= top.priority })
}

func number64(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// ranks are the rules of each package whose priority stands in the policy. One whose priority only the call tells is left
// out: nothing can be said of it.
func (l *look) ranks() map[string][]rank {
	all := map[string][]rank{}
	for _, m := range l.parsed {
		kind, ours := strings.CutPrefix(m.Package.Path.String(), "data.nexus.")
		if !ours || !slices.Contains(claims, kind) {
			continue
		}
		for _, rule := range m.Rules {
			if r, ok := rankOf(rule); ok {
				all[kind] = append(all[kind], r)
			}
		}
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b rank) int { return strings.Compare(a.name, b.name) })
	}
	return all
}

// rankOf is the rank of a rule whose value is written out.
func rankOf(rule *ast.Rule) (rank, bool) {
	ref := rule.Ref()
	claim := rule.Head.Value
	if len(rule.Head.Args) > 0 || rule.Default || rule.Else != nil || claim == nil || isHelper(ref) {
		return rank{}, false
	}
	if _, ok := claim.Value.(ast.Object); !ok {
		return rank{}, false
	}
	r := rank{rule: rule, name: strings.TrimPrefix(ref.String(), "data.nexus."), always: isTrue(rule.Body) && claim.IsGround() && !refers(claim), verb: "deny"}
	if t := memberOf(claim, "action"); t != nil {
		if r.verb, _ = literal(t); r.verb == "" {
			return r, false
		}
	}
	if t := memberOf(claim, "priority"); t != nil {
		n, ok := t.Value.(ast.Number)
		if !ok {
			return r, false
		}
		r.priority, ok = n.Float64()
		return r, ok
	}
	return r, true
}

// refers reports whether t reads anything, so that it may be undefined.
func refers(t *ast.Term) (yes bool) {
	ast.WalkTerms(t, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Ref, ast.Call, *ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension:
			yes = true
		}
		return yes
	})
	return yes
}
