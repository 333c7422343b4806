package policy

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A given is one value of the input, before it is written for an engine: as a term for topdown, as JSON for
// Wasm. The zero value leaves its member out.
type given struct {
	kind    givenKind
	lent    bool // the text lies in the request's body, which may be used again: what is kept of it is a copy
	integer int64
	float   float64
	text    string
	list    []string
	pairs   map[string]string
	members func(*facts, writer)
}

type givenKind uint8

const (
	absent givenKind = iota
	aBoolean
	anInteger
	aFloat
	aText
	aList
	somePairs
	someMembers
)

// A writer takes the members of an object, one after the other.
type writer interface {
	member(name string, value given)
	// object begins an object that is the member of that name, and end ends it.
	object(name string)
	end()
}

func boolean(b bool) given {
	if b {
		return given{kind: aBoolean, integer: 1}
	}
	return given{kind: aBoolean}
}

func integer(n int64) given { return given{kind: anInteger, integer: n} }

// number is x; one that JSON cannot write counts as 0.
func number(x float64) given {
	switch {
	case x == float64(int64(x)):
		return integer(int64(x))
	case x != x || x > 1e300 || x < -1e300:
		return integer(0)
	}
	return given{kind: aFloat, float: x}
}

// text is s, cut to maxString.
func text(s string) given { return whole(cut(s, maxString)) }

// whole is all of s.
func whole(s string) given { return given{kind: aText, text: s} }

// lent is a text that lies in the request's body.
func lent(s string) given {
	g := text(s)
	g.lent = true
	return g
}

// list is an array of texts, which may lie in the request's body.
func list(items []string) given { return given{kind: aList, list: items} }

// pairs is an object of texts.
func pairs(m map[string]string) given { return given{kind: somePairs, pairs: m} }

// object is an object whose members f gives.
func object(f func(*facts, writer)) given { return given{kind: someMembers, members: f} }

// clean is s as valid UTF-8, so that both engines read the same.
func clean(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

var empty = ast.ArrayTerm()

// term is what g is for topdown; nil when it is absent.
func (g given) term(f *facts) *ast.Term {
	switch g.kind {
	case aBoolean:
		return ast.InternedTerm(g.integer == 1)
	case anInteger:
		if g.integer >= -1 && g.integer < 512 {
			return ast.InternedTerm(int(g.integer))
		}
		return ast.NumberTerm(json.Number(strconv.FormatInt(g.integer, 10)))
	case aFloat:
		return ast.NumberTerm(json.Number(strconv.FormatFloat(g.float, 'g', -1, 64)))
	case aText:
		if g.lent {
			return textTerm(strings.Clone(g.text))
		}
		return textTerm(g.text)
	case aList:
		return listTerm(g.list)
	case somePairs:
		return pairsTerm(g.pairs)
	case someMembers:
		t := terms{ast.NewObject()}
		g.members(f, &t)
		return ast.NewTerm(t[0])
	}
	return nil
}

func textTerm(s string) *ast.Term {
	if s == "" {
		return ast.InternedTerm("")
	}
	return ast.StringTerm(clean(s))
}

func listTerm(items []string) *ast.Term {
	if len(items) == 0 {
		return empty
	}
	list := make([]*ast.Term, len(items))
	for i, s := range items {
		list[i] = textTerm(strings.Clone(cut(s, maxString)))
	}
	return ast.ArrayTerm(list...)
}

func pairsTerm(m map[string]string) *ast.Term {
	if len(m) == 0 {
		return ast.InternedEmptyObject
	}
	object := ast.NewObjectWithCapacity(len(m))
	for k, v := range m {
		object.Insert(textTerm(k), textTerm(cut(v, maxString)))
	}
	return ast.NewTerm(object)
}

// terms are the open objects, the outermost first.
type terms []ast.Object

func (t *terms) member(name string, value given) {
	if term := value.term(nil); term != nil {
		(*t)[len(*t)-1].Insert(ast.StringTerm(name), term)
	}
}

func (t *terms) object(name string) {
	below := ast.NewObject()
	(*t)[len(*t)-1].Insert(ast.StringTerm(name), ast.NewTerm(below))
	*t = append(*t, below)
}

func (t *terms) end() { *t = (*t)[:len(*t)-1] }
