package sandbox

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkCall is a call that does nothing: alone, and whole, with all that stands round it: an isolated guest of the
// same owner, taken, called and put back.
func BenchmarkCall(b *testing.B) {
	p := load(b, goGuest(b), Options{WASI: true, Isolate: true})
	f, ctx := function(b, p, "empty"), context.Background()
	b.Run("empty", func(b *testing.B) {
		g := get(b, p)
		defer p.Put(g)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := g.Call(ctx, f); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g, err := p.GetFor(ctx, "tenant")
			if err != nil {
				b.Fatal(err)
			}
			if _, err := g.Call(ctx, f); err != nil {
				b.Fatal(err)
			}
			p.Put(g)
		}
	})
}

// BenchmarkShare is 64 goroutines that scan: on two instances, and on one each.
func BenchmarkShare(b *testing.B) {
	const goroutines = 64
	text := []byte(strings.Repeat(sampleText, 11)[:1024])
	for _, instances := range []int{2, goroutines} {
		b.Run(strconv.Itoa(instances), func(b *testing.B) {
			p := load(b, goGuest(b), Options{WASI: true, Instances: instances, Limits: Limits{Deadline: time.Second}})
			buffer, scan := function(b, p, "buffer"), function(b, p, "scan")
			at := warm(b, p, buffer, instances)
			b.SetParallelism(goroutines / runtime.GOMAXPROCS(0))
			b.SetBytes(int64(len(text)))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					g := get(b, p)
					g.Write(uint32(at), text)
					if _, err := g.Call(context.Background(), scan, uint64(len(text))); err != nil {
						b.Error(err)
					}
					p.Put(g)
				}
			})
		})
	}
}

// warm makes all instances of a pool, and returns what f gives.
func warm(b *testing.B, p *Pool, f Func, instances int) (at uint64) {
	b.Helper()
	guests := make([]*Guest, instances)
	for i := range guests {
		guests[i] = get(b, p)
		v, err := guests[i].Call(context.Background(), f)
		if err != nil {
			b.Fatal(err)
		}
		at = v
	}
	for _, g := range guests {
		p.Put(g)
	}
	b.ResetTimer()
	return at
}

func BenchmarkGetPut(b *testing.B) {
	p := load(b, goGuest(b), Options{WASI: true})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		g, err := p.Get(ctx)
		if err != nil {
			b.Fatal(err)
		}
		p.Put(g)
	}
}

// BenchmarkMetering is what the meter costs a scanner, in Go and in C.
func BenchmarkMetering(b *testing.B) {
	text := []byte(strings.Repeat(sampleText, 11)[:1024])
	for _, language := range []struct {
		name  string
		guest func(testing.TB) []byte
	}{{"go", goGuest}, {"c", cGuest}} {
		b.Run(language.name, func(b *testing.B) {
			plain, metered := lanes(b, language.guest(b))
			b.Run("plain", func(b *testing.B) { benchScan(b, plain, text) })
			b.Run("metered", func(b *testing.B) { benchScan(b, metered, text) })
		})
	}
}

// lanes are two instances of a module: as it is, and metered.
func lanes(b *testing.B, wasm []byte) (plain, metered *Guest) {
	b.Helper()
	o := Options{WASI: true, Limits: Limits{Deadline: time.Minute}}
	plain, err := unmetered(b, wasm, o)
	if err != nil {
		b.Fatal(err)
	}
	p := load(b, wasm, o)
	metered = get(b, p)
	b.Cleanup(func() { p.Put(metered) })
	return plain, metered
}

// BenchmarkWork is what the meter costs loops of other shapes.
func BenchmarkWork(b *testing.B) {
	for _, language := range []struct {
		name  string
		guest func(testing.TB) []byte
		n     uint64
	}{{"go", goGuest, 30}, {"c", cGuest, 4096}} {
		b.Run(language.name, func(b *testing.B) {
			plain, metered := lanes(b, language.guest(b))
			for name, g := range map[string]*Guest{"plain": plain, "metered": metered} {
				b.Run(name, func(b *testing.B) {
					work, _ := g.pool.Func("work")
					for b.Loop() {
						if _, err := g.Call(context.Background(), work, language.n); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

func benchScan(b *testing.B, g *Guest, text []byte) {
	ctx := context.Background()
	buffer, _ := g.pool.Func("buffer")
	scan, _ := g.pool.Func("scan")
	at, err := g.Call(ctx, buffer)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		g.Write(uint32(at), text)
		if n, err := g.Call(ctx, scan, uint64(len(text))); err != nil || n == 0 {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkRewrite(b *testing.B) {
	wasm := goGuest(b)
	b.SetBytes(int64(len(wasm)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := metered(wasm); err != nil {
			b.Fatal(err)
		}
	}
}
