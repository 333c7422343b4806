package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestPolicyExplainsADecision(t *testing.T) {
	t.Chdir(policyFolder(t))
	code, out, err := nexus(t, "policy explain -id a -log decisions.ndjson -access access.ndjson mine")
	for _, want := range []string{"note: the decision was made by revision r1; this is revision ", "\nallow by routes.local\n", "  local matched at mine/routes.rego:3: ",
		"chain: routes.local → targets on-site → backend gpu-1, pool on-site, model m, status 200\n"} {
		if code != 0 || !strings.Contains(out, want) || err != "" {
			t.Errorf("%d, got\n%s%swant\n%s", code, out, err, want)
		}
	}
}

func TestPolicyReplay(t *testing.T) {
	t.Chdir(policyFolder(t))
	const leftOut = `not decided: 1 without their input (policy.decision_log.input was off)
left out: 1 lines that are no decisions
left out: 1 lines that are cut off
`
	same := "2 decisions replayed, 0 flip\n" + leftOut + `
allowed calls     2, were 2 (+0)
estimated tokens  150, were 150 (+0)
                  0 by the estimate of their prompts, of 1 nothing is known
`
	if code, out, err := nexus(t, "policy replay -against mine -from decisions.ndjson -access access.ndjson"); code != 0 || out != same || err != "" {
		t.Errorf("the same: %d, got\n%s%swant\n%s", code, out, err, same)
	}
	flips := "2 decisions replayed, 1 flip\n" + leftOut + `
from rule     to rule       flips
routes.local  routes.local      1

from pool  to pool  flips
on-site    cloud        1

tenant  decided  flips
acme          1      1

allowed calls     2, were 2 (+0)
estimated tokens  150, were 150 (+0)
                  0 by the estimate of their prompts, of 1 nothing is known

example a of acme: routes.local → routes.local, differs in targets
`
	code, out, err := nexus(t, "policy replay -against next -from decisions.ndjson -access access.ndjson -junit report.xml")
	if code != exitFailed || out != flips || !strings.Contains(err, "nexus policy replay: 1 of 2 decisions flip; -max-flips allows 0") {
		t.Errorf("%d, got\n%s%swant\n%s", code, out, err, flips)
	}
	if report, err := os.ReadFile("report.xml"); err != nil || strings.Count(string(report), "<failure") != 2 {
		t.Errorf("%s, %v", report, err)
	}
	for _, most := range []string{"1", "-1"} {
		if code, _, err := nexus(t, "policy replay -against next -from decisions.ndjson -max-flips "+most); code != 0 || err != "" {
			t.Errorf("-max-flips %s: %d, %s", most, code, err)
		}
	}
	code, out, _ = nexus(t, "policy replay -json -against next -from decisions.ndjson")
	var got struct {
		Flips int
		Torn  int
		Rules []struct{ Count int }
	}
	if bad := json.Unmarshal([]byte(out), &got); bad != nil || code != exitFailed || got.Flips != 1 || got.Torn != 1 || got.Rules[0].Count != 1 {
		t.Errorf("%d, %v: %s", code, bad, out)
	}
	if err := os.WriteFile("none.ndjson", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, err := nexus(t, "policy replay -against next -from none.ndjson"); code != exitFailed || !strings.Contains(err, "nothing could be decided of 0 decisions") {
		t.Errorf("nothing: %d, %s", code, err)
	}
}

// TestPolicyReplayCosts: with a configuration the difference is told in the operator's unit.
func TestPolicyReplayCosts(t *testing.T) {
	t.Chdir(policyFolder(t))
	config := `auth: {anonymous: true}
backends:
  gpu: {kind: vllm, url: http://127.0.0.1:1, price: {input: 1000, output: 2000}}
  api: {kind: vllm, url: http://127.0.0.1:2, price: {input: 5000, output: 10000}}
pools: {on-site: {models: [m], backends: [gpu]}, cloud: {models: [m], backends: [api]}}
`
	if err := os.WriteFile("priced.yaml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, err := nexus(t, "policy replay -c priced.yaml -against next -from decisions.ndjson -access access.ndjson -max-flips -1")
	if want := "estimated cost    1.0000, was 0.2000 (+0.8000)\n                  without a price: (the model's)\n"; code != 0 || !strings.Contains(out, want) {
		t.Errorf("%d, got\n%s%swant\n%s", code, out, err, want)
	}
}

// TestPolicyReplayByAnEngine: the one that is asked for decides, else the one that the configuration names.
func TestPolicyReplayByAnEngine(t *testing.T) {
	t.Chdir(policyFolder(t))
	only := "package nexus.routes\n\n_kinds := input.pii.kinds\n\nlocal := {\"targets\": [\"on-site\"]} if {\n\t\"KR_RRN\" in _kinds\n\tcount(_kinds) == 0 with input.pii.kinds as []\n}\n"
	config := "auth: {anonymous: true}\nbackends: {gpu: {kind: vllm, url: http://127.0.0.1:1}}\npools: {on-site: {models: [m], backends: [gpu]}, cloud: {models: [m], backends: [gpu]}}\npolicy: {engine: %s}\n"
	if err := errors.Join(os.Mkdir("only", 0o755), os.WriteFile("only/a.rego", []byte(only), 0o644),
		os.WriteFile("wasm.yaml", fmt.Appendf(nil, config, "wasm"), 0o644), os.WriteFile("topdown.yaml", fmt.Appendf(nil, config, "topdown"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args      string
		code      int
		out, err  string
		machine   string // the engine that -json tells
		whyNoWasm bool
	}{
		{"-engine wasm -against mine", 0, "engine: wasm\n2 decisions replayed, 0 flip\n", "", "wasm", false},
		{"-engine topdown -against mine", 0, "engine: topdown\n2 decisions replayed, 0 flip\n", "", "topdown", false},
		{"-engine auto -against mine", 0, "engine: wasm\n", "", "wasm", false},
		{"-engine auto -against only", 0, "engine: topdown; not wasm: it uses with\n2 decisions", "", "topdown", true},
		{"-against only", 0, "2 decisions", "", "topdown", true},
		{"-c wasm.yaml -against mine", 0, "2 decisions", "", "wasm", false},
		{"-c topdown.yaml -against mine", 0, "2 decisions", "", "topdown", false},
		{"-c topdown.yaml -engine wasm -against mine", 0, "engine: wasm\n", "", "wasm", false},
		{"-engine wasm -against only", exitFailed, "", "engine wasm cannot decide as topdown does: it uses with", "", false},
		{"-c wasm.yaml -against only", exitFailed, "", "engine wasm cannot decide as topdown does: it uses with", "", false},
		{"-engine jit -against mine", exitUsage, "", `-engine: there is no engine "jit"; there are auto, topdown and wasm`, "", false},
	} {
		args := "policy replay -from decisions.ndjson " + tt.args
		code, out, err := nexus(t, args)
		if code != tt.code || !strings.HasPrefix(out, tt.out) || (out == "") != (tt.out == "") || !strings.Contains(err, tt.err) || (err == "") != (tt.err == "") {
			t.Errorf("%s: %d, got\n%s%s", tt.args, code, out, err)
		}
		if tt.machine == "" {
			continue
		}
		var got struct {
			Engine string
			Why    string `json:"why_topdown"`
			Flips  int
		}
		_, out, _ = nexus(t, args+" -json")
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.Engine != tt.machine || (got.Why != "") != tt.whyNoWasm || got.Flips != 0 {
			t.Errorf("%s -json: %v, %s", tt.args, err, out)
		}
	}
}

// TestPolicyReplayBesideABundle: where the gateway gets its policies from is nothing to a replay, which brings its own.
func TestPolicyReplayBesideABundle(t *testing.T) {
	t.Chdir(policyFolder(t))
	const bundled = `auth: {anonymous: true}
backends: {gpu: {kind: vllm, url: http://127.0.0.1:1, price: {input: 1000, output: 2000}}}
pools: {on-site: {models: [m], backends: [gpu]}, cloud: {models: [m], backends: [gpu]}}
policy: {bundle: {url: https://bundles.example.com/nexus.tar.gz}}
`
	if err := os.WriteFile("bundled.yaml", []byte(bundled), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, err := nexus(t, "policy replay -c bundled.yaml -against mine -from decisions.ndjson -access access.ndjson")
	if code != 0 || !strings.HasPrefix(out, "2 decisions replayed, 0 flip\n") || !strings.Contains(out, "estimated cost    0.2000, was 0.2000") || err != "" {
		t.Errorf("%d, got\n%s%s", code, out, err)
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"replay -c bundled.yaml -from decisions.ndjson", exitFailed, "bundled.yaml takes its policies from a bundle; name the folder that it is made of"},
		{"replay -c bundled.yaml -against mine next -from decisions.ndjson", exitUsage, `"next" is one folder too many: there is mine`},
	} {
		if code, out, err := nexus(t, "policy "+tt.args); code != tt.code || out != "" || !strings.Contains(err, tt.want) {
			t.Errorf("%s: %d, got\n%s%s", tt.args, code, out, err)
		}
	}
}

func TestPolicyBench(t *testing.T) {
	t.Chdir(policyFolder(t))
	code, out, err := nexus(t, "policy bench -time 1ms mine")
	if lines := strings.Split(out, "\n"); code != 0 || len(lines) < 3 || !strings.HasPrefix(lines[0], "input   ") || !strings.HasPrefix(lines[1], "decision, topdown   ") ||
		!strings.Contains(lines[0], "paths are read") {
		t.Errorf("%d, %s%s", code, out, err)
	}
	code, out, err = nexus(t, "policy bench -json -time 1ms -request request.json -who tenant=acme rivals")
	var got []struct {
		What, Engine, Note string
		NS, Allocations    float64
		Times              int
	}
	if bad := json.Unmarshal([]byte(out), &got); bad != nil || code != 0 || got[1].Engine != "topdown" || got[1].Times == 0 || got[1].NS == 0 || !strings.Contains(got[1].Note, "conflict") {
		t.Errorf("%d, %v: %s%s", code, bad, out, err)
	}
}

func TestPolicyRecord(t *testing.T) {
	t.Chdir(policyFolder(t))
	code, out, err := nexus(t, "policy record -log decisions.ndjson -access access.ndjson -o recorded.ndjson mine")
	if want := "kept 2 of 3 decisions; 1 without their input; 1 other lines left out; 1 lines left out that are cut off\n"; code != 0 || out != "" || err != want {
		t.Errorf("%d, %s%s, want %s", code, out, err, want)
	}
	text, bad := os.ReadFile("recorded.ndjson")
	if bad != nil || strings.Count(string(text), "\n") != 2 || strings.Contains(string(text), "labels") || !strings.Contains(string(text), `"backend":"gpu-1"`) {
		t.Errorf("recorded %s, %v", text, bad)
	}
	if code, out, err := nexus(t, "policy replay -against mine -from recorded.ndjson"); code != 0 || !strings.HasPrefix(out, "2 decisions replayed, 0 flip\n\nallowed") {
		t.Errorf("replayed: %d, %s%s", code, out, err)
	}
	code, out, err = nexus(t, "policy record -log decisions.ndjson -most 1 mine")
	if code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(err, "kept 1 of 3 decisions; 1 without their input; 1 dropped, over -most") {
		t.Errorf("bounded: %d, %s%s", code, out, err)
	}
}

// TestPolicyRecordSparesWhatItReads: the logs are not emptied to be written to, by whatever name they are called.
func TestPolicyRecordSparesWhatItReads(t *testing.T) {
	t.Chdir(policyFolder(t))
	if err := errors.Join(os.Link("decisions.ndjson", "hard"), os.Symlink("access.ndjson", "soft")); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		var all string
		for _, name := range []string{"decisions.ndjson", "access.ndjson"} {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all += string(text)
		}
		return all
	}
	was := read()
	for _, out := range []string{"decisions.ndjson", "./decisions.ndjson", "hard", "access.ndjson", "soft"} {
		code, _, err := nexus(t, "policy record -log decisions.ndjson -access access.ndjson -o "+out+" mine")
		if want := "nexus policy record: -o " + out + " is the file that is read"; code != exitUsage || !strings.Contains(err, want) {
			t.Errorf("-o %s: %d, %s", out, code, err)
		}
		if read() != was {
			t.Fatalf("-o %s: a log is no longer what it was", out)
		}
	}
	if code, _, err := nexus(t, "policy record -log decisions.ndjson -o recorded.ndjson mine"); code != 0 {
		t.Fatalf("%d, %s", code, err)
	}
	if info, err := os.Stat("recorded.ndjson"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a recording can be read by others: %v, %v", info.Mode(), err)
	}
}
