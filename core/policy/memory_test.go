package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/nexus-gateway/nexus/policies"
)

// plainly evaluates as OPA does by itself: with no memory but its own, and data from the store.
func plainly(e *Engine, input ast.Object) (ast.Value, error) {
	r := &evaluation{engine: e, input: input}
	q := topdown.NewQuery(e.query).WithCompiler(e.compiler).WithStore(e.store).WithTransaction(e.txn).
		WithInput(ast.NewTerm(input)).WithStrictBuiltinErrors(true)
	r.err = q.Iter(context.Background(), func(result topdown.QueryResult) error {
		r.value = result[resultVar].Value
		return nil
	})
	return r.value, r.failure()
}

// same reports whether two evaluations came to the same value, or failed in the same way.
func same(a ast.Value, aErr error, b ast.Value, bErr error) bool {
	if aErr != nil || bErr != nil {
		return aErr != nil && bErr != nil && aErr.(*failure).outcome == bErr.(*failure).outcome
	}
	return a.Compare(b) == 0
}

// remembering are policies whose rules hold what is easily remembered wrongly.
var remembering = []struct{ name, rego string }{
	{"rules that read nothing", `
_pools := [p | some p in data.t.pools; p != "x"]
_names[p] := i if some i, p in data.t.pools
_few contains p if some p in data.t.pools
_none := 1 if data.t.absent
default _unset := "d"
_unset := data.t.absent
_else := 1 if data.t.absent
else := 2
a := {"targets": _pools, "tags": {"n": _names.a, "u": _unset, "e": _else, "c": count(_few)}} if { input.attempt < 3; not _none }
b := {"targets": _pools, "priority": 1} if input.attempt == 2
`},
	{"with", `
_kind := data.t.kind
_count := count(data.t.pools)
_both := [_kind, _count]
a := {"reason": x} if { input.attempt < 3; x := _kind }
b := {"reason": x, "priority": 1} if { input.attempt > 1; x := _kind with data.t.kind as "other" }
c := {"tags": {"x": x, "y": y, "z": z}, "priority": 2} if { input.attempt == 2; y := _both; x := _both with data.t as {"kind": 1, "pools": []}; z := _both }
d := {"tags": {"x": x}, "priority": 3} if { input.attempt == 1; x := _count with count as 7 }
`},
	{"functions", `
_f(x) := y if { y := data.t.map[x] }
_g(x) := [x, data.t.kind]
_one := _g("one")
a := {"tags": {"x": _f("a"), "y": _g(input.attempt), "z": _one}}
b := {"tags": {"x": _f("none")}, "priority": 1}
c := {"tags": {"x": _f(input.request.model)}, "priority": 2}
`},
	{"a builtin that fails in a fixed rule", `
_bad := to_number(data.t.kind)
a := {"reason": "a"}
b := {"reason": "b", "priority": _bad} if input.attempt == 2
c := {"reason": "c", "priority": 1} if { input.attempt == 3; not _bad }
`},
	{"a rule that holds where a builtin fails", `
_not := 1 if not _bad
_bad := to_number(data.t.kind)
a := {"reason": "a"} if { input.attempt > 0; not _bad }
`},
	{"a conflict within a fixed rule", `
_two := 1 if data.t.kind
_two := 2 if data.t.pools
a := {"reason": "a"} if input.attempt == 1
b := {"reason": "b", "priority": _two} if input.attempt == 2
`},
	{"parts of a document", `
_p.a := data.t.kind
_p.b := input.attempt
_q[x] := y if some x, y in data.t.map
a := {"tags": {"p": _p, "a": _p.a, "q": _q}}
b := {"tags": {"k": _q[input.request.model]}, "priority": 1}
`},
	{"references by number and by name", `
a := {"tags": {"x": data.t.pools[0], "y": data.t.numbers["1"], "z": data.t.pools[input.attempt]}}
b := {"tags": {"x": data.t.numbers[1]}, "priority": 1}
c := {"tags": {"x": data.t.deep[input.request.model].x}, "priority": 2} if input.attempt > 1
d := {"tags": {"x": data.t.pools["1"]}, "priority": 3} if input.attempt == 3
e := {"tags": {"x": data.gateway, "y": data.t.map[["a"]]}, "priority": 4}
f := {"tags": {"x": count(data.t)}, "priority": 5} if input.attempt == 2
`},
	{"every rule fixed", `
a := {"reason": data.t.kind}
b := {"reason": "b", "priority": -1}
`},
}

const rememberedData = `{"t": {"pools": ["a", "x", "b"], "kind": "k", "map": {"a": 1, "m1": "one"}, "numbers": {"1": "one"}, "deep": {"m1": {"x": 7}}}}`

// Whatever came before, an evaluation with a memory comes to what OPA comes to without.
func TestMemoryChangesNothing(t *testing.T) {
	for _, tt := range remembering {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(20) {
				e := compile(t, looseConfig(), "a.rego", "package nexus.routes\n"+tt.rego, "data.json", rememberedData)
				dice := rand.New(rand.NewPCG(seed, 0))
				for range 12 {
					input := ast.MustParseTerm(fmt.Sprintf(`{"attempt": %d, "request": {"model": "m%d"}}`, 1+dice.IntN(4), dice.IntN(3))).Value.(ast.Object)
					want, wantErr := plainly(e, input)
					got, err := e.evaluate(t.Context(), input)
					if !same(got, err, want, wantErr) {
						t.Fatalf("on %v:\n got %v, %v\nwant %v, %v", input, got, err, want, wantErr)
					}
				}
			}
		})
	}
}

// fixedRules lists the rules below s that are remembered from call to call.
func fixedRules(s *shelf, path string, list map[string]bool) map[string]bool {
	if s.place != 0 {
		list[path] = s.fixed
	}
	for name, below := range s.below {
		fixedRules(below, strings.TrimPrefix(path+"."+string(name), "."), list)
	}
	return list
}

func TestFixedRules(t *testing.T) {
	e := compile(t, looseConfig(), "a.rego", `package nexus.routes

_k := data.t.kind
_e := 1 if data.t.a
else := input.attempt
_d := data.others.x
_i := [_k | input.attempt == 1]
_w := 1 if _k == "k" with input.attempt as 1
_s contains 1
_o.a := 1
_f(x) := x
_v := data.t[_k]
_all := data.others
a := {"reason": _k}
b := {"tags": {"x": _f(_e), "y": [_d, _i, _w, _s, _o, _v, _all]}}
`, "others.rego", "package others\n\nx := y\n\ny := input.attempt\n\nz := 1\n")
	got := fixedRules(e.memories.Get().(*memory).shelf, "", map[string]bool{})
	want := map[string]bool{
		"nexus.routes._k": true, "nexus.routes._e": false, "nexus.routes._d": false, "nexus.routes._i": false, "nexus.routes._w": false,
		"nexus.routes._v": true, "nexus.routes._all": false, "nexus.routes.a": true, "nexus.routes.b": false,
		"others.x": false, "others.y": false, "others.z": true,
		"nexus.decision": false, "nexus._routes": false, "nexus._access": true, "nexus._limits": true, "nexus._masks": true, "nexus._plain": true,
	}
	for rule, fixed := range want {
		if is, ok := got[rule]; !ok || is != fixed {
			t.Errorf("%s: fixed %v, listed %v; want fixed %v", rule, is, ok, fixed)
		}
	}
	for _, part := range []string{"nexus.routes._s", "nexus.routes._o", "nexus.routes._o.a", "nexus.routes._f"} {
		if _, ok := got[part]; ok {
			t.Errorf("%s is listed", part)
		}
	}
}

// A fixed rule is evaluated by the first call that asks for it, and by no other.
func TestFixedRulesAreLearnt(t *testing.T) {
	e := compile(t, looseConfig(), "a.rego", "package nexus.routes\n\na := {\"reason\": _k} if input.attempt == 1\n\n_k := data.t.kind\n\n_u := 1 if count(data.t.pools) > 9\n", "data.json", rememberedData)
	m := e.memories.Get().(*memory)
	known := func(name string) *found {
		return m.shelf.at(ast.MustParseRef("data.nexus.routes." + name)).always.Load()
	}
	for _, name := range []string{"_k", "_u"} {
		if known(name) != nil {
			t.Errorf("%s is known before any call", name)
		}
	}
	if _, err := e.evaluate(t.Context(), ast.MustParseTerm(`{"attempt": 1}`).Value.(ast.Object)); err != nil {
		t.Fatal(err)
	}
	if f := known("_k"); f == nil || !f.known || !f.value.Equal(ast.StringTerm("k")) {
		t.Errorf("_k: got %+v", f)
	}
	if f := known("_u"); f == nil || !f.known || f.value != nil {
		t.Errorf("_u: got %+v", f)
	}
}

// Arrays of arrays hold more terms than anybody can visit.
func TestValuesTooLargeAreNotShared(t *testing.T) {
	e := compile(t, looseConfig(), "a.rego", "package nexus.routes\n\n_a2 := [[0, 0], [0, 0]]\n\n_a40 := [x | some x in numbers.range(1, 20000)]\n\na := {\"reason\": \"x\"} if count(_a2) < _a40[9]\n")
	input := ast.MustParseTerm(`{"attempt": 1}`).Value.(ast.Object)
	for range 3 {
		start := time.Now()
		if _, err := e.evaluate(t.Context(), input); err != nil || time.Since(start) > 500*time.Millisecond {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
	}
	m := e.memories.Get().(*memory)
	for name, known := range map[string]bool{"_a2": true, "_a40": false} {
		if f := m.shelf.at(ast.MustParseRef("data.nexus.routes." + name)).always.Load(); f == nil || f.known != known {
			t.Errorf("%s: got %+v, want known %v", name, f, known)
		}
	}
}

// Calls that find the fixed rules at the same time share the values they find, and sort and read them.
func TestHammerMemory(t *testing.T) {
	for range 20 {
		e := compile(t, looseConfig(), "a.rego", `package nexus.routes

_s := {p | some p in data.t.pools}

_o := {p: {"z": i, "a": p} | some i, p in data.t.pools}

a := {"tags": {"n": count(_s | {input.request.model}), "m": count(object.remove(object.union(_o, {"m": 1}), ["m"]))}} if input.attempt > 4

b := {"targets": [p | some p in _s], "tags": _o} if input.attempt < 5
`, "data.json", rememberedData)
		var wg sync.WaitGroup
		for i := range 8 {
			input := ast.MustParseTerm(fmt.Sprintf(`{"attempt": %d, "request": {"model": "m%d"}}`, i, i)).Value.(ast.Object)
			wg.Go(func() {
				for range 5 {
					got, err := e.evaluate(t.Context(), input)
					want, wantErr := plainly(e, input)
					if !same(got, err, want, wantErr) {
						t.Errorf("got %v, %v\nwant %v, %v", got, err, want, wantErr)
					}
				}
			})
		}
		wg.Wait()
	}
}

// slowly is the shipped library without its ways round the work.
func slowly(t *testing.T) string {
	t.Helper()
	b, err := policies.Library().(interface {
		ReadFile(string) ([]byte, error)
	}).ReadFile("nexus/decision.rego")
	text := strings.Replace(string(b), "count(_limits) == 0", "count(_limits) < 0", 1)
	if err != nil || text == string(b) {
		t.Fatal("the library has no such way", err)
	}
	return text
}

var packages = []string{"access", "routes", "limits", "masks"}

// claiming is a policy whose rules claim what the input says, in these packages.
func claiming(t *testing.T, library string, mask int) *Engine {
	t.Helper()
	files := []string{"own.rego", "package own"}
	if library != "" {
		files = append(files, "library.rego", library)
	}
	for i, name := range packages {
		if mask&(1<<i) != 0 {
			files = append(files, name+".rego", fmt.Sprintf("package nexus.%[1]s\n\na := input.%[1]s.a\n\nb := input.%[1]s.b\n\nc := input.%[1]s.c\n\n_h := input.%[1]s.h\n", name))
		}
	}
	cfg := testConfig()
	cfg.Loose = true
	return compile(t, cfg, files...)
}

// members are what claims are made of, among them what no claim should hold.
var members = []string{
	`"priority": 1`, `"priority": 1`, `"priority": 2`, `"priority": 0`, `"priority": -1`, `"priority": 1.0`, `"priority": 1.5`, `"priority": "x"`, `"priority": null`,
	`"action": "allow"`, `"action": "deny"`, `"action": "respond"`, `"respond": {"text": "t"}`, `"action": 3`,
	`"status": 429`, `"code": "c"`, `"message": "m"`, `"retry_after": 1`, `"reason": "r"`, `"reason": "s"`,
	`"targets": ["a"]`, `"targets": ["b", "a"]`, `"weights": {"a": 1}`, `"set": {"max_tokens": 50, "model": "m"}`, `"set": {"model": "n"}`, `"set": 1`,
	`"headers": {"x": "y"}`, `"tags": {"t": "u"}`, `"tags": {"v": "w"}`, `"max_tokens": 9`, `"max_tokens": 90`, `"max_tokens": "x"`,
	`"key": "k"`, `"requests": 5`, `"tokens": 7`, `"profile": "none"`, `"profile": "strict"`, `"restore": true`, `"rule": "mine"`, `"mesage": 1`,
	`"mask": {"profile": "none"}`, `"limits": []`, `"deny": {"status": 400}`,
}

// claims makes an input of random claims.
func randomClaims(dice *rand.Rand) ast.Object {
	var all []string
	for _, name := range packages {
		var rules []string
		for _, rule := range []string{"a", "b", "c", "h"} {
			if dice.IntN(3) != 0 {
				continue
			}
			claim := map[string]string{}
			for range dice.IntN(4) {
				m := members[dice.IntN(len(members))]
				claim[m[:strings.IndexByte(m, ':')]] = m
			}
			var text []string
			for _, m := range claim {
				text = append(text, m)
			}
			rules = append(rules, fmt.Sprintf("%q: {%s}", rule, strings.Join(text, ", ")))
		}
		all = append(all, fmt.Sprintf("%q: {%s}", name, strings.Join(rules, ", ")))
	}
	return ast.MustParseTerm("{" + strings.Join(all, ", ") + "}").Value.(ast.Object)
}

// The library's short ways, and what is remembered, change no decision.
func TestShortWaysChangeNoDecision(t *testing.T) {
	outcomes := map[string]int{}
	for mask := range 1 << len(packages) {
		quick, slow := claiming(t, "", mask), claiming(t, slowly(t), mask)
		dice := rand.New(rand.NewPCG(uint64(mask), 1))
		for range 500 {
			input := randomClaims(dice)
			got, err := quick.evaluate(t.Context(), input)
			want, wantErr := plainly(slow, input)
			if !same(got, err, want, wantErr) {
				t.Fatalf("on %v:\n got %v, %v\nwant %v, %v", input, got, err, want, wantErr)
			}
			if err != nil {
				outcomes[string(err.(*failure).outcome)]++
			} else if got.(ast.Object).Get(ast.StringTerm("conflict")) != nil {
				outcomes["conflict"]++
			} else {
				outcomes["decision"]++
			}
		}
	}
	if len(outcomes) < 3 {
		t.Errorf("the claims come to %v only", outcomes)
	}
	t.Log(outcomes)
}
