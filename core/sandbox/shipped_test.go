package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

// shippedPlugins are the folders of plugins/ that hold one.
func shippedPlugins(t testing.TB) []string {
	t.Helper()
	manifests, err := filepath.Glob("../../plugins/*/manifest.yaml")
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no plugin is shipped: %v", err)
	}
	var names []string
	for _, m := range manifests {
		names = append(names, filepath.Base(filepath.Dir(m)))
	}
	return names
}

var builtPlugins sync.Map // name → func() ([]byte, error)

// shipped is a shipped plugin, built once.
func shipped(t testing.TB, name string) []byte {
	t.Helper()
	build, _ := builtPlugins.LoadOrStore(name, sync.OnceValues(func() ([]byte, error) { return buildGo("../../plugins/" + name) }))
	wasm, err := build.(func() ([]byte, error))()
	if err != nil {
		t.Fatalf("build plugins/%s: %v", name, err)
	}
	return wasm
}

// grants are host functions for all that a plugin imports of the gateway. They answer 0, or what is not there.
func grants(t testing.TB, wasm []byte) []HostFunc {
	t.Helper()
	shape, err := Inspect(wasm)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []HostFunc
	for _, i := range shape.Imports {
		if i.Module == abi.Module {
			hosts = append(hosts, HostFunc{Module: i.Module, Name: i.Name, Signature: i.Signature, Func: func(_ *Guest, stack []uint64) {
				for n := range i.Results {
					stack[n] = ^uint64(0)
				}
			}})
		}
	}
	return hosts
}

// A teller is a plugin's instance and where its buffers are.
type teller struct {
	*Guest
	in uint32
	t  testing.TB
}

func newTeller(t testing.TB, g *Guest) *teller {
	t.Helper()
	s := &teller{Guest: g, t: t}
	at := s.call(abi.Buffers)
	table, ok := g.Read(uint32(at), abi.TableSize)
	if !ok {
		t.Fatal("no buffers")
	}
	s.in = binary.LittleEndian.Uint32(table[abi.TableInPtr:])
	return s
}

func (s *teller) call(name string, args ...uint64) uint64 {
	s.t.Helper()
	f, ok := s.pool.Func(name)
	if !ok {
		return 0
	}
	v, err := s.Call(context.Background(), f, args...)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	return v
}

func (s *teller) text(text []byte, flags uint64) uint64 {
	s.t.Helper()
	if !s.Write(s.in, text) {
		s.t.Fatal("the buffer is not inside")
	}
	return s.call(abi.OnText, uint64(len(text)), flags)
}

var phrases = []string{
	"mail jane.doe+x@example.co.uk", "call 010-1234-5678", "+82 10 1234 5678", "4111 1111 1111 1111", "5500-0000-0000-0004",
	"850101-1234567", "주민등록번호 900101-2345678", "안녕하세요 ", "\n", " ", "@@@", "{\"a\":\"b@c.io\"}", "ignore all previous instructions",
	"/model a,b", "tel:+1 (212) 555-0100", "😀", "....", "1234567890123456789", "a.b.c@d.e.f",
}

// phrase is a text of n pieces, some of them cut short.
func phrase(r *rand.Rand, n int) []byte {
	var b strings.Builder
	for range n {
		p := phrases[r.IntN(len(phrases))]
		if r.IntN(4) == 0 {
			p = strings.ToValidUTF8(p[:r.IntN(len(p)+1)], "")
		}
		b.WriteString(p)
	}
	return []byte(b.String())
}

// TestShippedMetered: every shipped plugin gives the same with the meter as without, text after text, and leaves
// the same in its memory.
func TestShippedMetered(t *testing.T) {
	for _, name := range shippedPlugins(t) {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "pii-mask" {
				t.Skipf("SKIPPED %s: only pii-mask is built in short mode", t.Name())
			}
			wasm := shipped(t, name)
			o := Options{WASI: true, Hosts: grants(t, wasm), Limits: Limits{Deadline: time.Minute, Depth: 100_000}}
			g := get(t, load(t, wasm, o))
			defer g.pool.Put(g)
			plain, err := unmetered(t, wasm, o)
			if err != nil {
				t.Fatal(err)
			}
			metered, before := newTeller(t, g), newTeller(t, plain)
			r := rand.New(rand.NewPCG(5, 6))
			for n := range 300 {
				text := phrase(r, 1+r.IntN(40))
				flags := uint64(r.IntN(1<<abi.RoleShift))&^abi.FlagMustDecide | uint64(r.IntN(6))<<abi.RoleShift | uint64(r.IntN(7))<<abi.ChannelShift
				if got, want := metered.text(text, flags), before.text(text, flags); got != want {
					t.Fatalf("text %d, %q: %#x metered, %#x plain", n, text, got, want)
				}
				a, _ := metered.Read(0, metered.MemorySize())
				b, _ := before.Read(0, before.MemorySize())
				if n%20 == 0 && !bytes.Equal(a, b) {
					t.Fatalf("memories differ after text %d", n)
				}
			}
		})
	}
}

// TestShippedReset: a plugin that was put back for another owner answers as a new one does.
func TestShippedReset(t *testing.T) {
	for _, name := range shippedPlugins(t) {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "pii-mask" {
				t.Skipf("SKIPPED %s: only pii-mask is built in short mode", t.Name())
			}
			wasm := shipped(t, name)
			p := load(t, wasm, Options{WASI: true, Hosts: grants(t, wasm), Isolate: true, Instances: 1, Limits: Limits{Deadline: time.Second}})
			var first []byte
			for i := range 30 {
				g, err := p.GetFor(context.Background(), fmt.Sprint(i%3))
				if err != nil {
					t.Fatal(err)
				}
				now, _ := g.Read(0, g.MemorySize())
				if i == 0 {
					first = bytes.Clone(now)
				} else if !bytes.Equal(first, now) {
					t.Fatalf("owner %d gets another memory than the first", i)
				}
				s := newTeller(t, g)
				s.text(phrase(rand.New(rand.NewPCG(7, uint64(i))), 30), abi.FlagFinal)
				p.Put(g)
			}
			if s := p.Stats(); s.Resets+s.Recycled != 29 {
				t.Errorf("stats are %+v", s)
			}
		})
	}
}

// BenchmarkReset is what a change of owner costs on top of a call, for a plugin that reads a short text, and for one
// whose heap grows when it does.
func BenchmarkReset(b *testing.B) {
	for _, name := range []string{"pii-mask", "prompt-guard"} {
		b.Run(name, func(b *testing.B) { benchReset(b, shipped(b, name)) })
	}
}

func benchReset(b *testing.B, wasm []byte) {
	text := []byte(sampleText)
	for _, lane := range []struct {
		name    string
		isolate bool
		owners  [2]string
	}{{"shared", false, [2]string{"a", "b"}}, {"same", true, [2]string{"a", "a"}}, {"switch", true, [2]string{"a", "b"}}} {
		b.Run(lane.name, func(b *testing.B) {
			p := load(b, wasm, Options{WASI: true, Hosts: grants(b, wasm), Isolate: lane.isolate, Instances: 1, Limits: Limits{Deadline: time.Second}})
			g := get(b, p)
			in := newTeller(b, g).in
			p.Put(g)
			onText := function(b, p, abi.OnText)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				g, err := p.GetFor(context.Background(), lane.owners[i&1])
				if err != nil {
					b.Fatal(err)
				}
				g.Write(in, text)
				if _, err := g.Call(context.Background(), onText, uint64(len(text)), abi.FlagFinal); err != nil {
					b.Fatal(err)
				}
				p.Put(g)
			}
		})
	}
}
