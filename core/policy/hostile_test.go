package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// slack is what a busy machine adds to twice the deadline.
const slack = 60 * time.Millisecond

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

// doubling is an array of two of the one before, n times over.
func doubling(name string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "_%s0 := [0, 0]\n\n", name)
	for i := range n {
		fmt.Fprintf(&b, "_%s%d := [_%s%d, _%s%d]\n\n", name, i+1, name, i, name, i)
	}
	return b.String()
}

// concatenated is an array that doubles its length n times.
func concatenated(n int) string {
	var b strings.Builder
	b.WriteString("_c0 := [0, 1, 2, 3]\n\n")
	for i := range n {
		fmt.Fprintf(&b, "_c%d := array.concat(_c%d, _c%d)\n\n", i+1, i, i)
	}
	return b.String()
}

func longText(n int) string {
	var b strings.Builder
	b.WriteString("_t0 := \"aaaaaaaaaaaaaaaa\"\n\n")
	for i := range n {
		fmt.Fprintf(&b, "_t%d := concat(\"\", [_t%d, _t%d])\n\n", i+1, i, i)
	}
	return b.String()
}

func TestHostilePoliciesEnd(t *testing.T) {
	head := "package nexus.routes\n\n"
	tests := []struct{ name, rego string }{
		{"endless comprehension", endless},
		{"quadratic join", head + "a := {} if count({[x, y] | some x in numbers.range(1, 30000); some y in numbers.range(1, 30000); x * y == 7}) > 99"},
		{"cubic every", head + "a := {} if every x in numbers.range(1, 1000) { every y in numbers.range(1, 1000) { every z in numbers.range(1, 1000) { x + y + z > 0 } } }"},
		{"range", head + "a := {} if count(numbers.range(1, 1000000000)) > 1"},
		{"array doubling", head + concatenated(40) + "a := {} if count(_c40) > 1"},
		{"text doubling", head + longText(40) + "a := {} if count(_t40) > 1"},
		{"regex over long text", head + longText(18) + "a := {} if regex.match(\"(a+)+$\", concat(\"\", [_t18, \"b\"]))"},
		{"walk", head + doubling("a", 40) + "a := {} if { some v; walk(_a40, [_, v]); v == 7 }"},
		{"power", head + "_p0 := 99999999999\n\n" + power(60) + "a := {} if _p60 > 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Deadline = 20 * time.Millisecond
			s := compile(t, cfg, "a.rego", tt.rego).Stage(Env{})
			within(t, "decision", 2*cfg.Deadline+slack, func() time.Duration {
				start := time.Now()
				_, err := s.Handle(t.Context(), newCall(t, chatBody), passed)
				took := time.Since(start)
				var r *pipeline.Refusal
				if !errors.As(err, &r) || r.Code != "policy_no_decision" {
					t.Errorf("got %v, want a timeout", err)
				}
				t.Logf("%v, then adrift for %v", took, settle(t, 5*time.Second))
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

// Nothing interrupts a builtin that walks a value whose size is exponential. The call ends in time all
// the same, and when too many such evaluations run, further calls are refused at once.
func TestEvaluationsAdriftAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.Deadline = 5 * time.Millisecond
	s := compile(t, cfg, "a.rego", "package nexus.routes\n\n"+doubling("a", 21)+"a := {\"reason\": sprintf(\"%v\", [_a21])}").Stage(Env{})
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
		if b.IsDeprecated() || b.Relation || b.Infix != "" || strings.HasPrefix(b.Name, "internal.") || b.Name == "print" {
			continue
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
			within(t, call+" and what it left behind", 250*time.Millisecond, func() (left time.Duration) {
				within(t, call, 120*time.Millisecond, func() time.Duration {
					start := time.Now()
					_, _ = s.Handle(t.Context(), newCall(t, chatBody), passed)
					took := time.Since(start)
					left = settle(t, 30*time.Second)
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
