package policy

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/open-policy-agent/opa/v1/types"
)

// claims are the packages whose rules the library composes.
var claims = []string{"access", "routes", "limits", "masks"}

// lint finds what compiles but cannot be meant: rules that the library would not see or could not read,
// and patterns that are only known when a call comes.
func lint(c *ast.Compiler) Errors {
	var errs Errors
	if len(c.GetRules(ast.MustParseRef(entrypoint))) == 0 {
		errs = append(errs, Mistake{Text: "nothing defines " + entrypoint + ": a module in package nexus or nexus.decision replaces the shipped library and must define it"})
	}
	errs = append(errs, lintPackages(c.TypeEnv, c.Modules)...)
	for _, m := range c.Modules {
		errs = append(errs, lintPatterns(m)...)
	}
	return errs.sorted()
}

// lintParsed finds what can be seen in a policy that does not compile: less than in one that does, since what its local
// variables stand for is not known.
func lintParsed(modules map[string]*ast.Module, loose bool) (errs Errors) {
	for _, m := range modules {
		errs = append(errs, lintPatterns(m)...)
		if !loose {
			errs = append(errs, lintModule(m)...)
		}
	}
	return errs
}

// beside adds to err, if it is about the policy, what was found beside it; but of a line that err speaks of nothing more.
func beside(err error, found ...Errors) error {
	list, ok := errors.AsType[Errors](err)
	if !ok {
		return err
	}
	all := slices.Clone(list)
	for _, m := range slices.Concat(found...) {
		if !slices.ContainsFunc(list, func(e Mistake) bool { return e.File == m.File && e.Line == m.Line }) {
			all = append(all, m)
		}
	}
	return all.sorted()
}

// lintPackages finds rules that the shipped library would not see, if it is the one that decides. types are those of the
// rules; nil: they are not known.
func lintPackages(types *ast.TypeEnv, modules map[string]*ast.Module) (errs Errors) {
	if !holdLibrary(modules) {
		return nil
	}
	for _, m := range modules {
		errs = append(errs, lintPackage(types, m)...)
	}
	return errs
}

// usesLibrary reports whether the shipped library is among c's modules.
func usesLibrary(c *ast.Compiler) bool { return holdLibrary(c.Modules) }

func holdLibrary(modules map[string]*ast.Module) bool {
	for _, m := range modules {
		for _, rule := range m.Rules {
			if rule.Ref().String() == "data.nexus._access" {
				return true
			}
		}
	}
	return false
}

func lintPackage(types *ast.TypeEnv, m *ast.Module) Errors {
	path := m.Package.Path // data.nexus.routes
	if len(path) < 3 || !path[1].Equal(ast.StringTerm("nexus")) {
		return nil
	}
	kind, _ := path[2].Value.(ast.String)
	if kind == "lib" {
		return nil // functions: the shipped ones, or the author's in their place
	}
	if len(path) > 3 || !slices.Contains(claims, string(kind)) {
		text := "the library reads no package " + strings.TrimPrefix(path.String(), "data.")
		if near := setting.Nearest(string(kind), claims); near != "" && len(path) == 3 {
			text += ": did you mean nexus." + near + "?"
		}
		return Errors{mistake(m.Package.Location, "%s; give helpers a package outside nexus", text)}
	}
	var errs Errors
	for _, rule := range m.Rules {
		name := strings.TrimPrefix(rule.Ref().String(), path.String()+".")
		if len(rule.Head.Args) > 0 || strings.HasPrefix(name, "_") {
			continue
		}
		if rule.Head.RuleKind() != ast.SingleValue || len(rule.Ref()) != len(path)+1 || types != nil && !mayBeObject(types.GetByRef(rule.Ref())) {
			errs = append(errs, mistake(rule.Location,
				`rule %s of nexus.%s must be one object, such as {"reason": "…"}; a helper's name begins with "_"`, name, string(kind)))
		}
	}
	return errs
}

func mayBeObject(t types.Type) bool {
	switch t := t.(type) {
	case nil, *types.Object:
		return true
	case types.Any:
		return len(t) == 0 || slices.ContainsFunc(t, mayBeObject)
	}
	return false
}

// patternAt gives the place of the pattern among the arguments of each builtin that takes one. To
// compile a pattern may take as long as half a second, and nothing can interrupt it.
var patternAt = map[string]int{
	"regex.match": 0, "regex.split": 0, "regex.find_n": 0, "regex.find_all_string_submatch_n": 0,
	"regex.replace": 1, "regex.is_valid": 0,
}

const maxPattern = 512 // bytes

func lintPatterns(m *ast.Module) Errors {
	var errs Errors
	call := func(operator ast.Ref, at *ast.Location, args []*ast.Term) {
		i, ok := patternAt[operator.String()]
		if !ok || i >= len(args) {
			return
		}
		pattern, ok := args[i].Value.(ast.String)
		switch {
		case !ok:
			errs = append(errs, mistake(at, "%v: the pattern must be written as a literal", operator))
		case len(pattern) > maxPattern:
			errs = append(errs, mistake(at, "%v: the pattern is longer than %d bytes", operator, maxPattern))
		default:
			if _, err := regexp.Compile(string(pattern)); err != nil {
				errs = append(errs, mistake(at, "%v: %v", operator, err))
			}
		}
	}
	ast.WalkExprs(m, func(e *ast.Expr) bool {
		if e.IsCall() {
			call(e.Operator(), e.Location, e.Operands())
		}
		return false
	})
	ast.WalkTerms(m, func(t *ast.Term) bool {
		if c, ok := t.Value.(ast.Call); ok {
			if operator, ok := c[0].Value.(ast.Ref); ok {
				call(operator, t.Location, c[1:])
			}
		}
		return false
	})
	return errs
}

// checkPools finds targets written in the policy itself that name no pool there is.
func checkPools(modules map[string]*ast.Module, pools map[string]bool) Errors {
	if pools == nil {
		return nil
	}
	var errs Errors
	check := func(t *ast.Term) {
		name, ok := t.Value.(ast.String)
		if ok && !pools[string(name)] {
			errs = append(errs, mistake(t.Location, "%s", unknownPool(string(name), pools)))
		}
	}
	for _, m := range modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			object, ok := t.Value.(ast.Object)
			if !ok {
				return false
			}
			if list := object.Get(ast.StringTerm("targets")); list != nil {
				eachTarget(list, check)
			}
			return false
		})
	}
	return errs.sorted()
}

// eachTarget calls f for the pools in the literal list of targets.
func eachTarget(list *ast.Term, f func(*ast.Term)) {
	array, ok := list.Value.(*ast.Array)
	if !ok {
		return
	}
	array.Foreach(func(t *ast.Term) {
		if object, ok := t.Value.(ast.Object); ok {
			if t = object.Get(ast.StringTerm("pool")); t == nil {
				return
			}
		}
		f(t)
	})
}

func unknownPool(name string, pools map[string]bool) string {
	text := "there is no pool " + quote(name)
	if near := setting.Nearest(name, slices.Sorted(maps.Keys(pools))); near != "" {
		text += ": did you mean " + quote(near) + "?"
	}
	return text
}
