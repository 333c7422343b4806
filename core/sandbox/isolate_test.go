package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// hoarder is a module whose function swap keeps what it is given wherever a guest can keep something, and
// returns all that was there before, or-ed together. A fresh one returns 0. Its start function leaves things that
// a reset must bring back. With tables, swap also keeps whether it was called in a table and a dropped segment.
func hoarder(tables bool) []byte {
	d := &draft{}
	unary, empty := d.typ([]Type{I32}, []Type{I32}), d.typ(nil, nil)
	d.memory(4, 100)
	d.globals = [][]byte{
		cat(ops(byte(I32), 1), i32c(0), ops(opEnd)), cat(ops(byte(I64), 1, opI64Const, 0, opEnd)),
		ops(byte(F64), 1, opF64Const, 0, 0, 0, 0, 0, 0, 0, 0, opEnd), cat(ops(byte(I32), 0), i32c(9), ops(opEnd)),
	}
	load := func(at int32) []byte { return cat(i32c(at), ops(0x28, 2, 0)) }
	store := func(at int32) []byte { return cat(i32c(at), ops(opLocalGet, 0, 0x36, 2, 0)) }
	seen := cat( // the start function has stored 7 at 64 and at 200000
		load(0), load(65532), ops(0x72), load(70000), ops(0x72), load(262140), ops(0x72),
		load(64), i32c(7), ops(0x73, 0x72), load(200_000), i32c(7), ops(0x73, 0x72),
		ops(opGlobalGet, 0, 0x72, opGlobalGet, 1, 0xa7, 0x72, opGlobalGet, 2, 0xaa, 0x72),
	)
	keep := cat(store(0), store(65532), store(70000), store(262140), store(64), store(200_000),
		ops(opLocalGet, 0, opGlobalSet, 0, opLocalGet, 0, opI64ExtendU, opGlobalSet, 1, opLocalGet, 0, 0xb7, opGlobalSet, 2))
	if tables {
		d.tables = [][]byte{{byte(FuncRef), 0, 1}}
		d.elements = [][]byte{cat(u(0), i32c(0), ops(opEnd), u(1), u(0))}
		seen = cat(seen, i32c(0), ops(opTableGet, 0, 0xd1, 0x72))
		keep = cat(keep, i32c(0), ops(opRefNull, byte(FuncRef), opTableSet, 0))
	}
	d.fn("swap", unary, 0, seen, keep)
	d.fn("grow", unary, 0, ops(opLocalGet, 0, opMemoryGrow, 0))
	d.fn("load", unary, 0, ops(opLocalGet, 0, 0x28, 2, 0))
	d.fn("store", unary, 0, ops(opLocalGet, 0, opLocalGet, 0, 0x36, 2, 0, opMemorySize, 0))
	d.start = u(d.fn("", empty, 0, i32c(64), i32c(7), ops(0x36, 2, 0), i32c(200_000), i32c(7), ops(0x36, 2, 0)))
	return d.bytes()
}

// TestIsolation: 10,000 changes of owner, and nothing of one is seen by the next.
func TestIsolation(t *testing.T) {
	for _, tables := range []bool{false, true} {
		t.Run(fmt.Sprintf("tables=%v", tables), func(t *testing.T) {
			p := load(t, hoarder(tables), Options{Isolate: true, Instances: 2})
			swap, r := function(t, p, "swap"), rand.New(rand.NewPCG(1, 2))
			switches, again := 10_000, 0
			if tables { // each makes a new instance
				switches = 500
			}
			last := -1
			for switched := 0; switched < switches; {
				owner := r.IntN(5)
				if owner != last {
					switched++
				}
				saw := swapFor(t, p, swap, owner)
				if saw != 0 && saw != own(owner) {
					t.Fatalf("owner %d sees %#x", owner, saw)
				}
				if saw != 0 {
					again++
				}
				last = owner
			}
			s := p.Stats()
			if again == 0 || tables && (s.Resets != 0 || s.Recycled == 0) || !tables && (s.Recycled != 0 || s.Resets == 0 || s.Made > 2) {
				t.Errorf("%d calls found their owner's own, stats are %+v", again, s)
			}
		})
	}
}

func secret(owner int) uint64 { return 1 << (8 + owner) }

// own is what an owner sees of itself: where the start function left 7, the 7 shows too.
func own(owner int) uint64 { return secret(owner) | 7 }

func swapFor(t testing.TB, p *Pool, swap Func, owner int) uint64 {
	g, err := p.GetFor(context.Background(), fmt.Sprint("owner ", owner))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer p.Put(g)
	saw, err := g.Call(context.Background(), swap, secret(owner))
	if err != nil {
		t.Error(err)
	}
	return saw
}

// TestIsolationHammer: the same with many goroutines on few instances.
func TestIsolationHammer(t *testing.T) {
	p := load(t, hoarder(false), Options{Isolate: true, Instances: 3})
	swap, grow := function(t, p, "swap"), function(t, p, "grow")
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for i := range 200 {
				owner := (n + i) % 7
				if saw := swapFor(t, p, swap, owner); saw != 0 && saw != own(owner) {
					t.Errorf("owner %d sees %#x", owner, saw)
				}
				if i%50 == 0 {
					growFor(t, p, grow, owner)
				}
				_ = p.Stats()
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.Resets == 0 || s.Made > 3 {
		t.Errorf("stats are %+v", s)
	}
}

func growFor(t testing.TB, p *Pool, grow Func, owner int) {
	g, err := p.GetFor(context.Background(), fmt.Sprint("owner ", owner))
	if err != nil {
		t.Error(err)
		return
	}
	defer p.Put(g)
	if _, err := g.Call(context.Background(), grow, 1); err != nil {
		t.Error(err)
	}
}

// TestGrownIsPutBack: memory that an owner's call has grown is gone for the next owner: its size is what it was, what
// lies behind it traps, and is zero once it has grown again.
func TestGrownIsPutBack(t *testing.T) {
	p := load(t, hoarder(false), Options{Isolate: true, Instances: 1})
	ctx := context.Background()
	grow, load, store := function(t, p, "grow"), function(t, p, "load"), function(t, p, "store")
	for i := range 200 {
		g, err := p.GetFor(ctx, fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		pages := uint64(1 + i%40)
		at := (4+pages)*pageSize - 4
		if size := g.MemorySize(); size != 4*pageSize {
			t.Fatalf("owner %d gets %d bytes", i, size)
		}
		if _, ok := g.Read(4*pageSize, 1); ok {
			t.Fatal("the host can read behind the end")
		}
		if was, err := g.Call(ctx, grow, pages); was != 4 || err != nil {
			t.Fatalf("owner %d grows from %d, %v", i, was, err)
		}
		for _, at := range []uint64{at, 4 * pageSize} {
			if saw, err := g.Call(ctx, load, at); saw != 0 || err != nil {
				t.Fatalf("owner %d sees %#x, %v", i, saw, err)
			}
			if size, err := g.Call(ctx, store, at); size != 4+pages || err != nil {
				t.Fatalf("owner %d has %d pages, %v", i, size, err)
			}
		}
		p.Put(g)
	}
	if s := p.Stats(); s.Made != 1 || s.Resets != 199 || s.Recycled != 0 {
		t.Errorf("stats are %+v", s)
	}
	g, err := p.GetFor(ctx, "last")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Put(g)
	if saw, err := g.Call(ctx, load, 4*pageSize); err == nil {
		t.Errorf("the guest reads %#x behind the end", saw)
	}
}

// TestNoMemory: guests of no memory, of an empty one, and of an empty one that grows are put back too.
func TestNoMemory(t *testing.T) {
	for name, most := range map[string]int64{"none": -1, "empty": 0, "grows": 3} {
		t.Run(name, func(t *testing.T) {
			d := &draft{}
			unary := d.typ([]Type{I32}, []Type{I32})
			d.globals = [][]byte{cat(ops(byte(I32), 1), i32c(0), ops(opEnd))}
			code := ops(opGlobalGet, 0, opLocalGet, 0, opGlobalSet, 0)
			if most >= 0 {
				d.memory(0, uint32(most))
				code = cat(code, i32c(1), ops(opMemoryGrow, 0, 0x1a, opMemorySize, 0, 0x6a))
			}
			d.fn("swap", unary, 0, code)
			p := load(t, d.bytes(), Options{Isolate: true, Instances: 1})
			for i := range 10 {
				if saw := swapFor(t, p, function(t, p, "swap"), i); saw != uint64(min(max(most, 0), 1)) {
					t.Errorf("owner %d sees %#x", i, saw)
				}
			}
		})
	}
}

// TestUnisolated holds that the hoarder does what the tests above say it does: without Isolate it tells.
func TestUnisolated(t *testing.T) {
	p := load(t, hoarder(true), Options{Instances: 1})
	swap := function(t, p, "swap")
	swapFor(t, p, swap, 1)
	if saw := swapFor(t, p, swap, 2); saw&secret(1) == 0 || saw&7 == 0 {
		t.Errorf("saw %#x", saw)
	}
}

// TestOwnersOwn: an owner gets back the guest that it had, a clean one before another's, and another's put back.
func TestOwnersOwn(t *testing.T) {
	p := load(t, hoarder(false), Options{Isolate: true, Instances: 3})
	ctx := context.Background()
	take := func(owner string) *Guest {
		t.Helper()
		g, err := p.GetFor(ctx, owner)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	a, b, c := take("a"), take("b"), take("c")
	for _, g := range []*Guest{a, b, c} {
		p.Put(g)
	}
	for _, want := range []struct {
		owner  string
		guest  *Guest
		resets int64
	}{{"b", b, 0}, {"a", a, 0}, {"c", c, 0}, {"d", b, 1}, {"d", b, 1}, {"b", a, 2}} {
		g := take(want.owner)
		if g != want.guest || p.Stats().Resets != want.resets {
			t.Errorf("%s: its own guest: %v; %d resets, want %d", want.owner, g == want.guest, p.Stats().Resets, want.resets)
		}
		p.Put(g)
	}
}

// TestResetGoGuest: a Go guest that was put back goes on as it did after its start.
func TestResetGoGuest(t *testing.T) {
	p := load(t, goGuest(t), Options{WASI: true, Isolate: true, Instances: 1, Limits: Limits{Deadline: 5e9}})
	work, now := function(t, p, "work"), function(t, p, "now")
	var first [2]uint64
	for i := range 20 {
		g, err := p.GetFor(context.Background(), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		got, err := g.Call(context.Background(), work, 200)
		if err != nil {
			t.Fatal(err)
		}
		at, err := g.Call(context.Background(), now)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = [2]uint64{got, at}
		} else if first != [2]uint64{got, at} {
			t.Errorf("owner %d: work gave %d at %d, first %v", i, got, at, first)
		}
		p.Put(g)
	}
	if s := p.Stats(); s.Resets != 19 || s.Made != 1 {
		t.Errorf("stats are %+v", s)
	}
}

func kept(t testing.TB, m resettable, like *image) *image {
	t.Helper()
	i, err := m.keep(like)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestMemories: both kinds of memory are put back, and to their size if they have grown.
func TestMemories(t *testing.T) {
	const most = 40 * pageSize
	for name, make := range map[string]func() resettable{
		"mapped": func() resettable { return newMemory(most) },
		"heap":   func() resettable { return &heapMemory{} },
	} {
		t.Run(name, func(t *testing.T) {
			m, other := make(), make()
			defer m.Free()
			defer other.Free()
			b := m.Reallocate(20 * pageSize)
			b[5], b[len(b)-1] = 1, 2
			i := kept(t, m, nil)
			o := other.Reallocate(20 * pageSize)
			o[5], o[len(o)-1] = 1, 2
			if kept(t, other, i) != i {
				t.Error("equal memories have two images")
			}
			defer i.close()
			for range 3 {
				if b[5] != 1 || b[len(b)-1] != 2 || b[9*pageSize] != 0 || b[6] != 0 {
					t.Fatal("the memory is not as it was kept")
				}
				b[5], b[6], b[9*pageSize], b[len(b)-1] = 9, 9, 9, 9
				if o[5] != 1 || o[6] != 0 {
					t.Fatal("another memory was written to")
				}
				if len(m.reset()) != len(b) {
					t.Fatal("it cannot be reset")
				}
			}
			for n := range 3 {
				b = m.Reallocate(uint64(30+n) * pageSize)
				if b[5] != 1 || b[25*pageSize] != 0 || b[len(b)-1] != 0 {
					t.Fatal("grown memory is wrong")
				}
				b[5], b[25*pageSize], b[len(b)-1] = 9, 9, 9
				if b = m.reset(); len(b) != 20*pageSize || b[5] != 1 {
					t.Fatal("grown memory was not reset")
				}
			}
			m.Free() // may be called twice
		})
	}
}

// TestResetMuch: pages here and there, more of them than are written over, and all of them, are put back.
func TestResetMuch(t *testing.T) {
	const size = 64 * pageSize
	m := newMemory(size)
	defer m.Free()
	b, want := m.Reallocate(size), make([]byte, size)
	for i := 0; i < size; i += 1000 {
		if i%(9*pageSize) < 2*pageSize {
			b[i], want[i] = byte(i>>4)|1, byte(i>>4)|1
		}
	}
	defer kept(t, m, nil).close()
	for _, every := range []int{pageSize * 10, pageSize, 8 << 10, 4 << 10, 300, pageSize * 7} {
		for i := 123; i < size; i += every {
			b[i]++
		}
		if m.reset() == nil || !bytes.Equal(b, want) {
			t.Fatalf("after a write every %d bytes the memory is not put back", every)
		}
	}
}

func TestKeepUnlike(t *testing.T) {
	a, b := newMemory(4*pageSize), newMemory(4*pageSize)
	defer a.Free()
	defer b.Free()
	x, y := a.Reallocate(2*pageSize), b.Reallocate(2*pageSize)
	x[0], y[0] = 1, 2
	i := kept(t, a, nil)
	defer i.close()
	kept(t, b, i)
	x[0], y[0] = 3, 3
	if a.reset() == nil || b.reset() == nil || x[0] != 1 || y[0] != 2 {
		t.Errorf("memories that began unlike hold %d and %d", x[0], y[0])
	}
}
