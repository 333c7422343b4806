package policy_test

import (
	"bytes"
	"encoding/xml"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/policy"
)

const tiers = `package nexus.routes

local := {"targets": data.pools.local, "reason": "personal", "priority": 2} if {
	some kind in input.pii.kinds
	kind in data.kinds
}

split := {"targets": ["a", "b"], "weights": {"a": 3, "b": 1}} if input.principal.tier == "free"

rival := {"targets": ["c"]} if input.principal.team == "red"
`

const tiersData = `{"pools": {"local": ["on-site"]}, "kinds": ["KR_RRN"]}`

// folder is a folder of policies with tables of tests; files are name, text, name, text.
func folder(files ...string) policy.Sources {
	fsys := fstest.MapFS{"tiers.rego": {Data: []byte(tiers)}, "data.json": {Data: []byte(tiersData)}}
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return policy.Sources{Files: fsys, Name: "p", YAML: config.Lines}
}

func TestTables(t *testing.T) {
	tests := []struct {
		name, given, expect string
		want                []string // of the reason; none: it passes
	}{
		{"rule and targets", "{pii: {kinds: [KR_RRN]}}", "{rule: routes.local, targets: [on-site]}", nil},
		{"targets with weights", "{principal: {tier: free}}", "{targets: [{pool: a, weight: 3}, b]}", nil},
		{"weights", "{principal: {tier: free}}", "{weights: {a: 3}}", nil},
		{"no targets", "{}", "{rule: default, targets: []}", nil},
		{"a conflict", "{principal: {tier: free, team: red}}", "{conflict: [routes.split, routes.rival]}", nil},
		{"an outcome", "{principal: {tier: free, team: red}}", "{outcome: conflict}", nil},
		{"facts of all cases", "{}", "{tags: {}}", nil},
		{"wrong weights", "{principal: {tier: free}}", "{targets: [{pool: a, weight: 4}, b]}", []string{`weights is {"a":3,"b":1}, not {"a":4}`}},
		{"wrong order", "{principal: {tier: free}}", "{targets: [b, a]}", []string{`targets is ["a","b"], not ["b","a"]`}},
		{"wrong rule", "{pii: {kinds: [EMAIL]}}", "{rule: routes.local}",
			[]string{`rule is "default", not "routes.local"`, "p/tiers.rego:5: kind in data.kinds", `kind is "EMAIL"`, `data.kinds is ["KR_RRN"]`}},
		{"several", "{pii: {kinds: [KR_RRN]}}", "{rule: default, reason: x}", []string{`reason is "personal", not "x"; rule is "routes.local", not "default"`}},
		{"no decision", "{principal: {tier: free, team: red}}", "{rule: routes.split}", []string{"outcome is conflict, not decision: rules [routes.rival routes.split]"}},
		{"a decision", "{}", "{outcome: error}", []string{"outcome is decision, not error"}},
		{"absent", "{}", "{reason: x}", []string{`reason is absent, not "x"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := "cases:\n  - name: it\n    given: " + tt.given + "\n    expect: " + tt.expect + "\n"
			r, err := policy.Test(t.Context(), folder("x_test.yaml", table))
			if err != nil {
				t.Fatal(err)
			}
			one := r.Results[0]
			if len(r.Results) != 1 || one.Passed != (tt.want == nil) || one.File != "p/x_test.yaml" || one.Line != 2 {
				t.Fatalf("got %+v", r)
			}
			for _, want := range tt.want {
				if !strings.Contains(one.Reason, want) {
					t.Errorf("got %s\nwant %s", one.Reason, want)
				}
			}
		})
	}
}

func TestTableHasDataAndFactsOfItsOwn(t *testing.T) {
	table := `
data: {kinds: [EMAIL]}
given: {pii: {kinds: [EMAIL]}, principal: {tier: free}}
cases:
  - {name: the table's, expect: {rule: routes.local, matched: [routes.split, routes.local]}}
  - {name: a case's own, given: {pii: {kinds: []}}, expect: {rule: routes.split}}
`
	r, err := policy.Test(t.Context(), folder("x_test.yaml", table))
	if err != nil || r.Passed != 2 || r.Failed != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestTableMayNamePoolsOfItsOwn(t *testing.T) {
	src := folder("x_test.yaml", "data: {pools: {local: [nowhere]}}\ncases: [{name: a, given: {pii: {kinds: [KR_RRN]}}, expect: {targets: [nowhere]}}]\n")
	src.Pools = []string{"a", "b", "c"}
	if r, err := policy.Test(t.Context(), src); err != nil || r.Passed != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestTableMistakes: every slip is told with its line, those of all files at once.
func TestTableMistakes(t *testing.T) {
	one := func(given, expect string) string {
		return "cases:\n- name: it\n  given: " + given + "\n  expect: " + expect + "\n"
	}
	tests := []struct{ name, table, want string }{
		{"unknown key", "cses: []\n", `p/x_test.yaml:1:1: cses: unknown key; did you mean "cases"?`},
		{"no case", "cases: []\n", "p/x_test.yaml:1:1: cases: a table without cases tests nothing"},
		{"no name", "cases: [{expect: {rule: a}}]\n", "p/x_test.yaml:1:9: cases[0].name: say in a few words"},
		{"same name", "cases:\n- {name: a, expect: {rule: a}}\n- {name: a, expect: {rule: b}}\n", "p/x_test.yaml:3:10: cases[1].name: is the name of case 1 too"},
		{"nothing expected", one("{}", "{}"), "p/x_test.yaml:4:3: cases[0].expect: say what must come of it"},
		{"unknown fact", one("{tennant: a}", "{rule: a}"), "p/x_test.yaml:3:20: cases[0].given.tennant: is not in the schema"},
		{"unknown member", one("{principal: {tenent: a}}", "{rule: a}"), `cases[0].given.principal.tenent: is not in the schema: did you mean "tenant"?`},
		{"member of a backend", one("{backends: {g: {heathy: true}}}", "{rule: a}"), `given.backends.g.heathy: is not in the schema: did you mean "healthy"?`},
		{"label", one("{labels: {a: true}}", "{rule: a}"), `given.labels.a: is true, not a string; write "true"`},
		{"number", one("{attempt: 1.5}", "{rule: a}"), "given.attempt: is 1.5, not an integer"},
		{"list", one("{pii: {kinds: KR_RRN}}", "{rule: a}"), `given.pii.kinds: is "KR_RRN", not an array`},
		{"enumeration", one("{request: {route: chta}}", "{rule: a}"), `given.request.route: is never "chta": did you mean "chat"?`},
		{"section", one("{pii: 1}", "{rule: a}"), "given.pii: is 1, not an object"},
		{"unknown expectation", one("{}", "{rul: a}"), `p/x_test.yaml:4:17: cases[0].expect.rul: is not in the schema: did you mean "rule"?`},
		{"action", one("{}", "{action: pass}"), `expect.action: is never "pass": it is one of allow, deny, respond`},
		{"outcome", one("{}", "{outcome: none}"), `expect.outcome: is "none": must be one of decision, undefined`},
		{"targets", one("{}", "{targets: [1]}"), "expect.targets[0]: is 1, not an object"},
		{"facts of all", "given: {a: 1}\ncases: [{name: a, expect: {rule: a}}]\n", "p/x_test.yaml:1:12: given.a: is not in the schema"},
		{"syntax", "cases: [\n", "p/x_test.yaml:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			other := one("{atempt: 1}", "{rule: a}")
			_, err := policy.Test(t.Context(), folder("x_test.yaml", tt.table, "y_test.yaml", other))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "p/y_test.yaml:3:19: cases[0].given.atempt") {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestTablesNeedAReader(t *testing.T) {
	src := folder("x_test.yaml", "cases: []\n")
	src.YAML = nil
	if _, err := policy.Test(t.Context(), src); err == nil || !strings.Contains(err.Error(), "nothing here reads tables") {
		t.Errorf("got %v", err)
	}
	if _, err := policy.Compile(t.Context(), src, policy.Config{}); err != nil {
		t.Errorf("tests are no part of a policy: %v", err)
	}
}

func TestCoverage(t *testing.T) {
	table := "cases:\n- {name: a, given: {pii: {kinds: [EMAIL]}}, expect: {rule: default}}\n"
	rego := "package x_test\n\ntest_red if data.nexus.routes.rival with input.principal.team as \"red\"\n"
	r, err := policy.Cover(t.Context(), folder("x_test.yaml", table, "x_test.rego", rego))
	if err != nil || r.Passed != 2 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if len(r.Coverage.Files) != 1 || r.Coverage.Percent != r.Coverage.Files[0].Percent {
		t.Fatalf("got %+v: the library and the tests do not count", r.Coverage)
	}
	want := "p/tiers.rego   60.0 %  not reached: 3, 8\ncovered        60.0 %\n"
	if got := r.Coverage.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	none, err := policy.Cover(t.Context(), folder())
	if err != nil || none.Coverage.Percent != 0 {
		t.Errorf("without tests: %+v, %v", none.Coverage, err)
	}
}

func TestJUnit(t *testing.T) {
	table := "cases:\n- {name: good, expect: {rule: default}}\n- {name: '<bad>', expect: {rule: x}}\n"
	r, err := policy.Test(t.Context(), folder("x_test.yaml", table, "y_test.rego", "package y_test\n\ntodo_test_later if false\n"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.JUnit(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Name    string `xml:"name,attr"`
			Skipped int    `xml:"skipped,attr"`
			Cases   []struct {
				Name    string `xml:"name,attr"`
				Failure string `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b.Bytes(), &got); err != nil || got.Tests != 3 || got.Failures != 1 || len(got.Suites) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	names := []string{got.Suites[0].Name, got.Suites[1].Name}
	slices.Sort(names)
	if strings.Join(names, " ") != "p/x_test.yaml p/y_test.rego" || !strings.Contains(b.String(), `name="&lt;bad&gt;"`) {
		t.Errorf("got %s", b.String())
	}
}

func TestInitWritesATestedPolicy(t *testing.T) {
	dir := t.TempDir() + "/policies"
	names, err := policy.Init(dir)
	if err != nil || len(names) < 4 {
		t.Fatal(names, err)
	}
	src := policy.Sources{Files: os.DirFS(dir), Name: "policies", YAML: config.Lines}
	r, err := policy.Cover(t.Context(), src)
	if err != nil || !r.OK() || r.Passed < 6 || r.Coverage.Percent != 100 {
		t.Errorf("got %v %v, %v", r, r.Coverage, err)
	}
	if list, err := policy.Formatted(src); err != nil || len(list) > 0 {
		t.Errorf("not formatted: %v, %v", list, err)
	}
	if _, err := policy.Init(dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a second time: %v", err)
	}
}

func FuzzTable(f *testing.F) {
	f.Add("cases:\n- {name: a, given: {pii: {kinds: [EMAIL]}}, expect: {rule: default}}\n")
	f.Add("data: {pools: {local: [x]}, nexus: 1}\ngiven: {backends: {a: {healthy: false}}}\ncases: [{name: a, expect: {targets: [{pool: a, weight: 1}], limits: [{key: k}]}}]\n")
	f.Add("cases: [{name: a, given: {request: {max_tokens: 1e400}}, expect: {outcome: conflict}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := policy.Test(t.Context(), folder("x_test.yaml", text))
		if err == nil && len(r.Results) == 0 {
			t.Error("a table was taken that tests nothing")
		}
		if err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}
