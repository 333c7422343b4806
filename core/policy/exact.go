package policy

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
	"github.com/open-policy-agent/opa/v1/util"
)

// A native builtin is one that OPA's Wasm does by itself and as topdown does: a test compares the two. What is
// missing here Wasm does not have, or it does not come to the same there (indexof and replace of nothing, sums of fractions,
// to_number), or leaves those integers (mul, div), or it is slow (regular expressions and globs are compiled anew in each
// call): that the host does (see hosted).
type native struct {
	function string // in the module
	number   bool   // computes: with integers of 30 bits, the two are the same
}

var natives = map[string]native{
	"eq": {}, "assign": {},
	"plus": {"opa_arith_plus", true}, "minus": {"opa_arith_minus", true}, "rem": {"opa_arith_rem", true}, "abs": {"opa_arith_abs", true},
	"round": {"opa_arith_round", true}, "ceil": {"opa_arith_ceil", true}, "floor": {"opa_arith_floor", true},
	"equal": {"opa_cmp_eq", false}, "neq": {"opa_cmp_neq", false}, "gt": {"opa_cmp_gt", false},
	"gte": {"opa_cmp_gte", false}, "lt": {"opa_cmp_lt", false}, "lte": {"opa_cmp_lte", false},
	"count": {"opa_agg_count", false}, "max": {"opa_agg_max", false}, "min": {"opa_agg_min", false}, "sort": {"opa_agg_sort", false},
	"array.concat": {"opa_array_concat", false}, "array.slice": {"opa_array_slice", true}, "array.reverse": {"opa_array_reverse", false},
	"and": {"opa_set_intersection", false}, "or": {"opa_set_union", false},
	"intersection": {"opa_sets_intersection", false}, "union": {"opa_sets_union", false},
	"is_number": {"opa_types_is_number", false}, "is_string": {"opa_types_is_string", false}, "is_boolean": {"opa_types_is_boolean", false},
	"is_array": {"opa_types_is_array", false}, "is_set": {"opa_types_is_set", false}, "is_object": {"opa_types_is_object", false},
	"is_null": {"opa_types_is_null", false}, "type_name": {"opa_types_name", false},
	"object.filter": {"builtin_object_filter", false}, "object.get": {"builtin_object_get", false}, "object.keys": {"builtin_object_keys", false},
	"object.remove": {"builtin_object_remove", false}, "object.union": {"builtin_object_union", false}, "object.union_n": {"builtin_object_union_n", false},
	"concat": {"opa_strings_concat", false}, "contains": {"opa_strings_contains", false},
	"startswith": {"opa_strings_startswith", false}, "endswith": {"opa_strings_endswith", false},
	"substring": {"opa_strings_substring", true},
	"split":     {"opa_strings_split", false}, "lower": {"opa_strings_lower", false}, "upper": {"opa_strings_upper", false},
	"trim": {"opa_strings_trim", false}, "trim_left": {"opa_strings_trim_left", false}, "trim_right": {"opa_strings_trim_right", false},
	"trim_prefix": {"opa_strings_trim_prefix", false}, "trim_suffix": {"opa_strings_trim_suffix", false}, "trim_space": {"opa_strings_trim_space", false},
	"numbers.range":     {"opa_numbers_range", true},
	"internal.member_2": {"builtin_member", false}, "internal.member_3": {"builtin_member3", false},
}

// inexact lists what keeps a policy from being decided in Wasm as in topdown, a phrase each.
func inexact(c *ast.Compiler) []string {
	why := map[string]bool{}
	for rule := range reachable(c) {
		if rule.Else == nil || len(rule.Body) > 0 {
			(&doubts{c: c, rule: rule, why: why, met: ast.VarSet{}}).look()
		}
	}
	return slices.Sorted(maps.Keys(why))
}

// reachable finds the rules that the decision may ask for.
func reachable(c *ast.Compiler) ruleSet {
	set := ruleSet{}
	queue := c.GetRules(ast.MustParseRef(entrypoint))
	for len(queue) > 0 {
		rule := queue[0]
		queue = queue[1:]
		if set[rule] {
			continue
		}
		set[rule] = true
		for dep := range c.Graph.Dependencies(util.T(rule)) {
			queue = append(queue, dep.(*ast.Rule))
		}
		if rule.Else != nil {
			queue = append(queue, rule.Else)
		}
	}
	return set
}

// doubts looks through one rule.
type doubts struct {
	c    *ast.Compiler
	rule *ast.Rule
	why  map[string]bool
	met  ast.VarSet // by arrayVar
}

func (d *doubts) look() {
	ast.WalkExprs(d.rule, func(e *ast.Expr) bool {
		if len(e.With) > 0 {
			d.why["with"] = true
		}
		if e.IsCall() {
			d.call(e.Operator().String(), e.Operands())
		}
		return false
	})
	ast.WalkTerms(d.rule, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Call:
			d.call(v[0].String(), v[1:])
		case *ast.ArrayComprehension:
			if d.unordered(v) && !d.orderless(v) {
				d.why["an array in the order of a set's or an object's members: sort it"] = true
			}
		}
		return false
	})
}

func (d *doubts) call(name string, args []*ast.Term) {
	if ast.BuiltinMap[name] == nil {
		return // a function of the policy
	}
	if _, ok := natives[name]; !ok && !hosted(name) {
		d.why[name] = true
	}
	if name == "concat" && !d.array(args[1]) {
		d.why["concat of what may be a set"] = true
	}
}

// orderless reports whether nothing asks for the order of a: it goes to builtins alone that come to the same whatever
// the order. The compiler gives such an argument a variable of its own.
func (d *doubts) orderless(a *ast.ArrayComprehension) bool {
	var name ast.Var
	uses, asked := 0, 0
	ast.WalkExprs(d.rule, func(e *ast.Expr) bool {
		if args := e.Operands(); e.IsEquality() && args[1].Value == ast.Value(a) {
			name, _ = args[0].Value.(ast.Var)
		}
		return false
	})
	ast.WalkVars(d.rule, func(v ast.Var) bool {
		if v == name {
			uses++
		}
		return false
	})
	ast.WalkExprs(d.rule, func(e *ast.Expr) bool {
		if e.IsCall() && slices.Contains(orderless, e.Operator().String()) && e.Operand(0).Value.Compare(name) == 0 {
			asked++
		}
		return false
	})
	return name != "" && uses == asked+1
}

// orderless are builtins that come to the same whatever the order of the array they take.
var orderless = []string{"sort", "count", "max", "min"}

// unordered reports whether a is an array in the order of a set or of an object's keys, which Wasm does not know:
// whether its body goes through something that may not be an array.
func (d *doubts) unordered(a *ast.ArrayComprehension) bool {
	own := varsOf(a)
	for _, v := range d.outside(a) {
		delete(own, v)
	}
	met := ast.VarSet{}
	for _, e := range a.Body {
		found := false
		ast.WalkTerms(e, func(t *ast.Term) bool {
			switch v := t.Value.(type) {
			case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
				return true
			case ast.Ref:
				found = found || d.goesThrough(v, own, met)
			}
			return false
		})
		if found {
			return true
		}
		met.Update(varsOf(e))
	}
	return false
}

// goesThrough reports whether ref goes through something that may not be an array with a variable of own that was
// not met before.
func (d *doubts) goesThrough(ref ast.Ref, own, met ast.VarSet) bool {
	for i, part := range ref[1:] {
		v, ok := part.Value.(ast.Var)
		if ok && own.Contains(v) && !met.Contains(v) && !d.array(ast.NewTerm(ref[:i+1])) {
			return true
		}
	}
	return false
}

// outside lists the variables of the rule that stand outside a.
func (d *doubts) outside(a *ast.ArrayComprehension) []ast.Var {
	var list []ast.Var
	ast.WalkTerms(d.rule, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case *ast.ArrayComprehension:
			return v == a
		case ast.Var:
			list = append(list, v)
		}
		return false
	})
	return list
}

func varsOf(x any) ast.VarSet {
	set := ast.VarSet{}
	ast.WalkVars(x, func(v ast.Var) bool {
		set.Add(v)
		return false
	})
	return set
}

// array reports whether t is an array for certain.
func (d *doubts) array(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case *ast.Array, *ast.ArrayComprehension:
		return true
	case ast.Var:
		return d.arrayVar(v)
	case ast.Ref:
		if len(v) == 1 {
			return d.array(v[0])
		}
		return isArray(d.c.TypeEnv.GetByRef(v))
	}
	return false
}

func isArray(t types.Type) bool {
	_, ok := t.(*types.Array)
	return ok
}

// arrayVar looks for where the variable gets its value.
func (d *doubts) arrayVar(v ast.Var) (found bool) {
	if d.met.Contains(v) { // one that gets it from itself, by way of others
		return false
	}
	d.met.Add(v)
	defer delete(d.met, v)
	is := func(t *ast.Term) bool { return t.Value.Compare(v) == 0 }
	ast.WalkExprs(d.rule, func(e *ast.Expr) bool {
		args := e.Operands()
		switch {
		case !e.IsCall() || len(args) < 2:
		case e.IsEquality() && is(args[0]):
			found = found || !is(args[1]) && d.array(args[1])
		case e.IsEquality() && is(args[1]):
			found = found || d.array(args[0])
		case is(args[len(args)-1]):
			b := ast.BuiltinMap[e.Operator().String()]
			found = found || b != nil && len(args) == len(b.Decl.FuncArgs().Args)+1 && isArray(b.Decl.Result())
		}
		return false
	})
	return found
}
