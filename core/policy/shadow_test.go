package policy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// A stand is a policy that decides and a shadow beside it, which is asked only when the test says so.
type stand struct {
	t      *testing.T
	shadow *Shadow
	stage  *Stage
	reg    *prometheus.Registry
	log    *bytes.Buffer
}

func newStand(t *testing.T, log *Log, main, shadow string, share float64) *stand {
	t.Helper()
	s := &stand{t: t, reg: prometheus.NewRegistry(), log: &bytes.Buffer{}}
	s.shadow = NewShadow(log, slog.New(slog.NewTextHandler(s.log, nil)), s.reg)
	e := compile(t, testConfig(), "a.rego", main)
	cfg := testConfig()
	cfg.Deadline = 20 * time.Millisecond
	s.shadow.Put(compile(t, cfg, "b.rego", shadow), e, share)
	s.stage = e.Stage(Env{Shadow: s.shadow, Log: log})
	return s
}

func (s *stand) call(labels ...string) *pipeline.Call {
	s.t.Helper()
	c := newCall(s.t, chatBody)
	c.Labels = map[string]string{}
	for _, l := range labels {
		c.Labels[l] = "true"
	}
	_, _ = s.stage.Handle(s.t.Context(), c, passed)
	return c
}

// settle has the shadow asked about all that waits.
func (s *stand) settle() {
	for {
		select {
		case q := <-s.shadow.queue:
			s.shadow.ask(s.t.Context(), q)
		default:
			return
		}
	}
}

// differences are what was counted, as "from > to: rule".
func (s *stand) differences() map[string]float64 {
	s.t.Helper()
	out := map[string]float64{}
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "gateway_policy_shadow_differences_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			l := map[string]string{}
			for _, pair := range m.GetLabel() {
				l[pair.GetName()] = pair.GetValue()
			}
			out[l["from"]+" > "+l["to"]+": "+l["rule"]] = m.GetCounter().GetValue()
		}
	}
	return out
}

func (s *stand) dropped() float64 {
	families, _ := s.reg.Gather()
	for _, f := range families {
		if f.GetName() == "gateway_policy_shadow_dropped_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return -1
}

const toFar = "package nexus.routes\n\nall := {\"targets\": [\"far\"], \"reason\": \"x\"}\n"

const mainRules = `package nexus.routes

local := {"targets": ["local"], "reason": "x"} if input.labels.secret == "true"

long := {"targets": ["wide"], "set": {"max_tokens": 5}, "reason": "x"} if input.labels.long == "true"

broken := {"targets": ["local"], "reason": "x"} if to_number(input.labels.broken) > 0
`

func TestShadowDifferences(t *testing.T) {
	shadow := `package nexus.routes

local := {"targets": ["local"], "reason": "another"} if input.labels.secret == "true"

far := {"targets": ["far"], "reason": "x"} if input.labels.new == "true"

long := {"targets": ["wide"], "set": {"max_tokens": 6}, "reason": "x"} if input.labels.long == "true"

failing := {"targets": [], "reason": "x"} if to_number(input.labels.fails) > 0

one := {"reason": "x"} if input.labels.twice == "true"

two := {"reason": "x"} if input.labels.twice == "true"
`
	tests := []struct {
		label string
		want  string // empty: no difference
	}{
		{"", ""},
		{"secret", ""}, // another reason is no difference
		{"new", "allow > allow far: routes.far"},
		{"long", "allow wide > allow wide: routes.long"},
		{"broken", "error > allow: on_error"},
		{"fails", "allow > error: default"},
		{"twice", "allow > conflict: default"},
	}
	for _, tt := range tests {
		s := newStand(t, nil, mainRules, shadow, 1)
		c := s.call(tt.label)
		s.settle()
		want := map[string]float64{}
		if tt.want != "" {
			want[tt.want] = 1
		}
		if got := s.differences(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", tt.label, got, want)
		}
		if tt.label == "new" && (len(c.Decision.Targets) > 0 || !strings.Contains(s.log.String(), "shadow_rule=routes.far")) {
			t.Errorf("decided %+v, logged %s", c.Decision, s.log)
		}
	}
}

func TestShadowDifferencesAreLogged(t *testing.T) {
	l, file := openLog(t, LogConfig{Input: true})
	s := newStand(t, l, mainRules, toFar, 1)
	s.call("secret")
	s.settle()
	lines := logged(t, l, file)
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	d := lines[1]
	if d["decision_id"] != lines[0]["decision_id"] || d["path"] != "nexus/shadow" || d["revision"] != s.stage.engine.Revision() ||
		at(d, "result", "rule") != "routes.local" || at(d, "shadow", "result", "rule") != "routes.all" ||
		fmt.Sprint(at(d, "shadow", "changed")) != "[targets]" || at(d, "shadow", "revision") == d["revision"] {
		t.Errorf("got %v", d)
	}
	if s.log.Len() > 0 {
		t.Errorf("told twice: %s", s.log)
	}
}

// Whatever names a policy makes up, there are a bounded number of series, and none of them holds such a name.
func TestShadowSeriesAreBounded(t *testing.T) {
	shadow := `package nexus.decision

default action := "allow"

rule := input.request.id

targets := [input.request.id]
`
	s := newStand(t, nil, mainRules, shadow, 1)
	for i := range 300 {
		c := newCall(t, chatBody)
		c.ID = fmt.Sprintf("made-up-%d", i)
		_, _ = s.stage.Handle(t.Context(), c, passed)
		s.settle()
	}
	got := s.differences()
	if len(got) != maxPairs+1 || got["other > other: other"] != 300-maxPairs {
		t.Errorf("%d series, %v others", len(got), got["other > other: other"])
	}
	for name := range got {
		if !strings.HasSuffix(name, ": other") {
			t.Errorf("a made-up rule is a label: %s", name)
		}
	}
	s.shadow.Put(compile(t, testConfig(), "b.rego", toFar), s.stage.engine, 1)
	s.call()
	s.settle()
	if got := s.differences(); len(got) != 1 {
		t.Errorf("another policy counts on: %v", got)
	}
}

func TestShadowShare(t *testing.T) {
	for share, want := range map[float64]int{1: 100, 0.5: 50, 0.1: 10, 0.29: 29} {
		s := newStand(t, nil, mainRules, toFar, share)
		for range 100 {
			s.call()
		}
		if got := len(s.shadow.queue); got < want-1 || got > want+1 {
			t.Errorf("share %v: asked about %d of 100, want %d", share, got, want)
		}
	}
	s := newStand(t, nil, mainRules, toFar, 1)
	s.shadow.Put(nil, nil, 0)
	if s.call(); len(s.shadow.queue) != 0 {
		t.Error("a shadow that is off is asked")
	}
}

// Nothing that a shadow policy does changes a call or keeps one waiting: it takes no turn of theirs, what it does not
// get round to is dropped and counted, and its worst is over by itself.
func TestHostileShadows(t *testing.T) {
	hostile := map[string]string{
		"endless":               endless,
		"cannot be interrupted": unheeding(),
		"denies all":            "package nexus.access\n\nall := {\"reason\": \"x\"}",
		"fails":                 "package nexus.routes\n\na := {\"reason\": \"x\"} if to_number(input.request.model) > 0",
	}
	for name, rego := range hostile {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, nil, mainRules, rego, 1)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.shadow.Run(ctx) }()
			calm := newStand(t, nil, mainRules, rego, 1)
			calm.shadow.Put(nil, nil, 0)
			for i := range 2 * maxQuestions {
				label := []string{"secret", "long", "other"}[i%3]
				got, want := s.call(label).Decision, calm.call(label).Decision
				got.Revision, want.Revision = "", ""
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("call %d: decided %+v, want %+v", i, got, want)
				}
				if n := calls.adrift.Load(); n > 0 {
					t.Fatalf("call %d: %d evaluations of calls are adrift", i, n)
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if strings.Contains("endless cannot be interrupted", name) && s.dropped() == 0 {
				t.Error("nothing was dropped: the queue has no bound")
			}
			waitUntil(t, func() bool { return shadows.adrift.Load() == 0 && len(shadows.turns) == 0 })
		})
	}
}

// The input is copied for the shadow: what becomes of the request's body afterwards is not seen.
func TestShadowInputIsACopy(t *testing.T) {
	shadow := `package nexus.routes

a := {"targets": ["far"], "reason": "x"} if {
	contains(input.prompt.last_user, "날씨")
	input.request.model == "m"
}
`
	s := newStand(t, nil, mainRules, shadow, 1)
	c := newCall(t, `{"model":"m","messages":[{"role":"user","content":"날씨"}]}`)
	_, _ = s.stage.Handle(t.Context(), c, passed)
	for i := range c.Request.Body {
		c.Request.Body[i] = 'x'
	}
	s.settle()
	if got := s.differences(); got["allow > allow far: routes.a"] != 1 {
		t.Errorf("got %v", got)
	}
}

// A shadow answers for calls of every kind as the policy would.
func TestShadowKnowsTheRoute(t *testing.T) {
	s := newStand(t, nil, mainRules, "package nexus.access\n\na := {\"action\": \"respond\", \"respond\": {\"text\": \"hi\"}, \"reason\": \"x\"}", 1)
	c := newCall(t, chatBody)
	c.Route = llm.Embeddings
	_, _ = s.stage.Handle(t.Context(), c, passed)
	s.call()
	s.settle()
	if got := s.differences(); got["allow > schema: default"] != 1 || got["allow > respond: access.a"] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestShadowConfigValidate(t *testing.T) {
	tests := []struct {
		name string
		c    ShadowConfig
		want int
	}{
		{"off", ShadowConfig{}, 0},
		{"folder", ShadowConfig{Dir: "x", Share: 0.5, Deadline: time.Millisecond}, 0},
		{"bundle", ShadowConfig{Bundle: testBundle("https://h/b"), Share: 1, Deadline: time.Millisecond}, 0},
		{"both", ShadowConfig{Dir: "x", Bundle: testBundle("https://h/b"), Share: 1, Deadline: time.Millisecond}, 1},
		{"share and deadline", ShadowConfig{Dir: "x", Share: 2}, 2},
		{"data alone", ShadowConfig{Data: "x"}, 1},
	}
	for _, tt := range tests {
		p := setting.NewProblems()
		tt.c.validate(p)
		if got := len(p.All()); got != tt.want {
			t.Errorf("%s: %v", tt.name, p.All())
		}
	}
	cfg := testConfig()
	if _, on := cfg.ForShadow(); on {
		t.Error("there is a shadow without a folder")
	}
	cfg.Enabled, cfg.Dir, cfg.Headers, cfg.Shadow = true, "main", []string{"x-a"}, ShadowConfig{Dir: "x", Deadline: time.Minute}
	s, on := cfg.ForShadow()
	if !on || s.Dir != "x" || s.Deadline != time.Minute || len(s.Headers) != 1 || s.Shadow.Dir != "" || s.Engine != engineTopdown {
		t.Errorf("got %+v", s)
	}
}

// What a call pays for a shadow that is asked about each of them.
func BenchmarkShadow(b *testing.B) {
	for _, tt := range []struct{ name, rego string }{
		{"none", ""},
		{"scalars", mainRules},
		{"prompt", "package nexus.routes\n\na := {\"targets\": [\"x\"], \"reason\": \"x\"} if contains(input.prompt.last_user, \"x\")"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			e := compile(b, testConfig(), "a.rego", mainRules)
			var s *Shadow
			if tt.rego != "" {
				s = NewShadow(nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
				s.Put(compile(b, testConfig(), "b.rego", tt.rego), e, 1)
			}
			stage := e.Stage(Env{Shadow: s})
			c := newCall(b, chatBody)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = stage.Handle(b.Context(), c, passed)
				if s != nil {
					<-s.queue
				}
			}
		})
	}
}

// The same without the policy that decides: only what a call does for the shadow.
func BenchmarkShadowOffer(b *testing.B) {
	e := compile(b, testConfig(), "a.rego", mainRules)
	s := NewShadow(nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	s.Put(compile(b, testConfig(), "b.rego", mainRules), e, 1)
	c := newCall(b, chatBody)
	a := &answer{facts: e.Stage(Env{}).facts(c), outcome: decided, verdict: &verdict{}}
	b.ReportAllocs()
	for b.Loop() {
		s.offer(c, a, "r")
		<-s.queue
	}
}
