package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func compile(t testing.TB, cfg Config, files ...string) *Engine {
	t.Helper()
	e, err := Compile(t.Context(), rego(files...), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// decisions sums gateway_policy_decisions_total over the series whose labels hold all of these values.
func decisions(t *testing.T, reg *prometheus.Registry, values ...string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "gateway_policy_decisions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			hit := 0
			for _, l := range m.GetLabel() {
				if slices.Contains(values, l.GetValue()) {
					hit++
				}
			}
			if hit == len(values) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// counted passes calls on and counts them.
type counted struct{ n atomic.Int64 }

func (h *counted) Handle(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
	h.n.Add(1)
	return passed(ctx, c)
}

const nexusDecision = "package nexus.decision\n\n"

// endless never ends by itself, and looks at the cancellation.
const endless = nexusDecision + `default action := "deny"

action := "allow" if count([1 | some x in numbers.range(1, 100000); some y in numbers.range(1, 100000); x + y < 0]) == 0`

// outcomes has a policy for every way not to decide.
var outcomes = []struct {
	outcome outcome
	rego    string
}{
	{undefined, "package nexus\n\ndecision := {\"action\": \"allow\", \"rule\": data.rules[input.request.model]}"},
	{conflict, "package nexus.routes\n\na := {\"targets\": []}\n\nb := {\"targets\": []}"},
	{conflict, nexusDecision + "default action := \"deny\"\n\naction := \"allow\" if input.request.n == 1\n\naction := \"deny\" if input.attempt == 1"},
	{timeout, endless},
	{failed, nexusDecision + "default action := \"deny\"\n\naction := \"allow\" if to_number(input.request.model) > 1"},
	{misshapen, nexusDecision + "action := input.request.model"},
	{misshapen, "package nexus.routes\n\na := {input.request.model: [\"x\"]}"},
}

func TestEveryFailureIsClosedAndDistinct(t *testing.T) {
	for _, tt := range outcomes {
		t.Run(string(tt.outcome), func(t *testing.T) {
			cfg := testConfig()
			if tt.outcome == timeout {
				cfg.Deadline = 20 * time.Millisecond
			}
			reg := prometheus.NewRegistry()
			m := NewMetrics(reg)
			next := &counted{}
			c := newCall(t, chatBody)
			_, err := compile(t, cfg, "a.rego", tt.rego).Stage(Env{Metrics: m}).Handle(t.Context(), c, next)
			var r *pipeline.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if r.Kind != pipeline.Forbidden || r.Code != "policy_no_decision" || r.Stage != "policy" || r.Header["X-Should-Retry"] != "false" {
				t.Errorf("got %+v", r)
			}
			if want := "The gateway's policy gave no decision on this request (decision req-1)."; r.Reason != want {
				t.Errorf("the caller is told %q, want %q", r.Reason, want)
			}
			if next.n.Load() != 0 {
				t.Error("the call was passed on")
			}
			if got := decisions(t, reg, string(tt.outcome), "deny"); got != 1 {
				t.Errorf("counted %v times", got)
			}
			if c.Decision.Rule != "on_"+string(tt.outcome) {
				t.Errorf("decision %+v", c.Decision)
			}
		})
	}
}

func TestEveryFailureHasItsRule(t *testing.T) {
	for _, tt := range outcomes {
		for _, open := range []outcome{undefined, conflict, timeout, failed, misshapen} {
			cfg := testConfig()
			cfg.Deadline = 200 * time.Millisecond
			if tt.outcome == timeout {
				cfg.Deadline = 20 * time.Millisecond
			}
			*map[outcome]*string{undefined: &cfg.OnUndefined, conflict: &cfg.OnConflict, timeout: &cfg.OnTimeout, failed: &cfg.OnError, misshapen: &cfg.OnSchema}[open] = "allow"
			next := &counted{}
			c := newCall(t, chatBody)
			_, err := compile(t, cfg, "a.rego", tt.rego).Stage(Env{}).Handle(t.Context(), c, next)
			if want := open == tt.outcome; (err == nil) != want || next.n.Load() == 1 != want {
				t.Errorf("%s with on_%s allow: %v, passed on %d", tt.outcome, open, err, next.n.Load())
			}
		}
	}
}

func TestConflictNamesBothRulesInTheLog(t *testing.T) {
	_, err := compile(t, testConfig(), "a.rego", outcomes[1].rego).Stage(Env{}).Handle(t.Context(), newCall(t, chatBody), passed)
	if err == nil || !strings.Contains(err.Error(), "rules [routes.a routes.b] claim the call with equal priority") {
		t.Errorf("got %v", err)
	}
}

func TestDenial(t *testing.T) {
	s := compile(t, testConfig(), "a.rego", `package nexus.access

free := {"reason": "secret reason", "status": 429, "code": "busy", "message": "Come back later.", "retry_after": 2.5} if input.principal.tier == "free"
other := {"reason": "secret reason"} if input.principal.tier == "other"
`).Stage(Env{})
	c := newCall(t, chatBody)
	_, err := s.Handle(t.Context(), c, passed)
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Status != 429 || r.Code != "busy" || r.Reason != "Come back later." || r.Retry != 2500*time.Millisecond ||
		r.Header["Retry-After"] != "3" || r.Header["X-Nexus-Decision-Id"] != "req-1" || r.Header["X-Should-Retry"] != "" {
		t.Errorf("got %+v", r)
	}
	if c.Decision.Rule != "access.free" || c.Decision.ID != "req-1" {
		t.Errorf("decision %+v", c.Decision)
	}
	c.Principal.Tier = "other"
	_, err = s.Handle(t.Context(), c, passed)
	if !errors.As(err, &r) || r.Kind != pipeline.Forbidden || r.Status != 0 || r.Code != "policy_denied" || strings.Contains(r.Reason, "secret") || !strings.Contains(r.Reason, "req-1") {
		t.Errorf("got %+v", r)
	}
}

func TestHeadersAreLeftToTheServer(t *testing.T) {
	s := compile(t, testConfig(), "a.rego", "package nexus.routes\n\na := {\"headers\": {\"x-lane\": \"slow\"}}").Stage(Env{})
	c := newCall(t, chatBody)
	if _, err := s.Handle(t.Context(), c, passed); err != nil || c.Decision.Headers["x-lane"] != "slow" {
		t.Errorf("got %v, %v", c.Decision, err)
	}
}

func TestWhatNobodyEnforcesIsRefused(t *testing.T) {
	limits := compile(t, testConfig(), "a.rego", "package nexus.limits\n\na := {\"tokens\": 5}")
	restore := compile(t, testConfig(), "a.rego", "package nexus.masks\n\na := {\"restore\": true}")
	tests := []struct {
		name  string
		stage *Stage
		ok    bool
	}{
		{"limits", limits.Stage(Env{}), false},
		{"limits that are", limits.Stage(Env{Limits: true}), true},
		{"restore", restore.Stage(Env{}), false},
		{"restore that is", restore.Stage(Env{Restore: true}), true},
	}
	for _, tt := range tests {
		c := newCall(t, chatBody)
		_, err := tt.stage.Handle(t.Context(), c, passed)
		if r, ok := err.(*pipeline.Refusal); tt.ok != (err == nil) || ok && r.Code != "policy_no_decision" {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

func TestRespond(t *testing.T) {
	s := compile(t, testConfig(), "a.rego", "package nexus.access\n\nclosed := {\"action\": \"respond\", \"respond\": {\"text\": \"닫혔\\\"습니다\"}, \"headers\": {\"x-a\": \"b\"}}").Stage(Env{})
	next := &counted{}
	for _, stream := range []bool{false, true} {
		c := newCall(t, fmt.Sprintf(`{"model":"m","stream":%v,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`, stream))
		reply, err := s.Handle(t.Context(), c, next)
		if err != nil || reply.Status != http.StatusOK || c.Decision.Headers["x-a"] != "b" {
			t.Fatalf("got %+v, %v", reply, err)
		}
		text, finish, usage, done := "", "", false, false
		for {
			chunk, err := reply.Stream.Next()
			if err == io.EOF {
				break
			}
			done = done || chunk.Kind == llm.Done
			if chunk.View == nil {
				continue
			}
			if !json.Valid(chunk.Data) || !bytes.Contains(chunk.Raw, chunk.Data) {
				t.Errorf("chunk %s", chunk.Raw)
			}
			for _, x := range chunk.View.Texts {
				text += string(llm.AppendText(nil, chunk.Data, x))
			}
			for _, x := range chunk.View.Finishes {
				finish = x.Reason
			}
			usage = usage || chunk.View.HasUsage
		}
		if text != `닫혔"습니다` || finish != "stop" || !usage || done != stream {
			t.Errorf("stream %v: text %q, finish %q, usage %v, done %v", stream, text, finish, usage, done)
		}
		for range 2 {
			if err := reply.Stream.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if next.n.Load() != 0 {
		t.Error("a backend was asked")
	}
	c := newCall(t, chatBody)
	c.Route = llm.Embeddings
	var r *pipeline.Refusal
	if _, err := s.Handle(t.Context(), c, next); !errors.As(err, &r) || r.Code != "policy_no_decision" {
		t.Errorf("embeddings: got %v", err)
	}
}

func TestTheCallerLeaves(t *testing.T) {
	cfg := testConfig()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	start := time.Now()
	_, err := compile(t, cfg, "a.rego", endless).Stage(Env{Metrics: m}).Handle(ctx, newCall(t, chatBody), passed)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 500*time.Millisecond {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
	if n := decisions(t, reg); n != 0 {
		t.Errorf("%v outcomes are counted, want none", n)
	}
}

func TestFleetIsAskedOnlyWhenRead(t *testing.T) {
	var asked atomic.Int64
	env := Env{Fleet: asking{&asked}, Budget: func(*pipeline.Call) Budget { asked.Add(1); return Budget{} }}
	for _, tt := range []struct {
		rego string
		want int64
	}{
		{"package nexus.routes\n\na := {} if input.attempt == 1", 0},
		{"package nexus.routes\n\na := {} if { some b in input.backends; b.healthy }", 1},
		{"package nexus.routes\n\na := {} if input.budget.used_ratio + input.budget.remaining > 1", 1},
	} {
		asked.Store(0)
		if _, err := compile(t, testConfig(), "a.rego", tt.rego).Stage(env).Handle(t.Context(), newCall(t, chatBody), passed); err != nil {
			t.Fatal(err)
		}
		if asked.Load() != tt.want {
			t.Errorf("%s: asked %d times, want %d", tt.rego, asked.Load(), tt.want)
		}
	}
}

type asking struct{ n *atomic.Int64 }

func (a asking) Backends(yield func(string, BackendState) bool) {
	a.n.Add(1)
	yield("a", BackendState{Healthy: true})
}

// Many calls at once, each with its own answer, while the policy is compiled again and again.
func TestHammerStage(t *testing.T) {
	var k Compiler
	cfg := testConfig()
	cfg.Deadline = time.Second
	src := rego("a.rego", `package nexus.routes

a := {"targets": [input.request.model], "tags": {"tenant": input.principal.tenant, "words": concat(" ", input.prompt.keywords)}}
`)
	var stage atomic.Pointer[Stage]
	swap := func() {
		e, err := k.Compile(context.Background(), src, cfg)
		if err != nil {
			t.Error(err)
			return
		}
		stage.Store(e.Stage(Env{Metrics: NewMetrics(prometheus.NewRegistry())}))
	}
	swap()
	var wg sync.WaitGroup
	for g := range 16 {
		calls := make([]*pipeline.Call, 100)
		for i := range calls {
			name := fmt.Sprintf("model-%d-%d", g, i)
			calls[i] = newCall(t, `{"model":"`+name+`","messages":[{"role":"user","content":"hi"}]}`)
			calls[i].Principal.Tenant = name
		}
		wg.Go(func() {
			for i, c := range calls {
				name := c.Principal.Tenant
				if _, err := stage.Load().Handle(t.Context(), c, passed); err != nil {
					t.Error(err)
					return
				}
				if c.Decision.Targets[0].Pool != name || c.Decision.Tags["tenant"] != name {
					t.Errorf("%s: got the decision of another call: %+v", name, c.Decision)
				}
				if i%10 == 0 {
					swap()
				}
			}
		})
	}
	wg.Wait()
}
