package policy

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A tracker follows an evaluation and keeps, of each rule and body that is entered, the expression that failed farthest
// in.
type tracker struct {
	input  ast.Object
	frames map[uint64]*frame // by the query's number
	tops   []*frame          // rules that the query asked itself
}

// A frame is one definition of a rule, or a body within one, as it was entered.
type frame struct {
	at     *ast.Location
	body   ast.Body
	held   bool
	inner  []*frame // entered by the expression that is evaluated now
	missed *ast.Expr
	miss   Miss
	within []*frame // entered by the expression that failed
}

var _ topdown.QueryTracer = (*tracker)(nil)

// Enabled says that there is someone to tell.
func (k *tracker) Enabled() bool { return true }

// Config asks for the values of variables.
func (k *tracker) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: true} }

// TraceEvent takes one step of the evaluation in.
func (k *tracker) TraceEvent(e topdown.Event) {
	f := k.frames[e.QueryID]
	switch e.Op {
	case topdown.EnterOp:
		k.enter(e)
	case topdown.EvalOp:
		if f != nil {
			f.inner = nil
		}
	case topdown.ExitOp:
		if _, ok := e.Node.(*ast.Rule); ok && f != nil {
			f.held = true
		}
	case topdown.FailOp:
		if expr, ok := e.Node.(*ast.Expr); ok && f != nil {
			k.fail(f, expr, e)
		}
	}
}

func (k *tracker) enter(e topdown.Event) {
	f := &frame{at: e.Location}
	rule, isRule := e.Node.(*ast.Rule)
	switch node := e.Node.(type) {
	case *ast.Rule:
		f.body = node.Body
	case ast.Body:
		f.body = node
	}
	parent := k.frames[e.ParentID]
	k.frames[e.QueryID] = f
	switch {
	case e.QueryID == 0:
	case e.ParentID == 0 && isRule:
		f.at = rule.Location
		k.tops = append(k.tops, f)
	case parent != nil:
		parent.inner = append(parent.inner, f)
	}
}

// fail keeps expr if none that stands behind it has failed.
func (k *tracker) fail(f *frame, expr *ast.Expr, e topdown.Event) {
	if f.missed != nil && expr.Index < f.missed.Index {
		return
	}
	f.missed, f.within = expr, f.inner
	f.miss = Miss{Text: sourceOf(expr.Location, expr), Values: k.values(f, expr, e)}
	if at := expr.Location; at != nil {
		f.miss.File, f.miss.Line = at.File, at.Row
	}
}

// misses are why f did not hold; none when it did.
func (f *frame) misses() []Miss {
	if f.held || f.missed == nil {
		return nil
	}
	m := f.miss
	if !f.missed.Negated {
		for _, in := range f.within {
			m.Because = append(m.Because, in.misses()...)
		}
	}
	if len(m.Because) == 1 && m.Because[0].Text == m.Text { // the body of every tells the same first
		m.Because = m.Because[0].Because
	}
	return []Miss{m}
}

// values are what stands in expr: what it reads of input, and the variables by what the policy calls them.
func (k *tracker) values(f *frame, expr *ast.Expr, e topdown.Event) []Fact {
	list := []Fact{}
	seen := map[string]bool{}
	add := func(name string, value ast.Value) {
		if name == "" || seen[name] || len(list) == maxValues {
			return
		}
		seen[name] = true
		list = append(list, Fact{name, valueOf(value)})
	}
	visit := func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			if v[0].Equal(ast.InputRootDocument) {
				add(k.reads(v, e.Locals))
				return true
			}
		case ast.Var:
			value := e.Locals.Get(v)
			if named := string(e.LocalMetadata[v].Name); value != nil || named == "" || isGenerated(named) {
				add(f.nameOf(v, e), value) // a variable of the author's that has no value yet says nothing
			}
		}
		return false
	}
	if every, ok := expr.Terms.(*ast.Every); ok { // what stands in its body is told by the body
		ast.WalkTerms(every.Domain, visit)
	} else {
		ast.WalkTerms(expr, visit)
	}
	return list
}

const maxValues = 8 // of one expression

// reads is what ref reads of input, with the variables in it replaced by their values.
func (k *tracker) reads(ref ast.Ref, locals *ast.ValueMap) (name string, value ast.Value) {
	path := make(ast.Ref, len(ref))
	for i, part := range ref {
		path[i] = part
		if v, ok := part.Value.(ast.Var); ok && i > 0 {
			if known := locals.Get(v); known != nil {
				path[i] = ast.NewTerm(known)
				continue
			}
			path = path[:i] // any member: what holds them is told
			break
		}
	}
	value, err := k.input.Find(path[1:])
	if err != nil {
		value = nil
	}
	return path.String(), value
}

// nameOf is what the policy calls a variable: its name, or the text of what the compiler put it in place of. It is empty
// for what says nothing, such as 2 * 3.
func (f *frame) nameOf(v ast.Var, e topdown.Event) string {
	if name := string(e.LocalMetadata[v].Name); name != "" && !isGenerated(name) {
		return name
	}
	for _, expr := range f.body {
		out := outputOf(expr)
		if out == nil || out.Compare(v) != 0 || !readsSomething(expr) {
			continue
		}
		return sourceOf(expr.Location, expr)
	}
	return ""
}

func isGenerated(name string) bool { return strings.HasPrefix(name, "__local") }

// outputOf is the variable that expr gives its value to, as the compiler writes it; nil when there is none.
func outputOf(expr *ast.Expr) ast.Value {
	operands := expr.Operands()
	switch {
	case len(operands) == 0:
		return nil
	case expr.IsEquality():
		return operands[0].Value
	}
	return operands[len(operands)-1].Value
}

// readsSomething reports whether expr reads more than constants.
func readsSomething(expr *ast.Expr) bool {
	n := 0
	operator := expr.Operator()
	ast.WalkTerms(expr, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			if !v.Equal(operator) {
				n += 2
			}
			return true
		case ast.Var:
			n++
		}
		return false
	})
	return n > 1
}

func valueOf(v ast.Value) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := jsonOf(ast.NewTerm(v))
	if err != nil {
		return nil
	}
	return b
}

// sourceOf is an expression as the policy writes it, on one line.
func sourceOf(at *ast.Location, expr *ast.Expr) string {
	text := ""
	if at != nil {
		text = string(at.Text)
	}
	if text == "" {
		text = expr.String()
	}
	text = strings.Join(slices.DeleteFunc(strings.Fields(text), func(s string) bool { return s == "" }), " ")
	if len(text) > maxWritten {
		text = cut(text, maxWritten) + "…"
	}
	return text
}
