package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/sandbox"
)

// What is spliced into the functions of OPA's Wasm:
//
//   - The decision is given the image of the input, and given to the host where it lies. What opa_eval makes of it
//     besides, a set that is hashed and written as text, costs several times as much.
//   - What a rule has come to is kept in a table by the rule's number, which OPA has in a hash table of numbers.
//   - Numbers of one or two digits that are written in the policy are integers at once. OPA keeps them as texts, and
//     parses them to compare.
//   - A builtin that gives nothing tells the host: topdown takes that for an error, unless it is max of nothing.
//   - One that computes with numbers which are no integers of 30 bits has the host do it, as topdown has them in another
//     base; one that comes to such a number tells the host.
//   - So do long texts, of which topdown has a bound (see guards.go).
//   - So does a look into an array by a text: in data, topdown takes "1" for 1.
//
// The host is told by opa_builtin0, for which a policy has no other use, and answers 0 where nothing else is said.
const (
	tellDecision = 1 // the value is the decision; 0: it is undefined
	tellDoubt    = 2
	tellNumber   = 3 // the value is a number that is a text, or large; 1: the host must compute with it
	tellResult   = 4 // it is such a number, and what was computed
)

// Opcodes.
const (
	opUnreachable, opIf, opElse, opEnd, opEmpty = 0x00, 0x04, 0x05, 0x0b, 0x40
	opBr, opCall, opDrop                        = 0x0c, 0x10, 0x1a
	opLocalGet, opLocalSet, opLocalTee          = 0x20, 0x21, 0x22
	opLoad, opLoad8, opStore, opConst           = 0x28, 0x2d, 0x36, 0x41
	opLoad64, opConst64                         = 0x29, 0x42
	opAdd64, opGreater64                        = 0x7c, 0x56
	opEqz, opEq, opGreater, opAnd, opOr         = 0x45, 0x46, 0x4b, 0x71, 0x72
	opShiftLeft                                 = 0x74
	typeI32                                     = 0x7f // of what a block leaves
)

// splices is what goes into a module of that shape.
func splices(shape *sandbox.Shape, l layout) map[string]sandbox.Splice {
	host := builtinImport(shape, 0)
	doubt := []byte{opConst, 0, opConst, tellDoubt, opCall, byte(host), opDrop}
	list := map[string]sandbox.Splice{
		"opa_malloc_init": {Enter: slices.Concat(
			[]byte{opLocalGet, 0}, addressOf(imageBase), []byte{opGreater, opIf, opEmpty, opUnreachable, opEnd},
			addressOf(l.heap), []byte{opLocalSet, 0})},
		"g0." + entrypoint: {
			Enter: slices.Concat(addressOf(l.root), []byte{opLocalSet, 0}),
			Leave: []byte{opConst, tellDecision, opCall, byte(host)},
		},
		"opa_memoize_get":    {Enter: slices.Concat([]byte{opLocalGet, 0, opConst, 2, opShiftLeft, opLoad, 2}, unsigned(l.table), []byte{opBr, 0})},
		"opa_memoize_insert": {Enter: slices.Concat([]byte{opLocalGet, 0, opConst, 2, opShiftLeft, opLocalGet, 1, opStore, 2}, unsigned(l.table), []byte{opBr, 0})},
	}
	list["opa_value_get"] = sandbox.Splice{Enter: slices.Concat(
		[]byte{opLocalGet, 0, opLoad8, 0, 0, opConst, typeArray, opEq, opIf, opEmpty},
		[]byte{opLocalGet, 1, opLoad8, 0, 0, opConst, typeString, opEq},
		[]byte{opLocalGet, 1, opLoad8, 0, 0, opConst, typeStringInterned, opEq, opOr, opIf, opEmpty},
		doubt, []byte{opEnd, opEnd})}
	concat, split := natives["concat"].function, natives["split"].function
	for name, n := range natives {
		if n.function != "" {
			list[n.function] = n.splice(shape, name, doubt)
		}
	}
	list[split] = sandbox.Splice{Enter: tooLong(0, maxText/(2*piece), doubt), Leave: list[split].Leave}
	s := list[concat] // what it gives is in the first parameter's place by now
	s.Leave = slices.Concat(s.Leave[:len(s.Leave)-2], tooLong(0, maxText/2, doubt), []byte{opLocalGet, 0})
	list[concat] = s
	return list
}

// tooLong tells of a doubt if the value in that local is a text of more than so many bytes: topdown has a bound on what
// is made of texts.
func tooLong(local byte, most uint32, doubt []byte) []byte {
	return slices.Concat(
		[]byte{opLocalGet, local, opIf, opEmpty},
		[]byte{opLocalGet, local, opLoad8, 0, 0, opConst, typeString, opEq},
		[]byte{opLocalGet, local, opLoad, 2, 4}, addressOf(most), []byte{opGreater, opAnd, opIf, opEmpty},
		doubt, []byte{opEnd, opEnd},
	)
}

// builtinImport is the index of what does builtins of n arguments.
func builtinImport(shape *sandbox.Shape, n int) byte {
	name := fmt.Sprint("opa_builtin", n)
	return byte(slices.IndexFunc(shape.Imports, func(i sandbox.Import) bool { return i.Name == name }))
}

// splice tells of a doubt where n gives nothing, and has the host compute with what is no integer.
func (n native) splice(shape *sandbox.Shape, name string, doubt []byte) (s sandbox.Splice) {
	host, arity := builtinImport(shape, 0), arity(name)
	s.Leave = slices.Concat([]byte{opLocalTee, 0, opEqz, opIf, opEmpty}, doubt)
	if n.number {
		s.Leave = slices.Concat(s.Leave, []byte{opElse}, notAnInt(0, exactResult), []byte{opIf, opEmpty},
			[]byte{opLocalGet, 0, opConst, tellResult, opCall, host, opDrop, opEnd})
		instead := slices.Concat(addressOf(uint32(maxHosted+slices.Index(computing, name))), []byte{opConst, 0})
		for i := range arity {
			instead = append(instead, opLocalGet, byte(i))
		}
		instead = append(instead, opCall, builtinImport(shape, arity), opBr, 2)
		for i := range arity {
			s.Enter = slices.Concat(s.Enter, notAnInt(byte(i), exactOperand), []byte{opIf, opEmpty},
				[]byte{opLocalGet, byte(i), opConst, tellNumber, opCall, host, opIf, opEmpty}, instead, []byte{opEnd, opEnd})
		}
	}
	s.Leave = append(s.Leave, opEnd, opLocalGet, 0)
	return s
}

// computing are the natives that the host does where numbers are no integers, in the order of the numbers that they have
// there.
var computing = slices.DeleteFunc(slices.Sorted(maps.Keys(natives)), func(name string) bool { return !natives[name].number })

// The integers that both engines compute with alike, and come to alike. OPA's Wasm takes 32 bits of an integer that is
// kept as one when it computes with it or compares it with one that is not.
const (
	exactOperand = 1 << 30
	exactResult  = maxWord
)

// notAnInt is whether the value in that local is a number, and a text or larger than most.
func notAnInt(local byte, most uint64) []byte {
	return slices.Concat(
		[]byte{opLocalGet, local, opLoad8, 0, 0, opConst, typeNumber, opEq, opIf, typeI32},
		[]byte{opLocalGet, local, opLoad8, 0, 1, opConst, keptText, opEq},
		[]byte{opLocalGet, local, opLoad64, 3, 8}, long(most), []byte{opAdd64}, long(2*most), []byte{opGreater64, opOr},
		[]byte{opElse, opConst, 0, opEnd},
	)
}

// addressOf puts an address on the stack, and long 64 bits.
func addressOf(v uint32) []byte { return signed(opConst, uint64(v)) }

func long(v uint64) []byte { return signed(opConst64, v) }

func signed(op byte, v uint64) []byte {
	b := []byte{op}
	for ; v >= 0x40; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// unsigned is the offset of a load or store.
func unsigned(v uint32) []byte {
	var b []byte
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// arity is how many arguments a builtin takes.
func arity(name string) int { return len(ast.BuiltinMap[name].Decl.FuncArgs().Args) }
