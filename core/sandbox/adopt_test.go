package sandbox

import (
	"context"
	"strings"
	"testing"
	"time"
)

// borrower is a module that imports its memory between two functions, writes to it and reads its data segment.
func borrower(max bool) []byte {
	d := &draft{}
	none := d.typ(nil, nil)
	get := d.typ(nil, []Type{I32})
	d.imp("env", "before", none)
	limits := []byte{0, 1}
	if max {
		limits = []byte{1, 1, 9}
	}
	d.imports = append(d.imports, cat(str("env"), str("memory"), []byte{byte(ExternMemory)}, limits))
	d.imports = append(d.imports, cat(str("env"), str("after"), []byte{0}, u(none)))
	// A memory is no function: take it out of the count that gives functions their index.
	index := uint32(2)
	d.funcs = append(d.funcs, u(get), u(get))
	body := func(code ...[]byte) []byte {
		b := cat([]byte{0}, cat(code...), []byte{opEnd})
		return cat(u(uint32(len(b))), b)
	}
	d.code = append(d.code, body([]byte{opCall, 0, opCall, 1}, i32c(8), []byte{opLoadFirst, 2, 0}), body([]byte{opMemorySize, 0}))
	d.exports = append(d.exports, cat(str("read"), []byte{0}, u(index)), cat(str("pages"), []byte{0}, u(index+1)))
	d.data = append(d.data, cat([]byte{0}, i32c(8), []byte{opEnd}, u(4), []byte{7, 0, 0, 0}))
	return d.bytes()
}

func TestAdoptedMemory(t *testing.T) {
	calls := 0
	count := func(*Guest, []uint64) { calls++ }
	hosts := []HostFunc{{Module: "env", Name: "before", Func: count}, {Module: "env", Name: "after", Func: count}}
	for name, wasm := range map[string][]byte{"unbounded": borrower(false), "bounded": borrower(true)} {
		p := load(t, wasm, Options{Hosts: hosts, Adopt: 3, Limits: Limits{Memory: 16}})
		if s := p.Shape(); s.Memory.Min != 3 || s.Functions != 4 {
			t.Errorf("%s: got memory %+v and %d functions, want 3 pages and 4", name, s.Memory, s.Functions)
		}
		g := get(t, p)
		calls = 0
		if v, err := g.Call(context.Background(), function(t, p, "read")); v != 7 || err != nil || calls != 2 {
			t.Errorf("%s: read %d, %v after %d calls, want 7 after 2", name, v, err, calls)
		}
		if v, _ := g.Call(context.Background(), function(t, p, "pages")); v != 3 {
			t.Errorf("%s: %d pages, want 3", name, v)
		}
		if b, ok := g.Read(8, 1); !ok || b[0] != 7 || g.MemorySize() != 3*pageSize {
			t.Errorf("%s: the host reads %v, %v of %d bytes", name, b, ok, g.MemorySize())
		}
		p.Put(g)
	}
}

func TestMemoryIsAdoptedOnlyWhereAsked(t *testing.T) {
	hosts := []HostFunc{{Module: "env", Name: "before"}, {Module: "env", Name: "after"}}
	if _, err := sharedEngine().Load(context.Background(), borrower(false), Options{Hosts: hosts}); err == nil || !strings.Contains(err.Error(), "imports the memory env.memory") {
		t.Errorf("got %v, want the import refused", err)
	}
	plain := goGuest(t)
	if out, err := adopted(plain, 1); err != nil || &out[0] != &plain[0] {
		t.Errorf("a module that imports no memory was changed: %v", err)
	}
	d := &draft{}
	d.memory(1, 1)
	d.imports = append(d.imports, cat(str("env"), str("memory"), []byte{byte(ExternMemory), 0, 1}))
	if _, err := adopted(d.bytes(), 1); err == nil || !strings.Contains(err.Error(), "only one can be adopted") {
		t.Errorf("got %v, want two memories refused", err)
	}
}

// named adds a name section for functions by index.
func named(wasm []byte, names ...string) []byte {
	list := u(uint32(len(names)))
	for i, name := range names {
		list = cat(list, u(uint32(i)), str(name))
	}
	content := cat(str("name"), []byte{1}, u(uint32(len(list))), list)
	return cat(wasm, []byte{secCustom}, u(uint32(len(content))), content)
}

// spliced is a module with an import tell, and two functions of one parameter: early returns in the middle, deep calls
// early.
func spliced() []byte {
	d := &draft{}
	tellType, one := d.typ([]Type{I32}, nil), d.typ([]Type{I32}, []Type{I32})
	d.imp("env", "tell", tellType)
	early := d.fn("early", one, 0, []byte{opLocalGet, 0, opIf, blockEmpty}, i32c(5), []byte{opReturn, opEnd}, i32c(0))
	d.fn("deep", one, 0, []byte{opLocalGet, 0, opCall, byte(early)})
	return named(d.bytes(), "tell", "early", "deep")
}

// What is spliced in sees what comes in and what goes out by every way, and costs no depth.
func TestSplices(t *testing.T) {
	var told []uint64
	o := Options{
		Hosts: []HostFunc{{Module: "env", Name: "tell", Signature: Signature{Params: []Type{I32}}, Func: func(_ *Guest, s []uint64) { told = append(told, s[0]) }}},
		Splices: map[string]Splice{
			"early": {Enter: []byte{opLocalGet, 0, opCall, 0}, Leave: []byte{opLocalTee, 0, opLocalGet, 0, opCall, 0}},
			"deep":  {Enter: cat([]byte{opLocalGet, 0}, i32c(9), []byte{0x46, opIf, blockEmpty}, i32c(11), []byte{opBr, 1, opEnd})},
			"none":  {Enter: []byte{0xff}},
		},
		Limits: Limits{Depth: 8},
	}
	p := load(t, spliced(), o)
	g := get(t, p)
	defer p.Put(g)
	for _, tt := range []struct {
		f       string
		in, out uint64
		told    []uint64
	}{
		{"early", 1, 5, []uint64{1, 5}}, {"early", 0, 0, []uint64{0, 0}}, {"deep", 3, 5, []uint64{3, 5}}, {"deep", 9, 11, nil},
	} {
		for range 50 { // more often than there is depth
			told = nil
			v, err := g.Call(context.Background(), function(t, p, tt.f), tt.in)
			if v != tt.out || err != nil || len(told) != len(tt.told) || len(told) > 0 && (told[0] != tt.told[0] || told[1] != tt.told[1]) {
				t.Fatalf("%s(%d): got %d, %v, told %v, want %d, told %v", tt.f, tt.in, v, err, told, tt.out, tt.told)
			}
		}
	}
}

func TestSpliceThatDoesNotFitIsRefused(t *testing.T) {
	hosts := []HostFunc{{Module: "env", Name: "tell", Signature: Signature{Params: []Type{I32}}, Func: func(*Guest, []uint64) {}}}
	_, err := sharedEngine().Load(context.Background(), spliced(), Options{Hosts: hosts, Splices: map[string]Splice{"early": {Leave: []byte{0x1a}}}})
	if err == nil {
		t.Error("a splice that takes the result away was taken")
	}
}

// A call whose time is up is given what Late gives, until that is nothing.
func TestLate(t *testing.T) {
	d := &draft{}
	none := d.typ(nil, nil)
	d.fn("spin", none, 0, []byte{opLoop, blockEmpty, opBr, 0, opEnd})
	asked := 0
	p := load(t, d.bytes(), Options{Limits: Limits{Deadline: time.Millisecond}, Late: func(g *Guest) time.Duration {
		if asked++; asked < 4 {
			return time.Millisecond
		}
		return 0
	}})
	g := get(t, p)
	defer p.Put(g)
	start := time.Now()
	_, err := g.Call(context.Background(), function(t, p, "spin"))
	if fault, ok := err.(*Fault); !ok || fault.Kind != Deadline || asked != 4 || time.Since(start) < 4*time.Millisecond {
		t.Errorf("got %v after %v and %d questions, want the deadline after 4", err, time.Since(start), asked)
	}
}
