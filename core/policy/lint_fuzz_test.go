package policy

import (
	"testing"
	"time"
)

// FuzzCompile compiles whatever text: what is wrong with it is told with its file, and nothing panics. What compiles
// decides, or says why it does not.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		threeLines, endless, outcomes[0].rego, outcomes[1].rego, acceptable,
		"package nexus.access\n\na := {\"action\": \"respond\", \"respond\": {\"text\": \"x\"}} if { every b in input.backends { b.kv_used < 1 } }",
		"package nexus.limits\n\nimport data.nexus.lib\n\na := {\"tokens\": floor(lib.share(\"a\", input.principal.id) * 10)} if input.labels[_] == \"x\"",
		"package nexus.masks\n\n_f(x) := [x, x]\n\na := {\"profile\": \"none\"} if _f(_f(1))[0][_] == 1 with input.attempt as 2",
		"package nexus\n\ndefault decision := {\"action\": \"deny\"}\n\ndecision := {\"action\": \"allow\"} if { some k, v in input.labels; k == v } else := {\"action\": input.request.model}",
		"package a\n\nimport data.a as b\n\nr.x[y] := [y, b.r] if some y in [1, 2]\n\ns contains {\"a\": z} if { z := object.get(input, [\"request\", \"model\"], 1) }",
	} {
		f.Add(text)
	}
	cfg := testConfig()
	cfg.Deadline = 5 * time.Millisecond
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 2000 {
			return
		}
		modules, err := parse(map[string]string{"a.rego": text})
		if err != nil {
			return
		}
		if errs := lintGrowth(modules); len(errs) > 0 {
			return // the compiler must not see it
		}
		e, err := Compile(t.Context(), rego("a.rego", text), cfg)
		if err != nil {
			return
		}
		c := newCall(t, chatBody)
		if _, err := e.Stage(Env{Limits: true, Restore: true}).Handle(t.Context(), c, passed); err == nil && c.Decision.Action == "" {
			t.Errorf("a call passed without a decision: %+v", c.Decision)
		}
	})
}

// acceptable has a rule of each kind.
const acceptable = `package nexus.routes

a := {"targets": [p | some p in data.pools], "weights": {"x": 1}} if input.principal.tenant in {"b", "c"}

b := {"set": {"max_tokens": 5}, "priority": count(input.principal.roles)} if _c

_c if not input.request.stream

_c if regex.match("a+", input.request.model)
`
