package sandbox

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// An outcome is what can be seen of a run: its result, how it failed, and what it left behind.
type outcome struct {
	result uint64
	err    string
	memory []byte
	global map[string]uint64
}

func run(g *Guest, name string) outcome {
	f, _ := g.pool.Func(name)
	v, err := g.Call(context.Background(), f)
	o := outcome{result: v, err: cause(err), global: map[string]uint64{}}
	b, _ := g.Read(0, g.MemorySize())
	o.memory = bytes.Clone(b)
	for _, name := range []string{"steps", "sum"} {
		if v := g.module.ExportedGlobal(name); v != nil {
			o.global[name] = v.Get()
		}
	}
	return o
}

// cause is the first line of the innermost error: the stack below it names functions by index.
func cause(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if i := strings.Index(text, "wasm error: "); i >= 0 {
		text = text[i:]
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func (o outcome) differs(p outcome) string {
	switch {
	case o.err != p.err:
		return "error " + o.err + " against " + p.err
	case o.result != p.result:
		return "results"
	case !bytes.Equal(o.memory, p.memory):
		return "memories"
	case o.global["steps"] != p.global["steps"] || o.global["sum"] != p.global["sum"]:
		return "globals"
	}
	return ""
}

var differ = Options{Hosts: testHosts, Limits: Limits{Deadline: time.Minute, Startup: time.Minute, Memory: 16, Depth: 100_000}}

// stepsLeft is the count of calls and times round loops that a generated module may still make.
func stepsLeft(g *Guest) int32 {
	if v := g.module.ExportedGlobal("steps"); v != nil {
		return int32(v.Get())
	}
	return 0
}

// compare runs a module as it is and metered. It returns false if wazero does not take it as it is.
func compare(t testing.TB, wasm []byte, name string) bool {
	t.Helper()
	before, err := unmetered(t, wasm, differ)
	p, failed := sharedEngine().Load(context.Background(), wasm, differ)
	if failed == nil {
		defer p.Close()
	}
	switch {
	case err != nil && failed == nil:
		t.Fatalf("the module was taken although wazero says: %v", err)
	case err != nil:
		if strings.Contains(err.Error(), "wasm error: ") != strings.Contains(failed.Error(), "wasm error: ") {
			t.Fatalf("fails with %v, metered with %v", err, failed)
		}
		if !strings.Contains(err.Error(), "wasm error: ") {
			t.Logf("invalid: %v", err)
		}
		return false
	case failed != nil:
		t.Fatalf("a good module was refused: %v", failed)
	}
	g := get(t, p)
	defer p.Put(g)
	at := stepsLeft(g)
	after := run(g, name)
	used := g.Used()
	if d := after.differs(run(before, name)); d != "" {
		t.Fatalf("differs in %s: metered against plain", d)
	}
	// A function that calls none is let off what is due at its end, and run has no caller who has paid for that.
	if taken := at - stepsLeft(g); after.err == "" && 2*used+16 < uint64(taken) {
		t.Fatalf("%d calls and times round loops used %d units", taken, used)
	}
	return true
}

func TestMeterChangesNothing(t *testing.T) {
	ran, r := 0, rand.New(rand.NewPCG(1, 2))
	for range 300 {
		in := make([]byte, 100+r.IntN(600))
		for i := range in {
			in[i] = byte(r.Uint32())
		}
		if compare(t, generate(in), "run") {
			ran++
		}
	}
	if ran < 200 {
		t.Errorf("only %d of 300 modules ran", ran)
	}
}

// FuzzMeter: generated modules behave the same; mutated ones are taken only if wazero takes them unmetered.
func FuzzMeter(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 5 {
		in := make([]byte, 300)
		for i := range in {
			in[i] = byte(r.Uint32())
		}
		f.Add(in, uint16(0), byte(0))
		f.Add(in, uint16(r.Uint32()), byte(r.Uint32()))
	}
	f.Fuzz(func(t *testing.T, in []byte, at uint16, flip byte) {
		wasm := generate(in)
		if flip == 0 {
			compare(t, wasm, "run")
			return
		}
		wasm[int(at)%len(wasm)] ^= flip
		validates(t, wasm)
	})
}

// validates holds that a metered module is valid only if the module was.
func validates(t *testing.T, wasm []byte) {
	out, err := metered(wasm)
	if err != nil {
		return
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(16))
	defer r.Close(ctx)
	_, before := r.CompileModule(ctx, wasm)
	_, after := r.CompileModule(ctx, out)
	if (before == nil) != (after == nil) {
		t.Errorf("as it was: %v; metered: %v", before, after)
	}
}

func TestMeterRefuses(t *testing.T) {
	two := func(code ...[]byte) []byte { // a function and two globals' worth of room
		d := &draft{}
		d.globals = [][]byte{{byte(I64), 1, opI64Const, 0, opEnd}}
		d.fn("run", d.typ(nil, nil), 1, code...)
		return d.bytes()
	}
	tests := []struct {
		name string
		wasm []byte
		want string
	}{
		{"the fuel's global", two(ops(opI64Const, 0, opGlobalSet, 1)), "no global 1 at byte"},
		{"the depth's global", two(ops(opGlobalGet, 2, 0x1a)), "no global 2 at byte"},
		{"the tick", two(ops(opCall, 1)), "no function 1 at byte"},
		{"the meter's local", two(ops(opLocalGet, 1, 0x1a)), "no local 1 at byte"},
		{"the meter's block", two(ops(opBr, 1)), "no block round the branch with number 1 at byte"},
		{"the meter's type", two(ops(opBlock, 1, opEnd)), "no type 1 at byte"},
		{"tail call", two(ops(0x12, 0)), "tail calls"},
		{"exceptions", two(ops(0x08, 0)), "exception handling"},
		{"atomics", two(ops(0xfe, 3, 0)), "threads"},
		{"garbage collection", two(ops(0xfb, 1)), "garbage collection"},
		{"unknown opcode", two(ops(0xff)), "opcode 0xff at byte"},
		{"unknown bulk operation", two(ops(opMisc, 18)), "opcode 0xfc 0x12 at byte"},
		{"vector opcode in a longer spelling", two(ops(opVector, 0x8c, 0)), "opcode 0xfd 0x8c at byte"},
		{"relaxed vector", two(ops(opVector, 0x80, 2)), "opcode 0xfd 0x80 at byte"},
		{"code behind the end", two(ops(opEnd)), "code goes on"},
		{"memory of another index", two(ops(opMemorySize, 1, 0x1a)), "more than one memory"},
		{"the meter's own import", func() []byte {
			d := &draft{}
			d.imp(meterModule, tickName, d.typ(nil, nil))
			return d.bytes()
		}(), "the module is the sandbox's own"},
		{"not granted", func() []byte {
			d := &draft{}
			d.imp("env", "system", d.typ(nil, nil))
			return d.bytes()
		}(), "imports env.system, which is not granted"},
		{"another signature", func() []byte {
			d := &draft{}
			d.imp("test", "nop", d.typ([]Type{I32}, nil))
			return d.bytes()
		}(), "imports test.nop as (i32) → (), but it is () → ()"},
		{"a huge table", func() []byte {
			d := &draft{}
			d.tables = [][]byte{cat(ops(0x70, 0), u(1<<27))}
			return d.bytes()
		}(), "table 0 has 134217728 elements"},
		{"too many locals", func() []byte {
			d := &draft{}
			d.fn("", d.typ(nil, nil), 1<<31)
			return d.bytes()
		}(), "more than 50000 locals"},
		{"more memory than granted", func() []byte {
			d := &draft{}
			d.memory(300, 300)
			return d.bytes()
		}(), "over limit of 256 pages"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sharedEngine().Load(context.Background(), tt.wasm, Options{Name: "bad", Hosts: testHosts})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestGoGuestMetered: the Go runtime, its maps, sorting and collector give the same with the meter.
func TestGoGuestMetered(t *testing.T) {
	o := Options{WASI: true, Limits: Limits{Deadline: time.Minute, Depth: 100_000}}
	p := load(t, goGuest(t), o)
	g := get(t, p)
	defer p.Put(g)
	before, err := unmetered(t, goGuest(t), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []struct {
		name string
		args []uint64
	}{{"work", []uint64{3000}}, {"recurse", []uint64{1000}}, {"add", []uint64{1 << 31, 7}}, {"work", []uint64{20}}} {
		f := function(t, p, call.name)
		got, err := g.Call(context.Background(), f, call.args...)
		if err != nil {
			t.Fatal(err)
		}
		f, _ = before.pool.Func(call.name)
		want, err := before.Call(context.Background(), f, call.args...)
		if got != want || err != nil {
			t.Errorf("%s%v = %d metered, %d (%v) plain", call.name, call.args, got, want, err)
		}
	}
}

func TestGoGuestFaults(t *testing.T) {
	var lines []string
	o := Options{WASI: true, Log: func(b []byte) { lines = append(lines, string(b)) }, Limits: Limits{Deadline: 2 * time.Second}}
	tests := []struct {
		name string
		arg  []uint64
		want Kind
	}{{"spin", nil, Deadline}, {"panics", nil, Trap}, {"exit", []uint64{3}, Exit}, {"leak", []uint64{64 << 20}, Memory}}
	p := load(t, goGuest(t), o)
	for _, tt := range tests {
		g := get(t, p)
		_, err := g.Call(context.Background(), function(t, p, tt.name), tt.arg...)
		p.Put(g)
		var fault *Fault
		if !errors.As(err, &fault) || fault.Kind != tt.want {
			t.Errorf("%s: error is %v, want %v", tt.name, err, tt.want)
		}
	}
	if all := strings.Join(lines, "\n"); !strings.Contains(all, "on purpose") {
		t.Errorf("the log is %q", all)
	}
}
