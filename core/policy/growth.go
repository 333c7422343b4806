package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// maxGrowth bounds what the value of one rule may come to when everything that it is made of is written out.
//
// [x, x] holds x twice and costs nothing, and forty of them, each of the one before, are more than any memory: whoever
// visits such a value, be it the compiler's type checker, a comparison or sprintf, does not come back, and nothing
// can interrupt it.
const (
	maxGrowth  = 10_000          // terms
	maxLibrary = 100 * maxGrowth // terms, of the rules that compose the values of all others
)

// lintGrowth finds rules whose value would be too large when it is visited. It reads modules as they were parsed: the
// compiler must not see them before.
func lintGrowth(modules map[string]*ast.Module) Errors {
	g := growth{rules: map[string][]grower{}, packages: map[string][]string{}, sizes: map[string]float64{}}
	for _, m := range modules {
		for _, rule := range m.Rules {
			g.add(m, rule)
		}
	}
	var first *ast.Rule // the smallest that is too large: the others hold it
	least, most := 0.0, 0
	for path, rules := range g.rules {
		limit := maxGrowth
		if rules[0].module.Package.Path.String() == "data.nexus" {
			limit = maxLibrary
		}
		n := g.size(path)
		if n > float64(limit) && (first == nil || n < least || n == least && rules[0].rule.Location.Compare(first.Location) < 0) {
			first, least, most = rules[0].rule, n, limit
		}
	}
	if first == nil {
		return nil
	}
	return Errors{mistake(first.Location, "the value of %s may be larger than %d terms: what it is made of holds the same again and again", nameOf(first), most)}
}

// growth knows the sizes of rules' values.
type growth struct {
	rules    map[string][]grower // by path, with their else branches
	packages map[string][]string // the paths of the rules below a package's path
	sizes    map[string]float64  // what is known
}

// A grower is a rule in its module.
type grower struct {
	module *ast.Module
	rule   *ast.Rule
}

func (g *growth) add(m *ast.Module, rule *ast.Rule) {
	path := m.Package.Path.String() + "." + nameOf(rule)
	if g.rules[path] == nil {
		for i := range m.Package.Path {
			front := m.Package.Path[:i+1].String()
			g.packages[front] = append(g.packages[front], path)
		}
	}
	for ; rule != nil; rule = rule.Else {
		g.rules[path] = append(g.rules[path], grower{m, rule})
	}
}

// nameOf is the first part of a rule's name: of a rule r.x, r.
func nameOf(rule *ast.Rule) string {
	name, _ := rule.Head.Ref()[0].Value.(ast.Var)
	return string(name)
}

// size is the most that the value of the rules at path comes to, where what a call tells counts as one term. Beyond
// the bound it is not exact.
func (g *growth) size(path string) float64 {
	if n, known := g.sizes[path]; known {
		return n
	}
	g.sizes[path] = 1 // recursion, which the compiler refuses
	most, parts, joined := 0.0, 0.0, false
	for _, one := range g.rules[path] {
		rule, n := one.rule, 1.0
		s := scope{growth: g, module: one.module, body: rule.Body, heads: []any{rule.Head}, given: rule.Head.Args, locals: map[ast.Var]float64{}}
		joined = joined || rule.Head.RuleKind() == ast.MultiValue || len(rule.Head.Ref()) > 1
		if rule.Head.Value != nil {
			n += s.term(rule.Head.Value)
		}
		if rule.Head.Key != nil {
			n += s.term(rule.Head.Key)
		}
		if parts += n; n > most {
			most = n
		}
	}
	if joined { // each is a part of the one value
		most = parts
	}
	g.sizes[path] = most
	return most
}

// below is the size of all that stands at path: a rule, or a whole package.
func (g *growth) below(path string) (n float64, known bool) {
	if g.rules[path] != nil {
		return g.size(path), true
	}
	for _, rule := range g.packages[path] {
		n += g.size(rule)
	}
	return n, g.packages[path] != nil
}

// A scope is a rule or a comprehension, in which is told what its variables hold.
type scope struct {
	*growth
	module *ast.Module
	body   ast.Body
	heads  []any       // what else it is made of
	given  []*ast.Term // a function's parameters, each of which counts as one term
	locals map[ast.Var]float64
	outer  *scope // what stands round a comprehension; nil: it is a rule's
}

func (s *scope) term(t *ast.Term) (n float64) {
	switch v := t.Value.(type) {
	case ast.Var:
		return s.variable(v)
	case ast.Ref:
		return s.ref(v)
	case *ast.Array:
		n = 1
		v.Foreach(func(e *ast.Term) { n += s.term(e) })
	case ast.Set:
		n = 1
		v.Foreach(func(e *ast.Term) { n += s.term(e) })
	case ast.Object:
		n = 1
		v.Foreach(func(key, value *ast.Term) { n += s.term(key) + s.term(value) })
	case *ast.ArrayComprehension:
		return 1 + s.inner(v.Body, v.Term).term(v.Term)
	case *ast.SetComprehension:
		return 1 + s.inner(v.Body, v.Term).term(v.Term)
	case *ast.ObjectComprehension:
		inner := s.inner(v.Body, v.Key, v.Value)
		return 1 + inner.term(v.Key) + inner.term(v.Value)
	case ast.Call:
		return s.call(v)
	default:
		n = 1
	}
	return n
}

// inner is the scope of a comprehension, which sees what stands round it too.
func (s *scope) inner(body ast.Body, heads ...any) *scope {
	return &scope{growth: s.growth, module: s.module, body: body, heads: heads, locals: map[ast.Var]float64{}, outer: s}
}

func (s *scope) variable(v ast.Var) float64 {
	if n, known := s.locals[v]; known {
		return n
	}
	s.locals[v] = 1 // while it is looked for
	n := 1.0
	if size, ok := s.below(s.global(ast.Ref{ast.VarTerm(string(v))}).String()); ok {
		n = size
	}
	for _, e := range s.body {
		for _, value := range s.sources(e, v) {
			n = max(n, s.term(value))
		}
	}
	if !s.assigns(v) {
		n = max(n, s.members(v))
	}
	if s.outer != nil { // of a name that stands for two, the larger counts
		n = max(n, s.outer.variable(v))
	}
	s.locals[v] = n
	return n
}

// ref is what a reference may hold: the longest front of it that is a rule or a package, or the variable it starts at.
func (s *scope) ref(ref ast.Ref) float64 {
	if call, ok := ref[0].Value.(ast.Call); ok {
		return s.call(call)
	}
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		return s.term(ref[0])
	}
	if head != dataVar && len(ref) > 1 {
		if global := s.global(ref); s.imports(head) {
			ref, head = global, dataVar
		}
	}
	if head != dataVar {
		return s.variable(head)
	}
	front := constant(ref)
	for i := front; i > 1; i-- {
		path := ref[:i].String()
		if s.rules[path] != nil {
			return s.size(path)
		}
		if n, ok := s.below(path); ok && i == front {
			return n
		}
	}
	return 1
}

// constant is how many parts of ref stand before the first that only the call tells.
func constant(ref ast.Ref) int {
	for i := 1; i < len(ref); i++ {
		if _, ok := ref[i].Value.(ast.String); !ok {
			return i
		}
	}
	return len(ref)
}

// call is what a call gives: a scalar, or whatever it was given; a function of the policy's own, as much again for
// each time that it names it.
func (s *scope) call(call ast.Call) float64 {
	given := 1.0
	for _, arg := range call[1:] {
		given += s.term(arg)
	}
	operator, ok := call[0].Value.(ast.Ref)
	if !ok {
		return given
	}
	if b := ast.BuiltinMap[operator.String()]; b != nil {
		switch b.Decl.Result().(type) {
		case types.String, types.Number, types.Boolean:
			return 1
		}
		if b.Name == ast.JSONPatch.Name && len(call) > 2 {
			return given * patched(call[2])
		}
		return given
	}
	if n, ok := s.below(s.global(operator).String()); ok {
		return n * given
	}
	return given
}

// patched is how many times as large a patch may make what it is given.
func patched(operations *ast.Term) float64 {
	n := maxCopies
	if list, ok := operations.Value.(*ast.Array); ok {
		n = min(n, copies(list))
	}
	return float64(int(1) << n)
}

// global is the path that ref names: through an import, of the whole, or of a rule of the same package.
func (s *scope) global(ref ast.Ref) ast.Ref {
	head, ok := ref[0].Value.(ast.Var)
	if !ok || head == dataVar {
		return ref
	}
	for _, i := range s.module.Imports {
		if path, ok := i.Path.Value.(ast.Ref); ok && i.Name() == head {
			return path.Concat(ref[1:])
		}
	}
	own := s.module.Package.Path.Append(ast.StringTerm(string(head)))
	return own.Concat(ref[1:])
}

// imports reports whether the module imports something of data by this name.
func (s *scope) imports(name ast.Var) bool {
	for _, i := range s.module.Imports {
		if path, ok := i.Path.Value.(ast.Ref); ok && i.Name() == name {
			return path[0].Value.Compare(dataVar) == 0
		}
	}
	return false
}
