package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/nexus-gateway/nexus/core/setting"
)

// Errors are all the mistakes found in a policy, in the order of files and lines.
type Errors []Mistake

// A Mistake is one thing wrong with a policy.
type Mistake struct {
	File string `json:"file"`
	Line int    `json:"line"` // 0: the file, or the policy, as a whole
	Text string `json:"text"`
}

func (m Mistake) String() string {
	switch {
	case m.Line > 0:
		return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.Text)
	case m.File != "":
		return m.File + ": " + m.Text
	}
	return m.Text
}

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, m := range e {
		lines[i] = m.String()
	}
	return "policy: " + strings.Join(lines, "\n")
}

func (e Errors) sorted() Errors {
	slices.SortFunc(e, func(a, b Mistake) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Text, b.Text)
	})
	return slices.Compact(e)
}

func mistake(at *ast.Location, format string, args ...any) Mistake {
	m := Mistake{Text: fmt.Sprintf(format, args...)}
	if at != nil {
		m.File, m.Line = at.File, at.Row
	}
	return m
}

// explain says in the author's words what the compiler found.
func explain(errs ast.Errors) Errors {
	list := make(Errors, 0, len(errs))
	for _, err := range errs {
		list = append(list, mistake(err.Location, "%s", meaning(err)))
	}
	return list.sorted()
}

func meaning(err *ast.Error) string {
	if name, ok := strings.CutPrefix(err.Message, "undefined function "); ok {
		return meaningFunction(err, name)
	}
	switch d := err.Details.(type) {
	case *ast.UnificationErrDetail:
		return fmt.Sprintf("%s: %s is never %s", err.Message, kindsOf(d.Left), kindsOf(d.Right))
	case *ast.ArgErrDetail:
		return meaningArgs(err, d)
	case *ast.RefErrInvalidDetail:
		return meaningRef(err, d)
	}
	return err.Message
}

// meaningFunction explains a call of what is no function.
func meaningFunction(err *ast.Error, name string) string {
	if isRemoved(name) {
		return fmt.Sprintf("the builtin %s may not be used in a policy", name)
	}
	if near := setting.Nearest(name, functionNames()); near != "" {
		return err.Message + ": did you mean " + near + "?"
	}
	return err.Message
}

// functionNames lists the builtins that policies may use and the functions of nexus.lib.
func functionNames() []string {
	var names []string
	for _, b := range capabilities().Builtins {
		names = append(names, b.Name)
	}
	library := map[string]*ast.Module{}
	_ = addLibrary(library) // it is in the binary, and compiled with every policy
	for _, m := range library {
		for _, rule := range m.Rules {
			if path := rule.Ref().String(); len(rule.Head.Args) > 0 && strings.HasPrefix(path, "data.nexus.lib.") && !strings.Contains(path, "._") {
				names = append(names, path)
			}
		}
	}
	return names
}

// kindsOf is what values of type t are, in the words of JSON.
func kindsOf(t types.Type) string {
	if any, ok := t.(types.Any); ok && len(any) > 0 {
		var kinds []string
		for _, one := range any {
			kinds = append(kinds, kindsOf(one))
		}
		slices.Sort(kinds)
		return strings.Join(slices.Compact(kinds), " or ")
	}
	if kind := typeKind(t); kind != "" {
		return withArticle(kind)
	}
	return "any value"
}

// meaningArgs says which argument of a call is of a wrong kind.
func meaningArgs(err *ast.Error, d *ast.ArgErrDetail) string {
	for i, want := range d.Want.Args {
		if i < len(d.Have) && d.Have[i] != nil && !mayBe(d.Have[i], want) {
			return fmt.Sprintf("%s: argument %d is %s, not %s", err.Message, i+1, kindsOf(d.Have[i]), kindsOf(want))
		}
	}
	return err.Message
}

// mayBe reports whether a value of type t may be one of type want, by their kinds alone.
func mayBe(t, want types.Type) bool {
	a, b := kindsOf(t), kindsOf(want)
	return a == "any value" || b == "any value" || slices.ContainsFunc(strings.Split(a, " or "), func(kind string) bool {
		return slices.Contains(strings.Split(b, " or "), kind)
	})
}

// meaningRef explains a reference to what is not there.
func meaningRef(err *ast.Error, d *ast.RefErrInvalidDetail) string {
	if len(d.Ref) == 0 || d.Pos >= len(d.Ref) {
		return err.Message
	}
	if !d.Ref[0].Equal(ast.InputRootDocument) {
		return meaningLocal(err, d)
	}
	text := fmt.Sprintf("%v is not in the input schema", d.Ref)
	if name, ok := d.Ref[d.Pos].Value.(ast.String); ok {
		if near := nearestPath(string(name), d.Ref[:d.Pos].String()); near != "" {
			return text + ": did you mean " + near + "?"
		}
	}
	return text
}

// meaningLocal explains a reference through a local variable, whose name the message has.
func meaningLocal(err *ast.Error, d *ast.RefErrInvalidDetail) string {
	shown, ok := strings.CutPrefix(err.Message, "undefined ref: ")
	name, isName := d.Ref[d.Pos].Value.(ast.String)
	parent, ends := strings.CutSuffix(shown, "."+string(name))
	if !ok || !isName || !ends {
		return err.Message
	}
	var names []string
	for _, v := range d.OneOf {
		if s, ok := v.(ast.String); ok {
			names = append(names, string(s))
		}
	}
	if near := setting.Nearest(string(name), names); near != "" {
		return err.Message + ": did you mean " + parent + "." + near + "?"
	}
	return err.Message
}

// nearestPath is the path of the schema that is meant by name below parent: one there if it resembles
// name, else one anywhere; empty when nothing resembles it.
func nearestPath(name, parent string) string {
	best, least := "", 0
	for _, p := range schemaPaths() {
		at := strings.LastIndexByte(p, '.')
		d := setting.Distance(name, p[at+1:])
		if d > 1+len(name)/3 {
			continue
		}
		score := 2 * d
		if p[:at] != parent {
			score++
		}
		if best == "" || score < least {
			best, least = p, score
		}
	}
	return best
}
