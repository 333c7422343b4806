package policy

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// plan is one that makes in again, for an engine that takes no terms. It reports false where in holds what the input of no
// call does, such as null, which that engine is not given then.
func (in Input) plan() (p plan, ok bool) {
	ok = true
	in.object.Foreach(func(key, value *ast.Term) {
		name, isText := key.Value.(ast.String)
		g, known := givenOf(value.Value)
		ok = ok && isText && known
		p = append(p, section{key: key, name: string(name), give: func(*facts) given { return g }})
	})
	return p, ok
}

func givenOf(v ast.Value) (given, bool) {
	switch v := v.(type) {
	case ast.Boolean:
		return boolean(bool(v)), true
	case ast.String:
		return whole(string(v)), true
	case ast.Number:
		return givenNumber(v)
	case *ast.Array:
		return givenList(v)
	case ast.Object:
		members, ok := Input{object: v}.plan()
		return object(func(f *facts, w writer) {
			for _, m := range members {
				w.member(m.name, m.give(f))
			}
		}), ok
	}
	return given{}, false
}

// givenNumber takes numbers that are written as a call's would be.
func givenNumber(v ast.Number) (given, bool) {
	if n, ok := v.Int64(); ok {
		return integer(n), true
	}
	x, ok := v.Float64()
	return given{kind: aFloat, float: x}, ok && ast.Number(strconv.FormatFloat(x, 'g', -1, 64)).Compare(v) == 0
}

// givenList takes lists of texts that are not too long for one.
func givenList(v *ast.Array) (given, bool) {
	items, ok := make([]string, v.Len()), true
	for i := range items {
		s, isText := v.Elem(i).Value.(ast.String)
		items[i] = string(s)
		ok = ok && isText && len(s) <= maxString
	}
	return list(items), ok
}
