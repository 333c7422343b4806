package sandbox

import (
	"context"
	"strings"
	"testing"
	"time"
)

func BenchmarkEmpty(b *testing.B) {
	p := load(b, goGuest(b), Options{WASI: true})
	g := get(b, p)
	defer p.Put(g)
	f, ctx := function(b, p, "empty"), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Call(ctx, f); err != nil {
			b.Fatal(err)
		}
	}
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

func BenchmarkScan(b *testing.B) {
	text := []byte(strings.Repeat(sampleText, 11)[:1024])
	o := Options{WASI: true, Limits: Limits{Deadline: time.Second}}
	p := load(b, goGuest(b), o)
	metered := get(b, p)
	defer p.Put(metered)
	plain, err := unmetered(b, goGuest(b), o)
	if err != nil {
		b.Fatal(err)
	}
	for _, lane := range []struct {
		name string
		g    *Guest
	}{{"plain", plain}, {"metered", metered}} {
		b.Run(lane.name, func(b *testing.B) { benchScan(b, lane.g, text) })
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
