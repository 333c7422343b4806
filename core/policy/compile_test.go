package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/policies"
)

const threeLines = `package nexus.routes

confidential := {"targets": ["local"], "reason": "confidential data stays here"} if input.labels.confidential == "true"
downgrade    := {"targets": ["small"], "reason": "budget above 90 %"} if input.budget.used_ratio > 0.9
`

func TestThreeLinesAreAPolicy(t *testing.T) {
	src := rego("mine.rego", threeLines)
	src.Pools = []string{"local", "small"}
	e, err := Compile(t.Context(), src, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(e.Reads()), "[input.budget.used_ratio input.labels.confidential]"; got != want {
		t.Errorf("reads %s, want %s", got, want)
	}
	s := e.Stage(Env{})
	c := newCall(t, chatBody)
	c.Labels = map[string]string{"confidential": "true"}
	if _, err := s.Handle(t.Context(), c, passed); err != nil {
		t.Fatal(err)
	}
	if c.Decision.Rule != "routes.confidential" || c.Decision.Targets[0].Pool != "local" {
		t.Errorf("decision %+v", c.Decision)
	}
}

func TestCompileFindsMistakes(t *testing.T) {
	routes := "package nexus.routes\n\n"
	tests := []struct {
		name string
		src  Sources
		want []string // each must be in the error
	}{
		{"syntax", rego("a.rego", "package nexus.routes\n\nx := {"), []string{"p/a.rego:3:"}},
		{"every file", rego("a.rego", "package a\nx := {", "b.rego", "package b\n\ny := }"), []string{"p/a.rego:2:", "p/b.rego:3:"}},
		{"empty file", rego("a.rego", "# nothing\n"), []string{"p/a.rego:1: the file is empty"}},
		{"no file", rego("a.txt", "x"), []string{"p holds no .rego file"}},
		{"old Rego", rego("a.rego", "package a\nallow { true }"), []string{"p/a.rego:2:"}},
		{"typo at the root", rego("a.rego", routes+`x := {} if input.tennant.id == "a"`),
			[]string{"p/a.rego:3: input.tennant.id is not in the input schema: did you mean input.principal.tenant?"}},
		{"typo below", rego("a.rego", routes+`x := {} if input.request.modle == "a"`),
			[]string{"p/a.rego:3: input.request.modle is not in the input schema: did you mean input.request.model?"}},
		{"typos all at once", rego("a.rego", routes+"x := {} if input.labls.a == \"a\"\ny := {} if input.prompt.tokens > 1\n"),
			[]string{"p/a.rego:3: input.labls.a", "mean input.labels?", "p/a.rego:4: input.prompt.tokens"}},
		{"type", rego("a.rego", routes+`x := {} if input.prompt.turns == "many"`), []string{"p/a.rego:3: match error: a number is never a string"}},
		{"type of a member", rego("a.rego", routes+`x := {} if "KR_RRN" in input.pii`), []string{"p/a.rego:3: ", "a string is never a number or an array"}},
		{"type of an argument", rego("a.rego", routes+`x := {} if startswith(input.prompt.turns, "a")`), []string{"p/a.rego:3: startswith: invalid argument(s): argument 1 is a number, not a string"}},
		{"number of arguments", rego("a.rego", routes+`x := {} if startswith(input.request.model)`), []string{"p/a.rego:3: startswith: arity mismatch"}},
		{"misspelt builtin", rego("a.rego", routes+`x := {} if startwith(input.request.model, "a")`), []string{"p/a.rego:3: undefined function startwith: did you mean startswith?"}},
		{"function of the library", rego("a.rego", "package nexus.routes\n\nimport data.nexus.lib\n\nx := {} if lib.shaer(\"a\", \"b\") > 1"), []string{"p/a.rego:5: undefined function data.nexus.lib.shaer: did you mean data.nexus.lib.share?"}},
		{"unused variable", rego("a.rego", routes+"x := {} if { y := 1 }"), []string{"p/a.rego:3:", "y"}},
		{"unknown function", rego("a.rego", routes+`x := {} if foo("a")`), []string{"p/a.rego:3: undefined function foo"}},
		{"recursion", rego("a.rego", routes+`x := {"reason": data.nexus.decision.rule}`), []string{"p/a.rego:3:", "recursive"}},
		{"package of no use", rego("a.rego", "package nexus.route\n\nx := {}"),
			[]string{"p/a.rego:1: the library reads no package nexus.route: did you mean nexus.routes?"}},
		{"package too deep", rego("a.rego", "package nexus.routes.eu\n\nx := {}"), []string{"p/a.rego:1:"}},
		{"boolean rule", rego("a.rego", "package nexus.access\n\ndeny if input.principal.tier == \"free\""),
			[]string{"p/a.rego:3: rule deny of nexus.access must be one object"}},
		{"set rule", rego("a.rego", "package nexus.access\n\ndeny contains \"no\" if input.attempt == 1"), []string{"p/a.rego:3: rule deny"}},
		{"partial object", rego("a.rego", "package nexus.access\n\nr.reason := \"no\""), []string{"p/a.rego:3: rule r"}},
		{"pattern not literal", rego("a.rego", routes+"x := {} if regex.match(input.request.model, \"a\")"),
			[]string{"p/a.rego:3: regex.match: the pattern must be written as a literal"}},
		{"pattern not literal, nested", rego("a.rego", routes+"x := {\"reason\": concat(\"\", regex.split(data.p, \"a\"))}"), []string{"p/a.rego:3: regex.split"}},
		{"pattern too long", rego("a.rego", routes+`x := {} if regex.match("`+strings.Repeat("a", 600)+`", "a")`), []string{"longer than 512 bytes"}},
		{"pattern wrong", rego("a.rego", routes+`x := {} if regex.match("(", "a")`), []string{"p/a.rego:3: regex.match: error parsing regexp"}},
		{"library replaced by nothing", rego("a.rego", "package nexus\n\nx := 1"), []string{"nothing defines data.nexus.decision"}},
		{"bad data", rego("a.rego", threeLines, "data.json", "{\n\"a\": 1,\n}"), []string{"p/data.json:3: "}},
		{"data not an object", rego("a.rego", threeLines, "data.json", "[1]"), []string{"p/data.json:1: "}},
		{"data with more behind", rego("a.rego", threeLines, "data.json", "{} {}"), []string{"p/data.json:1: more follows"}},
		{"reserved data", rego("a.rego", threeLines, "data.json", `{"gateway": 1}`), []string{`the member "gateway" is reserved`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Compile(t.Context(), tt.src, testConfig())
			if err == nil {
				t.Fatal("it compiles")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
		})
	}
}

func TestLiteralTargetsMustBePools(t *testing.T) {
	src := rego("mine.rego", threeLines+`weighted := {"targets": [{"pool": "smal", "weight": 1}], "priority": 1} if input.attempt == 2`)
	src.Pools = []string{"small", "remote"}
	_, err := Compile(t.Context(), src, testConfig())
	want := "policy: p/mine.rego:3: there is no pool \"local\"\np/mine.rego:5: there is no pool \"smal\": did you mean \"small\"?"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	var list Errors
	if !errors.As(err, &list) || list[0].Line != 3 {
		t.Errorf("got %#v", list)
	}
}

func TestHeadersMustBeListed(t *testing.T) {
	src := rego("a.rego", "package nexus.routes\n\nx := {} if input.request.headers[\"x-canary\"] == \"1\"")
	cfg := testConfig()
	_, err := Compile(t.Context(), src, cfg)
	if err == nil || !strings.Contains(err.Error(), `p/a.rego:3: reads the header "x-canary"`) {
		t.Errorf("got %v", err)
	}
	cfg.Headers = []string{"x-canary"}
	if _, err = Compile(t.Context(), src, cfg); err != nil {
		t.Error(err)
	}
}

func TestLooseAcceptsUnknownInput(t *testing.T) {
	cfg := testConfig()
	cfg.Loose = true
	if _, err := Compile(t.Context(), rego("a.rego", "package nexus.routes\nx := {} if input.future.thing"), cfg); err != nil {
		t.Error(err)
	}
}

// CVE-2022-36085: builtins taken away by another list could be had again through `with`.
func TestRemovedBuiltinsDoNotCompile(t *testing.T) {
	n := 0
	for _, b := range ast.Builtins {
		if !isRemoved(b.Name) {
			continue
		}
		n++
		var args []string
		for range b.Decl.FuncArgs().Args {
			args = append(args, "input.request.model")
		}
		call := b.Name + "(" + strings.Join(args, ", ") + ")"
		for _, body := range []string{call, "some x in [" + call + "]; x", "count(\"a\") == 1 with count as " + b.Name, call + " with " + b.Name + " as true"} {
			_, err := Compile(t.Context(), rego("a.rego", "package nexus.routes\n\nr := {} if {\n\t"+body+"\n}"), testConfig())
			if err == nil || !strings.Contains(err.Error(), "p/a.rego:4: ") {
				t.Errorf("%s: got %v", body, err)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d builtins are removed, want those of the list", n)
	}
	for _, name := range removed {
		found := false
		for _, b := range ast.Builtins {
			found = found || b.Name == name || strings.HasSuffix(name, ".") && strings.HasPrefix(b.Name, name)
		}
		if !found {
			t.Errorf("the list removes %s, which is no builtin", name)
		}
	}
}

func TestTestsAreNotPartOfThePolicy(t *testing.T) {
	src := rego("a.rego", threeLines, "a_test.rego", "package nexus.routes\n\nalways := {} ", "c_test.rego", "not rego")
	if _, err := Compile(t.Context(), src, testConfig()); err != nil {
		t.Fatal(err)
	}
	if _, err := Test(t.Context(), src); err == nil || !strings.Contains(err.Error(), "p/c_test.rego:1:") {
		t.Errorf("Test: got %v", err)
	}
}

func TestCheckRunsTheTests(t *testing.T) {
	src := rego("a.rego", threeLines, "a_test.rego", "package routes_test\n\ntest_ok if true\n\ntest_wrong if {\n\tdata.nexus.decision.rule == \"x\"\n}\n\ntodo_test_later if false\n")
	r, err := Test(t.Context(), src)
	if err != nil || r.Passed != 1 || r.Failed != 1 || r.Skipped != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
	_, err = Check(t.Context(), src, testConfig())
	if err == nil || !strings.Contains(err.Error(), "p/a_test.rego:5: test test_wrong failed: not true") {
		t.Errorf("got %v", err)
	}
	if _, err := Check(t.Context(), Shipped(), testConfig()); err != nil {
		t.Errorf("shipped: %v", err)
	}
}

func TestAFolderMayReplaceTheLibrary(t *testing.T) {
	for _, text := range []string{
		"package nexus.decision\n\naction := \"allow\"\nrule := \"mine\"",
		"package nexus\n\ndecision := {\"action\": \"allow\", \"rule\": \"mine\"}",
	} {
		e, err := Compile(t.Context(), rego("mine.rego", text), testConfig())
		if err != nil {
			t.Fatal(err)
		}
		c := newCall(t, chatBody)
		if _, err := e.Stage(Env{}).Handle(t.Context(), c, passed); err != nil || c.Decision.Rule != "mine" {
			t.Errorf("%s: %+v, %v", text, c.Decision, err)
		}
	}
}

func TestReadingAllOfInputWarns(t *testing.T) {
	e, err := Compile(t.Context(), rego("a.rego", "package nexus.routes\n\nx := {} if count(input) > 100"), testConfig())
	if err != nil {
		t.Fatal(err)
	}
	if w := e.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0], "p/a.rego:3: ") {
		t.Errorf("got %v", w)
	}
	if got := len(planOf(e.reads)); got != 11 {
		t.Errorf("builds %d members of input, want all 11", got)
	}
}

// A path that is missed would be undefined in silence.
func TestReads(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"plain", `input.request.model == "a"`, "input.request.model"},
		{"bracket", `input["request"]["model"] == "a"`, "input.request.model"},
		{"by a local", `r := input.request; r.model == "a"`, "input.request"},
		{"by a key of input", `input.principal.labels[input.request.model] == "a"`, "input.principal.labels input.request.model"},
		{"by a variable", `some k; input.labels[k] == "a"`, "input.labels"},
		{"in a function", `_f(1) == "a"`, "input.principal.team"},
		{"in a comprehension", `count([1 | some k in input.pii.kinds; k == "a"]) > 0`, "input.pii.kinds"},
		{"in every", `every k in input.pii.kinds { k == "a" }`, "input.pii.kinds"},
		{"object.get", `object.get(input, ["request", "model"], "") == "a"`, "input"},
		{"in else", `_e == "a"`, "input.principal.tier input.request.route"},
		{"another package", `data.other.x == "a"`, "input.attempt"},
		{"not", `not input.labels.x`, "input.labels.x"},
		{"with", `data.other.y == 1 with input.attempt as 1`, "input.attempt"},
	}
	helpers := "\n_f(_) := input.principal.team\n\n_e := \"b\" if input.principal.tier == \"x\"\n\nelse := input.request.route\n"
	other := "package other\n\nx := \"b\" if input.attempt == 2\n\ny := input.attempt\n\nunused := input.time_ms\n"
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The helpers of nexus.routes are within reach: the library reads the whole package. They are
			// therefore given only where they are meant.
			text := "package nexus.routes\n\nx := {} if { " + tt.body + " }\n"
			if strings.Contains(tt.body, "_f(") || strings.Contains(tt.body, "_e ") {
				parts := strings.SplitAfter(helpers, "team\n")
				text += parts[map[bool]int{true: 0, false: 1}[strings.Contains(tt.body, "_f(")]]
			}
			e, err := Compile(t.Context(), rego("a.rego", text, "o.rego", other), testConfig())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(e.Reads(), " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUnchangedSourcesAreCompiledOnce(t *testing.T) {
	var k Compiler
	src := Shipped()
	src.Pools = []string{"default"}
	first, err := k.Compile(t.Context(), src, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 1000 {
		e, err := k.Compile(t.Context(), src, testConfig())
		if err != nil || e.prepared != first.prepared {
			t.Fatal("compiled again", err)
		}
	}
	t.Logf("%v a reload", time.Since(start)/1000)
	src.Pools = []string{"other"}
	if e, err := k.Compile(t.Context(), src, testConfig()); err != nil || e.prepared == first.prepared {
		t.Error("other pools, same policy", err)
	}
	if e, err := k.Compile(t.Context(), rego("a.rego", "bad"), testConfig()); err == nil {
		t.Error("a bad policy compiles", e)
	}
}

func TestSchemasAreShipped(t *testing.T) {
	if len(policies.DecisionSchema) == 0 || len(schemaPaths()) < 40 {
		t.Error("the schemas are missing")
	}
}
