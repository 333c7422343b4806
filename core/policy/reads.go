package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// reads is what the policies read of input: each path with the first place that reads it.
type reads map[string]*ast.Location

// readsOf walks every rule that the decision may reach. It follows the compiler's own graph of rules
// and keeps the constant front of each reference, so that what it finds is never too little.
func readsOf(c *ast.Compiler) reads {
	r := reads{}
	seen := map[*ast.Rule]bool{}
	queue := c.GetRules(ast.MustParseRef(entrypoint))
	for len(queue) > 0 {
		rule := queue[0]
		queue = queue[1:]
		if seen[rule] {
			continue
		}
		seen[rule] = true
		ast.WalkTerms(rule, r.note)
		for dep := range c.Graph.Dependencies(util.T(rule)) {
			queue = append(queue, dep.(*ast.Rule))
		}
		if rule.Else != nil {
			queue = append(queue, rule.Else)
		}
	}
	return r
}

// note keeps t if it reads input.
func (r reads) note(t *ast.Term) bool {
	path := ""
	switch v := t.Value.(type) {
	case ast.Var:
		if !v.Equal(ast.InputRootDocument.Value) {
			return false
		}
		path = "input"
	case ast.Ref:
		if !v[0].Equal(ast.InputRootDocument) {
			return false
		}
		path = "input"
		for _, part := range v[1:] {
			name, ok := part.Value.(ast.String)
			if !ok {
				break
			}
			path += "." + string(name)
		}
	default:
		return false
	}
	if old := r[path]; old == nil || t.Location != nil && t.Location.Compare(old) < 0 {
		r[path] = t.Location
	}
	// The head of a reference is the variable input, which says nothing of its own; what stands in
	// brackets may read more.
	if ref, ok := t.Value.(ast.Ref); ok {
		for _, part := range ref[1:] {
			ast.WalkTerms(part, r.note)
		}
	}
	return true
}

func (r reads) paths() []string { return slices.Sorted(maps.Keys(r)) }

// covers reports whether the value at path is read: it, what it lies in, or what lies in it.
func (r reads) covers(path string) bool {
	for p := range r {
		if p == path || strings.HasPrefix(path, p+".") || strings.HasPrefix(p, path+".") {
			return true
		}
	}
	return false
}

func (r reads) warnings() []string {
	at, whole := r["input"]
	if !whole {
		return nil
	}
	return []string{mistake(at, "reads input as a whole, so that all of it is built for every call").String()}
}

// unlisted finds headers that are read but that the setting does not let through.
func (r reads) unlisted(cfg Config) Errors {
	if cfg.anyHeader {
		return nil
	}
	var errs Errors
	for path, at := range r {
		name, ok := strings.CutPrefix(path, "input.request.headers.")
		if ok && !slices.Contains(cfg.Headers, name) {
			errs = append(errs, mistake(at, "reads the header %s, which policy.headers does not list", quote(name)))
		}
	}
	return errs.sorted()
}

// movingRules finds the rules that may differ from call to call: those that read input, and all that
// depend on one that does. Nothing else changes: data does not, and every builtin that would is removed.
func movingRules(c *ast.Compiler) ruleSet {
	set := ruleSet{}
	var queue []*ast.Rule
	add := func(rule *ast.Rule) {
		if !set[rule] {
			set[rule] = true
			queue = append(queue, rule)
		}
	}
	for _, m := range c.Modules {
		ast.WalkRules(m, func(rule *ast.Rule) bool {
			r := reads{}
			if ast.WalkTerms(rule, r.note); len(r) > 0 {
				add(rule)
			}
			return false
		})
	}
	for len(queue) > 0 {
		rule := queue[0]
		queue = queue[1:]
		for dependent := range c.Graph.Dependents(util.T(rule)) {
			add(dependent.(*ast.Rule))
		}
	}
	return set
}

type ruleSet map[*ast.Rule]bool

// any reports whether one of rules, or of their else branches, is in s.
func (s ruleSet) any(rules []*ast.Rule) bool {
	for _, rule := range rules {
		for ; rule != nil; rule = rule.Else {
			if s[rule] {
				return true
			}
		}
	}
	return false
}
