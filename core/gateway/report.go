package gateway

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/core/policy"
	"github.com/nexus-gateway/nexus/core/upstream"
	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// reports keep what became of the reloads, for status and metrics.
type reports struct {
	mu      sync.Mutex
	last    Reload
	started time.Time

	success    prometheus.Gauge
	generation prometheus.Gauge
}

// A Reload is what became of one.
type Reload struct {
	Time     time.Time `json:"time"`
	OK       bool      `json:"ok"`
	Problems []string  `json:"problems,omitempty"` // one a line, with file and line
}

func (r *reports) register(to prometheus.Registerer) {
	r.started = time.Now()
	r.success = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gateway_reload_success", Help: "1 when the last reload was taken, 0 when it was refused and the configuration before it still runs.",
	})
	r.generation = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gateway_snapshot_generation", Help: "Counts the configurations that have been in force, from 1.",
	})
	to.MustRegister(r.success, r.generation)
}

func (r *reports) succeeded(generation int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = Reload{Time: time.Now(), OK: true}
	r.success.Set(1)
	r.generation.Set(float64(generation))
}

func (r *reports) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = Reload{Time: time.Now(), Problems: strings.Split(err.Error(), "\n")}
	r.success.Set(0)
}

// Status is what GET /status shows.
type Status struct {
	Version    string          `json:"version"`
	Started    time.Time       `json:"started"`
	Stopping   bool            `json:"stopping"`
	Config     string          `json:"config"`
	Generation int64           `json:"generation"`
	Since      time.Time       `json:"since"`
	LastReload Reload          `json:"last_reload"`
	Backends   []BackendStatus `json:"backends"`
	Pools      []string        `json:"pools"`
	Plugins    []plugin.Status `json:"plugins"`
	Policy     PolicyStatus    `json:"policy"`
	Warnings   []string        `json:"warnings,omitempty"`
}

// PolicyStatus is what decides, in Status.
type PolicyStatus struct {
	policy.FeedStatus
	Engine string             `json:"engine,omitempty"`      // that evaluates: wasm or topdown; empty: no policy decides
	NoWasm string             `json:"why_topdown,omitempty"` // why it is not wasm, where that might have been
	Shadow *policy.FeedStatus `json:"shadow,omitempty"`      // what is asked beside it
}

func (g *Gateway) policyStatus() PolicyStatus {
	out := PolicyStatus{FeedStatus: g.feed.Status()}
	if s := g.shadowFeed.Status(); s.Revision != "" || s.Poll != nil {
		out.Shadow = &s
	}
	return out
}

// BackendStatus is one server in Status.
type BackendStatus struct {
	ID         string     `json:"id"`
	Backend    string     `json:"backend"` // configured id
	Kind       string     `json:"kind"`
	URL        string     `json:"url"`
	Address    string     `json:"address,omitempty"` // found by discovery
	Healthy    bool       `json:"healthy"`
	State      string     `json:"state"`           // healthy, slow_start, open, half_open
	Cause      string     `json:"cause,omitempty"` // why it is out
	Until      *time.Time `json:"until,omitempty"` // when a call tries it again; absent: when a probe finds it well
	InFlight   int64      `json:"in_flight"`
	Load       *Load      `json:"load,omitempty"` // as the engine tells it; absent: unknown
	FirstToken float64    `json:"ttft_ms_p50,omitempty"`
	Models     []string   `json:"models,omitempty"` // that it lists
}

// Load is what an engine tells of itself.
type Load struct {
	Running int64    `json:"running"`
	Waiting int64    `json:"waiting"`
	KVUsed  *float64 `json:"kv_used,omitempty"` // share of its KV cache
}

func loadOf(r *balance.Report) *Load {
	if r == nil {
		return nil
	}
	out := &Load{Running: r.Running, Waiting: r.Waiting}
	if r.KV >= 0 {
		out.KVUsed = &r.KV
	}
	return out
}

func backendStatus(r upstream.Replica) BackendStatus {
	out := BackendStatus{
		ID: r.ID, Backend: r.Backend, Kind: r.Kind, URL: r.URL, Address: r.Address,
		Healthy: r.Healthy, State: r.State, Cause: r.Cause,
		InFlight: r.InFlight, Load: loadOf(r.Load), FirstToken: float64(r.FirstToken) / float64(time.Millisecond), Models: r.Models,
	}
	if !r.Until.IsZero() {
		out.Until = &r.Until
	}
	return out
}

func (g *Gateway) status() any {
	s := g.snapshot().(*snapshot)
	defer s.Release()
	g.report.mu.Lock()
	last, started := g.report.last, g.report.started
	g.report.mu.Unlock()
	out := Status{
		Version: g.options.Version, Started: started, Stopping: g.stopping.Load(), Config: configName(g.options),
		Generation: s.generation, Since: s.built, LastReload: last,
		Backends: []BackendStatus{}, Pools: s.facts.pools, Plugins: s.facts.plugins.Status(), Policy: g.policyStatus(),
	}
	if s.policy != nil {
		e := s.policy.Engine()
		out.Warnings = e.Warnings()
		out.Policy.Engine, out.Policy.NoWasm = e.Engine()
	}
	s.facts.upstream.Replicas(func(r upstream.Replica) bool {
		out.Backends = append(out.Backends, backendStatus(r))
		return true
	})
	return out
}

func configName(o Options) string {
	if o.File == "" {
		return "embedded defaults"
	}
	return o.File
}
