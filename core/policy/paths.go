package policy

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// lintPaths finds what OPA's type checker lets pass: members that no backend, label or header has, also through
// local variables; values that a place never has; and inputs of tests that no call could have.
func lintPaths(c *ast.Compiler) Errors {
	var errs Errors
	for _, m := range c.Modules {
		errs = append(errs, lintModule(m)...)
	}
	return errs.sorted()
}

func lintModule(m *ast.Module) (errs Errors) {
	ast.WalkRules(m, func(rule *ast.Rule) bool {
		l := places{at: map[ast.Var]*node{}, literals: map[ast.Var]*ast.Term{}}
		l.bind(rule)
		l.check(rule)
		errs = append(errs, l.errs...)
		return false
	})
	return errs
}

// places knows what the local variables of one rule stand for.
type places struct {
	at       map[ast.Var]*node
	literals map[ast.Var]*ast.Term // objects written in the policy
	errs     Errors
}

// passes is how often bindings are followed through bindings.
const passes = 4

func (l *places) bind(rule *ast.Rule) {
	for range passes {
		known := len(l.at)
		ast.WalkExprs(rule, func(e *ast.Expr) bool {
			if every, ok := e.Terms.(*ast.Every); ok {
				if n := l.place(every.Domain); n != nil && n.any() != nil {
					l.set(every.Value, n.any())
				}
			}
			if e.IsEquality() {
				l.equate(e.Operand(0), e.Operand(1))
				l.equate(e.Operand(1), e.Operand(0))
			}
			return false
		})
		if len(l.at) == known {
			return
		}
	}
}

func (l *places) equate(local, value *ast.Term) {
	if n := l.place(value); n != nil {
		l.set(local, n)
	}
	if _, ok := value.Value.(ast.Object); ok {
		if v, ok := local.Value.(ast.Var); ok {
			l.literals[v] = value
		}
	}
}

func (l *places) set(local *ast.Term, n *node) {
	if v, ok := local.Value.(ast.Var); ok && !v.Equal(ast.InputRootDocument.Value) {
		l.at[v] = n
	}
}

// place is where t lies in input; nil when it does not, or when that is not known.
func (l *places) place(t *ast.Term) *node {
	switch v := t.Value.(type) {
	case ast.Var:
		if v.Equal(ast.InputRootDocument.Value) {
			return inputRoot()
		}
		return l.at[v]
	case ast.Ref:
		n := l.place(v[0])
		for i := 1; n != nil && i < len(v); i++ {
			n, _ = n.step(v[i].Value)
		}
		return n
	}
	return nil
}

func (l *places) check(rule *ast.Rule) {
	ast.WalkTerms(rule, func(t *ast.Term) bool {
		if ref, ok := t.Value.(ast.Ref); ok {
			l.checkRef(ref, cmpLocation(t.Location, rule.Location))
		}
		return false
	})
	ast.WalkExprs(rule, func(e *ast.Expr) bool {
		if e.IsCall() {
			l.checkCall(e)
		}
		for _, w := range e.With {
			l.checkWith(w)
		}
		return false
	})
}

func cmpLocation(a, b *ast.Location) *ast.Location {
	if a != nil && a.File != "" {
		return a
	}
	return b
}

func (l *places) checkRef(ref ast.Ref, at *ast.Location) {
	n := l.place(ref[0])
	for i := 1; n != nil && i < len(ref); i++ {
		below, ok := n.step(ref[i].Value)
		if !ok {
			l.unknown(n, string(ref[i].Value.(ast.String)), at)
			return
		}
		n = below
	}
}

func (l *places) unknown(n *node, name string, at *ast.Location) {
	text := fmt.Sprintf("%s.%s is not in the input schema", n.path, name)
	if near := n.nearest(name); near != "" {
		text += ": did you mean " + n.path + "." + near + "?"
	} else if near := nearestPath(name, n.path); near != "" {
		text += ": did you mean " + near + "?"
	}
	l.errs = append(l.errs, mistake(at, "%s", text))
}

// compared are the builtins that hold two values of one kind against each other.
var compared = []string{"eq", "equal", "neq", "gt", "gte", "lt", "lte"}

// checkCall finds a member that object.get asks for in vain, and comparisons whose answer is always the same.
func (l *places) checkCall(e *ast.Expr) {
	args := e.Operands()
	switch name := e.Operator().String(); {
	case name == "object.get" && len(args) >= 2:
		l.checkGet(args[0], args[1], e.Location)
	case name == "internal.member_2" && len(args) >= 2:
		if n := l.place(args[1]); n != nil && n.any() != nil {
			l.never(n.any(), args[0], e.Location)
		}
		l.neverIn(args[0], args[1], e.Location)
	case slices.Contains(compared, name) && len(args) >= 2:
		for i, t := range args[:2] {
			if n := l.place(t); n != nil {
				l.never(n, args[1-i], e.Location)
			}
		}
	}
}

func (l *places) checkGet(object, path *ast.Term, at *ast.Location) {
	n := l.place(object)
	parts := []*ast.Term{path}
	if list, ok := path.Value.(*ast.Array); ok {
		parts = parts[:0]
		list.Foreach(func(t *ast.Term) { parts = append(parts, t) })
	}
	for _, part := range parts {
		if n == nil {
			return
		}
		below, ok := n.step(part.Value)
		if !ok {
			l.unknown(n, string(part.Value.(ast.String)), at)
			return
		}
		n = below
	}
}

// neverIn checks `input.x in {"a", "b"}`.
func (l *places) neverIn(element, collection *ast.Term, at *ast.Location) {
	n := l.place(element)
	if n == nil {
		return
	}
	check := func(t *ast.Term) { l.never(n, t, at) }
	switch v := collection.Value.(type) {
	case *ast.Array:
		v.Foreach(check)
	case ast.Set:
		v.Foreach(check)
	}
}

// never notes that what stands at n is never value.
func (l *places) never(n *node, value *ast.Term, at *ast.Location) {
	if text := n.unfit(value.Value); text != "" {
		l.errs = append(l.errs, mistake(at, "%s %s", n.path, text))
	}
}

// checkWith holds the input that a test makes up against the schema. It may leave out what it likes.
func (l *places) checkWith(w *ast.With) {
	target, ok := w.Target.Value.(ast.Ref)
	if !ok {
		if v, ok := w.Target.Value.(ast.Var); ok && v.Equal(ast.InputRootDocument.Value) {
			l.checkMadeUp(inputRoot(), w.Value)
		}
		return
	}
	l.checkRef(target, w.Location)
	if n := l.place(w.Target); n != nil {
		l.checkMadeUp(n, w.Value)
	}
}

func (l *places) checkMadeUp(n *node, t *ast.Term) {
	if v, ok := t.Value.(ast.Var); ok && l.literals[v] != nil {
		t = l.literals[v]
	}
	switch v := t.Value.(type) {
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			name, ok := key.Value.(ast.String)
			if !ok {
				return
			}
			below, ok := n.step(name)
			if !ok {
				l.unknown(n, string(name), key.Location)
			} else if below != nil {
				l.checkMadeUp(below, value)
			}
		})
	case *ast.Array:
		if n.Items != nil {
			v.Foreach(func(element *ast.Term) { l.checkMadeUp(n.Items, element) })
		}
	default:
		l.never(n, t, t.Location)
	}
}
