package policy_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/policy"
)

func look(t *testing.T, around policy.Surroundings, files ...string) (problems, advice string) {
	t.Helper()
	fsys := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	a, err := policy.Look(t.Context(), policy.Sources{Files: fsys, Name: "p", YAML: config.Lines}, policy.Config{}, around)
	if err != nil {
		t.Fatal(err)
	}
	return list(a.Problems), list(a.Advice)
}

func list(errs policy.Errors) string {
	var b strings.Builder
	for _, m := range errs {
		b.WriteString(m.String() + "\n")
	}
	return b.String()
}

const passing = "package x_test\n\ntest_nothing if 1 == 1\n"

func TestLookFinds(t *testing.T) {
	all := policy.Surroundings{Models: []string{"small", "qwen-*"}, Kinds: []string{"EMAIL", "KR_RRN"}, Labels: []string{}}
	routes, access := "package nexus.routes\n\n", "package nexus.access\n\n"
	tests := []struct {
		name, rego string
		want       string // the problems; empty: none
	}{
		{"nothing", routes + `a := {"set": {"model": "small"}} if input.request.model == "qwen-72b"`, ""},
		{"model of a comparison", routes + `a := {} if input.request.model == "smal"`,
			"p/a.rego:3: no call is for the model \"smal\": no pool serves it: did you mean \"small\"?\n"},
		{"model the other way round", routes + `a := {} if "huge" == input.request.model`, "p/a.rego:3: no call is for the model \"huge\": no pool serves it: there are qwen-*, small\n"},
		{"models of a list", routes + `a := {} if input.request.model in ["small", "smal"]`, "p/a.rego:3: no call is for the model \"smal\": no pool serves it: did you mean \"small\"?\n"},
		{"models of a set", routes + `a := {} if input.request.model in {"smal"}`, "p/a.rego:3: no call is for the model \"smal\": no pool serves it: did you mean \"small\"?\n"},
		{"model by a local", routes + "a := {} if {\n\tr := input.request\n\tr.model == \"smal\"\n}", "p/a.rego:5: no call is for the model \"smal\": no pool serves it: did you mean \"small\"?\n"},
		{"model that is set", routes + "a := {\"set\": {\n\t\"model\": \"smal\",\n}} if input.attempt == 1", "p/a.rego:4: no pool serves the model \"smal\": did you mean \"small\"?\n"},
		{"kind", routes + `a := {} if "KR_RNR" in input.pii.kinds`, "p/a.rego:3: no configured plugin finds personal data of the kind \"KR_RNR\": did you mean \"KR_RRN\"?\n"},
		{"kind of an iteration", routes + "a := {} if {\n\tsome k in input.pii.kinds\n\tk in [\"EMAIL\", \"PHONE\"]\n}",
			"p/a.rego:5: no configured plugin finds personal data of the kind \"PHONE\": there are EMAIL, KR_RRN\n"},
		{"label", routes + `a := {} if input.labels.secret == "1"`, "p/a.rego:3: no configured plugin may set labels, so that the label \"secret\" is never there\n"},
		{"else", routes + "a := {\"reason\": \"x\"} if input.attempt == 1\n\nelse := {\"reason\": \"y\"} if true\n\nelse := {\"reason\": \"z\"} if input.attempt == 2",
			"p/a.rego:7: this else is never reached: the branch in line 5 always holds\n"},
		{"below one that always claims", routes + "a := {\"targets\": [\"x\"], \"priority\": 5}\n\nb := {\"priority\": 4} if input.attempt == 1\n\nc := {\"priority\": 6} if input.attempt == 1",
			"p/a.rego:5: routes.b can never win: routes.a claims every call with the priority 5, this one has 4\n"},
		{"beside one that always claims", routes + "a := {\"targets\": [\"x\"]}\n\nb := {} if input.attempt == 1",
			"p/a.rego:5: routes.b is a conflict whenever it holds: routes.a claims every call with the same priority 0\n"},
		{"two that always claim", routes + "a := {\"targets\": [\"x\"]}\n\nb := {}",
			"p/a.rego:5: routes.b is a conflict whenever it holds: routes.a claims every call with the same priority 0\n"},
		{"a value that may be undefined", routes + "a := {\"targets\": data.none, \"priority\": 5}\n\nb := {} if input.attempt == 1", ""},
		{"a priority that only the call tells", routes + "a := {\"priority\": 5}\n\nb := {\"priority\": input.attempt}", ""},
		{"denials agree", access + "a := {\"priority\": 1} if input.attempt == 2\n\nb := {} if input.attempt == 1", ""},
		{"every call denied", access + "a := {\"reason\": \"closed\"}", "p/a.rego:3: access.a denies every call: no other rule ever decides\n"},
		{"every call denied but some", access + "a := {\"reason\": \"closed\"}\n\nb := {\"action\": \"allow\", \"priority\": 1} if input.attempt == 1", ""},
		{"an exemption that cannot win", access + "a := {\"reason\": \"closed\", \"priority\": 2}\n\nb := {\"action\": \"allow\", \"priority\": 1} if input.attempt == 1",
			"p/a.rego:3: access.a denies every call: no other rule ever decides\np/a.rego:5: access.b can never win: access.a claims every call with the priority 2, this one has 1\n"},
		{"limits all count", "package nexus.limits\n\na := {\"max_tokens\": 5}\n\nb := {\"max_tokens\": 6} if input.attempt == 1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := look(t, all, "a.rego", tt.rego, "x_test.rego", passing); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func TestLookKnowsWhatItCannotKnow(t *testing.T) {
	rego := "package nexus.routes\n\na := {\"set\": {\"model\": \"any\"}} if {\n\tinput.labels.x == \"1\"\n\t\"ANY\" in input.pii.kinds\n}\n"
	for _, tt := range []struct {
		name   string
		around policy.Surroundings
		want   string
	}{
		{"no configuration", policy.Surroundings{}, ""},
		{"plugins that may", policy.Surroundings{Labels: []string{"guard"}}, "p/a.rego:4: whether the label \"x\" is ever set cannot be known: guard may set labels, but a manifest does not say which\n"},
		{"no manifest", policy.Surroundings{Plugins: []string{"mine"}}, "p/a.rego:4: whether any plugin sets the label \"x\" cannot be known: there is no manifest of mine\n"},
	} {
		problems, advice := look(t, tt.around, "a.rego", rego, "x_test.rego", passing)
		if problems != "" || advice != tt.want {
			t.Errorf("%s: got\n%s%swant\n%s", tt.name, problems, advice, tt.want)
		}
	}
}

func TestLookAdvises(t *testing.T) {
	rego := "package nexus.routes\n\na := {\"targets\": data.pools.a}   if data.on\n\nb := {} if count(input) > 100\n"
	data := "{\n  \"on\": true,\n  \"pools\": {\n    \"a\": [],\n    \"b\": []\n  },\n  \"old\": {\"x\": 1}\n}\n"
	_, advice := look(t, policy.Surroundings{}, "a.rego", rego, "data.json", data)
	want := `p: has no tests: nexus policy init shows how they look
p/a.rego:1: is not formatted: nexus policy fmt -w formats it
p/a.rego:5: reads input as a whole, so that all of it is built for every call
p/data.json:5: data.pools.b is never read
p/data.json:7: data.old is never read
`
	if advice != want {
		t.Errorf("got\n%swant\n%s", advice, want)
	}
	if _, advice := look(t, policy.Surroundings{}, "a.rego", "package nexus.routes\n\na := {\"reason\": x} if some x in data\n", "data.json", data, "x_test.rego", passing); advice != "" {
		t.Errorf("all of data is read, yet: %s", advice)
	}
}

// What keeps a policy from being compiled, and tests that fail, are problems like others.
func TestLookTellsMistakes(t *testing.T) {
	for want, files := range map[string][]string{
		"p/a.rego:3: input.tennant":                      {"a.rego", "package nexus.routes\n\na := {} if input.tennant == \"x\"\n"},
		"p/a.rego:3: unexpected":                         {"a.rego", "package nexus.routes\n\na := }\n"},
		"p/x_test.rego:3: test test_no failed: not true": {"a.rego", "package nexus.routes\n\na := {} if input.attempt == 2\n", "x_test.rego", "package x_test\n\ntest_no if false\n"},
	} {
		if got, _ := look(t, policy.Surroundings{}, files...); !strings.HasPrefix(got, want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

// A mistake hides no other that can be seen without it.
func TestLookSeesPastMistakes(t *testing.T) {
	const routes = "package nexus.routes\n\n"
	lints := routes + `a := {"targets": ["smal"]} if regex.match("(", input.request.model)

b := {"reason": "x"} if input.tennant == "x"

c := {"reason": "x"} if input.prompt.lang == "kr"

d := {"reason": "x"} if true

else := {"reason": "y"}
`
	seen := []string{
		"p/lints.rego:3: regex.match: error parsing regexp: missing closing ): `(`",
		"p/lints.rego:3: there is no pool \"smal\": did you mean \"small\"?",
		"p/lints.rego:5: input.tennant is not in the input schema: did you mean input.principal.tenant?",
		"p/lints.rego:7: input.prompt.lang is never \"kr\": did you mean \"ko\"?",
		"p/lints.rego:11: this else is never reached: the branch in line 9 always holds",
	}
	astray := []string{"p/astray.rego:1: the library reads no package nexus.route: did you mean nexus.routes?; give helpers a package outside nexus"}
	for _, tt := range []struct {
		name, broken string
		want         []string // beside seen
	}{
		{"of syntax", routes + "x := {", []string{"p/broken.rego:3: unexpected eof token\n", "p/broken.rego:3: unexpected eof token: expected"}},
		{"of a variable that is not safe", routes + "x := {\"reason\": y}", append(astray, "p/broken.rego:3: var y is unsafe")},
		{"of types", routes + "x := {\"reason\": \"a\"} if startswith(1, \"b\")", append(astray, "p/broken.rego:3: startswith: invalid argument(s): argument 1 is a number, not a string")},
		{"of growth", routes + "x := {\"tags\": z} if {\n\ta := [1, 1, 1, 1, 1, 1, 1, 1]\n\tb := [a, a, a, a, a, a, a, a]\n\tc := [b, b, b, b, b, b, b, b]\n\td := [c, c, c, c, c, c, c, c]\n\tz := [d, d, d, d, d, d, d, d]\n}",
			append(astray, "p/broken.rego:3: ")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := policy.Sources{Name: "p", Pools: []string{"small"}, Files: fstest.MapFS{
				"lints.rego": {Data: []byte(lints)}, "astray.rego": {Data: []byte("package nexus.route\n\nx := {}\n")}, "broken.rego": {Data: []byte(tt.broken)},
			}}
			a, err := policy.Look(t.Context(), src, policy.Config{}, policy.Surroundings{})
			if err != nil {
				t.Fatal(err)
			}
			got := list(a.Problems)
			for _, want := range append(seen, tt.want...) {
				if strings.Count(got, want) != 1 {
					t.Errorf("not told once: %s", want)
				}
			}
			if n := strings.Count(got, "\n"); t.Failed() || n != len(seen)+len(tt.want) {
				t.Errorf("got %d:\n%s", n, got)
			}
		})
	}
}

func TestLookSeesPastPools(t *testing.T) {
	src := policy.Sources{Name: "p", Pools: []string{"small"}, Files: fstest.MapFS{
		"a.rego": {Data: []byte("package nexus.routes\n\na := {\"targets\": [\"smal\"]} if input.request.model == \"x\"\n")},
	}}
	a, err := policy.Look(t.Context(), src, policy.Config{}, policy.Surroundings{Models: []string{"y"}})
	want := "p/a.rego:3: no call is for the model \"x\": no pool serves it: did you mean \"y\"?\np/a.rego:3: there is no pool \"smal\": did you mean \"small\"?\n"
	if got := list(a.Problems); err != nil || got != want {
		t.Errorf("got\n%s%v\nwant\n%s", got, err, want)
	}
}

func TestShippedAndStarterPoliciesPassTheLook(t *testing.T) {
	for _, src := range []policy.Sources{policy.Shipped(), policy.Starter()} {
		src.YAML = config.Lines
		a, err := policy.Look(t.Context(), src, policy.Config{}, policy.Surroundings{})
		if err != nil || len(a.Problems)+len(a.Advice) > 0 {
			t.Errorf("%s: %v%v, %v", src.Name, list(a.Problems), list(a.Advice), err)
		}
	}
}
