package policy

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/nexus-gateway/nexus/core/sandbox"
)

// What OPA's Wasm does not do, or not as topdown does, the host does for it, with topdown's own code. In the module such
// a builtin has a name of its own, so that OPA does not put its own code in that place.
const (
	hostPrefix = "host."
	hostCost   = 10_000 // units for a call: a microsecond, so that time is looked at once in a few
	byteCost   = 16     // units for a byte of what it is given
	maxHosted  = 1 << 10
)

// hosted reports whether the host can do the builtin of that name: one that comes to the same whenever it is asked, by
// what it is given alone.
func hosted(name string) bool {
	b := ast.BuiltinMap[name]
	if _, native := natives[name]; native || b == nil || b.Nondeterministic || b.Relation || isRemoved(name) {
		return false
	}
	args := b.Decl.FuncArgs()
	return args.Variadic == nil && len(args.Args) >= 1 && len(args.Args) <= 4 && b.Decl.Result() != nil
}

// handOver gives the builtins that the host does the names they have there, and returns what tells OPA of them. The
// modules are compiled: what has a builtin's name in them is one.
func handOver(c *ast.Compiler) []func(*oparego.Rego) {
	var options []func(*oparego.Rego)
	told := map[string]bool{}
	for _, m := range c.Modules {
		ast.WalkExprs(m, func(e *ast.Expr) bool {
			if !e.IsCall() || !hosted(e.Operator().String()) {
				return false
			}
			name := e.Operator().String()
			e.SetOperator(ast.RefTerm(ast.VarTerm(hostPrefix + name)))
			if !told[name] {
				told[name] = true
				options = append(options, oparego.FunctionDyn(
					&oparego.Function{Name: hostPrefix + name, Decl: ast.BuiltinMap[name].Decl}, nil))
			}
			return false
		})
	}
	return options
}

// errCancelled says that a builtin was still at it long after the deadline.
var errCancelled = errors.New("time is up")

// serve does the builtin whose number comes first, with n arguments that come third.
func serve(g *sandbox.Guest, stack []uint64, n int) {
	r, ok := g.Data.(*run)
	number := int(stack[0])
	switch {
	case !ok: // it is being readied
		stack[0] = 0
	case number < len(r.served) && r.served[number] != nil:
		stack[0] = uint64(r.serve(r.served[number], stack[2:2+n]))
	case number >= maxHosted && number < maxHosted+len(computing):
		stack[0] = uint64(r.serve(topdown.GetBuiltin(computing[number-maxHosted]), stack[2:2+n]))
	default:
		g.Stop(fmt.Errorf("the module asks for the builtin number %d, which it did not name", number))
	}
}

// exact reports whether the number at that address is an integer, and not larger than most.
func (r *run) exact(at uint64, most int64) bool {
	memory, _ := r.guest.Read(0, r.guest.MemorySize())
	return exactAt(memory, uint32(at), most)
}

// gave reports whether what lies at that address was written by the host.
func (r *run) gave(at uint32) bool {
	return at >= imageBase && at < imageBase+uint32(len(r.image.b))
}

// serve does a builtin and returns the address of what it comes to; 0 where it is undefined, or an error, of which
// topdown tells.
func (r *run) serve(builtin topdown.BuiltinFunc, addresses []uint64) uint32 {
	args, ok := r.arguments(addresses)
	if r.doubt = r.doubt || !ok; r.doubt {
		return 0
	}
	var result *ast.Term
	err := builtin(topdown.BuiltinContext{Context: r.guest.Context(), Cancel: r}, args, func(t *ast.Term) error {
		result = t
		return nil
	})
	switch {
	case r.Cancelled():
		r.guest.Stop(errCancelled)
		return 0
	case err != nil:
		r.doubt = true
		return 0
	case result == nil:
		return 0
	}
	return r.give(result)
}

// arguments reads them out of the module's memory; false if something there is not as it should be.
func (r *run) arguments(addresses []uint64) ([]*ast.Term, bool) {
	memory, _ := r.guest.Read(0, r.guest.MemorySize())
	args := make([]*ast.Term, len(addresses))
	size := 0
	for i, at := range addresses {
		r.copier = copier{memory: memory, out: r.copier.out[:0]}
		r.copier.value(uint32(at))
		v, ok := parseWire(r.copier.out)
		if r.copier.bad || !ok {
			return nil, false
		}
		args[i] = ast.NewTerm(v)
		size += len(r.copier.out)
	}
	r.guest.Charge(hostCost + uint64(size)*byteCost)
	return args, true
}

// give writes t behind the input and returns its address there.
func (r *run) give(t *ast.Term) uint32 {
	start := len(r.image.b)
	at := r.image.term(t)
	if r.image.odd || len(r.image.b) > r.image.table+maxImage || !r.guest.Write(r.image.address(start), r.image.b[start:]) {
		r.doubt = true
		if cap(r.image.b) > 2*maxImage {
			r.image.b = nil // such an array is not kept for the next call
		}
		return 0
	}
	return at
}

// Cancel does nothing: a run is topdown's look at whether a builtin must end.
func (r *run) Cancel() {}

// Cancelled reports whether the caller has gone, or the deadline is past by as much again: a busy machine may have let
// the builtin do nothing.
func (r *run) Cancelled() bool {
	return r.guest.Context().Err() != nil || r.guest.Remaining() < -r.guest.Limit()
}

// term writes any value into an image. What Wasm keeps in another way, sets and keys that are no strings, is left to
// topdown.
func (w *imager) term(t *ast.Term) uint32 {
	switch v := t.Value.(type) {
	case ast.Boolean:
		return w.value(boolean(bool(v)))
	case ast.Number:
		if n, ok := v.Int64(); ok {
			return w.integer(n)
		}
		return w.digits([]byte(v))
	case ast.String:
		w.odd = w.odd || !utf8.ValidString(string(v))
		return w.text(string(v))
	case *ast.Array:
		return w.elements(v)
	case ast.Object:
		w.begin(level{})
		w.members(v)
		return w.header(w.finish())
	case ast.Null:
		at := w.room(4)
		w.b[at] = typeNull
		return w.address(at)
	}
	w.odd = true
	return w.text("")
}

func (w *imager) elements(a *ast.Array) uint32 {
	at := w.room(16 + 8*a.Len())
	w.b[at] = typeArray
	w.put(at+4, w.address(at+16))
	w.put(at+8, uint32(a.Len()))
	w.put(at+12, uint32(a.Len()))
	for i := range a.Len() {
		index, value := w.integer(int64(i)), w.term(a.Elem(i))
		w.put(at+16+8*i, index)
		w.put(at+20+8*i, value)
	}
	return w.address(at)
}

func (w *imager) members(o ast.Object) {
	o.Foreach(func(k, v *ast.Term) {
		name, ok := k.Value.(ast.String)
		w.odd = w.odd || !ok || !utf8.ValidString(string(name))
		key, hash := w.key(string(name))
		w.add(key, hash, w.term(v))
	})
}
