package mock

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// counts is what the server has counted.
type counts struct {
	requests, refused, faults, done, aborted atomic.Int64
	running, waiting                         atomic.Int64
	prompted, cached                         atomic.Int64
}

func (c *counts) prompt(tokens, cached int) {
	c.prompted.Add(int64(tokens))
	c.cached.Add(int64(cached))
}

// Stats are the counts of a server.
type Stats struct {
	Requests int64 `json:"requests"` // calls received
	Refused  int64 `json:"refused"`  // answered by an error
	Faults   int64 `json:"faults"`   // made to go wrong
	Done     int64 `json:"done"`     // answered whole
	Aborted  int64 `json:"aborted"`  // left by the client before their end
	Running  int64 `json:"running"`
	Waiting  int64 `json:"waiting"`
	Prompted int64 `json:"prompted"` // prompt ids
	Cached   int64 `json:"cached"`   // of them found in the prefix cache
}

// Stats are the counts now.
func (s *Server) Stats() Stats {
	c := &s.counts
	return Stats{c.requests.Load(), c.refused.Load(), c.faults.Load(), c.done.Load(), c.aborted.Load(),
		c.running.Load(), c.waiting.Load(), c.prompted.Load(), c.cached.Load()}
}

// fullAt is the number of running calls at which the pretended KV cache is full.
const fullAt = 256

func (s *Server) usage() float64 { return min(1, float64(s.Stats().Running)/fullAt) }

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	st := s.Stats()
	prefix, running, waiting, kv, hits, queries := "vllm:", "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prefix_cache_hits_total", "prefix_cache_queries_total"
	labels := `{engine="0",model_name="` + s.opts.Models[0] + `"}`
	if s.opts.Kind == SGLang {
		prefix, running, waiting, kv, hits, queries = "sglang:", "num_running_reqs", "num_queue_reqs", "token_usage", "cached_tokens_total", "prompt_tokens_total"
		labels = `{engine_type="unified",model_name="` + s.opts.Models[0] + `"}`
	}
	var b strings.Builder
	metric := func(name, kind string, v float64) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s%s %g\n", name, name, name, kind, name, labels, v)
	}
	metric(prefix+running, "gauge", float64(st.Running))
	metric(prefix+waiting, "gauge", float64(st.Waiting))
	metric(prefix+kv, "gauge", s.usage())
	metric(prefix+queries, "counter", float64(st.Prompted))
	metric(prefix+hits, "counter", float64(st.Cached))
	if s.opts.Kind == VLLM {
		metric("vllm:num_preemptions_total", "counter", 0)
		fmt.Fprintf(&b, "# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"%d\"} 1\n", s.opts.Cache*block/16)
	}
	metric("mock:aborted_total", "counter", float64(st.Aborted))
	metric("mock:faults_total", "counter", float64(st.Faults))
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(b.String())) // a scraper that left is no news
}

func (s *Server) loads(w http.ResponseWriter, _ *http.Request) {
	st := s.Stats()
	reply(w, 200, fmt.Sprintf(`{"timestamp":%q,"version":"mock","accelerator":"none","num_accelerators":1,"loads":[{"dp_rank":0,"num_running_reqs":%d,"num_waiting_reqs":%d,"token_usage":%g,"cache_hit_rate":%g,"max_running_requests":%d}]}`,
		time.Now().UTC().Format(time.RFC3339), st.Running, st.Waiting, s.usage(), float64(st.Cached)/float64(max(st.Prompted, 1)), fullAt))
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	b.WriteString(`{"object":"list","data":[`)
	for i, m := range s.opts.Models {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"id":"` + escape(m) + `","object":"model","created":` + strconv.FormatInt(s.created, 10) +
			`,"owned_by":"` + string(s.opts.Kind) + `","root":"` + escape(m) + `","parent":null,"max_model_len":` + strconv.Itoa(s.opts.MaxContext) + `}`)
	}
	reply(w, 200, b.String()+`]}`)
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if status := s.health.Load(); status != 0 {
		w.WriteHeader(int(status))
	}
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	reply(w, 200, `{"version":"0.0.0+mock"}`)
}
