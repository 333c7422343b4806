package policy

import (
	"fmt"
	"strings"
	"testing"
)

// chain is n rules, each made of the one before by form, in which § stands for its name.
func chain(name, first, form string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "_%s0 := %s\n\n", name, first)
	for i := range n {
		fmt.Fprintf(&b, "_%s%d := %s\n\n", name, i+1, strings.ReplaceAll(form, "§", fmt.Sprintf("_%s%d", name, i)))
	}
	return b.String()
}

// A value that holds the same again and again is larger than any memory once it is visited, be it by the compiler's
// type checker. Such a policy is refused before anything visits it.
func TestValuesThatGrowAreRefused(t *testing.T) {
	head := "package nexus.routes\n\n"
	compared := "a := {} if _x40 == _y40\n"
	tests := []struct{ name, rego string }{
		{"arrays", head + chain("x", "[0]", "[§, §]", 40) + chain("y", "[0]", "[§, §]", 40) + compared},
		{"of what the call says", head + chain("x", "[input.request.model]", "[§, §]", 40) + "a := {} if count(_x40) == 2\n"},
		{"objects", head + chain("x", "{}", `{"a": §, "b": §}`, 40) + "a := {} if count(_x40) == 2\n"},
		{"sets in arrays", head + chain("x", "{1}", "[{§}, {[§]}]", 40) + "a := {} if count(_x40) == 2\n"},
		{"three times", head + chain("x", "[0]", "[§, §, §]", 12) + "a := {} if count(_x12) == 2\n"},
		{"builtins that keep what they are given", head + chain("x", `{"a": 1}`, `object.union({"a": §}, {"b": §})`, 40) + "a := {} if count(_x40) == 2\n"},
		{"array.concat", head + chain("x", "[0]", "array.concat(§, §)", 40) + "a := {} if count(_x40) == 2\n"},
		{"a function in itself", head + "_f(x) := [x, x]\n\na := {} if count(" + strings.Repeat("_f(", 40) + "0" + strings.Repeat(")", 40) + ") == 2\n\nb := _f(_f(_f(_f(_f(_f(_f(_f(_f(0)))))))))\n"},
		{"functions of functions", head + "_f0(x) := [x, x]\n\n" + functions(40) + "a := {\"targets\": _f40(1)}\n"},
		{"variables", head + "a := {\"targets\": x20} if {\n\tx0 := [0]\n" + variables(20) + "}\n"},
		{"comprehensions", head + chain("x", "[0]", "[[v, v] | v := §]", 40) + "a := {} if count(_x40) == 1\n"},
		{"elements", head + chain("x", "[0]", "[[v, v] | some v in §]", 40) + "a := {} if count(_x40) == 1\n"},
		{"a pattern", head + chain("x", "[0]", "[y, y] if [y] := [§]", 40) + "a := {} if count(_x40) == 1\n"},
		{"a pattern on the right", head + chain("x", "[0]", "[y, y] if [[§]] = [[y]]", 40) + "a := {} if count(_x40) == 1\n"},
		{"a pattern of what is not written out", head + chain("x", "[0]", "[[y, y]] if [y] := §", 40) + "a := {} if count(_x40) == 1\n"},
		{"a pattern of an object", head + chain("x", "[0]", `[y, y] if {"b": 1, "a": [y]} = {"a": [§], "b": 1}`, 40) + "a := {} if count(_x40) == 1\n"},
		{"a pattern of an object's member", head + chain("x", `{"a": 0}`, `{"a": [y, y]} if {"a": y} := §`, 40) + "a := {} if count(_x40) == 1\n"},
		{"elements by a pattern", head + chain("x", "[0]", "[[v, v] | some [v] in [[§]]]", 40) + "a := {} if count(_x40) == 1\n"},
		{"keys", head + chain("x", `{"a": 0}`, "{[k, k]: 0 | some k, _ in {§: 0}}", 40) + "a := {} if count(_x40) == 1\n"},
		{"keys looked through", head + chain("x", "{0}", "{[k, k] | {§: 0}[k]}", 40) + "a := {} if count(_x40) == 1\n"},
		{"members looked through", head + chain("x", "{0}", "{[v, v] | §[v]}", 40) + "a := {} if count(_x40) == 1\n"},
		{"members looked through in the head", head + chain("x", "{0}", "{[v, §[v]] | true}", 40) + "a := {} if count(_x40) == 1\n"},
		{"members declared", head + chain("x", "{0}", "{[v, v] | some v; §[v]}", 40) + "a := {} if count(_x40) == 1\n"},
		{"what a call gives", head + chain("x", "[0]", "[y, y] if array.concat([§], [], y)", 40) + "a := {} if count(_x40) == 1\n"},
		{"patches that copy", head + chain("x", `{"a": {}}`, `json.patch(§, [{"op": "copy", "from": "/a", "path": "/a/b"}])`, 14) + "a := {} if count(_x14) == 1\n"},
		{"patches of which nobody knows", head + chain("x", `{"a": {}}`, "json.patch(§, data.patch)", 4) + "a := {} if count(_x4) == 1\n"},
		{"what is walked through", head + chain("x", "[0]", "[[y, y] | walk([§], [_, y])]", 40) + "a := {} if count(_x40) == 1\n"},
		{"else", head + chain("x", "[0]", "[1] if input.attempt == 2\n\nelse := [§, §]", 40) + "a := {} if count(_x40) == 1\n"},
		{"parts of a set", head + chain("x", "[0]", "[§, §]", 10) + "_s contains _x10\n\n_s contains [_x10, _x10, _x10, _x10]\n\na := {} if count(_s) == 1\n"},
		{"another package", head + "import data.other\n\na := {\"targets\": other._x40}\n"},
		{"a whole package", head + "a := {\"targets\": [data.other, data.other]}\n"},
	}
	other := "package other\n\n" + chain("x", "[0]", "[§, §]", 40)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := rego("a.rego", tt.rego)
			if strings.Contains(tt.rego, "other") {
				src = rego("a.rego", tt.rego, "other.rego", other)
			}
			_, err := Compile(t.Context(), src, looseConfig())
			if err == nil || !strings.Contains(err.Error(), "what it is made of holds the same again and again") || !strings.Contains(err.Error(), ".rego:") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %.300v", err)
			}
		})
	}
}

// Nor may a patch copy what it has copied: that many times over, the value overflows the stack of whoever visits it,
// and no process survives that.
func TestCopiesOfCopiesFail(t *testing.T) {
	patch := func(n int) string {
		pair := `{"op": "copy", "from": "/a", "path": "/a/b"}, {"op": "copy", "from": "/a/b", "path": "/a/d"}, `
		return "json.patch({\"a\": {\"c\": input.request.model}}, [" + strings.Repeat(pair, n) + `{"op": "add", "path": "/e", "value": 1}])`
	}
	for n, want := range map[int]string{2: "routes.a", 3: "on_error", 40: "on_error"} {
		text := "package nexus.routes\n\n_x := " + patch(n) + "\n\n_y := " + patch(n) + "\n\na := {\"reason\": \"x\"} if _x == _y\n"
		for _, engine := range []string{engineTopdown, engineAuto} {
			cfg := looseConfig()
			cfg.Engine = engine
			c := newCall(t, chatBody)
			_, _ = compile(t, cfg, "a.rego", text).Stage(Env{}).Handle(t.Context(), c, passed)
			if c.Decision.Rule != want {
				t.Errorf("%d pairs in %s: got %q, want %q", n, engine, c.Decision.Rule, want)
			}
		}
	}
}

// The check reads modules that the compiler has not seen: a call may have too few arguments.
func TestGrowthOfWrongCalls(t *testing.T) {
	for _, call := range []string{"json.patch({})", "json.patch()", "walk()", "array.concat([1])"} {
		text := "package nexus.routes\n\na := {} if count(" + call + ") == 1\n\nb := {} if " + call + "\n"
		if _, err := Compile(t.Context(), rego("a.rego", text), looseConfig()); err == nil || !strings.Contains(err.Error(), "p/a.rego:") {
			t.Errorf("%s: got %v", call, err)
		}
	}
}

func functions(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "_f%d(x) := [_f%d(x), _f%d(x)]\n\n", i+1, i, i)
	}
	return b.String()
}

func variables(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\tx%d := [x%d, x%d]\n", i+1, i, i)
	}
	return b.String()
}

func TestValuesThatDoNotGrow(t *testing.T) {
	var many strings.Builder
	many.WriteString("package nexus.routes\n\n_claim(pool) := {\"targets\": [pool, pool], \"reason\": sprintf(\"%v\", [pool]), \"tags\": {\"a\": pool}}\n\n")
	for i := range 300 {
		fmt.Fprintf(&many, "rule_%d := _claim(\"p%d\") if input.prompt.turns == %d\n\n", i, i, i)
	}
	var large strings.Builder
	for i := range 9000 {
		fmt.Fprintf(&large, "\"t%d\", ", i)
	}
	for name, text := range map[string]string{
		"300 rules":         many.String(),
		"a chain of truths": "package nexus.routes\n\n" + chain("x", "input.attempt == 1", "[§ | § == §] == [true]", 60) + "a := {} if _x60\n",
		"numbers":           "package nexus.routes\n\n" + chain("x", "input.attempt", "§ * §", 60) + "a := {} if _x60 > 1\n",
		"texts":             "package nexus.routes\n\n" + chain("x", "input.request.model", `sprintf("%s", [§])`, 60) + "a := {} if _x60 == \"\"\n",
		"a short list":      "package nexus.routes\n\n" + chain("x", "input.pii.kinds", "[k | some k in §]", 30) + "a := {} if count(_x30) > 1\n",
		"one name for two":  "package nexus.routes\n\na := {\"reason\": x} if x := concat(\"\", [x | some x in input.pii.kinds])\n",
		"patterns":          "package nexus.routes\n\n" + chain("x", "[0, 0]", "[y, z] if [y, z] := §", 8) + "a := {} if count(_x8) == 1\n",
		"a pattern's parts": "package nexus.routes\n\n" + chain("x", "input.attempt", "y + z if [y, z] := [§, §]", 40) + "a := {} if _x40 == 1\n",
		"patches":           "package nexus.routes\n\n" + chain("x", `{"a": {}}`, `json.patch(§, [{"op": "add", "path": "/b", "value": 1}])`, 60) + "a := {} if count(_x60) == 1\n",
		"a large table":     "package nexus.routes\n\n_t := {" + strings.Repeat("\"x\", ", 9000) + "\"y\"}\n\na := {\"tags\": {\"x\": t, \"y\": t}} if {\n\tt := input.principal.tenant\n\t_t[t]\n}\n",
		"large data, twice": "package nexus.routes\n\na := {} if count([data.big, data.big]) == 3\n",
	} {
		if _, err := Compile(t.Context(), rego("a.rego", text), testConfig()); err != nil {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}
