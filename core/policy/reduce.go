package policy

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	oparego "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A reduced policy is one made ready for OPA's Wasm: what is the same in every call has become data, and the
// library's look over each package has become one rule for each claim. It decides as the policy does.
type reduced struct {
	compiler *ast.Compiler
	data     ast.Object
	why      []string // what the Wasm engine would not decide the same way, or not at all
}

// reduce makes p, which was compiled of these modules, ready for Wasm. It may change the modules.
func reduce(ctx context.Context, p *prepared, modules map[string]*ast.Module, loose bool) (*reduced, error) {
	l := &reduced{data: p.data.data}
	moving := movingRules(p.compiler)
	folded := l.fold(ctx, p, moving)
	found := claimants(p.compiler)
	for _, m := range modules {
		m.Rules = slices.DeleteFunc(m.Rules, func(r *ast.Rule) bool { return folded[groupOf(m, r).String()] != nil })
		for _, group := range folded { // which is still called by its name alone
			if len(group) == len(m.Package.Path)+1 && group.HasPrefix(m.Package.Path) {
				m.Imports = append(m.Imports, &ast.Import{Path: ast.NewTerm(group), Location: m.Package.Location})
			}
		}
		if m.Package.Path.String() == "data.nexus" && usesLibrary(p.compiler) {
			expand(m, found, folded)
		}
	}
	maps.DeleteFunc(modules, func(_ string, m *ast.Module) bool { return len(m.Rules) == 0 })
	l.compiler = newCompiler(loose).WithStrict(false)
	if l.compiler.Compile(modules); l.compiler.Failed() {
		return nil, l.compiler.Errors
	}
	l.why = inexact(l.compiler)
	switch path := ast.MustParseRef(entrypoint); {
	case len(l.compiler.GetRules(path)) == 0:
		l.why = append(l.why, "nothing of input")
	case len(l.compiler.GetRulesExact(path)) == 0:
		l.why = append(l.why, "a package as the decision")
	}
	return l, nil
}

// wasm compiles to a module that wants its memory and its builtins from a host. The compiler is of no use after.
func (l *reduced) wasm(ctx context.Context) ([]byte, error) {
	options := append(handOver(l.compiler), oparego.Query("result = "+entrypoint), oparego.Compiler(l.compiler))
	result, err := oparego.New(options...).Compile(ctx)
	if err != nil {
		return nil, err
	}
	return result.Bytes, nil
}

// groupOf is the path of what r is a part of: its package and the first name of its own.
func groupOf(m *ast.Module, r *ast.Rule) ast.Ref {
	path := m.Package.Path.Copy()
	head := r.Head.Ref()
	if name, ok := head[0].Value.(ast.Var); ok {
		return path.Append(ast.StringTerm(string(name)))
	}
	return path.Append(head[0])
}

// maxFolding bounds the time that is spent on rules which are the same in every call; one that takes longer stays
// a rule.
const maxFolding = 50 * time.Millisecond

// fold puts into the data what rules come to that read nothing of input, and returns their paths. Rules that
// fail stay, and so do values that are too large to be gone through.
func (l *reduced) fold(ctx context.Context, p *prepared, moving ruleSet) map[string]ast.Ref {
	folded := map[string]ast.Ref{}
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(maxFolding, cancel.Cancel)
	defer timer.Stop()
	m := p.memories.Get().(*memory)
	defer func() { m.forget(); p.memories.Put(m) }()
	for _, group := range fixedGroups(p.compiler, moving) {
		value, err := p.value(ctx, group, m, cancel)
		if err != nil {
			m.forget() // what failed looks undefined there
			continue
		}
		if value != nil {
			if budget := maxShared; !quiet(ast.NewTerm(value), &budget) {
				continue
			}
			data, ok := insert(l.data, group[1:], value)
			if !ok {
				continue
			}
			l.data = data
		}
		folded[group.String()] = group
	}
	return folded
}

// fixedGroups lists the groups of which no rule moves, without functions.
func fixedGroups(c *ast.Compiler, moving ruleSet) []ast.Ref {
	var groups []ast.Ref
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Modules)) {
		for _, r := range c.Modules[name].Rules {
			group := groupOf(c.Modules[name], r)
			if seen[group.String()] {
				continue
			}
			seen[group.String()] = true
			rules := c.GetRulesWithPrefix(group)
			takes := func(r *ast.Rule) bool { return len(r.Head.Args) > 0 }
			if !moving.any(rules) && !slices.ContainsFunc(rules, takes) {
				groups = append(groups, group)
			}
		}
	}
	return groups
}

// value is what ref comes to without an input; nil when it is undefined.
func (p *prepared) value(ctx context.Context, ref ast.Ref, m *memory, cancel topdown.Cancel) (value ast.Value, err error) {
	body := ast.NewBody(ast.Equality.Expr(ast.NewTerm(resultVar), ast.NewTerm(ref)))
	query, err := p.compiler.QueryCompiler().Compile(body)
	if err != nil {
		return nil, err
	}
	q := topdown.NewQuery(query).
		WithCompiler(p.compiler).
		WithStore(p.store).
		WithTransaction(p.txn).
		WithBaseCache(p.data).
		WithVirtualCache(m).
		WithCancel(cancel).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true).
		WithSeed(noSeed{})
	err = q.Iter(ctx, func(result topdown.QueryResult) error {
		value = result[resultVar].Value
		return nil
	})
	return value, err
}

// insert returns a copy of root that has value at path; false when something else is there.
func insert(root ast.Object, path ast.Ref, value ast.Value) (ast.Object, bool) {
	below := root.Get(path[0])
	if len(path) > 1 {
		object := ast.NewObject()
		if below != nil {
			o, ok := below.Value.(ast.Object)
			if !ok {
				return nil, false
			}
			object = o
		}
		inner, ok := insert(object, path[1:], value)
		if !ok {
			return nil, false
		}
		value = inner
	} else if below != nil {
		return nil, false
	}
	out := ast.NewObjectWithCapacity(root.Len() + 1)
	root.Foreach(func(k, v *ast.Term) { out.Insert(k, v) })
	out.Insert(path[0], ast.NewTerm(value))
	return out, true
}

// claimants lists the rules of the packages that claim calls, helpers included, by package.
func claimants(c *ast.Compiler) map[string][]string {
	found := map[string][]string{}
	for _, kind := range claims {
		pkg := ast.MustParseRef("data.nexus." + kind)
		for _, r := range c.GetRulesWithPrefix(pkg) {
			if name, ok := r.Ref()[len(pkg)].Value.(ast.String); ok && len(r.Head.Args) == 0 {
				found[kind] = append(found[kind], string(name))
			}
		}
		slices.Sort(found[kind])
		found[kind] = slices.Compact(found[kind])
	}
	return found
}

// expand puts one rule for each claim in place of the library's rules that look through a package: OPA's planner
// unrolls such a rule, and trips over functions.
func expand(m *ast.Module, found map[string][]string, folded map[string]ast.Ref) {
	var rules []*ast.Rule
	for _, r := range m.Rules {
		kind, ok := lookedThrough(r)
		if !ok || len(found[kind]) == 0 {
			rules = append(rules, r)
			continue
		}
		for _, name := range found[kind] {
			rules = append(rules, claimRule(m, kind, name, folded)...)
		}
	}
	m.Rules = rules
}

// lookedThrough says which package r looks through: r is one of the library's _access, _routes, _limits, _masks.
func lookedThrough(r *ast.Rule) (kind string, ok bool) {
	name := r.Head.Name.String()
	if len(name) < 2 || name[0] != '_' || !slices.Contains(claims, name[1:]) {
		return "", false
	}
	_, ok = r.Head.Value.Value.(*ast.ObjectComprehension)
	return name[1:], ok
}

// claimRule is _routes["routes.name"] := data.nexus.routes["name"]. A helper is asked for and then left out, as the
// library does: one that fails is an error, whether it is needed or not.
func claimRule(m *ast.Module, kind, name string, folded map[string]ast.Ref) []*ast.Rule {
	target := ast.NewTerm(ast.MustParseRef("data.nexus." + kind).Append(ast.StringTerm(name)))
	head := ast.RefHead(ast.Ref{ast.VarTerm("_" + kind), ast.StringTerm(kind + "." + name)}, target)
	head.Assign = true
	body := ast.NewBody(ast.NewExpr(ast.BooleanTerm(true)))
	if strings.HasPrefix(name, "_") {
		if folded[target.Value.(ast.Ref).String()] != nil {
			return nil
		}
		body = ast.NewBody(ast.Equality.Expr(ast.VarTerm("_claim"), target), ast.NewExpr(ast.BooleanTerm(false)))
		head.Value = ast.NullTerm()
	}
	return []*ast.Rule{{Head: head, Body: body, Module: m, Location: m.Package.Location}}
}
