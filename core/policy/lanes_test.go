package policy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/sandbox"
)

// What decides whether a policy runs in Wasm, and what is said where it does not.
func TestEngineOf(t *testing.T) {
	tests := []struct{ name, rego, why string }{
		{"rules", `a := {"priority": 1} if input.request.n > 1`, ""},
		{"helpers and functions", "_f(x) := upper(x)\n\na := {\"reason\": _f(input.request.model)}\n\n_h := 1 if input.request.stream", ""},
		{"a builtin of the host", `a := {"reason": sprintf("%v", [input.request.n])} if input.request.n > 1`, ""},
		{"a rule of a host builtin that reads nothing", "_r := sprintf(\"%v\", [1])\n\na := {\"reason\": _r} if input.request.n > 1", ""},
		{"builtins of the host", `a := {"reason": sprintf("%v", [x])} if x := regex.find_n("a", input.request.model, 1)`, ""},
		{"a builtin that gives many values", "a := {} if {\n\tsome v\n\twalk(input.request, [_, v])\n\tv == 2\n}", "walk"},
		{"with", `a := {"reason": x} if x := input.request.model with input.request.model as "b"`, "with"},
		{"an array of an object's members", `a := {"targets": [k | some k, v in input.labels]}`, "in the order of"},
		{"an array of a set's members", `a := {"targets": [k | some k in {input.request.model, "b"}]}`, "in the order of"},
		{"an array of an array's", `a := {"targets": [upper(k) | some k in input.pii.kinds]}`, ""},
		{"a sorted array", `a := {"targets": sort([k | some k, v in input.labels])}`, ""},
		{"an array that is counted", `a := {} if count([k | some k, v in input.labels]) > 1`, ""},
		{"an array that is counted and shown", "a := {\"targets\": x} if {\n\tx := [k | some k, v in input.labels]\n\tcount(x) > 1\n}", "in the order of"},
		{"a look-up in an object", "a := {\"targets\": [p | p := data.t[input.request.model]]}", ""},
		{"a package as the decision", "# own", "a package as the decision"},
		{"a concat of a set", `a := {"reason": concat(",", {input.request.model, "b"})}`, "concat"},
		{"a concat of an array", `a := {"reason": concat(",", [input.request.model, "b"])}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := "package nexus.routes\n\n" + tt.rego
			if tt.rego == "# own" {
				text = nexusDecision + "default action := \"deny\"\n\naction := \"allow\" if input.request.n == 1"
			}
			e := compile(t, auto(testConfig()), "a.rego", text)
			name, why := e.Engine()
			if want := map[bool]string{true: engineWasm, false: engineTopdown}[tt.why == ""]; name != want || !strings.Contains(why, tt.why) || (tt.why == "") != (why == "") {
				t.Errorf("got %s, %q, want %s, %q", name, why, want, tt.why)
			}
			cfg := testConfig()
			cfg.Engine = engineWasm
			_, err := Compile(t.Context(), rego("a.rego", text), cfg)
			if tt.why == "" && err != nil || tt.why != "" && (err == nil || !strings.Contains(err.Error(), tt.why) || !strings.Contains(err.Error(), "engine")) {
				t.Errorf("engine wasm: got %v, want an error that says %q", err, tt.why)
			}
		})
	}
}

func TestEngineOfMuchData(t *testing.T) {
	data := `{"t": "` + strings.Repeat("x", maxWasmData) + `"}`
	e := compile(t, auto(testConfig()), "data.json", data, "a.rego", "package nexus.routes\n\na := {\"reason\": data.t} if input.request.n > 1")
	if name, why := e.Engine(); name != engineTopdown || !strings.Contains(why, "bytes") {
		t.Errorf("got %s, %q", name, why)
	}
}

// Where Wasm is in doubt, the call gets what topdown says, and so do the next ones.
func TestDoubtIsTopdowns(t *testing.T) {
	e := compile(t, auto(testConfig()), "a.rego", "package nexus.routes\n\na := {\"set\": {\"max_tokens\": 512 + (7 % input.request.n)}}")
	reg := prometheus.NewRegistry()
	s := e.Stage(Env{Metrics: NewMetrics(reg)})
	c := newCall(t, chatBody)
	c.Request.N = 7
	for range 3 {
		if _, err := s.Handle(t.Context(), c, passed); err != nil || c.Decision.Set.MaxTokens != 512 {
			t.Fatal(c.Decision, err)
		}
	}
	c.Request.N = 0
	_, err := s.Handle(t.Context(), c, passed)
	var r *pipeline.Refusal
	if !errors.As(err, &r) || !strings.Contains(fmt.Sprint(r.Err), "p/a.rego:3: eval_builtin_error: rem") {
		t.Errorf("got %v, want topdown's own error", r)
	}
	c.Request.N = 7
	for range restCalls + 2 {
		if _, err := s.Handle(t.Context(), c, passed); err != nil {
			t.Fatal(err)
		}
	}
	if wasm, topdown := evaluations(t, reg, engineWasm), evaluations(t, reg, engineTopdown); wasm != 5 || topdown != 1+restCalls {
		t.Errorf("%v in wasm and %v in topdown, want 5 and %d", wasm, topdown, 1+restCalls)
	}
}

// What Wasm cannot be given is its own caller's matter: that call is topdown's, and the next one is not.
func TestWhatOneCallerSendsRestsNobody(t *testing.T) {
	e := compile(t, auto(testConfig()), "a.rego", "package nexus.routes\n\na := {\"reason\": input.request.model} if count(input.principal.roles) < 9999")
	reg := prometheus.NewRegistry()
	s := e.Stage(Env{Metrics: NewMetrics(reg)})
	nul, large, plain := newCall(t, chatBody), newCall(t, chatBody), newCall(t, chatBody)
	nul.Request.Model = "small\x00"
	for range maxImage / maxString {
		large.Principal.Roles = append(large.Principal.Roles, strings.Repeat("x", maxString))
	}
	for i, c := range []*pipeline.Call{nul, plain, large, plain} {
		if _, err := s.Handle(t.Context(), c, passed); err != nil || c.Decision.Reason != c.Request.Model {
			t.Errorf("call %d: %+v, %v", i, c.Decision, err)
		}
		if wasm, topdown := evaluations(t, reg, engineWasm), evaluations(t, reg, engineTopdown); int(wasm) != (i+1)/2 || int(topdown) != i/2+1 {
			t.Errorf("after call %d: %v in wasm and %v in topdown", i, wasm, topdown)
		}
	}
}

// What a call waits for an instance is nothing that topdown has less time for.
func TestAWaitForAnInstanceIsNotTheCallsTime(t *testing.T) {
	e := compile(t, auto(testConfig()), "a.rego", "package nexus.routes\n\na := {\"set\": {\"max_tokens\": 512 + (7 % input.request.n)}}")
	s, pool := e.Stage(Env{}), e.lane.pool
	var out []*sandbox.Guest
	for range runtime.GOMAXPROCS(0) {
		g, err := pool.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, g)
	}
	c := newCall(t, chatBody)
	c.Request.N = 0 // which topdown must tell of
	f := s.facts(c)
	if left := f.left(time.Hour); left != time.Hour {
		t.Errorf("%v are left before anything has begun", left)
	}
	var err error
	done := make(chan struct{})
	go func() { _, err = e.lane.decide(t.Context(), s.plan, f, nil); close(done) }()
	for pool.Stats().Waiting == 0 {
		time.Sleep(time.Millisecond)
	}
	freed := time.Now()
	for _, g := range out {
		pool.Put(g)
	}
	if <-done; err != errDoubt || f.began.Before(freed) {
		t.Errorf("got %v, begun %v before an instance was free", err, freed.Sub(f.began))
	}
	f.began = time.Now().Add(-30 * time.Minute)
	if left := f.left(time.Hour); left > 30*time.Minute || left < 20*time.Minute {
		t.Errorf("%v are left of an hour after half of it", left)
	}
	f.began = time.Now().Add(-2 * time.Hour)
	if left := f.left(time.Hour); left != time.Hour/8 {
		t.Errorf("%v are left of an hour after two", left)
	}
}

func evaluations(t *testing.T, reg *prometheus.Registry, engine string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "gateway_policy_evaluations_total" && m.GetLabel()[0].GetValue() == engine {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// What topdown refuses to make of long texts is not made in Wasm.
func TestLongTextsAreTopdowns(t *testing.T) {
	e := compile(t, auto(testConfig()), "a.rego", `package nexus.routes

_t1 := concat("", [x | some i in [1, 2, 3, 4, 5, 6, 7, 8, 9]; x := input.prompt.last_user])

_t2 := concat("", [_t1, _t1])

a := {"tags": {"n": "x"}} if count(_t2) > 0

b := {"priority": 1} if count(split(input.prompt.last_user, "")) > 1
`)
	if e.lane == nil {
		t.Fatal(e.why)
	}
	for _, n := range []int{10, 1000, 3000, 8000} {
		input := ast.MustParseTerm(fmt.Sprintf(`{"prompt": {"last_user": %q}}`, strings.Repeat("a", n))).Value.(ast.Object)
		a := agreement{}
		if a.agree(t, e, input); a.doubts != max(0, min(1, n-2999)) {
			t.Errorf("%d bytes: %+v", n, a)
		}
	}
}

// What the host comes to that is larger than there is room for is topdown's, and leaves nothing behind.
func TestHostedResultsWithoutRoom(t *testing.T) {
	e := compile(t, auto(testConfig()), "a.rego", `package nexus.routes

a := {"reason": _parts[0], "priority": count(_parts)} if count(_parts) > 1

_parts := regex.split("x", input.prompt.last_user)

b := {"reason": sprintf("%s", [input.request.model])} if count(_parts) == 1
`)
	if e.lane == nil {
		t.Fatal(e.why)
	}
	for _, n := range []int{1, 1000, 30_000, 0} {
		input := ast.MustParseTerm(fmt.Sprintf(`{"prompt": {"last_user": %q}, "request": {"model": "m"}}`, "a"+strings.Repeat("x", n))).Value.(ast.Object)
		a := agreement{}
		if a.agree(t, e, input); a.doubts != n/30_000 {
			t.Errorf("%d parts: %+v", n, a)
		}
		r := e.lane.runs.Get().(*run)
		if cap(r.image.b) > 2*maxImage {
			t.Errorf("%d parts: %d bytes are kept for the next call", n, cap(r.image.b))
		}
		e.lane.runs.Put(r)
	}
}

// Calls that run at once, some of which fail, each get what is theirs.
func TestHammerLane(t *testing.T) {
	e := compile(t, auto(testConfig()), "a.rego", `package nexus.routes

a := {"reason": concat(" ", [input.request.model, input.principal.team]), "tags": {input.request.model: input.principal.team}} if 7 % input.request.n < 900
`)
	if e.lane == nil {
		t.Fatal(e.why)
	}
	s := e.Stage(Env{})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(g), 1))
			for range 200 {
				c := newCall(t, chatBody)
				c.Request.Model, c.Principal.Team = fmt.Sprint("m", dice.IntN(50)), fmt.Sprint(dice.IntN(900))
				if dice.IntN(100) == 0 {
					c.Request.N = 0
				}
				_, err := s.Handle(t.Context(), c, passed)
				if c.Request.N == 0 {
					if err == nil {
						t.Error("a failing builtin decided")
					}
					continue
				}
				if want := c.Request.Model + " " + c.Principal.Team; err != nil || c.Decision.Reason != want || c.Decision.Tags[c.Request.Model] != c.Principal.Team {
					t.Errorf("got %q, %v, want %q", c.Decision.Reason, err, want)
				}
			}
		})
	}
	all.Wait()
	if n := len(*e.lane.answers.known.Load()); n > maxAnswers {
		t.Errorf("%d answers are kept, want at most %d", n, maxAnswers)
	}
}

// Only a decision that comes a second time is kept: to keep one that is made for one call alone costs that call more
// than all else.
func TestOnlyWhatComesAgainIsKept(t *testing.T) {
	e := compile(t, auto(testConfig()), "a.rego", "package nexus.routes\n\na := {\"tags\": {\"id\": input.request.id}}")
	s := e.Stage(Env{})
	c := newCall(t, chatBody)
	decide := func(id string) {
		c.ID = id
		if _, err := s.Handle(t.Context(), c, passed); err != nil || c.Decision.Tags["id"] != id {
			t.Fatalf("got %+v, %v", c.Decision, err)
		}
	}
	for i := range 2 * maxAnswers {
		decide(fmt.Sprint("once ", i))
	}
	if known := e.lane.answers.known.Load(); known != nil {
		t.Errorf("%d are kept that came once", len(*known))
	}
	for range 3 {
		decide("again")
	}
	if known := e.lane.answers.known.Load(); known == nil || len(*known) != 1 {
		t.Errorf("got %v, want the one that came again", known)
	}
}

func TestLaneEndsWithItsCaller(t *testing.T) {
	cfg := auto(testConfig())
	cfg.Deadline = time.Minute
	e := compile(t, cfg, "a.rego", "package nexus.routes\n\na := {} if count([1 | some x in numbers.range(1, input.request.n); some y in numbers.range(1, 20000); x + y < 0]) == 1")
	if e.lane == nil {
		t.Fatal(e.why)
	}
	c := newCall(t, chatBody)
	c.Request.N = 20000
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Stage(Env{}).Handle(ctx, c, passed); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the caller's own end", err)
	}
}

// An engine that nothing refers to any more gives back its instances.
func TestLaneIsClosed(t *testing.T) {
	e := compile(t, auto(testConfig()), "a.rego", "package nexus.routes\n\na := {} if input.request.n > 1")
	pool := e.lane.pool
	e = nil
	for range 200 {
		runtime.GC()
		if g, err := pool.Get(context.Background()); err != nil {
			return
		} else {
			pool.Put(g)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the pool is still open")
}

// FuzzEngines gives the benchmark's policy any input that is JSON.
func FuzzEngines(f *testing.F) {
	f.Add(`{"request": {"model": "small", "tools": []}, "principal": {"tenant": "acme", "tier": "free", "roles": []}, "pii": {"kinds": ["KR_RRN"]}, "budget": {"used_ratio": 0.95}}`)
	f.Add(`{"request": {"model": ["small"], "tools": "x"}, "principal": {"tenant": "acme"}, "prompt": {"tokens_est": "many"}, "labels": {"confidential": "true"}}`)
	e := benchSubject(f, engineWasm, 0)
	f.Fuzz(func(t *testing.T, text string) {
		term, err := ast.ParseTerm(text)
		if err != nil || !term.IsGround() {
			return
		}
		if input, ok := term.Value.(ast.Object); ok && exactNumbers(input) {
			new(agreement).agree(t, e, input)
		}
	})
}
