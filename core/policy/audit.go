package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/setting"
)

// Surroundings are what a policy can be held against beside itself. A nil member is not known, and not looked at.
type Surroundings struct {
	Models  []string // that callers may ask for; a trailing * is wild
	Kinds   []string // of personal data that the configured plugins can find
	Labels  []string // names of the configured plugins that may set labels; which labels, no manifest says
	Plugins []string // names of the configured plugins whose manifest could not be read: then Kinds and Labels are nil
}

// An Audit is what is wrong with a policy, and what is merely unwise.
type Audit struct {
	Problems Errors `json:"problems"`
	Advice   Errors `json:"advice"`
	Tests    Report `json:"tests"`
}

// Look compiles src, runs its tests, and looks for what compiles but cannot be meant. Everything is found at once, as far
// as what is wrong lets it be looked at. The error is not about the policy.
func Look(ctx context.Context, src Sources, cfg Config, around Surroundings) (*Audit, error) {
	a := &Audit{Problems: Errors{}, Advice: Errors{}}
	t, err := OpenTrial(ctx, src, cfg)
	if err != nil && src.Pools != nil { // pools that are not there hide nothing else
		if other := a.take(err); other != nil {
			return a, other
		}
		src.Pools = nil
		t, err = OpenTrial(ctx, src, cfg)
	}
	if err != nil {
		return a, a.broken(src, err)
	}
	f, err := src.read()
	if err != nil {
		return nil, err
	}
	l := &look{audit: a, around: around, compiler: t.engine.compiler, reads: t.engine.reads, files: f}
	modules, err := parse(f.rego)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		l.parsed = append(l.parsed, modules[name])
	}
	l.all()
	a.warn(t.engine)
	if a.Tests, err = f.test(ctx); err == nil {
		err = a.Tests.mistakes()
	}
	if err := a.take(err); err != nil {
		return a, err
	}
	if a.Tests.Results == nil {
		a.Tests.Results = []TestResult{}
	}
	if len(a.Tests.Results) == 0 {
		a.Advice = append(a.Advice, Mistake{File: folder(src.Name), Text: "has no tests: nexus policy init shows how they look"})
	}
	list, err := Formatted(src)
	for _, one := range list {
		a.Advice = append(a.Advice, Mistake{File: one.Name, Line: 1, Text: "is not formatted: nexus policy fmt -w formats it"})
	}
	a.Problems, a.Advice = a.Problems.sorted(), a.Advice.sorted()
	return a, err
}

// broken takes what can be said of a policy that cannot be compiled for err.
func (a *Audit) broken(src Sources, err error) error {
	if other := a.take(err); other != nil {
		return other
	}
	f, err := src.read()
	if err != nil {
		return err
	}
	modules, _ := parse(f.rego) // those that can be; err told of the others
	l := &look{audit: a}
	for _, m := range modules {
		for _, rule := range m.Rules {
			l.unreachable(rule)
		}
	}
	a.Problems = a.Problems.sorted()
	return nil
}

// take takes err among the problems, unless it is not about the policy.
func (a *Audit) take(err error) error {
	var list Errors
	if errors.As(err, &list) {
		a.Problems = append(a.Problems, list...)
		return nil
	}
	return err
}

func (a *Audit) warn(e *Engine) {
	for path, at := range e.reads {
		if path == "input" {
			a.Advice = append(a.Advice, mistake(at, "reads input as a whole, so that all of it is built for every call"))
		}
	}
}

// A look finds what compiles but cannot be meant.
type look struct {
	audit    *Audit
	around   Surroundings
	compiler *ast.Compiler
	reads    reads
	files    *files
	parsed   []*ast.Module // as they are written, in the order of their names
}

func (l *look) problem(at *ast.Location, format string, args ...any) {
	l.audit.Problems = append(l.audit.Problems, mistake(at, format, args...))
}

func (l *look) advise(at *ast.Location, format string, args ...any) {
	l.audit.Advice = append(l.audit.Advice, mistake(at, format, args...))
}

func (l *look) all() {
	for _, m := range l.parsed {
		for _, rule := range m.Rules {
			l.unreachable(rule)
		}
	}
	for name := range l.files.rego {
		for _, rule := range l.compiler.Modules[name].Rules {
			l.literals(rule)
		}
	}
	l.labels()
	l.overruled()
	l.unread()
}

// unreachable finds else branches behind one that always holds.
func (l *look) unreachable(rule *ast.Rule) {
	for ; rule.Else != nil; rule = rule.Else {
		if isTrue(rule.Body) {
			l.problem(rule.Else.Location, "this else is never reached: the branch in line %d always holds", rule.Location.Row)
			return
		}
	}
}

// isTrue reports whether body has no condition.
func isTrue(body ast.Body) bool {
	for _, e := range body {
		if t, ok := e.Terms.(*ast.Term); !ok || t.Value.Compare(ast.Boolean(true)) != 0 || e.Negated {
			return false
		}
	}
	return true
}

// literals finds models and kinds of personal data, written in a rule, that there are not.
func (l *look) literals(rule *ast.Rule) {
	at := places{at: map[ast.Var]*node{}, literals: map[ast.Var]*ast.Term{}}
	at.bind(rule)
	ast.WalkExprs(rule, func(e *ast.Expr) bool {
		args := e.Operands()
		if !e.IsCall() || len(args) < 2 {
			return false
		}
		switch name := e.Operator().String(); {
		case name == "internal.member_2":
			l.compare(at.place(args[0]), args[1])
			if n := at.place(args[1]); n != nil && n.path == pathKinds {
				l.kind(args[0])
			}
		case slices.Contains(compared, name):
			l.compare(at.place(args[0]), args[1])
			l.compare(at.place(args[1]), args[0])
		}
		return false
	})
	ast.WalkTerms(rule, func(t *ast.Term) bool {
		if set := memberOf(t, "set"); set != nil {
			l.model(memberOf(set, "model"), "no pool serves the model %s")
		}
		return false
	})
}

const (
	pathModel = "input.request.model"
	pathKinds = "input.pii.kinds"
)

// compare checks what a place of input is compared with: a literal, or a list of some.
func (l *look) compare(n *node, with *ast.Term) {
	if n == nil {
		return
	}
	check := func(t *ast.Term) {
		switch n.path {
		case pathModel:
			l.model(t, "no call is for the model %s: no pool serves it")
		case pathKinds + "[_]":
			l.kind(t)
		}
	}
	switch v := with.Value.(type) {
	case *ast.Array:
		v.Foreach(check)
	case ast.Set:
		v.Foreach(check)
	default:
		check(with)
	}
}

func memberOf(t *ast.Term, name string) *ast.Term {
	object, ok := t.Value.(ast.Object)
	if !ok {
		return nil
	}
	return object.Get(ast.StringTerm(name))
}

func (l *look) model(t *ast.Term, format string) {
	name, ok := literal(t)
	if !ok || l.around.Models == nil {
		return
	}
	for _, pattern := range l.around.Models {
		if stem, wild := strings.CutSuffix(pattern, "*"); pattern == name || wild && strings.HasPrefix(name, stem) {
			return
		}
	}
	l.problem(t.Location, format+"%s", quote(name), meant(name, l.around.Models))
}

func (l *look) kind(t *ast.Term) {
	name, ok := literal(t)
	if !ok || l.around.Kinds == nil || slices.Contains(l.around.Kinds, name) {
		return
	}
	l.problem(t.Location, "no configured plugin finds personal data of the kind %s%s", quote(name), meant(name, l.around.Kinds))
}

func literal(t *ast.Term) (string, bool) {
	if t == nil {
		return "", false
	}
	s, ok := t.Value.(ast.String)
	return string(s), ok
}

// meant is what was probably meant, or else all that there is.
func meant(name string, names []string) string {
	if near := setting.Nearest(name, names); near != "" {
		return ": did you mean " + quote(near) + "?"
	}
	if len(names) == 0 || len(names) > 12 {
		return ""
	}
	return ": there are " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

// labels says of every label that is read whether anything can set it.
func (l *look) labels() {
	for path, at := range l.reads {
		name, ok := strings.CutPrefix(path, "input.labels.")
		switch {
		case !ok:
		case l.around.Plugins != nil:
			l.advise(at, "whether any plugin sets the label %s cannot be known: there is no manifest of %s", quote(name), strings.Join(l.around.Plugins, ", "))
		case l.around.Labels == nil: // no configuration
		case len(l.around.Labels) == 0:
			l.problem(at, "no configured plugin may set labels, so that the label %s is never there", quote(name))
		default:
			l.advise(at, "whether the label %s is ever set cannot be known: %s may set labels, but a manifest does not say which",
				quote(name), strings.Join(l.around.Labels, ", "))
		}
	}
}

// unread finds members of data.json that no rule reads.
func (l *look) unread() {
	read := map[string]bool{}
	whole := false
	for _, m := range l.compiler.Modules {
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			switch {
			case !ref[0].Equal(ast.DefaultRootDocument):
			case len(ref) == 1 || nameAt(ref, 1) == "":
				whole = whole || ref[0].Location != nil && ref[0].Location.File != "" && !strings.HasPrefix(ref[0].Location.File, libraryName)
			case len(ref) == 2 || nameAt(ref, 2) == "":
				read[nameAt(ref, 1)] = true
			default:
				read[nameAt(ref, 1)+"."+nameAt(ref, 2)] = true
			}
			return false
		})
	}
	if whole {
		return
	}
	l.audit.Advice = append(l.audit.Advice, l.files.unread(read)...)
}

// unread lists what of the data none of the paths read touches, one or two members deep.
func (f *files) unread(read map[string]bool) (list []Mistake) {
	data, err := f.document()
	if err != nil {
		return nil
	}
	add := func(path, name string) {
		list = append(list, Mistake{f.from, f.lineOf(name), fmt.Sprintf("data.%s is never read", path)})
	}
	data.Foreach(func(k, v *ast.Term) {
		name, _ := literal(k)
		if name == "gateway" || read[name] {
			return
		}
		members, ok := v.Value.(ast.Object)
		touched := false
		for path := range read {
			touched = touched || strings.HasPrefix(path, name+".")
		}
		if !ok || !touched {
			add(name, name)
			return
		}
		members.Foreach(func(k, _ *ast.Term) {
			if below, _ := literal(k); !read[name+"."+below] {
				add(name+"."+below, below)
			}
		})
	})
	return list
}

// lineOf is the first line of the data where name stands as a key, as far as a look at its text can tell.
func (f *files) lineOf(name string) int {
	for i, line := range strings.Split(string(f.data), "\n") {
		if _, after, ok := strings.Cut(line, `"`+name+`"`); ok && strings.HasPrefix(strings.TrimSpace(after), ":") {
			return i + 1
		}
	}
	return 1
}
