package policy

import (
	"fmt"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// maxText bounds what a builtin that makes long texts is given, and what it makes of it. Without it a few lines fill
// the memory between two looks at the deadline: replace(t, "a", t) with a text of a megabyte makes a terabyte. No
// text of a decision may be longer either.
const maxText = 64 << 10 // bytes

// growing are the builtins that make texts, or lists, larger than what they are given, with what of it.
var growing = map[string]func(args []*ast.Term) int{
	"concat": sizeJoined, "sprintf": sizeWritten, "split": sizeSplit,
	"replace": sizeReplaced, "strings.replace_n": sizeReplacedAll, "regex.replace": sizeMatched,
	"hex.encode": sizeWritten, "base64.encode": sizeWritten, "base64url.encode": sizeWritten, "base64url.encode_no_pad": sizeWritten,
	"urlquery.encode": sizeWritten, "urlquery.encode_object": sizeWritten,
	"json.patch": sizePatched,
}

// guard puts the guards into OPA's own table, once, before the first policy is compiled and so before any is
// evaluated. No other package of this program uses OPA.
var guard = sync.OnceFunc(func() {
	for name, size := range growing {
		topdown.RegisterBuiltinFunc(name, guarded(name, size, topdown.GetBuiltin(name)))
	}
})

func guarded(name string, size func([]*ast.Term) int, builtin topdown.BuiltinFunc) topdown.BuiltinFunc {
	return func(ctx topdown.BuiltinContext, args []*ast.Term, iter func(*ast.Term) error) error {
		if size(args) > maxText {
			return fmt.Errorf("%s: the result would be larger than %d bytes", name, maxText)
		}
		return builtin(ctx, args, iter)
	}
}

// sizeWritten is about the size of args as text, or somewhat more than maxText.
func sizeWritten(args []*ast.Term) int {
	left := maxText + 1
	for _, t := range args {
		weigh(t, &left)
	}
	return maxText + 1 - left
}

// weigh takes the size of t, as text, off left, and stops where nothing is left.
func weigh(t *ast.Term, left *int) {
	if *left -= 1; *left < 0 {
		return
	}
	switch v := t.Value.(type) {
	case ast.String:
		*left -= len(v)
	case ast.Number:
		*left -= len(v)
	case *ast.Array:
		v.Until(func(e *ast.Term) bool { weigh(e, left); return *left < 0 })
	case ast.Set:
		v.Until(func(e *ast.Term) bool { weigh(e, left); return *left < 0 })
	case ast.Object:
		v.Until(func(key, value *ast.Term) bool {
			weigh(key, left)
			weigh(value, left)
			return *left < 0
		})
	}
}

// sizeJoined is the size of what concat makes: its elements, and what stands between them.
func sizeJoined(args []*ast.Term) int {
	between, _ := args[0].Value.(ast.String)
	n := 0
	switch v := args[1].Value.(type) {
	case *ast.Array:
		n = v.Len()
	case ast.Set:
		n = v.Len()
	}
	return sizeWritten(args[1:]) + n*len(between)
}

// piece is what a text in a list costs, in bytes.
const piece = 16

// sizeSplit is the size of what split makes.
func sizeSplit(args []*ast.Term) int {
	text, _ := args[0].Value.(ast.String)
	by, _ := args[1].Value.(ast.String)
	return len(text) + piece*strings.Count(string(text), string(by))
}

// sizeReplaced is the most that replace, and regex.replace, make: s is the first, and what is put in the last.
func sizeReplaced(args []*ast.Term) int {
	s, _ := args[0].Value.(ast.String)
	with, _ := args[2].Value.(ast.String)
	old, _ := args[1].Value.(ast.String)
	if len(with) == 0 {
		return len(s)
	}
	return len(s) + (strings.Count(string(s), string(old))+1)*len(with)
}

// sizeMatched is the most that regex.replace makes: a match for each byte, each replaced by a text that repeats it.
func sizeMatched(args []*ast.Term) int {
	s, _ := args[0].Value.(ast.String)
	with, _ := args[2].Value.(ast.String)
	return len(s) + (len(s)+1)*len(with)
}

// sizeReplacedAll is the most that strings.replace_n makes.
func sizeReplacedAll(args []*ast.Term) int {
	patterns, _ := args[0].Value.(ast.Object)
	s, _ := args[1].Value.(ast.String)
	n := len(s)
	if patterns == nil {
		return n
	}
	patterns.Until(func(old, with *ast.Term) bool {
		n += sizeReplaced([]*ast.Term{args[1], old, with}) - len(s)
		return n > maxText
	})
	return n
}

// maxCopies bounds the copies that one patch makes. Each may hold the one before twice: a few dozen are more than any
// memory once they are visited, and overflow the stack of the process.
const maxCopies = 4

// sizePatched is too much for a patch with more copies than that. With fewer, what comes of it is bounded as any value
// is (see growth).
func sizePatched(args []*ast.Term) int {
	operations, _ := args[1].Value.(*ast.Array)
	if operations != nil && copies(operations) > maxCopies {
		return maxText + 1
	}
	return 0
}

// copies counts the operations of a patch that copy, or may.
func copies(operations *ast.Array) (n int) {
	operations.Foreach(func(operation *ast.Term) {
		object, ok := operation.Value.(ast.Object)
		if !ok {
			n++
			return
		}
		if op := object.Get(ast.InternedTerm("op")); op != nil {
			if name, ok := op.Value.(ast.String); ok && name != "copy" {
				return
			}
		}
		n++
	})
	return n
}
