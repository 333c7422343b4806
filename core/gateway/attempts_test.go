package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/nexus-gateway/nexus/core/mock"
)

// busyFirst answers so many calls with 503, and the others well.
func busyFirst(t *testing.T, busy int) (url string) {
	t.Helper()
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		answer := replyOf(false, 5)
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(string(body), `"stream":true`) {
			answer = replyOf(true, 5)
			w.Header().Set("Content-Type", "text/event-stream")
		}
		if busy--; busy >= 0 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			answer = `{"error":{"message":"full","code":503}}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestHeadersTellOfAttempts: who answered, after how many attempts, and what model was asked for instead.
func TestHeadersTellOfAttempts(t *testing.T) {
	const always = 1000
	for _, tt := range []struct {
		name                        string
		busy, spare                 int // calls that the backends of the first target and of the next one answer with 503
		status                      int
		backend, attempts, fallback string
	}{
		{"answered at once", 0, 0, 200, "one", "1", ""},
		{"tried again", 1, 0, 200, "one", "2", ""},
		{"a fallback", always, 0, 200, "two", "4", "larger"},
		{"a fallback that is tried again", always, 2, 200, "two", "6", "larger"},
		{"nobody answers", always, always, 503, "two", "6", ""},
	} {
		for _, request := range []string{whole, streamed} {
			t.Run(tt.name+map[bool]string{true: ", streamed"}[request == streamed], func(t *testing.T) {
				rules := t.TempDir()
				write(t, filepath.Join(rules, "chain.rego"), "package nexus.routes\n\nchain := {\"targets\": [\"default\", \"other\"]}\n")
				text := strings.NewReplacer(
					"backends: {one: {kind: vllm", fmt.Sprintf("backends: {two: {kind: openai, url: %q}, one: {kind: openai", busyFirst(t, tt.spare)),
					"backends: [one]}}", "backends: [one]}, other: {models: [elsewhere], model: larger, backends: [two]}}",
					"{deadline: 1s}", fmt.Sprintf("{deadline: 1s, dir: %q}", rules),
				).Replace(fmt.Sprintf(minimal, busyFirst(t, tt.busy)))
				_, address, _ := run(t, text)
				status, header, out := chat(t, address, "", request)
				if status != tt.status {
					t.Errorf("status %d: %s", status, out)
				}
				for name, want := range map[string]string{"x-nexus-backend": tt.backend, "x-nexus-attempts": tt.attempts, "x-fallback-model": tt.fallback} {
					if got := header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
			})
		}
	}
}

// A tracer is an OTLP collector that keeps what it is sent.
type tracer struct {
	mu    sync.Mutex
	spans []*otlp.Span
}

func (r *tracer) ServeHTTP(_ http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	var batch collector.ExportTraceServiceRequest
	_ = proto.Unmarshal(body, &batch) // without spans the test fails
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range batch.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
}

// numbers lists an attribute of the spans that have it.
func (r *tracer) numbers(name string) (all []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		for _, a := range s.Attributes {
			if a.Key == name {
				all = append(all, a.Value.GetIntValue())
			}
		}
	}
	return all
}

// TestContinuedAnswersAreTold: an answer that went on elsewhere is marked in the access log, in the call's span and in the
// metrics, and what was generated is charged, once.
func TestContinuedAnswersAreTold(t *testing.T) {
	for _, tt := range []struct {
		form, prefill string
		twice         int64 // tokens generated a second time
	}{
		{"ids", "auto", 0},
		{"text", "auto", 0},
		{"anew", "none", 7},
	} {
		t.Run(tt.form, func(t *testing.T) {
			t.Parallel()
			traces := new(tracer)
			collect := httptest.NewServer(traces)
			t.Cleanup(collect.Close)
			first, one := backend(t)
			second, two := backend(t)
			for script, s := range map[string]*mock.Server{"tokens=20 fault=die-after=7": first, "tokens=20": second} {
				if err := s.SetScript(script); err != nil {
					t.Fatal(err)
				}
			}
			access, rules := filepath.Join(t.TempDir(), "access.log"), t.TempDir()
			write(t, filepath.Join(rules, "chain.rego"), "package nexus.routes\n\nchain := {\"targets\": [\"default\", \"other\"]}\n")
			text := strings.NewReplacer(
				"backends: {one: {kind: vllm", fmt.Sprintf("backends: {two: {kind: vllm, prefill: %s, url: %q}, one: {kind: vllm", tt.prefill, two),
				"backends: [one]}}", fmt.Sprintf("backends: [one], continuation: {token_ids: %v}}, other: {models: [elsewhere], backends: [two]}}", tt.form == "ids"),
				"{deadline: 1s}", fmt.Sprintf("{deadline: 1s, dir: %q}", rules),
				`access_log: "off"`, fmt.Sprintf("access_log: %q, traces: {endpoint: %q}", access, collect.URL),
			).Replace(fmt.Sprintf(minimal, one)) + "quota: {limits: {default: {requests_per_minute: 1000, tokens_per_minute: 100000}}}\n"
			_, address, admin := run(t, text)
			const tokens = 20
			_, _, undisturbed := chat(t, strings.TrimPrefix(two, "http://"), "", streamed)
			_, _, counts := chat(t, strings.TrimPrefix(two, "http://"), "", whole)
			status, _, out := chat(t, address, "", streamed)
			if status != http.StatusOK || strings.Count(out, "[DONE]") != 1 || said(t, out)[0] != said(t, undisturbed)[0] {
				t.Fatalf("status %d: %s", status, out)
			}
			var line struct {
				Attempts, Continued int64
				TokensIn            int64 `json:"tokens_in"`
				TokensOut           int64 `json:"tokens_out"`
				Finish              string
			}
			waitFor(t, "the access log", func() bool {
				b, _ := os.ReadFile(access)
				return json.Unmarshal(b, &line) == nil
			})
			if line.Attempts != 2 || line.Continued != 1 || line.Finish != "stop" || line.TokensOut != tokens+tt.twice || !strings.Contains(counts, fmt.Sprintf(`"prompt_tokens":%d,`, line.TokensIn)) {
				t.Errorf("the access log says %+v of what an undisturbed call has as %s", line, counts)
			}
			_, metrics := fetch(t, "http://"+admin+"/metrics")
			if n := metric(metrics, "gateway_upstream_continuations_total"); n != 1 || !strings.Contains(metrics, fmt.Sprintf(`form=%q,outcome="taken"} 1`, tt.form)) {
				t.Errorf("%v continuations are counted, want one of %s", n, tt.form)
			}
			if n := int64(metric(metrics, "gateway_quota_settled_tokens_total")); n != line.TokensIn+line.TokensOut {
				t.Errorf("quota charged %d tokens, want %d and %d", n, line.TokensIn, line.TokensOut)
			}
			waitFor(t, "the spans", func() bool {
				return len(traces.numbers("nexus.continued")) == 1 && len(traces.numbers("nexus.attempt")) == 2
			})
			if got := traces.numbers("nexus.continued")[0]; got != 1 {
				t.Errorf("the span says that it went on %d times", got)
			}
		})
	}
}
