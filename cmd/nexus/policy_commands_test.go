package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// policyFolder is a folder with policies that are right and wrong, and with what to ask them.
func policyFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"mine/routes.rego": `package nexus.routes

local := {"targets": ["on-site"], "reason": "personal data"} if "KR_RRN" in input.pii.kinds

busy := {"targets": ["cloud"], "priority": 1} if {
	some b in input.backends
	b.inflight > 3
}
`,
		"mine/routes_test.yaml":  "cases:\n- name: personal data stays\n  given: {pii: {kinds: [KR_RRN]}}\n  expect: {rule: routes.local, targets: [on-site]}\n",
		"fails/routes.rego":      "package nexus.routes\n\nlocal := {\"targets\": [\"a\"]} if input.attempt == 2\n",
		"fails/routes_test.yaml": "cases:\n- name: it\n  expect: {rule: routes.local}\n",
		"slip/routes.rego":       "package nexus.routes\n\nlocal := {\"targets\": [\"a\"]} if input.tennant == \"a\"\n",
		"astray/b.rego":          "package nexus.route\n\nx := {}\n",
		"broken/a.rego":          "package nexus.routes\n\nx := {\n",
		"ugly/a.rego":            "package nexus.routes\nx:={\"reason\":\"a\"}   if input.attempt==1\n",
		"rivals/a.rego":          "package nexus.routes\n\na := {\"targets\": []}\n\nb := {\"targets\": []}\n",
		"slip-table/a.rego":      "package nexus.routes\n\na := {\"targets\": []}\n",
		"slip-table/a_test.yaml": "cases:\n- name: it\n  given: {pi: {}}\n  expect: {rule: a}\n",
		"request.json":           `{"model":"m","messages":[{"role":"user","content":"hi"}]}`,
		"input.json":             `{"pii": {"kinds": ["KR_RRN"]}}`,
		"input.yaml":             "pii: {kinds: [KR_RRN]}\n",
		"slip.json":              `{"pii": {"kind": ["KR_RRN"]}}`,
		"slip.yaml":              "pii:\n  kind: [KR_RRN]\n",
		"half.json":              "{\n\"pii\":",
		"fleet.yaml":             "backends: {gpu-1: {inflight: 9}}\n",
		"page.html":              "<html>",
		"nexus.yaml": `auth: {anonymous: true}
backends: {gpu: {kind: vllm, url: http://127.0.0.1:1}}
pools: {on-site: {models: [m], backends: [gpu]}}
plugins: {chain: [{name: guard, path: guard.wasm}]}
policy: {dir: mine}
`,
		"decisions.ndjson": `{"decision_id":"a","revision":"r1","path":"nexus/decision","input":{"pii":{"kinds":["KR_RRN"]},"backends":{},"labels":{"x":"1"}},"result":{"action":"allow","rule":"routes.local","targets":["on-site"]},"timestamp":"2026-01-05T12:00:00Z","outcome":"decision","tenant":"acme","route":"chat"}
{"decision_id":"b","revision":"r1","path":"nexus/decision","result":{"action":"allow","rule":"default"},"timestamp":"2026-01-05T12:00:00Z","outcome":"decision","route":"chat"}
{"decision_id":"c","revision":"r1","path":"nexus/decision","input":{"pii":{"kinds":[]},"backends":{}},"result":{"action":"allow","rule":"default"},"timestamp":"2026-01-05T12:00:01Z","outcome":"decision","tenant":"globex","route":"chat"}
{"request_id":"c","decision_id":"c"}
{"decision_id":"d","revi`,
		"access.ndjson": `{"request_id":"a","decision_id":"a","backend":"gpu-1","pool":"on-site","served_model":"m","attempts":1,"status":200,"tokens_in":100,"tokens_out":50}
`,
		"next/a.rego": `package nexus.routes

local := {"targets": ["cloud"]} if "KR_RRN" in input.pii.kinds
`,
		"guard.yaml": "name: guard\nversion: 1.0.0\nhooks: [on_text]\nkinds: [EMAIL]\n",
		"known/a.rego": `package nexus.routes

a := {"targets": ["cloud"]} if input.request.model == "n"

b := {"targets": ["on-site"]} if "KR_RRN" in input.pii.kinds

c := {"reason": "x"} if input.labels.secret == "1"
`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPolicyMistakes: what went wrong is said on standard error, with the exit code that scripts ask for.
func TestPolicyMistakes(t *testing.T) {
	t.Chdir(policyFolder(t))
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"init", exitUsage, "name the folder"},
		{"init mine", exitFailed, "nexus policy init: policy: mine is not empty"},
		{"init a b", exitUsage, `"b" is one argument too many`},
		{"test nowhere", exitFailed, "nexus policy test: policy: folder nowhere"},
		{"test slip", exitFailed, "slip/routes.rego:3: input.tennant is not in the input schema: did you mean input.principal.tenant?"},
		{"test -min 101 mine", exitUsage, "-min is a share"},
		{"test slip-table", exitFailed, `slip-table/a_test.yaml:3:11: cases[0].given.pi: is not in the schema: did you mean "pii"?`},
		{"test -c nowhere.yaml mine", exitFailed, "nowhere.yaml"},
		{"fmt broken", exitFailed, "broken/a.rego:"},
		{"fmt -w", exitUsage, "name the folder to write to"},
		{"eval mine", exitUsage, "-request FILE or -input FILE"},
		{"eval -input input.json -request request.json mine", exitUsage, "-request FILE or -input FILE"},
		{"eval -input input.json -who tenant=a mine", exitUsage, "go with -request"},
		{"eval -request request.json -who age=7 mine", exitUsage, `a caller has no "age"; there are tenant`},
		{"eval -request request.json -route chta mine", exitUsage, `there is no endpoint "chta"`},
		{"eval -request nowhere.json mine", exitFailed, "nowhere.json"},
		{"eval -request page.html mine", exitFailed, "nexus policy eval: page.html: policy: the request: "},
		{"eval -input slip.json mine", exitFailed, `slip.json: policy: the input: pii.kind: is not in the schema: did you mean "kinds"?`},
		{"eval -input slip.yaml mine", exitFailed, `slip.yaml: policy: the input: pii.kind`},
		{"eval -input half.json mine", exitFailed, "half.json:2: unexpected EOF"},
		{"eval -input input.json -facts slip.yaml mine", exitFailed, "slip.yaml: policy: the input: pii.kind"},
		{"eval -input input.json broken", exitFailed, "broken/a.rego:"},
		{"explain -id a mine", exitUsage, "say where the decision is: -log FILE"},
		{"explain -id a -log decisions.ndjson -input input.json mine", exitUsage, "-id is a decision"},
		{"explain -id z -log decisions.ndjson mine", exitFailed, "decisions.ndjson has no decision z"},
		{"explain -id b -log decisions.ndjson mine", exitFailed, "logged without its input: set policy.decision_log.input"},
		{"explain -id a -log page.html mine", exitFailed, "policy: page.html:1: invalid character '<'"},
		{"explain -id a -log decisions.ndjson -access nowhere mine", exitFailed, "nowhere"},
		{"bench -time 0s mine", exitUsage, "-time must be longer than nothing"},
		{"bench -input input.json mine", exitUsage, "give -request FILE, or nothing"},
		{"bench -request page.html mine", exitFailed, "nexus policy bench: page.html: policy: the request: "},
		{"bench -time 1ms broken", exitFailed, "broken/a.rego:"},
		{"replay", exitUsage, "name the folder to decide by: -against DIR"},
		{"replay -against mine", exitUsage, "say what to replay: -from FILE"},
		{"replay -against nowhere -from decisions.ndjson", exitFailed, "folder nowhere"},
		{"replay -against mine -from nowhere", exitFailed, "nowhere"},
		{"replay -against broken -from decisions.ndjson", exitFailed, "broken/a.rego:"},
		{"replay -against mine -from page.html", exitFailed, "policy: page.html:1: invalid character '<'"},
		{"record mine", exitUsage, "say what to record: -log FILE"},
		{"record -log decisions.ndjson -every 0 mine", exitUsage, "-every and -most are 1 or more"},
		{"record -log nowhere mine", exitFailed, "nowhere"},
		{"explain mine", exitUsage, "-request FILE or -input FILE"},
		{"explain -input input.json astray", exitFailed, "astray/b.rego:1: the library reads no package nexus.route"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, out, err := nexus(t, "policy "+tt.args)
			if code != tt.code || !strings.Contains(err, tt.want) || out != "" {
				t.Errorf("exit code %d, want %d with %q on standard error alone, got\n%s%s", code, tt.code, tt.want, err, out)
			}
		})
	}
}

func TestPolicyTestTells(t *testing.T) {
	t.Chdir(policyFolder(t))
	for _, tt := range []struct {
		args string
		code int
		out  string
	}{
		{"mine", 0, "1 passed, 0 failed, 0 skipped\n"},
		{"-v mine", 0, "mine/routes_test.yaml:2: personal data stays passed\n1 passed, 0 failed, 0 skipped\n"},
		{"-coverage mine", 0, "1 passed, 0 failed, 0 skipped\nmine/routes.rego   50.0 %  not reached: 5, 7\ncovered            50.0 %\n"},
		{"-min 50 mine", 0, "1 passed, 0 failed, 0 skipped\nmine/routes.rego   50.0 %  not reached: 5, 7\ncovered            50.0 %\n"},
		{"-min 61 mine", exitFailed, "1 passed, 0 failed, 0 skipped\nmine/routes.rego   50.0 %  not reached: 5, 7\ncovered            50.0 %\n"},
		{"fails", exitFailed, `fails/routes_test.yaml:2: it failed: rule is "default", not "routes.local"
  fails/routes.rego:3: input.attempt == 2
    input.attempt is 1
0 passed, 1 failed, 0 skipped
`},
	} {
		if code, out, err := nexus(t, "policy test "+tt.args); code != tt.code || out != tt.out || (code != 0) != strings.Contains(err, "nexus policy test: ") {
			t.Errorf("%s: exit code %d, want %d, got\n%s%swant\n%s", tt.args, code, tt.code, out, err, tt.out)
		}
	}
	code, out, err := nexus(t, "policy test -json -coverage -junit report.xml fails")
	var got struct {
		Failed  int
		Results []struct {
			File string
			Line int
		}
		Coverage struct{ Percent float64 }
	}
	if bad := json.Unmarshal([]byte(out), &got); bad != nil || code != exitFailed || got.Failed != 1 || got.Results[0].Line != 2 || got.Coverage.Percent != 0 {
		t.Errorf("%d, %v: %s%s", code, bad, out, err)
	}
	if report, err := os.ReadFile("report.xml"); err != nil || !strings.Contains(string(report), `<testsuite name="fails/routes_test.yaml" tests="1" failures="1"`) {
		t.Errorf("%s, %v", report, err)
	}
}

func TestPolicyCheck(t *testing.T) {
	t.Chdir(policyFolder(t))
	for _, tt := range []struct {
		args string
		code int
		out  string
	}{
		{"mine", 0, "0 problems, 0 of advice, 1 test passed\n"},
		{"-c nexus.yaml mine", exitFailed, `mine/routes.rego:3: no configured plugin finds personal data of the kind "KR_RRN": there are EMAIL
mine/routes.rego:5: there is no pool "cloud"
2 problems, 0 of advice, 1 test passed
`},
		{"-c nexus.yaml", exitFailed, `mine/routes.rego:3: no configured plugin finds personal data of the kind "KR_RRN": there are EMAIL
mine/routes.rego:5: there is no pool "cloud"
2 problems, 0 of advice, 1 test passed
`},
		{"-c nexus.yaml known", exitFailed, `known/a.rego:3: no call is for the model "n": no pool serves it: did you mean "m"?
known/a.rego:3: there is no pool "cloud"
known/a.rego:5: no configured plugin finds personal data of the kind "KR_RRN": there are EMAIL
known/a.rego:7: no configured plugin may set labels, so that the label "secret" is never there
advice: known: has no tests: nexus policy init shows how they look
4 problems, 1 of advice, 0 tests passed
`},
		{"known", 0, "advice: known: has no tests: nexus policy init shows how they look\n0 problems, 1 of advice, 0 tests passed\n"},
		{"-strict known", exitFailed, "advice: known: has no tests: nexus policy init shows how they look\n0 problems, 1 of advice, 0 tests passed\n"},
		{"slip", exitFailed, "slip/routes.rego:3: input.tennant is not in the input schema: did you mean input.principal.tenant?\n1 problem, 0 of advice, 0 tests passed\n"},
	} {
		if code, out, err := nexus(t, "policy check "+tt.args); code != tt.code || out != tt.out || (code != 0) != strings.Contains(err, "nexus policy check: ") {
			t.Errorf("%s: exit code %d, want %d, got\n%s%swant\n%s", tt.args, code, tt.code, out, err, tt.out)
		}
	}
	code, out, _ := nexus(t, "policy check -json slip")
	var got struct{ Problems []struct{ Line int } }
	if bad := json.Unmarshal([]byte(out), &got); bad != nil || code != exitFailed || got.Problems[0].Line != 3 {
		t.Errorf("%d, %v: %s", code, bad, out)
	}
	if err := os.Remove("guard.yaml"); err != nil {
		t.Fatal(err)
	}
	if _, out, _ := nexus(t, "policy check -c nexus.yaml known"); !strings.Contains(out, `advice: known/a.rego:7: whether any plugin sets the label "secret" cannot be known: there is no manifest of guard`) {
		t.Errorf("without a manifest: %s", out)
	}
}

func TestPolicyFmt(t *testing.T) {
	t.Chdir(policyFolder(t))
	if code, out, err := nexus(t, "policy fmt mine"); code != 0 || out+err != "" {
		t.Errorf("formatted: %d, %s%s", code, out, err)
	}
	code, out, err := nexus(t, "policy fmt -d ugly")
	if code != exitFailed || !strings.HasPrefix(out, "ugly/a.rego\n- x:=") || !strings.Contains(out, "+ x := {\"reason\": \"a\"} if input.attempt == 1\n") || !strings.Contains(err, "1 files are not formatted") {
		t.Errorf("-d: %d, %s%s", code, out, err)
	}
	if code, out, err := nexus(t, "policy fmt -w ugly"); code != 0 || out != "ugly/a.rego\n" || err != "" {
		t.Errorf("-w: %d, %s%s", code, out, err)
	}
	if code, out, err := nexus(t, "policy fmt -check ugly"); code != 0 || out+err != "" {
		t.Errorf("after -w: %d, %s%s", code, out, err)
	}
}

// TestPolicyInitAndFmtForPrograms: what -json writes says the same, and is all there is on standard output.
func TestPolicyInitAndFmtForPrograms(t *testing.T) {
	t.Chdir(policyFolder(t))
	type file struct {
		File, Before, After string
		Written             bool
	}
	ask := func(args string, want int, into any) {
		t.Helper()
		code, out, err := nexus(t, "policy "+args)
		if bad := json.Unmarshal([]byte(out), into); bad != nil || code != want || (code != 0) != (err != "") {
			t.Errorf("%s: %d, %v: %s%s", args, code, bad, out, err)
		}
	}
	var begun struct {
		Folder string
		Files  []string
	}
	ask("init -json new", 0, &begun)
	if _, err := os.Stat(begun.Files[0]); err != nil || begun.Folder != "new" || len(begun.Files) != 5 {
		t.Errorf("init: %+v, %v", begun, err)
	}
	ugly, _ := os.ReadFile("ugly/a.rego")
	var list []file
	ask("fmt -json new", 0, &list)
	if list == nil || len(list) > 0 {
		t.Errorf("formatted: %+v", list)
	}
	ask("fmt -json ugly", exitFailed, &list)
	if len(list) != 1 || list[0] != (file{File: "ugly/a.rego"}) {
		t.Errorf("not formatted: %+v", list)
	}
	ask("fmt -json -d ugly", exitFailed, &list)
	if list[0].Before != string(ugly) || !strings.Contains(list[0].After, "\nx := {") {
		t.Errorf("-d: %+v", list)
	}
	ask("fmt -json -w ugly", 0, &list)
	if now, _ := os.ReadFile("ugly/a.rego"); !list[0].Written || string(now) == string(ugly) {
		t.Errorf("-w: %+v, %s", list, now)
	}
}

func TestPolicyEval(t *testing.T) {
	t.Chdir(policyFolder(t))
	for _, tt := range []struct {
		args string
		code int
		out  string
	}{
		{"-input input.json mine", 0, "allow by routes.local\n  reason: personal data\n  targets: on-site\n  matched: routes.local\n"},
		{"-input input.yaml mine", 0, "allow by routes.local\n  reason: personal data\n  targets: on-site\n  matched: routes.local\n"},
		{"-request request.json mine", 0, "allow by default\n"},
		{"-request request.json -pii KR_RRN,EMAIL mine", 0, "allow by routes.local\n  reason: personal data\n  targets: on-site\n  matched: routes.local\n"},
		{"-request request.json -pii KR_RRN -facts fleet.yaml mine", 0, "allow by routes.busy\n  targets: cloud\n  matched: routes.busy, routes.local\n"},
		{"-request request.json rivals", exitFailed, "no decision: conflict: rules [routes.a routes.b] claim the call with equal priority\n  deny by on_conflict\n"},
	} {
		if code, out, err := nexus(t, "policy eval "+tt.args); code != tt.code || out != tt.out || (code != 0) != strings.Contains(err, "nexus policy eval: no decision: conflict") {
			t.Errorf("%s: exit code %d, got\n%s%swant\n%s", tt.args, code, out, err, tt.out)
		}
	}
	code, out, err := nexus(t, "policy eval -json -input input.json mine")
	var got struct {
		Outcome, Action string
		Decision        struct{ Targets []string }
	}
	if bad := json.Unmarshal([]byte(out), &got); bad != nil || code != 0 || got.Outcome != "decision" || got.Action != "allow" || got.Decision.Targets[0] != "on-site" {
		t.Errorf("%d, %v: %s%s", code, bad, out, err)
	}
}

func TestPolicyExplain(t *testing.T) {
	t.Chdir(policyFolder(t))
	code, out, err := nexus(t, "policy explain -request request.json -pii EMAIL -facts fleet.yaml mine")
	want := `allow by routes.busy
  targets: cloud
  matched: routes.busy

nexus.routes
  busy matched at mine/routes.rego:5: {"priority":1,"targets":["cloud"]}
  local did not match
    mine/routes.rego:3: "KR_RRN" in input.pii.kinds
      input.pii.kinds is ["EMAIL"]

chain: routes.busy → targets cloud
`
	if code != 0 || out != want || err != "" {
		t.Errorf("%d, got\n%s%swant\n%s", code, out, err, want)
	}
	code, out, _ = nexus(t, "policy explain -json -input input.json mine")
	var got struct {
		Rules []struct {
			Rule   string
			Misses []struct{ Line int }
		}
	}
	if bad := json.Unmarshal([]byte(out), &got); bad != nil || code != 0 || got.Rules[0].Rule != "routes.busy" || got.Rules[0].Misses[0].Line != 6 {
		t.Errorf("%d, %v: %s", code, bad, out)
	}
}

// TestPolicyFromNothing: init, test and eval are all it takes.
func TestPolicyFromNothing(t *testing.T) {
	t.Chdir(policyFolder(t))
	for _, s := range []struct{ args, want string }{
		{"init new", "new/routes.rego"},
		{"test -min 100 new", "covered          100.0 %"},
		{"fmt new", ""},
		{"eval -request request.json new", "allow by default"},
	} {
		if code, out, err := nexus(t, "policy "+s.args); code != 0 || !strings.Contains(out, s.want) || err != "" {
			t.Fatalf("%s: exit code %d, got %s%s, want %s", s.args, code, out, err, s.want)
		}
	}
}

// TestPolicyHelp: every command tells its examples and exit codes.
func TestPolicyHelp(t *testing.T) {
	for _, c := range commands() {
		verb, ok := strings.CutPrefix(c.name, "policy ")
		if !ok {
			continue
		}
		code, out, err := nexus(t, "policy "+verb+" -h")
		if code != 0 || out != "" || !strings.Contains(err, "\n  nexus policy "+verb) || !strings.Contains(err, "Exit code: 0 ") {
			t.Errorf("%s: %d, %s%s", verb, code, out, err)
		}
	}
}
