package plugin

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

// TestMetricsOutliveReloads: what is counted only grows, whatever is loaded and closed, and every series is there once.
func TestMetricsOutliveReloads(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	files := fstest.MapFS{"parrot.wasm": {Data: parrot()}, "parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]")}}
	l, err := NewLoader(Options{Shipped: files, Decode: decode, Register: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	load := func(i int) *Set {
		s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "parrot", MaxHold: 1 + i}}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	calls := func() float64 { return value(t, registry, "gateway_plugin_calls_total", "on_text", "parrot") }
	stop := make(chan struct{})
	var scraper sync.WaitGroup
	scraper.Go(func() {
		last := 0.0
		for {
			select {
			case <-stop:
				return
			default:
			}
			now := calls()
			if now >= 0 && now < last {
				t.Errorf("calls fell from %v to %v", last, now)
				return
			}
			last = max(last, now)
		}
	})
	const reloads, each = 100, 5
	current := load(0)
	for i := range reloads {
		for range each {
			var a answer
			if err := current.plugins[0].ask(context.Background(), &turn{}, piece{text: make([]byte, 300), flags: abi.FlagFinal}, &a); err != nil {
				t.Fatal(err)
			}
		}
		next := load(i + 1)
		if err := current.Close(); err != nil {
			t.Fatal(err)
		}
		current = next
	}
	close(stop)
	scraper.Wait()
	for _, name := range []string{"gateway_plugin_calls_total", "gateway_plugin_call_seconds", "gateway_plugin_call_fuel"} {
		if got := value(t, registry, name, "on_text", "parrot"); got != reloads*each {
			t.Errorf("%s is %v, want %d", name, got, reloads*each)
		}
	}
	if got := value(t, registry, "gateway_plugin_instances", "parrot"); got != 1 {
		t.Errorf("%v instances", got)
	}
	if err := current.Close(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, registry, "gateway_plugin_instances", "parrot"); got != -1 {
		t.Errorf("a plugin that is gone has %v instances", got)
	}
	if got := calls(); got != reloads*each {
		t.Errorf("with the plugin its calls are gone: %v", got)
	}
	if _, err := registry.Gather(); err != nil { // a pedantic one
		t.Error(err)
	}
}

// TestMemoryIsCounted: the memory of every instance is counted, and no more once it is discarded or its plugin is gone.
func TestMemoryIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	files := fstest.MapFS{"parrot.wasm": {Data: parrot()}, "parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]")}}
	l, err := NewLoader(Options{Shipped: files, Decode: decode, Register: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "parrot", Instances: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	counted := func(when string, want float64) {
		t.Helper()
		if got := value(t, registry, "gateway_plugin_memory_bytes", "parrot"); got != want {
			t.Errorf("%s: %v bytes of memory are counted, want %v", when, got, want)
		}
	}
	counted("loaded", 64<<10)
	p := s.plugins[0]
	a, err := p.enter(context.Background(), &turn{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.enter(context.Background(), &turn{})
	if err != nil {
		t.Fatal(err)
	}
	p.leave(a, nil)
	p.leave(b, nil)
	counted("with two instances", 128<<10)
	if b, err = p.enter(context.Background(), &turn{}); err != nil {
		t.Fatal(err)
	}
	p.leave(b, errors.New("it said what means nothing"))
	counted("with one of them discarded", 64<<10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	counted("gone", -1)
}

// TestBusy: a caller who finds every instance in use for too long is told so by that cause, one whose own time is up by
// its own; neither takes the plugin out.
func TestBusy(t *testing.T) {
	e := granted()
	e.Instances, e.Deadline = 1, 100*time.Millisecond // a caller waits for a second
	k := newHosts(t, e)
	k.plugin.breaker = newBreaker(Breaker{1, time.Second, time.Second}, "hosts", slog.New(slog.DiscardHandler))
	g, err := k.plugin.enter(context.Background(), &turn{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.plugin.leave(g, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := k.plugin.enter(ctx, &turn{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller whose time is up: %v", err)
	}
	var f *failure
	if _, err := k.plugin.enter(context.Background(), &turn{}); !errors.As(err, &f) || f.cause != "busy" {
		t.Errorf("a caller who waited: %v", err)
	}
	if k.plugin.breaker.open() {
		t.Error("the crowd took the plugin out")
	}
}

func BenchmarkHook(b *testing.B) {
	l, err := NewLoader(Options{Decode: decode, Shipped: fstest.MapFS{
		"parrot.wasm": {Data: parrot()}, "parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]")},
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(b), Breaker: Breaker{5, 10 * time.Second, 5 * time.Second}, Chain: []Entry{{Name: "parrot"}}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	p, t := s.plugins[0], &turn{}
	ctx := context.Background()
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g, err := p.enter(ctx, t)
			if err != nil {
				b.Fatal(err)
			}
			p.leave(g, nil)
		}
	})
	b.Run("with an empty hook", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g, err := p.enter(ctx, t)
			if err != nil {
				b.Fatal(err)
			}
			_, err = g.Call(ctx, p.onText, 0, 0)
			p.leave(g, err)
		}
	})
}
