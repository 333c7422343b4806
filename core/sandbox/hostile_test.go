package sandbox

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var none []Type

// bomb makes calls without end or loop: each of n functions calls the next one twice.
func bomb(n uint32) []byte {
	d := &draft{}
	t := d.typ(none, none)
	for i := range n {
		d.fn("", t, 0, ops(opCall), u(i+1), ops(opCall), u(i+1))
	}
	d.fn("", t, 0)
	d.fn("run", t, 0, ops(opCall, 0))
	return d.bytes()
}

func recursion(indirect bool, locals uint32) []byte {
	d := &draft{}
	t := d.typ(none, none)
	d.tables = [][]byte{{0x70, 0, 1}}
	d.elements = [][]byte{cat(u(0), i32c(0), ops(opEnd), u(1), u(0))}
	call := ops(opCall, 0)
	if indirect {
		call = cat(i32c(0), ops(opCallIndirect, byte(t), 0))
	}
	d.fn("run", t, locals, call)
	return d.bytes()
}

// viaHost recurses by a host function.
func viaHost() []byte {
	d := &draft{}
	t := d.typ(none, none)
	h := d.imp("test", "again", t)
	d.fn("run", t, 0, ops(opCall), u(h))
	return d.bytes()
}

func starting(code ...[]byte) []byte {
	d := &draft{}
	t := d.typ(none, none)
	d.fn("run", t, 0)
	d.start = u(d.fn("", t, 0, code...))
	return d.bytes()
}

func hostFlood() []byte {
	d := &draft{}
	t := d.typ(none, none)
	h := d.imp("test", "nop", t)
	d.fn("run", t, 0, ops(opLoop, blockEmpty, opCall), u(h), ops(opBr, 0, opEnd))
	return d.bytes()
}

// straightLine has one long function that neither loops nor calls, called in a loop.
func straightLine() []byte {
	d := &draft{}
	t := d.typ(none, none)
	long := d.fn("", t, 1, []byte(strings.Repeat("\x20\x00\x41\x01\x6a\x21\x00", 20_000))) // local 0 = local 0 + 1
	d.fn("run", t, 0, ops(opLoop, blockEmpty, opCall), u(long), ops(opBr, 0, opEnd))
	return d.bytes()
}

// scattered calls a short function that loads from everywhere.
func scattered() []byte {
	d := &draft{}
	empty, unary := d.typ(none, none), d.typ([]Type{I32}, []Type{I32})
	d.memory(256, 256)
	next := cat(i32c(1664525), ops(i32Mul), i32c(1013904223), ops(i32Add, ltee, 0), i32c(1<<24-64), ops(opI32And, 0x28, 2, 0, lget, 0, i32Add))
	leaf := d.fn("", unary, 0, ops(lget, 0), bytes.Repeat(next, 10))
	d.fn("run", empty, 1, ops(opLoop, blockEmpty, lget, 0, opCall), u(leaf), ops(lset, 0, opBr, 0, opEnd))
	return d.bytes()
}

var testHosts = []HostFunc{
	{Module: "test", Name: "nop", Func: func(*Guest, []uint64) {}},
	{Module: "test", Name: "again", Func: func(g *Guest, _ []uint64) {
		f, _ := g.pool.Func("run")
		_, _ = g.Call(g.Context(), f)
	}},
}

const (
	// busy is for how long a guest may go on after its deadline, in time of a processor that works for it.
	busy = 10 * time.Millisecond
	// slack is what a busy machine may add to that before anything runs at all.
	slack = 2 * time.Second
)

func TestHostile(t *testing.T) {
	endless := ops(opLoop, blockEmpty, opBr, 0, opEnd)
	fill := cat(ops(opLoop, blockEmpty), i32c(0), i32c(1), i32c(16<<20), ops(opMisc, miscMemoryFill, 0, opBr, 0, opEnd))
	grow := cat(ops(opLoop, blockEmpty), i32c(1), ops(opMemoryGrow, 0), i32c(-1), ops(0x47, opBrIf, 0, opEnd, opUnreachable))
	tests := []struct {
		name string
		wasm []byte
		fuel uint64
		want Kind
	}{
		{"endless loop", single(0, endless), 0, Deadline},
		{"endless loop on fuel", single(0, endless), 1e6, Fuel},
		{"empty fuel", single(0, endless), 1, Fuel},
		{"nested loops", single(0, ops(opLoop, blockEmpty, opLoop, blockEmpty, opBr, 1, opEnd, opEnd)), 0, Deadline},
		{"loop by br_table", single(0, ops(opLoop, blockEmpty), i32c(7), ops(opBrTable, 1, 0, 0, opEnd)), 0, Deadline},
		{"exponential calls", bomb(40), 0, Deadline},
		{"exponential calls on fuel", bomb(40), 1e6, Fuel},
		{"deep recursion", recursion(false, 0), 0, Depth},
		{"indirect recursion", recursion(true, 0), 0, Depth},
		{"recursion with large frames", recursion(false, 40_000), 0, Depth},
		{"recursion by the host", viaHost(), 0, Misuse},
		{"unreachable", single(0, ops(opUnreachable)), 0, Trap},
		{"out of bounds", single(0, i32c(-1), ops(0x28, 0, 0, 0x1a)), 0, Trap},
		{"fills of all memory", single(0, i32c(255), ops(opMemoryGrow, 0, 0x1a), fill), 0, Deadline},
		{"growth to the limit", single(0, grow), 0, Memory},
		{"growth by 4 GiB", single(0, i32c(-1), ops(opMemoryGrow, 0, 0x1a, opUnreachable)), 0, Memory},
		{"flood of host calls", hostFlood(), 0, Deadline},
		{"long code in a loop", straightLine(), 0, Deadline},
		{"references to functions", single(0, ops(opLoop, blockEmpty), bytes.Repeat(ops(opRefFunc, 0, drop), 100), ops(opBr, 0, opEnd)), 0, Deadline},
		{"loads all over memory", scattered(), 0, Deadline},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			limits := Limits{Fuel: tt.fuel}
			if tt.want != Deadline { // which a busy machine may reach first
				limits.Deadline = time.Minute
			}
			p := load(t, tt.wasm, Options{Hosts: testHosts, Limits: limits})
			g := get(t, p)
			took, err := timed(func() error { return second(g.Call(context.Background(), function(t, p, "run"))) })
			p.Put(g)
			if tt.want == Misuse { // the innermost call is refused, which the guest survives
				if err != nil {
					t.Errorf("error is %v", err)
				}
				return
			}
			var fault *Fault
			if !errors.As(err, &fault) || fault.Kind != tt.want || fault.Func != "run" {
				t.Fatalf("error is %v, want kind %v", err, tt.want)
			}
			// Beside the race detector a new memory of 16 MiB takes 100 ms.
			if took > defaultDeadline+busy && !racing && tt.want != Memory {
				t.Errorf("took %v", took)
			}
			if s := p.Stats(); s.Faults[tt.want] != 1 || s.Instances != 0 {
				t.Errorf("stats are %+v", s)
			}
			if g.Call(context.Background(), function(t, p, "run")); g.broken == "" {
				t.Error("the guest may be used again")
			}
			t.Logf("%v after %v", err, took)
		})
	}
}

func TestHostileStart(t *testing.T) {
	tests := []struct {
		name string
		wasm []byte
		want string
	}{
		{"looping start function", starting(ops(opLoop, blockEmpty, opBr, 0, opEnd)), "deadline"},
		{"trapping start function", starting(ops(opUnreachable)), "unreachable"},
		{"recursive start function", starting(ops(opCall, 1)), "depth"},
		{"segment out of bounds", func() []byte {
			d := &draft{}
			d.memory(1, 1)
			d.data = [][]byte{cat(u(0), i32c(-1), ops(opEnd), str("x"))}
			return d.bytes()
		}(), "out of bounds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sharedEngine().Load(context.Background(), tt.wasm, Options{Name: "bad", Limits: Limits{Startup: 20 * time.Millisecond}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestDeepStack holds that recursion ends long before it takes the memory that wazero would let it have.
func TestDeepStack(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := load(t, recursion(false, 0), Options{})
	g := get(t, p)
	_, err := g.Call(context.Background(), function(t, p, "run"))
	p.Put(g)
	runtime.ReadMemStats(&after)
	var fault *Fault
	if !errors.As(err, &fault) || fault.Kind != Depth {
		t.Fatalf("error is %v", err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
		t.Errorf("%d bytes were allocated", took)
	}
}

// TestLoopsBesideHealthy: 50 endless loops at once do not stop others (C-19).
func TestLoopsBesideHealthy(t *testing.T) {
	bad := load(t, single(0, ops(opLoop, blockEmpty, opBr, 0, opEnd)), Options{})
	good := load(t, goGuest(t), Options{WASI: true, Limits: Limits{Deadline: time.Second}})
	ctx := context.Background()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			g, err := bad.Get(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			defer bad.Put(g)
			start := time.Now()
			_, err = g.Call(ctx, Func{1})
			var fault *Fault
			if !errors.As(err, &fault) || fault.Kind != Deadline {
				t.Errorf("loop ended with %v", err)
			}
			if took := time.Since(start); took > defaultDeadline+slack {
				t.Errorf("loop ended after %v", took)
			}
		})
	}
	add := function(t, good, "add")
	var worst time.Duration
	for i := range 200 {
		start := time.Now()
		time.Sleep(time.Millisecond) // how late it wakes is part of what a loop may cost others
		g := get(t, good)
		if got, err := g.Call(ctx, add, uint64(i), 1); err != nil || got != uint64(i)+1 {
			t.Errorf("healthy call gave %d, %v", got, err)
		}
		good.Put(g)
		worst = max(worst, time.Since(start)-time.Millisecond)
	}
	wg.Wait()
	t.Logf("slowest healthy call: %v", worst)
	if worst > slack {
		t.Errorf("a healthy call took %v", worst)
	}
}

// TestCollector: Go's collector, which must stop every goroutine, does not wait for a guest that loops.
func TestCollector(t *testing.T) {
	p := load(t, single(0, ops(opLoop, blockEmpty, opBr, 0, opEnd)), Options{Limits: Limits{Deadline: time.Minute}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	g := get(t, p)
	wg.Go(func() {
		_, _ = g.Call(ctx, function(t, p, "run"))
		p.Put(g)
	})
	start := time.Now()
	for range 20 {
		runtime.GC()
	}
	took := time.Since(start)
	cancel()
	wg.Wait()
	if took > 5*time.Second {
		t.Errorf("20 collections took %v beside a loop", took)
	}
	t.Logf("20 collections took %v", took)
}
