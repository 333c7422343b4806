package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// mover is a module whose functions fill and copy memory, in functions that loop and in such that call.
func mover(pages uint32) []byte {
	d := &draft{}
	three, empty := d.typ([]Type{I32, I32, I32}, nil), d.typ(nil, nil)
	d.memory(pages, pages)
	nop := d.fn("", empty, 0)
	args := ops(lget, 0, lget, 1, lget, 2)
	for name, op := range map[string][]byte{"fill": ops(opMisc, miscMemoryFill, 0), "copy": ops(opMisc, miscMemoryCopy, 0, 0)} {
		d.fn(name, three, 0, args, op)
		d.fn(name+" in a loop", three, 1, ops(opLoop, blockEmpty), args, op, ops(lget, 3, opI32Const, 1, i32Add, ltee, 3, opI32Const, 3, i32LtS, opBrIf, 0, opEnd))
		d.fn(name+" beside a call", three, 0, ops(opCall), u(nop), args, op)
	}
	return d.bytes()
}

// TestLongBulk: long operations, which are done in pieces, do what they would do whole, overlaps and traps included.
func TestLongBulk(t *testing.T) {
	const pages = 50
	o := Options{Limits: Limits{Deadline: time.Minute}}
	wasm := mover(pages)
	p := load(t, wasm, o)
	plain, err := unmetered(t, wasm, o)
	if err != nil {
		t.Fatal(err)
	}
	g := get(t, p)
	defer func() { p.Put(g) }()
	r := rand.New(rand.NewPCG(8, 9))
	noise := make([]byte, pages*pageSize)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	const end = pages * pageSize
	for _, tt := range [][3]uint64{
		{0, 7, piece}, {0, 7, piece + 1}, {5, 9, 3*piece - 3}, {0, 0, end}, {end, 0, 0}, {1, end - 1, 1},
		{0, 100, 2*piece + 100}, {100, 0, 2*piece + 100}, {piece, 0, 2 * piece}, {0, piece, 2 * piece}, {3, 2, 3 * piece}, {2, 3, 3 * piece},
		{1, 0, end}, {0, 1, end}, {end - piece, 0, piece + 1}, {1<<32 - 1, 0, 2 * piece}, {0, 1<<32 - 1, 2 * piece}, {0, 0, 1<<32 - 1},
	} {
		for _, name := range []string{"fill", "copy", "fill in a loop", "copy in a loop", "fill beside a call", "copy beside a call"} {
			g.Write(0, noise)
			plain.Write(0, noise)
			_, got := g.Call(context.Background(), function(t, p, name), tt[:]...)
			f, _ := plain.pool.Func(name)
			_, want := plain.Call(context.Background(), f, tt[:]...)
			a, _ := g.Read(0, end)
			b, _ := plain.Read(0, end)
			if cause(got) != cause(want) || !bytes.Equal(a, b) {
				t.Errorf("%s%v: metered %v, plain %v; the same memory: %v", name, tt, got, want, bytes.Equal(a, b))
			}
			if n := tt[2]; got == nil && (g.Used() < n/8 || g.Used() > 3*n/8+1000) {
				t.Errorf("%s%v used %d units", name, tt, g.Used())
			}
			if got != nil {
				p.Put(g)
				g = get(t, p)
				plain.broken, plain.stopped = "", nil
			}
		}
	}
}

// TestLongFillEnds: a fill of more memory than can be filled in time ends in time.
func TestLongFillEnds(t *testing.T) {
	const pages = 16 << 10 // 1 GiB
	p := load(t, mover(pages), Options{Isolate: true, Limits: Limits{Memory: pages}})
	for _, name := range []string{"fill", "copy"} {
		g := get(t, p)
		took, err := timed(func() error {
			return second(g.Call(context.Background(), function(t, p, name), 0, 1, pages*pageSize-1))
		})
		p.Put(g)
		var fault *Fault
		if !errors.As(err, &fault) || fault.Kind != Deadline {
			t.Errorf("%s: error is %v", name, err)
		}
		if took > defaultDeadline+busy {
			t.Errorf("%s worked for %v", name, took)
		}
	}
}

// TestLeavesArePaidFor: what a function that neither loops nor calls does is paid for by whoever calls it, directly or
// by a table, also where its type is written twice.
func TestLeavesArePaidFor(t *testing.T) {
	const n, rounds = 90, 1000
	for _, indirect := range []bool{false, true} {
		t.Run(fmt.Sprintf("indirect=%v", indirect), func(t *testing.T) {
			d := &draft{}
			empty, again := d.typ(nil, nil), d.typ(nil, nil)
			d.tables = [][]byte{{0x70, 0, 1}}
			d.elements = [][]byte{cat(u(0), i32c(0), ops(opEnd), u(1), u(0))}
			d.fn("", empty, 1, bytes.Repeat(ops(lget, 0, opLocalSet, 0), n/2))
			call := ops(opCall, 0)
			if indirect {
				call = cat(i32c(0), ops(opCallIndirect, byte(again), 0))
			}
			d.fn("run", empty, 1, ops(opLoop, blockEmpty), call, ops(lget, 0), i32c(1), ops(i32Add, ltee, 0), i32c(rounds), ops(i32LtS, opBrIf, 0, opEnd))
			g := get(t, load(t, d.bytes(), differ))
			defer g.pool.Put(g)
			_, err := g.Call(context.Background(), function(t, g.pool, "run"))
			if used := g.Used(); err != nil || used < n*rounds || used > (n+30)*rounds {
				t.Errorf("%d units were used, %v", used, err)
			}
		})
	}
}
