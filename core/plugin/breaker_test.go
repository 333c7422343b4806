package plugin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

var errBad = fail("trap", "it broke")

// ticking is a breaker whose clock the test moves.
func ticking(rule Breaker, log *slog.Logger) (*breaker, *time.Duration) {
	now := new(time.Duration)
	*now = time.Hour
	b := newBreaker(rule, "p", log)
	b.now = func() time.Duration { return *now }
	return b, now
}

func TestBreaker(t *testing.T) {
	// Of the steps, . is a call that goes well, x one that fails, c one whose caller leaves, s a second that passes, ! that
	// the next call is refused, ? that it is a probe and . x c what becomes of it, and no letter that it is let in.
	for _, tt := range []struct{ name, steps string }{
		{"well", "..................."},
		{"four failures", "xxxx......"},
		{"five failures", "xxxxx!!!"},
		{"five failures in half of the calls", ".....xxxxx!"},
		{"five failures in less than half", "......xxxxx"},
		{"many calls, few failures", strings.Repeat(".", 1000) + "xxxxxxxxxx"},
		{"failures apart", "xxxxssssssssssssx."},
		{"failures in a window", "xsxsxsxsx!"},
		{"good calls long ago", strings.Repeat(".", 1000) + "ssssssssssssxxxxx!"},
		{"callers who leave", "ccccccccxxxxc"},
		{"back after a probe", "xxxxx!ssss!s?.....xxxx"},
		{"out again after a probe", "xxxxx!sssss?x!ssss!s?."},
		{"a probe whose caller leaves", "xxxxx!sssss?c?c?."},
		{"what failed before counts no more", "xxxxxsssss?.xxxxx!"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, now := ticking(Breaker{Failures: 5, Window: 10 * time.Second, Pause: 5 * time.Second}, slog.New(slog.DiscardHandler))
			probing := false
			for i, step := range tt.steps {
				switch step {
				case 's':
					*now += time.Second
					continue
				case '?':
					probing = true
					continue
				}
				probe, err := b.enter()
				if (step == '!') != (err != nil) || err == nil && probe != probing {
					t.Fatalf("step %d of %s: %v, a probe: %v", i, tt.steps, err, probe)
				}
				if probe {
					if _, err := b.enter(); err == nil {
						t.Fatalf("step %d of %s: two probes at a time", i, tt.steps)
					}
				}
				probing = false
				switch step {
				case '.':
					b.leave(probe, nil)
				case 'x':
					b.leave(probe, errBad)
				case 'c':
					b.leave(probe, context.Canceled)
				}
			}
		})
	}
}

// TestBreakerOff: with no number of failures a plugin is never taken out.
func TestBreakerOff(t *testing.T) {
	b, _ := ticking(Breaker{}, slog.New(slog.DiscardHandler))
	for range 100 {
		b.leave(false, errBad)
	}
	if b.open() {
		t.Error("taken out")
	}
}

func TestBreakerTells(t *testing.T) {
	var out bytes.Buffer
	b, now := ticking(Breaker{Failures: 1, Window: time.Second, Pause: time.Second}, slog.New(slog.NewTextHandler(&out, nil)))
	b.leave(false, errBad)
	*now += time.Second
	probe, _ := b.enter()
	b.leave(probe, nil)
	for _, want := range []string{
		`level=WARN msg="a plugin fails too often and is taken out; its failure rule is applied" plugin=p pause=1s cause=trap err="it broke"`,
		`level=INFO msg="a plugin that was taken out is in again" plugin=p`,
	} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("the log lacks %s:\n%s", want, out.String())
		}
	}
}

// TestBreakerHammer uses one breaker from many goroutines: at most one probe runs at a time, and a plugin that is well
// again is in again.
func TestBreakerHammer(t *testing.T) {
	b := newBreaker(Breaker{Failures: 5, Window: 10 * time.Millisecond, Pause: time.Millisecond}, "p", slog.New(slog.DiscardHandler))
	var ill atomic.Bool
	var probes, refused, probed atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(300 * time.Millisecond)
	all.Go(func() {
		for time.Now().Before(end) {
			time.Sleep(5 * time.Millisecond)
			ill.Store(!ill.Load())
		}
		ill.Store(false)
	})
	for range 8 {
		all.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				probe, err := b.enter()
				if err != nil {
					refused.Add(1)
					continue
				}
				if probe {
					probed.Add(1)
					if probes.Add(1) > 1 {
						t.Error("two probes at a time")
					}
					probes.Add(-1)
				}
				switch {
				case ill.Load():
					b.leave(probe, errBad)
				case n%100 == 0:
					b.leave(probe, context.Canceled)
				default:
					b.leave(probe, nil)
				}
			}
		})
	}
	all.Wait()
	for range 1000 {
		if probe, err := b.enter(); err == nil {
			b.leave(probe, nil)
		}
		if !b.open() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if b.open() {
		t.Error("it stays out although it is well")
	}
	if refused.Load() == 0 || probed.Load() == 0 {
		t.Errorf("%d were refused, %d were probes: nothing was tried", refused.Load(), probed.Load())
	}
}

// TestLoopsAreTakenOut: after five callers have waited for a plugin that loops, the others do not.
func TestLoopsAreTakenOut(t *testing.T) {
	for _, rule := range []string{onDeny, onAllow} {
		t.Run(rule, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			l, err := NewLoader(Options{Shipped: folder(t), Decode: decode, Register: registry, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s, err := l.Load(context.Background(), &Config{
				CacheDir: cacheDir(t), Breaker: Breaker{Failures: 5, Window: 10 * time.Second, Pause: 300 * time.Millisecond},
				Chain: []Entry{{Name: "hostile", OnError: rule, Deadline: 50 * time.Millisecond}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			try := func(prompt string) (string, time.Duration, error) {
				began := time.Now()
				_, got, err := handle(t, s.Stage(), llm.Completions, `{"model":"m","prompt":"`+prompt+`"}`)
				return got, time.Since(began), err
			}
			for range 5 {
				if _, took, _ := try("L"); took < 50*time.Millisecond {
					t.Errorf("a loop took %v", took)
				}
			}
			const calls = 2000
			began := time.Now()
			n := 0
			for ; n < calls && time.Since(began) < 200*time.Millisecond; n++ {
				if _, _, err := try("L"); (err != nil) != (rule == onDeny) || err != nil && !strings.Contains(err.Error(), "plugin hostile failed: breaker: ") {
					t.Fatalf("taken out: %v", err)
				}
			}
			if n < 100 {
				t.Errorf("%d calls in 200 ms: they wait for a plugin that is taken out", n)
			}
			if got := value(t, registry, "gateway_plugin_faults_total", "hostile", "breaker"); got < float64(n) {
				t.Errorf("%v failures of cause breaker are counted of %d", got, n)
			}
			if got := value(t, registry, "gateway_plugin_breaker_open", "hostile"); got != 1 {
				t.Errorf("gateway_plugin_breaker_open is %v", got)
			}
			time.Sleep(350*time.Millisecond - min(time.Since(began), 350*time.Millisecond))
			if _, _, err := try("fine"); err != nil {
				t.Errorf("the probe: %v", err)
			}
			if got := value(t, registry, "gateway_plugin_breaker_open", "hostile"); got != 0 {
				t.Errorf("after the probe gateway_plugin_breaker_open is %v", got)
			}
		})
	}
}

// TestBreakerOutlivesReloads: what a plugin did counts after a reload that did not change it.
func TestBreakerOutlivesReloads(t *testing.T) {
	l := loader(t, fstest.MapFS{"parrot.wasm": {Data: parrot()}, "parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]")}})
	load := func(b Breaker) *Set {
		s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Breaker: b, Chain: []Entry{{Name: "parrot"}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	rule := Breaker{Failures: 2, Window: time.Minute, Pause: time.Minute}
	first := load(rule)
	for range 2 {
		var a answer
		if err := first.plugins[0].ask(context.Background(), &turn{}, piece{text: []byte("\xff\xff\xff\xff\xff\xff\xff\xff"), flags: abi.FlagFinal}, &a); err == nil {
			t.Fatal("the parrot's answer was believed")
		}
	}
	second := load(rule)
	if second.plugins[0] != first.plugins[0] || !second.plugins[0].breaker.open() {
		t.Error("the reload forgot that the plugin was taken out")
	}
	if third := load(Breaker{}); third.plugins[0].breaker.open() || third.plugins[0] == first.plugins[0] {
		t.Error("another rule is not another breaker")
	}
}

// TestCrowdIsNoFailure: callers who wait for an instance in vain, or leave, do not take the plugin out.
func TestCrowdIsNoFailure(t *testing.T) {
	b, _ := ticking(Breaker{Failures: 1, Window: time.Second, Pause: time.Second}, slog.New(slog.DiscardHandler))
	b.leave(false, blame(fail("busy", "every instance is busy")))
	if b.open() {
		t.Error("a crowd took the plugin out")
	}
	b.leave(false, blame(fail("instantiate", "no memory")))
	if !b.open() {
		t.Error("a plugin that cannot be made stays in")
	}
	var f *failure
	if _, err := b.enter(); !errors.As(err, &f) || f.cause != "breaker" {
		t.Errorf("the cause is %v", err)
	}
}

func TestBreakerValidate(t *testing.T) {
	for _, tt := range []struct {
		rule Breaker
		want int
	}{
		{Breaker{5, 10 * time.Second, 5 * time.Second}, 0}, {Breaker{}, 0}, {Breaker{-1, time.Second, time.Second}, 1},
		{Breaker{5, 0, 0}, 2}, {Breaker{5, 2 * time.Hour, time.Second}, 1}, {Breaker{1 << 30, time.Second, time.Second}, 1},
	} {
		p := setting.NewProblems()
		tt.rule.Validate(p)
		if got := p.All(); len(got) != tt.want {
			t.Errorf("%v: got %v, want %d problems", tt.rule, got, tt.want)
		}
	}
}
