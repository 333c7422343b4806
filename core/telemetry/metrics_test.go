package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// valueOf is the sum over the series of a counter or gauge whose label values include all of with.
func valueOf(t testing.TB, tel *Telemetry, name string, with ...string) float64 {
	t.Helper()
	families, err := tel.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]bool{}
			for _, pair := range m.GetLabel() {
				labels[pair.GetValue()] = true
			}
			if family.GetName() == name && hasAll(labels, with) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func hasAll(set map[string]bool, names []string) bool {
	for _, name := range names {
		if !set[name] {
			return false
		}
	}
	return true
}

// seriesOf counts the series a scrape returns.
func seriesOf(t *testing.T, tel *Telemetry) (count int, text string) {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			count++
		}
	}
	return count, w.Body.String()
}

func TestMetrics(t *testing.T) {
	tel := newTest(t, io.Discard)
	ctx := context.Background()
	drain(tel.Handle(ctx, newCall(), backendOf(events(io.EOF, "ab"))))
	drain(tel.Handle(ctx, newCall(), failing(errors.New("x"))))
	wild := newCall()
	wild.Request.Model = "llama-3-70b"
	drain(tel.Handle(ctx, wild, backendOf(events(io.EOF, "ab"))))
	unknown := newCall()
	unknown.Request.Model = "nothing"
	drain(tel.Handle(ctx, unknown, failing(&pipeline.Refusal{Kind: pipeline.NotFound})))
	tests := []struct {
		name string
		with []string
		want float64
	}{
		{"gateway_requests_total", nil, 4},
		{"gateway_requests_total", []string{"chat", "200", "m1", "gpu", "gpu-1"}, 1},
		{"gateway_requests_total", []string{"chat", "500", "m1"}, 1},
		{"gateway_requests_total", []string{"chat", "200", "llama-*"}, 1},
		{"gateway_requests_total", []string{"chat", "404", "other"}, 1},
		{"gateway_request_seconds", []string{"chat", "2xx"}, 2},
		{"gateway_request_seconds", []string{"chat", "5xx"}, 1},
		{"gateway_time_to_first_token_seconds", []string{"chat", "gpu"}, 2},
		{"gateway_tokens_total", []string{"in", "m1"}, 12},
		{"gateway_tokens_total", []string{"out", "m1"}, 3},
		{"gateway_tokens_total", []string{"cached", "m1"}, 4},
		{"gen_ai_client_token_usage", []string{"chat", "vllm", "m1", "input"}, 1},
		{"gen_ai_client_token_usage", []string{"chat", "vllm", "m1", "output"}, 1},
		{"gen_ai_server_request_duration_seconds", []string{"chat", "vllm", "m1"}, 1},
		{"gen_ai_server_time_to_first_token_seconds", []string{"chat", "vllm", "m1"}, 1},
		{"gen_ai_server_time_per_output_token_seconds", []string{"chat", "vllm", "m1"}, 1},
		{"gateway_streams_in_flight", nil, 0},
		{"gateway_access_log_dropped_total", nil, 0},
		{"nexus_build_info", []string{"test"}, 1},
	}
	for _, tt := range tests {
		if got := valueOf(t, tel, tt.name, tt.with...); got != tt.want {
			t.Errorf("%s%v: got %v, want %v", tt.name, tt.with, got, tt.want)
		}
	}
	_, text := seriesOf(t, tel)
	for _, want := range []string{
		`gen_ai_server_time_to_first_token_seconds_bucket{gen_ai_operation_name="chat",gen_ai_provider_name="vllm",gen_ai_request_model="m1",le="0.04"}`,
		`gen_ai_server_request_duration_seconds_bucket{gen_ai_operation_name="chat",gen_ai_provider_name="vllm",gen_ai_request_model="m1",le="81.92"}`,
		"go_goroutines", "process_resident_memory_bytes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the scrape has no %s", want)
		}
	}
}

func TestWholeReplyHasNoFirstToken(t *testing.T) {
	tel := newTest(t, io.Discard)
	c := newCall()
	c.Request.Stream = false
	drain(tel.Handle(context.Background(), c, backendOf(llm.One(llm.Chunk{Raw: []byte("{}")}))))
	for _, name := range []string{"gateway_time_to_first_token_seconds", "gen_ai_server_time_per_output_token_seconds"} {
		if got := valueOf(t, tel, name); got != 0 {
			t.Errorf("%s counts %v whole replies", name, got)
		}
	}
}

func TestStreamsInFlight(t *testing.T) {
	tel := newTest(t, io.Discard)
	r, _ := tel.Handle(context.Background(), newCall(), backendOf(events(io.EOF, "ab")))
	if got := valueOf(t, tel, "gateway_streams_in_flight"); got != 1 {
		t.Errorf("got %v while the stream is open, want 1", got)
	}
	drain(r, nil)
	if got := valueOf(t, tel, "gateway_streams_in_flight"); got != 0 {
		t.Errorf("got %v after its end, want 0", got)
	}
}

// TestSeriesAreBounded: whatever callers, policies and backends name, the series stay few (S-27).
func TestSeriesAreBounded(t *testing.T) {
	tel := newTest(t, io.Discard)
	routes := []llm.Endpoint{llm.Chat, llm.Completions, llm.Embeddings, llm.Responses, llm.Rerank, llm.Score, llm.Tokenize, llm.Models}
	models := []string{"m1", "m2", "llama-"}
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := worker; i < 100_000; i += 4 {
				name := fmt.Sprintf("n%d", i)
				c := newCall()
				c.Method, c.Path, c.Remote, c.ID = name, "/"+name, name, name
				c.Principal = &pipeline.Principal{ID: name, Tenant: name}
				c.Decision.Rule = name
				c.Route = routes[i%len(routes)]
				c.Request.Model = []string{name, models[i%3] + name, models[i%3]}[i%7%3]
				next := failing(&pipeline.Refusal{Status: 100 + i%600, Code: name, Stage: name})
				if i%2 == 0 {
					next = func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
						c.Outcome = pipeline.Outcome{Backend: name, Pool: name, Model: name, Finish: name}
						if i%4 == 0 {
							c.Outcome.Backend, c.Outcome.Pool = "gpu-1", "gpu"
						}
						return &llm.Reply{Status: i%700 - 50, Stream: events(io.EOF, "x")}, nil
					}
				}
				if i%1000 == 999 {
					c.Route = llm.Endpoint(name)
				}
				drain(tel.Handle(context.Background(), c, next))
			}
		})
	}
	wg.Wait()
	count, text := seriesOf(t, tel)
	t.Logf("%d series", count)
	if count > 2000 {
		t.Errorf("%d series after 100,000 distinct names, want at most 2000", count)
	}
	if strings.Contains(text, "n99") {
		t.Error("a caller's name is a label")
	}
	if got := valueOf(t, tel, "gateway_requests_total"); got != 100_000 {
		t.Errorf("%v calls counted, want 100000", got)
	}
}

// TestReloadsDropSeries: names that a reload takes away take their series along.
func TestReloadsDropSeries(t *testing.T) {
	tel := newTest(t, io.Discard)
	var first int
	for i := range 50 {
		name := fmt.Sprintf("gen-%d", i)
		tel.SetKnown(Known{Models: []string{name}, Pools: []string{name}, Backends: map[string]Backend{name: {Provider: "vllm"}}})
		c := newCall()
		c.Request.Model = name
		drain(tel.Handle(context.Background(), c, pipeline.HandlerFunc(func(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
			r, err := backendOf(events(io.EOF, "x"))(ctx, c)
			c.Outcome.Backend, c.Outcome.Pool = name, name
			return r, err
		})))
		count, text := seriesOf(t, tel)
		if i == 0 {
			first = count
		}
		if count > first || !strings.Contains(text, name) || i > 0 && strings.Contains(text, fmt.Sprintf(`"gen-%d"`, i-1)) {
			t.Fatalf("reload %d: %d series, the first had %d", i, count, first)
		}
	}
}

// TestKnownHammer swaps names under calls, for the race detector and the sum.
func TestKnownHammer(t *testing.T) {
	tel := newTest(t, io.Discard)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				drain(tel.Handle(context.Background(), newCall(), backendOf(events(io.EOF, "x"))))
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			names := testKnown
			names.Models = append(slices.Clone(names.Models), fmt.Sprint(i))
			tel.SetKnown(names)
		}
	})
	wg.Wait()
	if got := valueOf(t, tel, "gateway_requests_total", "m1", "gpu-1"); got != 2000 {
		t.Errorf("%v calls counted, want 2000", got)
	}
}

func TestStatusLabel(t *testing.T) {
	for status, want := range map[int]string{0: other, -1: other, 99: other, 600: other, 200: "200", 204: "2xx", 302: "3xx", 404: "404", 418: "4xx", 499: "499", 599: "5xx"} {
		if got := statusLabel(status); got != want {
			t.Errorf("%d: got %q, want %q", status, got, want)
		}
	}
}
