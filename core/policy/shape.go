package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// lintShapes finds claims, and decisions of a library of the author's own, that the check of the decision would
// refuse when a call comes: members that nothing reads, values of a wrong kind, and decisions that may be undefined.
func lintShapes(c *ast.Compiler) Errors {
	if !usesLibrary(c) {
		s := shaper{compiler: c, rules: rulesBelow(c, entrypoint)}
		s.fit(c.TypeEnv.GetByRef(ast.MustParseRef(entrypoint)), decisionRoot(), "the decision")
		s.literals(decisionRoot())
		return s.errs
	}
	var errs Errors
	for _, kind := range claims {
		below, ok := c.TypeEnv.GetByRef(ast.MustParseRef("data.nexus." + kind)).(*types.Object)
		if !ok {
			continue
		}
		for _, p := range below.StaticProperties() {
			name, _ := p.Key.(string)
			if strings.HasPrefix(name, "_") {
				continue
			}
			s := shaper{compiler: c, rules: rulesBelow(c, "data.nexus."+kind+"."+name)}
			claim := claimOf(kind)
			s.fit(p.Value, claim, "rule "+name)
			s.literals(claim)
			errs = append(errs, s.errs...)
		}
	}
	return errs
}

// claimOf is the schema of the claims of nexus.<kind>.
func claimOf(kind string) *node {
	n := *claimsRoot().Props[kind].any()
	n.settle("", documents{claimsRoot(), decisionRoot()})
	return &n
}

// rulesBelow lists the rules at path, and those of the package of that name, with their else branches.
func rulesBelow(c *ast.Compiler, path string) []*ast.Rule {
	var list []*ast.Rule
	for _, rule := range c.GetRules(ast.MustParseRef(path)) {
		for ; rule != nil; rule = rule.Else {
			list = append(list, rule)
		}
	}
	return list
}

// A shaper holds the values of one name's rules against a schema.
type shaper struct {
	compiler *ast.Compiler
	rules    []*ast.Rule
	errs     Errors
}

// errorf notes a mistake at the place where the rules write the member name, or at the first of them.
func (s *shaper) errorf(name, format string, args ...any) {
	s.errs = append(s.errs, mistake(s.where(name), format, args...))
}

func (s *shaper) where(name string) (at *ast.Location) {
	for _, rule := range s.rules {
		if at == nil {
			at = rule.Location
		}
		var found *ast.Location
		ast.WalkTerms(rule, func(t *ast.Term) bool {
			if object, ok := t.Value.(ast.Object); ok && found == nil {
				object.Foreach(func(key, _ *ast.Term) {
					if key.Value.Compare(ast.String(name)) == 0 {
						found = key.Location
					}
				})
			}
			return found != nil
		})
		if found != nil {
			return found
		}
		if last := rule.Ref()[len(rule.Ref())-1]; last.Value.Compare(ast.String(name)) == 0 {
			return rule.Location
		}
	}
	return at
}

// fit notes what values of type t have that n does not allow. what says whose value it is.
func (s *shaper) fit(t types.Type, n *node, what string) {
	switch t := t.(type) {
	case types.Any:
		for _, one := range t {
			s.fit(one, n, what)
		}
		return
	case *types.Object:
		if n.kind() == "object" || len(n.OneOf) > 0 {
			s.fitObject(t, n, what)
			return
		}
	case *types.Array:
		if n.kind() == "array" {
			s.fitElements(t, n, what)
			return
		}
	}
	kind, is := typeKind(t), n.kind()
	if kind == "" || is == "" || kind == is || kind == "set" && is == "array" && n.path != "targets" {
		return
	}
	s.errorf(n.last(), "%s: %s is %s, not %s", what, n.path, withArticle(kind), withArticle(is))
}

func (s *shaper) fitObject(t *types.Object, n *node, what string) {
	for _, p := range t.StaticProperties() {
		name, ok := p.Key.(string)
		if !ok {
			continue
		}
		below := n.member(name)
		if below == nil {
			s.errorf(name, "%s: %s", what, n.unknownMember(name))
			continue
		}
		s.fit(p.Value, below, what)
	}
}

func (s *shaper) fitElements(t *types.Array, n *node, what string) {
	if n.Items == nil || len(n.Items.OneOf) > 0 {
		return // targets: a string or an object, which the literals tell
	}
	for i := range t.Len() {
		s.fit(t.Select(i), n.Items, what)
	}
	if t.Dynamic() != nil {
		s.fit(t.Dynamic(), n.Items, what)
	}
}

// member is what n says of its member name, whichever of its forms has it; nil: none does.
func (n *node) member(name string) *node {
	for _, one := range n.OneOf {
		if m := one.member(name); m != nil {
			return m
		}
	}
	if m := n.Props[name]; m != nil {
		return m
	}
	return n.any()
}

func (n *node) unknownMember(name string) string {
	text := "unknown member " + quote(strings.TrimPrefix(n.path+"."+name, "."))
	near := n.nearest(name)
	for _, one := range n.OneOf {
		if near == "" {
			near = one.nearest(name)
		}
	}
	if near != "" {
		text += ": did you mean " + quote(near) + "?"
	}
	return text
}

// last is the name of n alone.
func (n *node) last() string { return n.path[strings.LastIndexByte(n.path, '.')+1:] }

// typeKind is the kind of t's values; empty where there may be several.
func typeKind(t types.Type) string {
	switch t := t.(type) {
	case types.String:
		return "string"
	case types.Number:
		return "number"
	case types.Boolean:
		return "boolean"
	case types.Null:
		return "null"
	case *types.Array:
		return "array"
	case *types.Object:
		return "object"
	case *types.Set:
		return "set"
	case *types.NamedType:
		return typeKind(t.Type)
	}
	return ""
}

// literals checks what stands written in the rules: enumerations, bounds, and the form that an action has.
func (s *shaper) literals(n *node) {
	for _, rule := range s.rules {
		if rule.Head.Value == nil {
			continue
		}
		n, what := n, "rule "+string(rule.Head.Name)
		if rule.Module.Package.Path.String() == entrypoint {
			if n = n.member(string(rule.Head.Name)); n == nil {
				continue
			}
			what = "the decision"
		}
		if len(n.OneOf) > 0 {
			object, ok := rule.Head.Value.Value.(ast.Object)
			if !ok {
				continue
			}
			if n = form(n, object); n == nil {
				continue
			}
		}
		s.literal(rule.Head.Value, n, what)
	}
}

// form is the one of n's forms that object's action has; nil where only the call tells.
func form(n *node, object ast.Object) *node {
	action := ast.Value(ast.String("deny"))
	if t := object.Get(ast.StringTerm("action")); t != nil {
		action = t.Value
	}
	word, ok := action.(ast.String)
	if !ok {
		return nil
	}
	for _, one := range n.OneOf {
		if slices.Contains(one.Props["action"].Enum, string(word)) {
			return one
		}
	}
	actions := &node{path: "action", Type: "string", Enum: []string{"deny", "allow", "respond"}}
	return &node{path: n.path, Props: map[string]*node{"action": actions}, Rest: &rest{new(node)}}
}

func (s *shaper) literal(t *ast.Term, n *node, what string) {
	switch v := t.Value.(type) {
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			name, ok := key.Value.(ast.String)
			if !ok {
				return
			}
			below := n.member(string(name))
			if below == nil {
				s.errs = append(s.errs, mistake(key.Location, "%s: %s", what, n.unknownMember(string(name))))
				return
			}
			s.literal(value, below, what)
		})
	case *ast.Array:
		if n.Items != nil {
			v.Foreach(func(element *ast.Term) { s.literal(element, n.Items, what) })
		}
	default:
		if len(n.OneOf) > 0 {
			n = n.OneOf[0] // of a target's two forms, the one without members
		}
		if text := n.unfit(v); text != "" {
			s.errs = append(s.errs, mistake(t.Location, "%s: %s %s", what, cmp.Or(n.path, "the value"), text))
		}
	}
}

// lintDefault finds a decision of the author's own that may be undefined: one without a default, and without a
// branch that needs no condition.
func lintDefault(modules map[string]*ast.Module) Errors {
	var errs Errors
	var found *ast.Rule
	for _, m := range modules {
		name := map[string]ast.Var{"data.nexus": "decision", entrypoint: "action"}[m.Package.Path.String()]
		if name == "" {
			continue
		}
		for _, rule := range m.Rules {
			if rule.Head.Name != name || len(rule.Head.Args) > 0 {
				continue
			}
			if always(rule) {
				return nil
			}
			if found == nil || rule.Location.Compare(found.Location) < 0 {
				found = rule
			}
		}
	}
	if found != nil {
		name, value := found.Head.Name, `{"action": "deny", "rule": "default"}`
		if name == "action" {
			value = `"deny"`
		}
		errs = append(errs, mistake(found.Location, "%s is undefined for calls that none of its rules holds for: add %s", name,
			fmt.Sprintf("`default %s := %s`", name, value)))
	}
	return errs
}

// always reports whether rule has a value whatever the call.
func always(rule *ast.Rule) bool {
	for ; rule != nil; rule = rule.Else {
		if rule.Default || rule.Body.Equal(ast.NewBody(ast.NewExpr(ast.BooleanTerm(true)))) {
			return true
		}
	}
	return false
}
