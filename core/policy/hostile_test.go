package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// slack is what the collector of garbage and other goroutines of the test may use beside an evaluation.
const slack = 60 * time.Millisecond

// spent is the processor time that f takes, or the time on the clock if that is less: on a busy machine it is more,
// and says nothing of f.
func spent(f func()) time.Duration {
	start, begun := time.Now(), processTime()
	f()
	return min(time.Since(start), processTime()-begun)
}

// settle waits until no evaluation is adrift, so that one test does not slow the next.
func settle(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	for calls.adrift.Load() > 0 {
		if time.Since(start) > limit {
			t.Fatalf("an evaluation still runs %v after it was given up", limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

// within fails the test when f takes longer than limit each of several times: what is slow by itself is
// slow every time, what was only kept waiting by others is not.
func within(t *testing.T, what string, limit time.Duration, f func() time.Duration) {
	t.Helper()
	var took time.Duration
	for range 5 {
		if took = f(); took <= limit {
			return
		}
	}
	t.Errorf("%s: took %v, want at most %v", what, took, limit)
}

func longText(n int) string {
	var b strings.Builder
	b.WriteString("_t0 := \"aaaaaaaaaaaaaaaa\"\n\n")
	for i := range n {
		fmt.Fprintf(&b, "_t%d := concat(\"\", [_t%d, _t%d])\n\n", i+1, i, i)
	}
	return b.String()
}

// unheeding is a policy that no deadline interrupts for some time: one search of a long text.
func unheeding() string {
	return "package nexus.routes\n\n" + longText(11) +
		"a := {\"reason\": \"x\"} if regex.match(\"(a|b|ab)*([ab]|[ac]|aa){1,99}c$\", concat(\"\", [_t11, input.request.model]))\n"
}

func TestHostilePoliciesEnd(t *testing.T) {
	head := "package nexus.routes\n\n"
	tests := []struct{ name, rego string }{
		{"endless comprehension", endless},
		{"quadratic join", head + "a := {} if count({[x, y] | some x in numbers.range(1, 30000); some y in numbers.range(1, 30000); x * y == 7}) > 99"},
		{"cubic every", head + "a := {} if every x in numbers.range(1, 1000) { every y in numbers.range(1, 1000) { every z in numbers.range(1, 1000) { x + y + z > 0 } } }"},
		{"range", head + "a := {} if count(numbers.range(1, 1000000000)) > 1"},
		{"text doubling", head + longText(40) + "a := {} if count(_t40) > 1"},
		{"regex over long text", head + longText(11) + "a := {} if every x in numbers.range(1, 100000) { not regex.match(\"(a|b|ab)*c{1,99}$\", sprintf(\"%s%d\", [_t11, x])) }"},
		{"replace", head + longText(11) + "a := {} if count(replace(_t11, \"a\", _t11)) > 1"},
		{"strings.replace_n", head + longText(11) + "a := {} if count(strings.replace_n({\"a\": _t11, \"b\": _t11}, _t11)) > 1"},
		{"regex.replace", head + longText(11) + "a := {} if count(regex.replace(_t11, \"a\", _t11)) > 1"},
		{"concat with a long text between", head + longText(11) + "a := {} if count(concat(_t11, [\"\" | some x in numbers.range(1, 5000); x > 0])) > 1"},
		{"sprintf of long texts", head + longText(11) + "a := {} if count(sprintf(\"%v\", [[_t11 | some x in numbers.range(1, 5000); x > 0]])) > 1"},
		{"sprintf of great width", head + "a := {} if every x in numbers.range(1, 100000) { count(sprintf(\"%999999d\", [x])) > 0 }"},
		{"encoding", head + chain("x", `"aaaaaaaaaaaaaaaa"`, "hex.encode(§)", 40) + "a := {} if count(_x40) > 1"},
		{"split", head + longText(11) + "a := {} if count(split(concat(\"\", [_t11, _t11, _t11]), \"\")) == 7"},
		{"walk", head + "a := {} if { some v; walk([[x, y] | some x in numbers.range(1, 300); some y in numbers.range(1, 300)], [_, v]); v == \"never\" }"},
		{"in", head + "a := {} if every x in numbers.range(1, 100000) { not {\"a\": x} in data.h.objects; not {\"b\": x} in data.h.object }"},
		{"power", head + "_p0 := 99999999999\n\n" + power(60) + "a := {} if _p60 > 1"},
	}
	for i, tt := range append(tests, tests...) {
		engine := [...]string{engineTopdown, engineAuto}[i/len(tests)]
		t.Run(tt.name+" in "+engine, func(t *testing.T) {
			cfg := testConfig()
			cfg.Deadline, cfg.Engine = 20*time.Millisecond, engine
			e := compile(t, cfg, "a.rego", tt.rego, "data.json", hostileData())
			if engine == engineAuto && e.lane == nil {
				t.Skip(e.why)
			}
			s := e.Stage(Env{})
			within(t, "decision", 2*cfg.Deadline+slack, func() time.Duration {
				var err error
				c := newCall(t, chatBody)
				took := spent(func() { _, err = s.Handle(t.Context(), c, passed) })
				var r *pipeline.Refusal
				if !errors.As(err, &r) || c.Decision.Rule != "on_timeout" && c.Decision.Rule != "on_error" {
					t.Errorf("got %v, %+v, want no decision", err, c.Decision)
				}
				t.Logf("%s: %v, then adrift for %v", c.Decision.Rule, took, settle(t, 5*time.Second))
				return took
			})
		})
	}
}

func power(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "_p%d := _p%d * _p%d\n\n", i+1, i, i)
	}
	return b.String()
}

// Nothing interrupts a builtin that works on large data. The call ends in time all the same, and when too many such
// evaluations run, further calls are refused at once.
func TestEvaluationsAdriftAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.Deadline = 5 * time.Millisecond
	var big strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&big, ",%d", i*7919%300_007)
	}
	s := compile(t, cfg, "a.rego", "package nexus.routes\n\na := {} if count(sort(array.concat(data.big, [input.attempt]))) == 1\n", "data.json", `{"big": [0`+big.String()+`]}`).Stage(Env{})
	for range cap(calls.turns) + 2 {
		c, start := newCall(t, chatBody), time.Now()
		_, err := s.Handle(t.Context(), c, passed)
		var r *pipeline.Refusal
		if !errors.As(err, &r) || r.Code != "policy_no_decision" || c.Decision.Rule != "on_timeout" || time.Since(start) > time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if n := calls.adrift.Load(); n > int64(cap(calls.turns)) {
			t.Errorf("%d evaluations are adrift, want at most %d", n, cap(calls.turns))
		}
	}
	settle(t, 60*time.Second)
}

// Every builtin that a policy may use, called with large arguments of the types it takes, must give the
// caller an answer in time and must not run on for long.
func TestBuiltinsWithHostileArguments(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	cfg := testConfig()
	cfg.Deadline = 20 * time.Millisecond
	data := hostileData()
	for _, b := range capabilities().Builtins {
		if b.IsDeprecated() || b.Relation || strings.HasPrefix(b.Name, "internal.") || slices.Contains([]string{"print", "eq", "assign"}, b.Name) {
			continue // not to be called, or, as walk and in, only in a way of their own: see TestHostilePoliciesEnd
		}
		var refused error
		called := 0
		done := map[string]bool{}
		for _, size := range []string{"many", "deep", "huge"} {
			var args []string
			for _, arg := range b.Decl.FuncArgs().Args {
				args = append(args, hostile(arg, size))
			}
			if i, ok := patternAt[b.Name]; ok {
				args[i] = `"(a|b|ab)*c{1,99}"`
			}
			call := b.Name + "(" + strings.Join(args, ", ") + ")"
			if done[call] {
				continue
			}
			done[call] = true
			text := "package nexus.routes\n\na := {\"reason\": \"x\"} if { some y in [" + call + "]; y == data.h.text }\n"
			e, err := Compile(t.Context(), rego("a.rego", text, "data.json", data), cfg)
			if err != nil {
				refused = err // the types do not fit: cannot be called so
				continue
			}
			called++
			s := e.Stage(Env{})
			c := newCall(t, chatBody)
			within(t, call+" and what it left behind", 250*time.Millisecond, func() (left time.Duration) {
				within(t, call, 120*time.Millisecond, func() time.Duration {
					took := spent(func() { _, _ = s.Handle(t.Context(), c, passed) })
					left = spent(func() { settle(t, 30*time.Second) })
					return took
				})
				return left
			})
		}
		if called == 0 {
			t.Errorf("%s was never called: %v", b.Name, refused)
		}
	}
}

// hostileData holds large arguments as data, whose types the compiler does not know. The text is three
// times as long as the longest string of the input: some builtins take quadratic time.
func hostileData() string {
	var list, words, object []string
	for i := range 1000 {
		list = append(list, fmt.Sprint(i))
		words = append(words, fmt.Sprintf(`"/a/%d"`, i))
		object = append(object, fmt.Sprintf(`"%d": [%d, {"a": "%d"}]`, i, i, i))
	}
	join := func(l []string) string { return strings.Join(l, ",") }
	return `{"h": {"text": "` + strings.Repeat("a1,", 8_000) + `", "list": [` + join(list) + `], "words": [` + join(words) +
		`], "objects": [{` + join(object) + `}, {"a": {` + join(object) + `}}], "object": {` + join(object) + `}}}`
}

func hostile(t types.Type, size string) string {
	if n, ok := t.(*types.NamedType); ok {
		t = n.Type
	}
	switch t := t.(type) {
	case types.String:
		return "data.h.text"
	case types.Number:
		return map[string]string{"many": "99999999", "deep": "1e300", "huge": "1e9999"}[size]
	case types.Boolean:
		return "true"
	case *types.Array:
		switch t.Dynamic().(type) {
		case types.String:
			return "data.h.words"
		case *types.Object:
			return "data.h.objects"
		}
		return map[string]string{"many": "data.h.list", "deep": "data.h.objects", "huge": "[1e9999, 1e9999, 1e9999]"}[size]
	case *types.Set:
		return "{x | some x in data.h.objects}"
	case *types.Object:
		return "data.h.object"
	case types.Any:
		if len(t) == 0 {
			return "data.h.object"
		}
		return hostile(t[map[string]int{"many": 0, "deep": len(t) / 2, "huge": len(t) - 1}[size]], size)
	}
	return "data.h.text"
}

// A policy that some calls make run for ever takes nothing from the others: each of them has its decision.
func TestHostileCallsHurtNobodyElse(t *testing.T) {
	cfg := testConfig()
	cfg.Deadline = 20 * time.Millisecond
	s := compile(t, cfg, "a.rego", `package nexus.routes

evil := {} if {
	input.principal.tenant == "evil"
	count({[x, y] | some x in numbers.range(1, 30000); some y in numbers.range(1, 30000); x * y == 7}) > 99
}

good := {"reason": input.principal.tenant} if input.principal.tenant != "evil"
`).Stage(Env{})
	var evil, good sync.WaitGroup
	var over, refused atomic.Int64
	var stop atomic.Bool
	call := func(tenant string) *pipeline.Call {
		c := newCall(t, chatBody)
		c.Principal.Tenant = tenant
		return c
	}
	for range 8 {
		evil.Go(func() {
			for !stop.Load() {
				if _, err := s.Handle(t.Context(), call("evil"), passed); err != nil {
					refused.Add(1)
				}
			}
		})
	}
	for range 4 {
		good.Go(func() {
			for range 25 {
				c := call("good")
				if _, err := s.Handle(t.Context(), c, passed); err != nil || c.Decision.Rule != "routes.good" {
					t.Errorf("got %+v, %v", c.Decision, err)
				}
				over.Add(1)
			}
		})
	}
	good.Wait()
	stop.Store(true)
	evil.Wait()
	if refused.Load() == 0 || over.Load() != 100 {
		t.Errorf("%d evil calls refused, %d good ones decided", refused.Load(), over.Load())
	}
	t.Logf("%d evil calls beside 100 good ones", refused.Load())
}

func TestRemovedListIsComplete(t *testing.T) {
	for _, b := range capabilities().Builtins {
		if b.Nondeterministic {
			t.Errorf("%s may differ from call to call, and policies may use it", b.Name)
		}
	}
	if ast.CapabilitiesForThisVersion().AllowNet != nil || len(capabilities().AllowNet) != 0 || capabilities().AllowNet == nil {
		t.Error("schemas may be fetched from the network")
	}
}
