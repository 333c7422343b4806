package policy

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

const benchDir = "../../policies/bench"

// benchSubject is the policy that is measured, with so many tenants besides its own.
func benchSubject(t testing.TB, engine string, tenants int) *Engine {
	t.Helper()
	cfg := testConfig()
	cfg.Engine, cfg.Deadline = engine, 20*time.Millisecond
	src := Sources{Files: os.DirFS(benchDir), Name: "bench", Pools: []string{"large", "small", "local", "long"}}
	if tenants > 0 {
		data, err := os.ReadFile(benchDir + "/data.json")
		if err != nil {
			t.Fatal(err)
		}
		var more strings.Builder
		for i := range tenants {
			fmt.Fprintf(&more, `"tenant-%d": {"pools": ["large"], "models": ["small", "large"]},`, i)
		}
		src.Data = []byte(strings.Replace(string(data), `"tenants": {`, `"tenants": {`+more.String(), 1))
	}
	e, err := Compile(t.Context(), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// benchCalls are an everyday call, and one that three rules claim.
func benchCalls(t testing.TB) map[string]*pipeline.Call {
	t.Helper()
	plain, personal := newCall(t, chatBody), newCall(t, chatBody)
	plain.Principal.Tier, personal.Principal.Tier = "pro", "free"
	personal.PII = pipeline.Findings{Count: 1, Kinds: []string{"KR_RRN"}}
	return map[string]*pipeline.Call{"plain": plain, "personal": personal}
}

// BenchmarkDecision is one decision of either engine: input, evaluation, check.
func BenchmarkDecision(b *testing.B) {
	for _, engine := range []string{engineTopdown, engineWasm} {
		for _, tenants := range []int{0, 10_000} {
			e := benchSubject(b, engine, tenants)
			s := e.Stage(Env{Limits: true})
			for _, name := range []string{"plain", "personal"} {
				f := s.facts(benchCalls(b)[name])
				b.Run(fmt.Sprintf("%s/tenants=%d/%s", engine, 3+tenants, name), func(b *testing.B) {
					defer processor(b)()
					for b.Loop() {
						if err := decideBy(b, e, s, f); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// BenchmarkDistinct is a decision in Wasm that no call before has come to.
func BenchmarkDistinct(b *testing.B) {
	e := compile(b, auto(testConfig()), "a.rego", "package nexus.routes\n\na := {\"tags\": {\"id\": input.request.id}}")
	s := e.Stage(Env{})
	f := s.facts(newCall(b, chatBody))
	defer processor(b)()
	for i := 0; b.Loop(); i++ {
		f.call.ID = strconv.Itoa(i)
		if err := decideBy(b, e, s, f); err != nil {
			b.Fatal(err)
		}
	}
}

// processor reports what a benchmark took of a processor, which others do not disturb as they do the clock.
func processor(b *testing.B) func() {
	b.ReportAllocs()
	start := processTime()
	return func() { b.ReportMetric(float64(processTime()-start)/float64(b.N), "cpu-ns/op") }
}

func decideBy(b *testing.B, e *Engine, s *Stage, f *facts) error {
	if e.lane != nil {
		_, err := e.lane.decide(b.Context(), s.plan, f, e.pools)
		return err
	}
	value, err := e.evaluate(b.Context(), s.plan.build(f))
	if err == nil {
		_, err = check(value, e.pools)
	}
	return err
}

// BenchmarkInput is the input alone, as each engine has it.
func BenchmarkInput(b *testing.B) {
	e := benchSubject(b, engineWasm, 0)
	s := e.Stage(Env{})
	f := s.facts(benchCalls(b)["plain"])
	b.Run(engineTopdown, func(b *testing.B) {
		defer processor(b)()
		for b.Loop() {
			s.plan.build(f)
		}
	})
	b.Run(engineWasm, func(b *testing.B) {
		r := e.lane.runs.Get().(*run)
		defer processor(b)()
		for b.Loop() {
			s.plan.write(f, &r.image)
		}
	})
}

// BenchmarkReload compiles fifty modules anew, for both engines.
func BenchmarkReload(b *testing.B) {
	var files []string
	for i := range 50 {
		files = append(files, fmt.Sprintf("team%d.rego", i), fmt.Sprintf(`package nexus.routes

rule_%[1]d := {"targets": [], "reason": "team %[1]d", "priority": %[1]d} if {
	input.principal.team == "team-%[1]d"
	input.budget.used_ratio < 0.%[1]d
}

_helper_%[1]d := {x | some x in data.teams["team-%[1]d"].models}

open_%[1]d := {"priority": %[1]d, "reason": "open"} if input.request.model in _helper_%[1]d
`, i))
	}
	src := rego(append(files, "data.json", "{}")...)
	for _, engine := range []string{engineTopdown, engineWasm} {
		cfg := testConfig()
		cfg.Engine = engine
		b.Run(engine, func(b *testing.B) {
			defer processor(b)()
			for b.Loop() {
				if _, err := Compile(b.Context(), src, cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
