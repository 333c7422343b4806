package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// refusals has a policy for every way to give no decision, and what the log calls it.
var refusals = []struct {
	outcome string
	rego    string
}{
	{"undefined", "package nexus\n\ndecision := {\"action\": \"allow\", \"rule\": data.rules[input.request.model]}"},
	{"conflict", "package nexus.routes\n\na := {\"reason\": \"x\"}\n\nb := {\"reason\": \"y\"}"},
	{"timeout", "package nexus.decision\n\ndefault action := \"deny\"\n\naction := \"allow\" if count([1 | some x in numbers.range(1, 100000); some y in numbers.range(1, 100000); x + y < 0]) == 0"},
	{"error", "package nexus.decision\n\ndefault action := \"deny\"\n\naction := \"allow\" if to_number(input.request.model) > 1"},
	{"schema", "package nexus.decision\n\naction := input.request.model"},
}

// What keeps the policy from deciding is counted and logged apart, and looks the same to the caller: a decision
// id, and nothing else. No backend is asked. With its failure rule set to allow, the call goes through.
func TestOutcomesEndToEnd(t *testing.T) {
	mock, url := backend(t)
	bodies := map[string]bool{}
	for _, tt := range refusals {
		t.Run(tt.outcome, func(t *testing.T) {
			dir := t.TempDir()
			file, decisions := filepath.Join(dir, "nexus.yaml"), filepath.Join(dir, "decisions.ndjson")
			rules := filepath.Join(dir, "policy", "rules.rego")
			if err := os.Mkdir(filepath.Dir(rules), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, rules, tt.rego)
			text := strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}", "{deadline: 50ms, dir: policy%s, decision_log: {to: "+decisions+"}}", 1)
			write(t, file, fmt.Sprintf(text, ""))
			g, address, admin := runFile(t, file)
			before := mock.Stats().Requests
			status, header, body := told(t, "http://"+address)
			id := header.Get("X-Nexus-Decision-Id")
			if status != http.StatusForbidden || id == "" || !strings.Contains(body, id) || header.Get("X-Should-Retry") != "false" {
				t.Errorf("got %d %v %s", status, header, body)
			}
			bodies[strings.ReplaceAll(body, id, "ID")] = true
			if n := mock.Stats().Requests; n != before {
				t.Errorf("the backend was asked %d times", n-before)
			}
			metric := fmt.Sprintf(`gateway_policy_decisions_total{action="deny",outcome=%q} 1`, tt.outcome)
			if text := get(t, "http://"+admin+"/metrics"); !strings.Contains(text, metric) {
				t.Errorf("no %s in the metrics", metric)
			}
			var line struct {
				ID       string `json:"decision_id"`
				Revision string
				Outcome  string
				Error    string
			}
			waitFor(t, "the decision to be logged", func() bool {
				log, _ := os.ReadFile(decisions)
				return bytes.HasSuffix(log, []byte("\n")) && json.Unmarshal(log, &line) == nil
			})
			if line.ID != id || line.Outcome != tt.outcome || line.Error == "" || line.Revision == "" {
				t.Errorf("logged %+v", line)
			}
			write(t, file, fmt.Sprintf(text, ", on_"+tt.outcome+": allow"))
			if _, err := g.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			if status, _, body := told(t, "http://"+address); status != http.StatusOK {
				t.Errorf("on_%s allow: %d %s", tt.outcome, status, body)
			}
		})
	}
	if len(bodies) != 1 {
		t.Errorf("callers can tell the outcomes apart: %v", bodies)
	}
}

func told(t *testing.T, address string) (int, http.Header, string) {
	t.Helper()
	r, err := http.Post(address+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"mock","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(body)
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// The decision log can be turned on, rotated and moved while the gateway runs; one that cannot be opened
// refuses the reload.
func TestDecisionLogAcrossReloads(t *testing.T) {
	_, url := backend(t)
	dir := t.TempDir()
	file, first, second := filepath.Join(dir, "nexus.yaml"), filepath.Join(dir, "first"), filepath.Join(dir, "second")
	config := func(to string) string {
		return strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}", "{deadline: 1s, decision_log: {to: "+to+"}}", 1)
	}
	write(t, file, config(`""`))
	g, address, _ := runFile(t, file)
	reload := func() {
		t.Helper()
		if _, err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	lines := func(name string, want int) {
		t.Helper()
		waitFor(t, fmt.Sprintf("%d lines in %s", want, filepath.Base(name)), func() bool {
			text, _ := os.ReadFile(name)
			return bytes.Count(text, []byte("\n")) == want
		})
	}
	told(t, "http://"+address)
	write(t, file, config(first))
	reload()
	told(t, "http://"+address)
	lines(first, 1)
	if err := os.Rename(first, first+".1"); err != nil {
		t.Fatal(err)
	}
	reload()
	told(t, "http://"+address)
	told(t, "http://"+address)
	lines(first, 2)
	lines(first+".1", 1)
	write(t, file, config(filepath.Join(dir, "no", "folder")))
	if _, err := g.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "nexus.yaml:8") {
		t.Errorf("got %v", err)
	}
	told(t, "http://"+address)
	lines(first, 3)
	write(t, file, config(second))
	reload()
	told(t, "http://"+address)
	lines(second, 1)
	lines(first, 3)
}
