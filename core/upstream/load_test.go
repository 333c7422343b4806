package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

const (
	vllmMetrics = `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-8B"} 12.0
vllm:num_requests_running{engine="1",model_name="Qwen/Qwen3-8B"} 8.0
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen3-8B"} 3.0
vllm:num_requests_waiting{engine="1",model_name="Qwen/Qwen3-8B"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen3-8B"} 0.9
vllm:kv_cache_usage_perc{engine="1",model_name="Qwen/Qwen3-8B"} 0.5
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 7
`
	sglangMetrics = `sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0",dp_rank="0",pp_rank="0"} 5
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="1",dp_rank="0",pp_rank="0"} 5
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0",dp_rank="1",pp_rank="0"} 4
sglang:num_queue_reqs{engine_type="unified",model_name="m",tp_rank="0",dp_rank="0",pp_rank="0"} 2
sglang:token_usage{engine_type="unified",model_name="m",tp_rank="0",dp_rank="0",pp_rank="0"} 0.25
`
)

func TestParseLoad(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       string // running, waiting, KV; empty: unknown
	}{
		{"vLLM, two engines", vllmMetrics, "20 3 0.70"},
		{"vLLM before 0.9", "vllm:num_requests_running 2\nvllm:num_requests_waiting 1\nvllm:gpu_cache_usage_perc 0.5\n", "2 1 0.50"},
		{"the new name counts", "vllm:num_requests_running 2\nvllm:num_requests_waiting 1\nvllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.75\n", "2 1 0.75"},
		{"Ray Serve", "ray_vllm_num_requests_running{a=\"b\"} 2\nray_vllm_num_requests_waiting 1\n", "2 1 -1.00"},
		{"SGLang, ranks", sglangMetrics, "9 2 0.25"},
		{"SGLang with underscores", "sglang_num_running_reqs 5\nsglang_num_queue_reqs 0\n", "5 0 -1.00"},
		{"TensorRT-LLM", "trtllm_num_requests_running 5\ntrtllm_num_requests_waiting 4\ntrtllm_kv_cache_utilization 1\n", "5 4 1.00"},
		{"quotes and braces in labels", `vllm:num_requests_running{m="a\"}b , c"} 1` + "\n" + `vllm:num_requests_waiting{m="a\"}b , c", } 2 1700000000`, "1 2 -1.00"},
		{"a Windows line end", "vllm:num_requests_running 1\r\nvllm:num_requests_waiting 2\r\n", "1 2 -1.00"},
		{"waiting is not told", "vllm:num_requests_running 1\n", ""},
		{"running is not told", "vllm:num_requests_waiting 1\n", ""},
		{"not a number", "vllm:num_requests_running NaN\nvllm:num_requests_waiting 1\n", ""},
		{"negative", "vllm:num_requests_running -1\nvllm:num_requests_waiting 1\n", ""},
		{"somebody else's metrics", "go_goroutines 7\nmyvllm:num_requests_running 1\n", ""},
		{"nothing", "", ""},
		{"HTML", "<html>no</html>", ""},
		{"/v1/loads", `{"timestamp":"x","version":"1","loads":[{"dp_rank":0,"num_running_reqs":4,"num_waiting_reqs":1,"token_usage":0.5,"memory":{}},{"dp_rank":1,"num_running_reqs":2,"num_waiting_reqs":0,"token_usage":0.7}]}`, "6 1 0.60"},
		{"/get_load", `[{"dp_rank":0,"num_reqs":5,"num_waiting_reqs":2,"num_tokens":900,"ts_tic":1.5}]`, "3 2 -1.00"},
		{"a rank that does not tell", `{"loads":[{"num_running_reqs":4,"num_waiting_reqs":1},{"dp_rank":1}]}`, ""},
		{"a rank of which nothing is known", `{"loads":[{"num_running_reqs":4,"num_waiting_reqs":1},{"num_running_reqs":-1,"num_waiting_reqs":-1}]}`, ""},
		{"no ranks", `{"loads":[]}`, ""},
		{"another object", `{"server_load":3}`, ""},
		{"broken JSON", `{"loads":[`, ""},
		{"absurd", "vllm:num_requests_running 1e300\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc 70\n", fmt.Sprintf("%d 1 1.00", maxCalls)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseLoad([]byte(tt.body))
			got := fmt.Sprintf("%d %d %.2f", r.Running, r.Waiting, r.KV)
			if err != nil {
				got = ""
			}
			if got != tt.want {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

func FuzzParseLoad(f *testing.F) {
	for _, seed := range []string{vllmMetrics, sglangMetrics, `{"loads":[{"num_running_reqs":4,"num_waiting_reqs":1,"token_usage":0.5}]}`, `[{"num_reqs":5,"num_waiting_reqs":2}]`, `vllm:num_requests_running{m="`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseLoad(body)
		if err != nil {
			return
		}
		if r.Running < 0 || r.Waiting < 0 || r.KV != -1 && !(r.KV >= 0 && r.KV <= 1) {
			t.Errorf("%+v", r)
		}
	})
}

// An engine is a server that tells of its load at some paths.
type engine struct {
	*httptest.Server
	mu    sync.Mutex
	at    map[string]string // path → body
	asked []string
}

func newEngine(t *testing.T, at map[string]string) *engine {
	t.Helper()
	e := &engine{at: at}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.asked = append(e.asked, r.URL.Path)
		body, ok := e.at[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *engine) set(path, body string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at[path] = body
}

// asking is an Upstream over one backend, asked for its load every 100 ms by a fleet that runs.
func asking(t *testing.T, kind, url string, load LoadConfig) *Upstream {
	t.Helper()
	if load.Interval == 0 {
		load.Interval = leastInterval
	}
	health := usualHealth
	health.Path, health.Models = "off", "off"
	f := NewFleet()
	u, err := New(Config{
		Backends: map[string]BackendConfig{"gpu": {Kind: kind, URL: url, Weight: 1, Health: health, Load: load}},
		Pools:    map[string]PoolConfig{"default": {Models: []string{"mock*"}, Backends: []string{"gpu"}, Timeouts: fast}},
	}, f, NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	running(t, f)
	return u
}

func stateOf(u *Upstream) (s State) {
	u.States(func(found State) bool { s = found; return false })
	return s
}

func TestEnginesAreAskedForTheirLoad(t *testing.T) {
	loads := `{"loads":[{"num_running_reqs":7,"num_waiting_reqs":2,"token_usage":0.5}]}`
	for _, tt := range []struct {
		name, kind string
		at         map[string]string
		load       LoadConfig
		want       string
	}{
		{"vLLM", "vllm", map[string]string{"/metrics": vllmMetrics}, LoadConfig{}, "20 3 0.70"},
		{"SGLang", "sglang", map[string]string{"/v1/loads": loads, "/metrics": sglangMetrics}, LoadConfig{}, "7 2 0.50"},
		{"SGLang with metrics alone", "sglang", map[string]string{"/metrics": sglangMetrics}, LoadConfig{}, "9 2 0.25"},
		{"an old SGLang", "sglang", map[string]string{"/get_load": `[{"num_reqs":5,"num_waiting_reqs":2}]`}, LoadConfig{}, "3 2 0.00"},
		{"another, told where", "openai", map[string]string{"/load": loads}, LoadConfig{Path: "/load"}, "7 2 0.50"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, tt.at)
			u := asking(t, tt.kind, e.URL, tt.load)
			waitUntil(t, func() bool { return stateOf(u).LoadKnown })
			s := stateOf(u)
			if got := fmt.Sprintf("%d %d %.2f", s.Running, s.Waiting, s.KVUsed); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// What an engine does not tell is unknown, and so is what it no longer tells.
func TestUnknownLoadIsNotZero(t *testing.T) {
	e := newEngine(t, map[string]string{"/metrics": vllmMetrics})
	u := asking(t, "vllm", e.URL, LoadConfig{})
	waitUntil(t, func() bool { return stateOf(u).LoadKnown })
	e.set("/metrics", "go_goroutines 1\n")
	waitUntil(t, func() bool { return !stateOf(u).LoadKnown })
	if s := stateOf(u); s.Running != 0 || s.Waiting != 0 || s.KVUsed != 0 {
		t.Errorf("%+v", s)
	}
	silent := newEngine(t, nil)
	u = asking(t, "vllm", silent.URL, LoadConfig{})
	waitUntil(t, func() bool { silent.mu.Lock(); defer silent.mu.Unlock(); return len(silent.asked) > 0 })
	if stateOf(u).LoadKnown {
		t.Error("known of an engine that does not tell")
	}
}

func TestLoadIsNotAskedFor(t *testing.T) {
	for name, cfg := range map[string]BackendConfig{
		"openai": {Kind: "openai", Load: LoadConfig{Interval: time.Second}},
		"off":    {Kind: "vllm", Load: LoadConfig{Path: "off", Interval: time.Second}},
		"never":  {Kind: "vllm"},
	} {
		if got := loadPaths(cfg); got != nil {
			t.Errorf("%s: asks at %v", name, got)
		}
	}
	if got := loadPaths(BackendConfig{Kind: "sglang", Load: LoadConfig{Interval: time.Second}}); !slices.Contains(got, "/get_load") {
		t.Errorf("SGLang is asked at %v", got)
	}
}

// An answer that does not end is cut off, and says nothing.
func TestEndlessLoadIsCutOff(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte("vllm:num_requests_running 1\nvllm:num_requests_waiting 0\n"))
		for line := []byte("vllm:x 1\n"); r.Context().Err() == nil; {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	u := asking(t, "vllm", s.URL, LoadConfig{})
	waitUntil(t, func() bool { return asked.Load() > 1 })
	if stateOf(u).LoadKnown {
		t.Error("an endless answer is taken for a report")
	}
}

// By least-load calls go to the engine that tells of less to do, whoever gave it its work.
func TestLeastLoadFollowsTheEngines(t *testing.T) {
	u, _ := several(t, 2, PoolConfig{Balance: "least-load"})
	members := u.pools[0].members()
	members[0].peer.replica.Tell(balance.Report{Running: 9, At: time.Now()})
	members[1].peer.replica.Tell(balance.Report{Running: 1, At: time.Now()})
	for range 5 {
		if got := answered(t, u, newCall(t, llm.Chat, chat("x", true))); got != members[1].id {
			t.Fatalf("went to %s", got)
		}
	}
}

// The mock tells of its load as both engines do.
func TestMockTellsOfItsLoad(t *testing.T) {
	for _, kind := range []mock.Kind{mock.VLLM, mock.SGLang} {
		_, url := backendAt(t, mock.Options{Kind: kind})
		u := asking(t, string(kind), url, LoadConfig{})
		waitUntil(t, func() bool { return stateOf(u).LoadKnown })
	}
}

// Whoever asks stops with the fleet, and with the last who holds the peer.
func TestAskingEnds(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte(vllmMetrics))
	}))
	t.Cleanup(s.Close)
	u := asking(t, "vllm", s.URL, LoadConfig{})
	waitUntil(t, func() bool { return asked.Load() > 1 })
	_ = u.Close()
	waitUntil(t, func() bool {
		before := asked.Load()
		_ = sleep(context.Background(), 3*leastInterval)
		return asked.Load() == before
	})
} // that no goroutine is left is TestMain's to see
