package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/policy"
)

// What the decision log and the access log tell of a call is enough to explain it down to its backend, and to decide it
// again.
func TestACallIsExplained(t *testing.T) {
	_, url := backend(t)
	dir := t.TempDir()
	rules, file := filepath.Join(dir, "policy"), filepath.Join(dir, "nexus.yaml")
	decisions, access := filepath.Join(dir, "decisions.ndjson"), filepath.Join(dir, "access.ndjson")
	if err := os.Mkdir(rules, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(rules, "a.rego"), "package nexus.routes\n\nshort := {\"targets\": [\"default\"]} if input.prompt.tokens_est < 100\n\nlong := {\"targets\": [\"default\"]} if input.prompt.tokens_est > 100\n")
	settings := "{deadline: 1s, dir: policy, decision_log: {to: " + decisions + "}}"
	text := strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}", settings, 1)
	text = strings.Replace(text, `access_log: "off"`, "access_log: "+access, 1)
	write(t, file, text)
	_, address, _ := runFile(t, file)
	status, header, body := told(t, "http://"+address)
	if status != http.StatusOK || header.Get("X-Nexus-Explain") != "" {
		t.Fatalf("%d %v %s", status, header, body)
	}
	waitFor(t, "both logs", func() bool {
		one, _ := os.ReadFile(decisions)
		two, _ := os.ReadFile(access)
		return bytes.HasSuffix(one, []byte("\n")) && bytes.HasSuffix(two, []byte("\n"))
	})
	var call *policy.Recorded
	tally, err := policy.ReadRecords(decisions, open(t, decisions), func(r *policy.Recorded) error { call = r; return nil })
	if err != nil || tally != (policy.Tally{Records: 1}) {
		t.Fatalf("%+v, %v", tally, err)
	}
	uses, err := policy.ReadUses(access, open(t, access), func(id string) bool { return id == call.DecisionID })
	if err != nil || len(uses) != 1 {
		t.Fatalf("%v, %v", uses, err)
	}
	call.Used = uses[call.DecisionID]
	trial, err := policy.OpenTrial(t.Context(), policy.Sources{Files: os.DirFS(rules), Name: "policy"}, policy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := trial.ExplainRecorded(t.Context(), call)
	if err != nil || len(e.Notes) > 0 {
		t.Fatalf("%q, %v", e.Notes, err)
	}
	var b strings.Builder
	if err := e.Print(&b); err != nil || !strings.Contains(b.String(), "chain: routes.short → targets default → backend one, pool default, model mock, status 200\n") ||
		!strings.Contains(b.String(), "  long did not match\n    policy/a.rego:5: input.prompt.tokens_est > 100\n") || call.Used.Prompt == 0 {
		t.Errorf("%v, %+v\n%s", err, call.Used, b.String())
	}
	replay := &policy.Replay{Trial: trial}
	if err := replay.Decide(t.Context(), call); err != nil || replay.Report(tally).Flips != 0 {
		t.Errorf("%v, %+v", err, replay.Report(tally))
	}
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
