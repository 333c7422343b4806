package policy

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

func TestExplainALiveCall(t *testing.T) {
	cfg := testConfig()
	cfg.Explain.Roles = []string{"operator"}
	s := compile(t, cfg, "sub/a.rego", before, "b.rego", "package nexus.access\n\ngone := {\"reason\": \"x\"} if input.principal.tenant == \"initech\"\n").Stage(Env{})
	ask := func(tenant, role, header string) (*pipeline.Call, error) {
		c := newCall(t, chatBody)
		c.Principal.Tenant, c.Principal.Roles = tenant, []string{"user", role}
		c.Header = map[string][]string{}
		if header != "" {
			c.Header.Set("x-nexus-explain", header)
		}
		_, err := s.Handle(t.Context(), c, passed)
		return c, err
	}
	c, err := ask("acme", "operator", "1")
	want := "access.gone did not match: b.rego:3; routes.acme matched; routes.local did not match: a.rego:3"
	if got := c.Decision.Headers[explainHeader]; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	_, err = ask("initech", "operator", "1")
	var r *pipeline.Refusal
	if !errors.As(err, &r) || !strings.HasPrefix(r.Header[explainHeader], "access.gone matched; ") {
		t.Errorf("a denial: %v", err)
	}
	for _, other := range [][2]string{{"operator", ""}, {"reader", "1"}} {
		if c, err := ask("acme", other[0], other[1]); err != nil || len(c.Decision.Headers) != 0 {
			t.Errorf("%q: %v, %v", other, c.Decision.Headers, err)
		}
	}
	explaining <- struct{}{}
	c, _ = ask("acme", "operator", "1")
	<-explaining
	if got := c.Decision.Headers[explainHeader]; !strings.HasPrefix(got, "busy") {
		t.Errorf("while another is explained: %q", got)
	}
	if c, _ := ask("acme", "operator", "1"); c.Decision.Headers[explainHeader] != want {
		t.Errorf("afterwards: %q", c.Decision.Headers)
	}
}

// The explanation is the caller's alone: the shadow policy, which is asked meanwhile, is compared with the decision.
func TestAnExplanationIsNoDifference(t *testing.T) {
	rules := "package nexus.routes\n\nall := {\"targets\": [\"far\"], \"reason\": \"x\", \"headers\": {\"x-a\": \"b\"}}\n"
	for _, meanwhile := range []bool{false, true} {
		s := newStand(t, nil, rules, rules, 1)
		s.stage.engine.cfg.Explain.Roles = []string{"operator"}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		if meanwhile {
			running.Go(func() { _ = s.shadow.Run(ctx) })
		}
		for range 20 {
			c := newCall(t, chatBody)
			c.Principal.Roles, c.Header = []string{"operator"}, map[string][]string{explainHeader: {"1"}}
			_, err := s.stage.Handle(t.Context(), c, passed)
			if h := c.Decision.Headers; err != nil || h["x-a"] != "b" || h[explainHeader] == "" {
				t.Fatalf("got %v, %v", h, err)
			}
		}
		cancel()
		running.Wait()
		s.settle()
		if got := s.differences(); len(got) > 0 {
			t.Errorf("the shadow asked meanwhile %v: got %v, want no difference", meanwhile, got)
		}
	}
}

// A bundle holds the compiler for as long as its tests take: no call waits for that.
func TestExplainWaitsForNoCompiler(t *testing.T) {
	cfg := testConfig()
	cfg.Explain.Roles = []string{"operator"}
	s := compile(t, cfg, "a.rego", before).Stage(Env{})
	c := newCall(t, chatBody)
	c.Principal.Roles, c.Header = []string{"operator"}, map[string][]string{explainHeader: {"1"}}
	done := make(chan string)
	compiling.Lock()
	go func() { done <- s.why(context.Background(), c) }()
	select {
	case why := <-done:
		compiling.Unlock()
		if !strings.HasPrefix(why, "routes.") {
			t.Errorf("got %q", why)
		}
	case <-time.After(time.Minute):
		compiling.Unlock()
		<-done
		t.Error("it waits for the compiler")
	}
}

// A failure is explained too, and tells nothing of values.
func TestExplainALiveFailure(t *testing.T) {
	cfg := testConfig()
	cfg.Explain.Roles = []string{"operator"}
	s := compile(t, cfg, "a.rego", "package nexus.routes\n\na := {\"targets\": []}\n\nb := {\"targets\": [data.secret]} if input.attempt == 1\n", "data.json", `{"secret": "hush"}`).Stage(Env{})
	c := newCall(t, chatBody)
	c.Principal.Roles, c.Header = []string{"operator"}, map[string][]string{explainHeader: {"1"}}
	_, err := s.Handle(t.Context(), c, passed)
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Header[explainHeader] != "routes.a matched; routes.b matched" || strings.Contains(r.Header[explainHeader], "hush") {
		t.Errorf("got %+v", err)
	}
}

// What calls that do not ask pay is a look at the configuration and at one header: not one allocation.
func TestExplainCostsNothingToThoseWhoDoNotAsk(t *testing.T) {
	cfg := testConfig()
	cfg.Explain.Roles = []string{"operator"}
	s := compile(t, cfg, "a.rego", before).Stage(Env{})
	c := newCall(t, chatBody)
	c.Principal.Roles = []string{"operator"}
	if n := testing.AllocsPerRun(100, func() {
		if s.asksWhy(c) {
			t.Error("it did not ask")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHeaderText(t *testing.T) {
	if got := headerText("a\r\nb: 한"); got != "a??b: ?" {
		t.Errorf("got %q", got)
	}
	if got := headerText(strings.Repeat("x", 5000)); len(got) != maxExplained || !strings.HasSuffix(got, "...") {
		t.Errorf("%d bytes", len(got))
	}
}
