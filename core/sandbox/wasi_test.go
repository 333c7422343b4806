package sandbox

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	for _, clock := range []bool{false, true} {
		p := load(t, goGuest(t), Options{WASI: true, Clock: clock, Limits: Limits{Deadline: time.Second}})
		g := get(t, p)
		now, err := g.Call(context.Background(), function(t, p, "now"))
		p.Put(g)
		if err != nil {
			t.Fatal(err)
		}
		got := time.Unix(0, int64(now))
		if clock && time.Since(got).Abs() > time.Minute || !clock && got.UTC().Year() != 2022 {
			t.Errorf("with Clock %v the guest's time is %v", clock, got)
		}
	}
}

// TestConsole: a guest's output comes in lines, and no more of it than is bounded.
func TestConsole(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	p := load(t, goGuest(t), Options{WASI: true, Limits: Limits{Deadline: 5 * time.Second}, Log: func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, string(b))
	}})
	g := get(t, p)
	defer p.Put(g)
	for _, tt := range []struct {
		n         int
		low, high int
	}{{3, 3, 3}, {100_000, 1000, maxConsole / len("line 0\n")}} {
		lines = nil
		if _, err := g.Call(context.Background(), function(t, p, "say"), uint64(tt.n)); err != nil {
			t.Fatal(err)
		}
		if len(lines) < tt.low || len(lines) > tt.high || lines[2] != "line 2" {
			t.Errorf("%d lines were written, %d logged", tt.n, len(lines))
		}
	}
	if n := len(strings.Join(lines, "")); n > maxConsole {
		t.Errorf("%d bytes were logged", n)
	}
}

func TestConsoleLine(t *testing.T) {
	var got []string
	log := func(b []byte) { got = append(got, string(b)) }
	var c console
	c.write([]byte("a\nb"), log)
	c.write([]byte("c\n\n"+strings.Repeat("x", 2*maxLine)), log)
	c.flush(log)
	want := []string{"a", "bc", strings.Repeat("x", maxLine)}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("lines are %q", got)
	}
}

// TestStubs: what a guest imports of WASI beyond the stubs that do something answers ENOSYS, with whatever
// signature; garbage pointers are answered, not followed.
func TestStubs(t *testing.T) {
	d := &draft{}
	one := d.typ([]Type{I64, I32}, []Type{I32})
	four := d.typ([]Type{I32, I32, I32, I32}, []Type{I32})
	two := d.typ([]Type{I32, I32}, []Type{I32})
	answer := d.typ(nil, []Type{I32})
	path := d.imp(wasiModule, "path_open", one)
	write := d.imp(wasiModule, "fd_write", four)
	poll := d.imp(wasiModule, "poll_oneoff", four)
	random := d.imp(wasiModule, "random_get", two)
	d.memory(1, 1)
	d.fn("path", answer, 0, ops(opI64Const, 1), i32c(2), ops(opCall), u(path))
	d.fn("write", answer, 0, i32c(1), i32c(-8), i32c(1), i32c(0), ops(opCall), u(write))
	d.fn("vectors", answer, 0, i32c(2), i32c(0), i32c(1<<20), i32c(0), ops(opCall), u(write))
	d.fn("file", answer, 0, i32c(3), i32c(0), i32c(1), i32c(0), ops(opCall), u(write))
	d.fn("poll", answer, 0, i32c(0), i32c(0), i32c(-1), i32c(0), ops(opCall), u(poll))
	d.fn("random", answer, 0, i32c(65530), i32c(100), ops(opCall), u(random))
	d.fn("much", answer, 0, i32c(0), i32c(-1), ops(opCall), u(random))
	p := load(t, d.bytes(), Options{WASI: true})
	g := get(t, p)
	defer p.Put(g)
	for name, want := range map[string]uint64{
		"path": errnoNosys, "write": errnoFault, "vectors": errnoInval, "file": errnoBadf, "poll": errnoInval, "random": errnoFault, "much": errnoInval,
	} {
		if got, err := g.Call(context.Background(), function(t, p, name)); got != want || err != nil {
			t.Errorf("%s answers %d, %v, want %d", name, got, err, want)
		}
	}
}
