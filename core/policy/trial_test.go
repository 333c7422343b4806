package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || got != string(want) {
		t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, got, want)
	}
}

func trial(t testing.TB, files ...string) *Trial {
	t.Helper()
	tr, err := OpenTrial(t.Context(), rego(files...), closed)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func parsed(t testing.TB, text string) map[string]any {
	t.Helper()
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func input(t testing.TB, text string) Input {
	t.Helper()
	in, err := NewInput(parsed(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// The neutral input is one that the schema takes, with all that it requires.
func TestNeutralInputFitsTheSchema(t *testing.T) {
	p := setting.NewProblems()
	all := complete(p, parsed(t, `{"backends": {"a": {}}, "labels": {"x": "1"}}`))
	inputRoot().fit(p, all)
	if got := p.All(); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	var missing func(path string, n *node, v map[string]any)
	missing = func(path string, n *node, v map[string]any) {
		for _, name := range n.Required {
			if _, ok := v[name]; !ok {
				t.Errorf("%s.%s is missing", path, name)
			}
		}
		for name, one := range v {
			if below, ok := one.(map[string]any); ok {
				missing(path+"."+name, n.member(name), below)
			}
		}
	}
	missing("input", inputRoot(), all)
	if b := all["backends"].(map[string]any)["a"].(map[string]any); b["healthy"] != true {
		t.Errorf("a backend of which nothing is said: %v", b)
	}
}

// A decision's document has every member of the schema, and none that the schema does not know.
func TestDocumentIsTheSchemas(t *testing.T) {
	v := &verdict{
		Decision: pipeline.Decision{
			Action: pipeline.Respond, Rule: "r", Reason: "x", Targets: []pipeline.Target{{Pool: "a", Weight: 2}},
			Set: pipeline.Set{Model: "m", MaxTokens: 1}, Headers: map[string]string{"a": "b"}, Tags: map[string]string{"a": "b"},
			Mask: pipeline.Mask{Profile: "none", Restore: true}, Deny: pipeline.Deny{Status: 403, Code: "c", Message: "m"},
			Limits: []pipeline.Limit{{Key: "k", Requests: 1, Tokens: 1}},
		},
		matched: []string{"b", "a"}, conflict: []string{"a", "b"}, retry: 1500e6, text: "t",
	}
	d := v.document()
	p := setting.NewProblems()
	decisionRoot().fit(p, any(d))
	if got := p.All(); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	if got, want := slices.Sorted(maps.Keys(d)), decisionRoot().names(); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, name := range []string{"set", "mask", "deny", "respond"} {
		if got, want := slices.Sorted(maps.Keys(d[name].(map[string]any))), decisionRoot().member(name).names(); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	for name := range d {
		if name != "action" && name != "rule" && name != "conflict" && !slices.Contains(decisionOrder, name) {
			t.Errorf("%s is not printed", name)
		}
	}
}

const masked = `package nexus.routes

near := {"targets": [{"pool": "local", "mask": "none"}, {"pool": "cloud", "weight": 2}]} if input.attempt == 1
`

// A mask that is one target's alone is told by all that tell of a decision, and compared by all that compare.
func TestMasksOfTargetsAreTold(t *testing.T) {
	hidden := strings.Replace(masked, `{"pool": "local", "mask": "none"}`, `"local"`, 1)
	tr := trial(t, "a.rego", masked)
	e, err := tr.Explain(t.Context(), input(t, "{}"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := e.Print(&b); err != nil || !strings.Contains(b.String(), "\n  targets: {\"mask\":\"none\",\"pool\":\"local\"}, cloud\n") || !strings.Contains(b.String(), "targets local, cloud\n") {
		t.Errorf("explained as %s, %v", b.String(), err)
	}
	p := setting.NewProblems()
	if decisionRoot().fit(p, any(e.Decision)); len(p.All()) > 0 {
		t.Errorf("the document is not the schema's: %v", p.All())
	}
	for _, tt := range []struct{ expect, want string }{
		{`{"targets": ["local", "cloud"]}`, ""},
		{`{"targets": [{"pool": "local", "mask": "none"}, "cloud"]}`, ""},
		{`{"targets": [{"pool": "local", "mask": "all"}, "cloud"]}`, `the mask of target local is "none", not "all"`},
		{`{"targets": ["local", {"pool": "cloud", "mask": "none"}]}`, `the mask of target cloud is absent, not "none"`},
	} {
		if got := strings.Join(e.differs(parsed(t, tt.expect)), "; "); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.expect, got, tt.want)
		}
	}

	lines := logOf(t, LogConfig{Input: true}, masked, replayed[0])
	if !strings.Contains(lines, `"targets":["local","cloud"],"masks":{"local":"none"}`) {
		t.Errorf("logged as %s", lines)
	}
	if r := replay(t, lines, nil, "a.rego", masked); r.Decided != 1 || r.Flips != 0 {
		t.Errorf("the same flips: %+v", r)
	}
	if r := replay(t, lines, nil, "a.rego", hidden); r.Flips != 1 || !slices.Equal(r.Rules[0].Examples[0].Changed, []string{"mask"}) {
		t.Errorf("another mask: %+v", r)
	}

	l, file := openLog(t, LogConfig{})
	s := newStand(t, l, masked, hidden, 1)
	s.call("")
	s.settle()
	told := logged(t, l, file)
	if len(told) != 2 || fmt.Sprint(at(told[1], "shadow", "changed")) != "[mask]" || fmt.Sprint(at(told[1], "result", "masks")) != "map[local:none]" || at(told[1], "shadow", "result", "masks") != nil {
		t.Errorf("the shadow's difference is told as %v", told)
	}
}

// A trial builds its input by the code of the stage, and decides the same.
func TestTrialDecidesAsTheStage(t *testing.T) {
	tr := trial(t, "mine.rego", threeLines+`
canary := {"targets": ["new"], "priority": 9} if input.request.headers["x-canary"] == "1"
`)
	c := newCall(t, chatBody)
	c.Header = map[string][]string{"X-Canary": {"1"}, "Authorization": {"secret"}}
	in := tr.Input(c)
	if b, err := in.JSON(); err != nil || strings.Contains(string(b), "secret") || !strings.Contains(string(b), `"x-canary":"1"`) {
		t.Errorf("got %s, %v", b, err)
	}
	r, err := tr.Decide(t.Context(), in)
	if err != nil || r.Rule() != "routes.canary" || r.Targets()[0] != "new" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestTrialTellsWhyThereIsNoDecision(t *testing.T) {
	for _, tt := range outcomes {
		if tt.outcome == timeout {
			continue
		}
		r, err := trial(t, "a.rego", tt.rego).Decide(t.Context(), Input{trial(t, "a.rego", tt.rego).Input(newCall(t, chatBody)).object, "chat"})
		if err != nil || r.Outcome != string(tt.outcome) || r.Action != "deny" || r.Rule() != "on_"+string(tt.outcome) || r.Error == "" {
			t.Errorf("%s: got %+v, %v", tt.outcome, r, err)
		}
	}
}

func TestInputMistakes(t *testing.T) {
	for text, want := range map[string]string{
		`{"tennant": 1}`:                         "policy: the input: tennant: is not in the schema",
		`{"principal": {"tenent": "a"}}`:         `did you mean "tenant"?`,
		`{"backends": {"a": {"inflight": "x"}}}`: "backends.a.inflight: is \"x\", not an integer",
		`{"pii": null}`:                          "pii: is null, not an object",
	} {
		if _, err := NewInput(parsed(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}
