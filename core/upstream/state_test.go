package upstream

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// What is known of a server's health goes on where it was when configurations follow each other, one of them refused.
func TestHealthSurvivesReloads(t *testing.T) {
	firstNow := func(h *health, _ time.Time) any { h.firstToken(2 * time.Second); return nil }
	medianNow := func(h *health, _ time.Time) any { return h.firstTokenMedian() }
	join := func(h *health, now time.Time) any { h.join(now); return nil }
	var mixed []step // one call short of what the error rate needs
	for i := range usualHealth.MinCalls - 1 {
		mixed = append(mixed, []step{{0, stumbleNow, false}, {0, succeedNow, nil}}[i%2])
	}
	for _, tt := range []struct {
		name          string
		before, after []step
	}{
		{"failures in a row", down(0, causeAnswer)[:2], down(0, causeAnswer)[2:]},
		{"a pause", down(0, causeAnswer), []step{{0.9, taken, false}, {0.9, stateCause, causeAnswer}, {1.1, taken, true}}},
		{"a pause that doubled", append(down(0, causeAnswer), step{1.1, taken, true}, step{1.1, failNow(causeAnswer), false}), []step{{3, taken, false}, {3.2, taken, true}, {3.2, failNow(causeAnswer), false}, {7.1, taken, false}, {7.3, taken, true}}},
		{"half open", down(0, causeAnswer), []step{{1.1, stateNow, stateHalfOpen}, {1.1, dueNow, true}, {1.1, taken, true}}},
		{"half open, a call tries it", append(down(0, causeAnswer), step{1.1, taken, true}), []step{{1.2, stateNow, stateHalfOpen}, {1.2, taken, false}, {1.3, succeedNow, nil}, {1.3, stateNow, stateSlow}}},
		{"slow start of one that came back", append(down(0, causeAnswer), step{1.1, taken, true}, step{1.1, succeedNow, nil}), []step{{6.1, shareNow, int64(500)}, {11.1, shareNow, int64(full)}}},
		{"slow start of one that joined", []step{{0, join, nil}}, []step{{3, shareNow, int64(300)}, {3, stateNow, stateSlow}}},
		{"the window of the error rate", mixed, []step{{1, stumbleNow, true}, {1, stateCause, causeErrorRate}}},
		{"first tokens", slices.Repeat([]step{{0, firstNow, nil}}, enoughFirstTokens), []step{{0, medianNow, 2 * time.Second}}},
		{"first tokens that do not tell yet", slices.Repeat([]step{{0, firstNow, nil}}, enoughFirstTokens-1), []step{{0, medianNow, time.Duration(0)}, {0, firstNow, nil}, {0, medianNow, 2 * time.Second}}},
		{"what its probe found", []step{{0, foundNow(foundSick), true}}, []step{{60, taken, false}, {60, deadNow, true}, {60, foundNow(foundWell), false}, {60, taken, true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, began := NewFleet(), time.Now()
			build := func(weight int) *Upstream {
				u, err := New(Config{
					Backends: map[string]BackendConfig{"one": {URL: "http://127.0.0.1:1", Kind: "vllm", Weight: weight, Health: usualHealth}},
					Pools:    map[string]PoolConfig{"p": {Backends: []string{"one"}}},
				}, f, NewMetrics(prometheus.NewRegistry()), nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = u.Close() })
				return u
			}
			do := func(u *Upstream, steps []step) {
				t.Helper()
				for i, s := range steps {
					if got := s.do(&u.member("one").peer.health, at(began, s.at)); got != s.want {
						t.Fatalf("step %d at %v s: got %v, want %v", i, s.at, got, s.want)
					}
				}
			}
			first := build(1)
			do(first, tt.before)
			_ = build(2).Close()
			next := build(3)
			_ = first.Close()
			do(next, tt.after)
		})
	}
}

// Each backend is told once, with all of its own servers and nobody else's, however many there are.
func TestStatesOfMany(t *testing.T) {
	z, f := newZone(t), NewFleet()
	z.set("many.test", "127.0.0.1", "127.0.0.2", "127.0.0.3")
	z.set("two.test", "127.0.0.4", "127.0.0.5")
	f.Resolver = z.resolver()
	running(t, f)
	dns := DiscoveryConfig{Mode: "dns", Interval: time.Minute}
	cfg := Config{Backends: map[string]BackendConfig{
		"one": {URL: "http://127.0.0.1:1"}, "many": {URL: "http://many.test:1", Discovery: dns}, "none": {URL: "http://none.test:1", Discovery: dns},
		"two": {URL: "http://two.test:1", Discovery: dns}, "last": {URL: "http://127.0.0.1:2"},
	}, Pools: map[string]PoolConfig{
		"a": {Backends: []string{"one", "many", "none", "two"}}, "b": {Backends: []string{"two", "many", "last"}},
	}}
	for id, b := range cfg.Backends {
		b.Kind, b.Weight, b.Health = "openai", 1, usualHealth
		cfg.Backends[id] = b
	}
	u, err := New(cfg, f, NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	u.Await(t.Context())
	for _, p := range u.pools {
		for _, b := range p.members() {
			if p.name == "a" || b.name == "last" {
				new(balance.Lease).Begin(b.peer.replica, 0)
			}
		}
	}
	var got []string
	u.States(func(s State) bool {
		got = append(got, fmt.Sprintf("%s %s %d %v", s.Pool, s.ID, s.InFlight, s.Healthy))
		return true
	})
	want := []string{"a one 1 true", "a many 3 true", "a none 0 false", "a two 2 true", "b last 1 true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// BenchmarkStates is what a policy pays that looks at 64 backends, each of which has answered.
func BenchmarkStates(b *testing.B) {
	cfg := Config{Backends: map[string]BackendConfig{}}
	var ids []string
	for i := range 64 {
		ids = append(ids, fmt.Sprint("gpu", i))
		cfg.Backends[ids[i]] = BackendConfig{URL: "http://127.0.0.1:1", Kind: "openai", Weight: 1, Health: usualHealth}
	}
	cfg.Pools = map[string]PoolConfig{"p": {Backends: ids}}
	u, err := New(cfg, NewFleet(), NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	for i, member := range u.pools[0].members() {
		for j := range 32 {
			member.peer.health.firstToken(time.Duration(i*j%7) * time.Second)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		u.States(func(State) bool { return true })
	}
}
