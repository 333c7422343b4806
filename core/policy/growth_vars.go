package policy

import "github.com/open-policy-agent/opa/v1/ast"

// sources are the terms that e takes v from: what it is assigned, or a part of what a pattern is matched with.
func (s *scope) sources(e *ast.Expr, v ast.Var) (from []*ast.Term) {
	switch terms := e.Terms.(type) {
	case *ast.SomeDecl:
		call, ok := terms.Symbols[0].Value.(ast.Call) // some x in xs; some k, x in xs
		if !ok {
			return nil
		}
		for _, pattern := range call[1 : len(call)-1] {
			if binds(pattern, v) {
				from = append(from, call[len(call)-1])
			}
		}
	case []*ast.Term:
		last := len(terms) - 1
		switch op := e.Operator().String(); {
		case last == 2 && (op == "assign" || op == "eq"):
			return append(matched(terms[1], terms[2], v), matched(terms[2], terms[1], v)...)
		case last == 1+s.arity(terms[0]) && binds(terms[last], v): // f(x, y): y is what f(x) comes to
			return []*ast.Term{ast.CallTerm(terms[:last]...)}
		}
	}
	return from
}

// matched are the parts of value that v stands for in a pattern; all of it where that cannot be told.
func matched(pattern, value *ast.Term, v ast.Var) (parts []*ast.Term) {
	if !binds(pattern, v) {
		return nil
	}
	switch p := pattern.Value.(type) {
	case *ast.Array:
		if a, ok := value.Value.(*ast.Array); ok && a.Len() == p.Len() {
			for i := range p.Len() {
				parts = append(parts, matched(p.Elem(i), a.Elem(i), v)...)
			}
			return parts
		}
	case ast.Object:
		if o, ok := value.Value.(ast.Object); ok {
			p.Foreach(func(key, below *ast.Term) {
				part := o.Get(key)
				if part == nil {
					part = value
				}
				parts = append(parts, matched(below, part, v)...)
			})
			return parts
		}
	}
	return []*ast.Term{value}
}

// binds reports whether pattern is v, or a pattern that v stands in.
func binds(pattern *ast.Term, v ast.Var) (found bool) {
	switch p := pattern.Value.(type) {
	case ast.Var:
		return p == v
	case *ast.Array:
		return p.Until(func(e *ast.Term) bool { return binds(e, v) })
	case ast.Object:
		return p.Until(func(_, e *ast.Term) bool { return binds(e, v) })
	}
	return false
}

// arity is how many arguments the function takes that is called by this name; -1: there is none.
func (s *scope) arity(operator *ast.Term) int {
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return -1
	}
	if b := ast.BuiltinMap[ref.String()]; b != nil {
		return len(b.Decl.FuncArgs().Args)
	}
	if rules := s.rules[s.global(ref).String()]; rules != nil {
		return len(rules[0].rule.Head.Args)
	}
	return -1
}

// assigns reports whether v has its value before anything is looked up by it: it is a parameter, or the left side of
// :=, here or, unless another of the name is declared here, round this.
func (s *scope) assigns(v ast.Var) bool {
	for _, parameter := range s.given {
		if binds(parameter, v) {
			return true
		}
	}
	for _, e := range s.body {
		switch terms := e.Terms.(type) {
		case *ast.SomeDecl:
			for _, symbol := range terms.Symbols {
				if binds(symbol, v) {
					return false
				}
			}
		case []*ast.Term:
			if len(terms) == 3 && e.Operator().String() == "assign" && binds(terms[1], v) {
				return true
			}
		}
	}
	return s.outer != nil && s.outer.assigns(v)
}

// members is the size of the largest value that is looked through by v, as _set[v] is: v may be any of what it holds.
func (s *scope) members(v ast.Var) (n float64) {
	look := func(ref ast.Ref) bool {
		for i := 1; i < len(ref); i++ {
			if binds(ref[i], v) {
				n = max(n, s.ref(ref[:i]))
			}
		}
		return false
	}
	for _, head := range s.heads {
		ast.WalkRefs(head, look)
	}
	ast.WalkRefs(s.body, look)
	return n
}
