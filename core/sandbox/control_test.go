package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// controlTypes are the types of the modules below, by index.
var controlTypes = []Signature{
	{[]Type{I32}, []Type{I32}}, {nil, nil}, {[]Type{I32, I32}, []Type{I32}}, {[]Type{I32}, []Type{I32, I32}}, {nil, []Type{I32, I32}},
}

// control is a module whose function run takes an i32, has two more as locals, and calls inner if it is told to.
func control(nests bool, code ...[]byte) []byte {
	d := &draft{}
	for _, t := range controlTypes {
		d.typ(t.Params, t.Results)
	}
	d.memory(2, 4)
	d.tables = [][]byte{cat(ops(byte(FuncRef), 1), u(4000), u(4000))}
	d.elements = [][]byte{cat(u(5), ops(byte(FuncRef)), u(2000), []byte(strings.Repeat("\xd2\x00\x0b", 2000)))}
	d.data = [][]byte{cat(u(1), u(8000), make([]byte, 8000))}
	d.dataCount = true
	inner := d.fn("", 1, 0)
	if nests {
		code = append([][]byte{cat(ops(opCall), u(inner))}, code...)
	}
	d.fn("run", 0, 2, code...)
	return d.bytes()
}

const (
	i32Eqz, i32Eq, i32LtS, i32Add, i32Sub, i32Mul, drop = 0x45, 0x46, 0x48, 0x6a, 0x6b, 0x6c, 0x1a
	lget, lset, ltee                                    = opLocalGet, opLocalSet, opLocalTee
)

// down is local 0 = local 0 - 1, its new value left on the stack.
func down() []byte { return cat(ops(lget, 0), i32c(1), ops(i32Sub, ltee, 0)) }

// up is local 1 = local 1 + n.
func up(n int32) []byte { return cat(ops(lget, 1), i32c(n), ops(i32Add, lset, 1)) }

// TestControl: the corners of control flow give what the specification says, metered as plain, in functions that
// call others and in such that do not.
func TestControl(t *testing.T) {
	tests := []struct {
		name string
		code []byte
		want map[uint64]uint64
	}{
		{"loop by br_if", cat(ops(opLoop, blockEmpty), up(3), down(), ops(opBrIf, 0, opEnd, lget, 1)), map[uint64]uint64{1: 3, 5: 15, 1000: 3000}},
		{"loop by a br_if that is not 0 or 1", cat(ops(opLoop, blockEmpty), up(1), down(), i32c(4), ops(i32Mul, opBrIf, 0, opEnd, lget, 1)), map[uint64]uint64{7: 7}},
		{"loop by br in an if", cat(ops(opLoop, blockEmpty), up(1), down(), ops(opIf, blockEmpty, opBr, 1, opEnd, opEnd, lget, 1)), map[uint64]uint64{1: 1, 9: 9}},
		{"loop by br in an else", cat(ops(opLoop, blockEmpty), up(1), down(), ops(i32Eqz, opIf, blockEmpty, opElse, opBr, 1, opEnd, opEnd, lget, 1)), map[uint64]uint64{1: 1, 9: 9}},
		{"loop that gives a value", cat(ops(opLoop, byte(I32)), up(2), down(), ops(opBrIf, 0, lget, 1, opEnd)), map[uint64]uint64{4: 8}},
		{"loop by br_table", cat(ops(opBlock, blockEmpty, opLoop, blockEmpty), up(1), down(), ops(opBrTable, 1, 1, 0, opEnd, opEnd, lget, 1)), map[uint64]uint64{1: 1, 9: 9}},
		{"br_table to two loops", cat(
			ops(opBlock, blockEmpty, opLoop, blockEmpty), up(100), ops(opLoop, blockEmpty), up(1), down(),
			ops(opBrTable, 4, 2, 0, 1, 0, 1, opEnd, opEnd, opEnd, lget, 1)), map[uint64]uint64{1: 101, 2: 102, 3: 203, 4: 204}},
		{"loop with a parameter", cat(i32c(0), ops(opLoop, 0, lget, 0, i32Add), down(), ops(opBrIf, 0, opEnd)), map[uint64]uint64{4: 10, 100: 5050}},
		{"loop with a parameter, by br", cat(i32c(0), ops(opLoop, 0, lget, 0, i32Add), down(), ops(opIf, 0, opBr, 1, opEnd, opEnd)), nil},
		{"loop with two parameters", cat(i32c(0), i32c(7), ops(opLoop, 2, i32Add, lget, 0), down(), ops(opBrIf, 0, i32Add, opEnd)), map[uint64]uint64{3: 13}},
		{"loops in loops", cat(
			ops(opLoop, blockEmpty), i32c(3), ops(lset, 2, opLoop, blockEmpty), up(1), ops(lget, 2), i32c(1), ops(i32Sub, ltee, 2, opBrIf, 0, opEnd), down(),
			ops(opBrIf, 0, opEnd, lget, 1)), map[uint64]uint64{2: 6, 10: 30}},
		{"out of two loops at once", cat(ops(opBlock, blockEmpty, opLoop, blockEmpty, opLoop, blockEmpty), up(1), down(), ops(i32Eqz, opBrIf, 2, opBr, 0, opEnd, opEnd, opEnd, lget, 1)), map[uint64]uint64{5: 5}},
		{"back to the outer loop from the inner", cat(ops(opLoop, blockEmpty), up(10), ops(opLoop, blockEmpty), up(1), down(), ops(opBrIf, 1, opEnd, opEnd, lget, 1)), map[uint64]uint64{3: 33}},
		{"return out of a loop", cat(ops(opLoop, blockEmpty), up(1), down(), ops(i32Eqz, opIf, blockEmpty, lget, 1, opReturn, opEnd, opBr, 0, opEnd, opUnreachable)), map[uint64]uint64{6: 6}},
		{"branch to the function's own label", cat(ops(opLoop, blockEmpty), up(1), ops(lget, 1), down(), ops(i32Eqz, opBrIf, 1, drop, opBr, 0, opEnd, opUnreachable)), map[uint64]uint64{6: 6}},
		{"if with a result", cat(ops(lget, 0, opIf, byte(I32)), i32c(5), ops(opElse), i32c(6), ops(opEnd)), map[uint64]uint64{0: 6, 1: 5, 2: 5}},
		{"if with a parameter and no else", cat(i32c(9), ops(lget, 0, opIf, 0), i32c(1), ops(i32Add, opEnd)), map[uint64]uint64{0: 9, 1: 10}},
		{"block with two results", cat(ops(opBlock, 4), i32c(40), i32c(2), ops(lget, 0, opBrIf, 0, drop, drop), i32c(1), i32c(1), ops(opEnd, i32Add)), map[uint64]uint64{0: 2, 1: 42}},
		{"block with a parameter", cat(ops(lget, 0, opBlock, 3, ltee, 1, lget, 1, opEnd, i32Add)), map[uint64]uint64{21: 42}},
		{"br_table of many", cat(
			ops(opBlock, blockEmpty, opBlock, blockEmpty, opBlock, blockEmpty, lget, 0, opBrTable, 3, 2, 1, 0, 1, opEnd),
			i32c(30), ops(opReturn, opEnd), i32c(20), ops(opReturn, opEnd), i32c(10)), map[uint64]uint64{0: 10, 1: 20, 2: 30, 3: 20, 1 << 31: 20}},
		{"br_table with values", cat(ops(opBlock, byte(I32)), i32c(7), ops(lget, 0, opBrTable, 0, 0, opEnd)), map[uint64]uint64{0: 7, 9: 7}},
		{"br_table that only leads back", cat(ops(opLoop, blockEmpty), up(1), down(), ops(i32Eqz, opIf, blockEmpty, lget, 1, opReturn, opEnd), i32c(0), ops(opBrTable, 0, 0, opEnd, opUnreachable)), map[uint64]uint64{4: 4}},
		{"code behind br", cat(ops(opBlock, byte(I32)), i32c(3), ops(opBr, 0, opLoop, blockEmpty, opBr, 0, opEnd, i32Add, opEnd)), map[uint64]uint64{0: 3}},
		{"typed blocks behind return", cat(ops(lget, 0, opReturn, opBlock, 3, opLoop, 2, opBrIf, 0, opEnd, opEnd, drop)), nil},
		{"loops behind unreachable", cat(ops(lget, 0, opIf, blockEmpty, lget, 0, opReturn, opEnd, opUnreachable, opLoop, blockEmpty), i32c(1), ops(opBrIf, 0, opBr, 0, opEnd)), map[uint64]uint64{8: 8}},
		{"if and else behind br", cat(ops(opBlock, blockEmpty, opBr, 0, opIf, byte(I32)), i32c(1), ops(opElse), i32c(2), ops(opEnd, drop, opEnd, lget, 0)), map[uint64]uint64{8: 8}},
		{"loop that is never left and never entered", cat(ops(opBlock, blockEmpty, lget, 0, opBrIf, 0, opLoop, blockEmpty, opBr, 0, opEnd, opEnd, lget, 0)), map[uint64]uint64{8: 8}},
		{"empty loop", cat(ops(opLoop, blockEmpty, opEnd, lget, 0)), map[uint64]uint64{8: 8}},
	}
	for _, tt := range tests {
		for _, nests := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/nests=%v", tt.name, nests), func(t *testing.T) { sameControl(t, control(nests, tt.code), tt.want) })
		}
	}
}

func sameControl(t *testing.T, wasm []byte, want map[uint64]uint64) {
	plain, err := unmetered(t, wasm, differ)
	if err != nil {
		if want != nil {
			t.Fatalf("the module is not valid: %v", err)
		}
		if _, failed := sharedEngine().Load(context.Background(), wasm, differ); failed == nil {
			t.Fatalf("taken although it is not valid: %v", err)
		}
		return
	}
	g := get(t, load(t, wasm, differ))
	defer g.pool.Put(g)
	for in, out := range want {
		f, _ := plain.pool.Func("run")
		before, err := plain.Call(context.Background(), f, in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := g.Call(context.Background(), function(t, g.pool, "run"), in)
		if got != out || before != out || err != nil {
			t.Errorf("run(%d) = %d (%v), plain %d, want %d", in, got, err, before, out)
		}
	}
}

// TestEveryLoopPays: whatever way leads back, fuel ends it.
func TestEveryLoopPays(t *testing.T) {
	one := i32c(1)
	tests := map[string][]byte{
		"br":                      ops(opLoop, blockEmpty, opBr, 0, opEnd),
		"br_if":                   cat(ops(opLoop, blockEmpty), one, ops(opBrIf, 0, opEnd)),
		"br in an if":             cat(ops(opLoop, blockEmpty), one, ops(opIf, blockEmpty, opBr, 1, opEnd, opEnd)),
		"br in an else":           cat(ops(opLoop, blockEmpty), i32c(0), ops(opIf, blockEmpty, opElse, opBr, 1, opEnd, opEnd)),
		"br_table, default":       cat(ops(opBlock, blockEmpty, opLoop, blockEmpty), one, ops(opBrTable, 1, 1, 0, opEnd, opEnd)),
		"br_table, first":         cat(ops(opBlock, blockEmpty, opLoop, blockEmpty), i32c(0), ops(opBrTable, 1, 0, 1, opEnd, opEnd)),
		"outer loop":              cat(ops(opLoop, blockEmpty, opLoop, blockEmpty), one, ops(opBrIf, 1, opEnd, opEnd)),
		"outer loop by br_table":  cat(ops(opLoop, blockEmpty, opLoop, blockEmpty), one, ops(opBrTable, 1, 0, 1, opEnd, opEnd)),
		"loop with a parameter":   cat(one, ops(opLoop, 0, opBr, 0, opEnd, drop)),
		"the same by br_if":       cat(one, ops(opLoop, 0), one, ops(opBrIf, 0, opEnd, drop)),
		"the same by br_table":    cat(one, ops(opLoop, 0, lget, 0, opBrTable, 0, 0, opEnd, drop)),
		"loop with a result":      cat(ops(opLoop, byte(I32), opBr, 0, opEnd, drop)),
		"loop behind a dead loop": cat(ops(opBlock, blockEmpty, opBr, 0, opLoop, blockEmpty, opBr, 0, opEnd, opEnd, opLoop, blockEmpty, opBr, 0, opEnd)),
	}
	for name, code := range tests {
		for _, nests := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/nests=%v", name, nests), func(t *testing.T) {
				g := get(t, load(t, control(nests, code, ops(lget, 0)), Options{Limits: Limits{Fuel: 1e6, Deadline: time.Minute}}))
				defer g.pool.Put(g)
				_, err := g.Call(context.Background(), function(t, g.pool, "run"), 1)
				var fault *Fault
				if !errors.As(err, &fault) || fault.Kind != Fuel {
					t.Errorf("error is %v", err)
				}
				if used := g.Used(); used < 1e6 || used > 1e6+1000 {
					t.Errorf("used %d units", used)
				}
			})
		}
	}
}

// TestFuelOfLoops: a loop is charged for each time round, and for what it does.
func TestFuelOfLoops(t *testing.T) {
	for _, nests := range []bool{false, true} {
		g := get(t, load(t, control(nests, ops(opLoop, blockEmpty), up(1), down(), ops(opBrIf, 0, opEnd, lget, 1)), differ))
		for _, n := range []uint64{1000, 200_000} {
			got, err := g.Call(context.Background(), function(t, g.pool, "run"), n)
			if used := g.Used(); got != n || err != nil || used < 9*(n-1) || used > 10*n+100 {
				t.Errorf("%d times round (%d, %v) used %d units", n, got, err, used)
			}
		}
		g.pool.Put(g)
	}
}

// TestBulkPaysByLength: of memories and tables, in functions that loop too.
func TestBulkPaysByLength(t *testing.T) {
	const n = 1600
	at := func(a, b, c int32) []byte { return cat(i32c(a), i32c(b), i32c(c)) }
	tests := []struct {
		name  string
		code  []byte
		units uint64
	}{
		{"memory.fill", cat(at(0, 1, n), ops(opMisc, miscMemoryFill, 0)), n / 8},
		{"memory.copy", cat(at(0, 5000, n), ops(opMisc, miscMemoryCopy, 0, 0)), n / 8},
		{"memory.init", cat(at(0, 0, n), ops(opMisc, miscMemoryInit, 0, 0)), n / 8},
		{"table.init", cat(at(0, 0, n), ops(opMisc, miscTableInit, 0, 0)), n},
		{"table.copy", cat(at(0, 2000, n), ops(opMisc, miscTableCopy, 0, 0)), n},
		{"table.fill", cat(i32c(0), ops(opRefNull, byte(FuncRef)), i32c(n), ops(opMisc, miscTableFill, 0)), n},
	}
	for _, tt := range tests {
		for _, loop := range [][]byte{nil, ops(opLoop, blockEmpty, opEnd)} {
			t.Run(fmt.Sprintf("%s/loops=%v", tt.name, loop != nil), func(t *testing.T) {
				g := get(t, load(t, control(false, tt.code, loop, ops(lget, 0)), differ))
				defer g.pool.Put(g)
				_, err := g.Call(context.Background(), function(t, g.pool, "run"), 1)
				if used := g.Used(); err != nil || used < tt.units || used > tt.units+200 {
					t.Errorf("used %d units, %v; want %d", used, err, tt.units)
				}
			})
		}
	}
}

// TestProposals: what wazero lacks, or has and the meter does not know, is refused by name and offset.
func TestProposals(t *testing.T) {
	start := strings.Index(string(control(false, []byte("HERE"))), "HERE")
	tests := []struct {
		name, want string
		code       []byte
	}{
		{"return_call", "tail calls", ops(0x12, 0)},
		{"return_call_indirect", "tail calls", ops(0x13, 1, 0)},
		{"try, legacy", "exception handling", ops(0x06, blockEmpty, opEnd)},
		{"catch, legacy", "exception handling", ops(0x07, 0)},
		{"throw", "exception handling", ops(0x08, 0)},
		{"rethrow, legacy", "exception handling", ops(0x09, 0)},
		{"throw_ref", "exception handling", ops(0x0a)},
		{"delegate, legacy", "exception handling", ops(0x18, 0)},
		{"catch_all, legacy", "exception handling", ops(0x19)},
		{"try_table", "exception handling", ops(0x1f, blockEmpty, 0, opEnd)},
		{"call_ref", "typed function references", ops(0x14, 0)},
		{"return_call_ref", "typed function references", ops(0x15, 0)},
		{"br_on_null", "typed function references", ops(0xd5, 0)},
		{"struct.new", "garbage collection", ops(0xfb, 0, 0)},
		{"memory.atomic.notify", "threads", ops(0xfe, 0, 2, 0)},
		{"an opcode nobody has", "not part of WebAssembly 2.0", ops(0x27)},
		{"another", "not part of WebAssembly 2.0", ops(0xff)},
		{"memory.discard", "not part of WebAssembly 2.0", ops(opMisc, 18)},
		{"relaxed vectors", "not part of WebAssembly 2.0", ops(opVector, 0x80, 2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sharedEngine().Load(context.Background(), control(false, tt.code, ops(lget, 0)), differ)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), fmt.Sprintf("at byte %d", start)) {
				t.Errorf("error is %v, want %q at byte %d", err, tt.want, start)
			}
		})
	}
}
