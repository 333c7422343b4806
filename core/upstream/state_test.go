package upstream

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

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
