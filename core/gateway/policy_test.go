package gateway

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

// bundles serves what was put last, as a bundle of one file. It is signed by nobody.
type bundles struct {
	mu   sync.Mutex
	raw  []byte
	tag  string
	down bool
}

func (b *bundles) put(t *testing.T, revision, rego string) {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, f := range [][2]string{{".manifest", fmt.Sprintf(`{"revision":%q}`, revision)}, {"rules.rego", rego}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1])), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.raw, b.tag = out.Bytes(), `"`+revision+`"`
}

func (b *bundles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.down:
		w.WriteHeader(http.StatusBadGateway)
	case r.Header.Get("If-None-Match") == b.tag:
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Header().Set("Etag", b.tag)
		_, _ = w.Write(b.raw)
	}
}

// denies is a policy that refuses every call with this code.
func denies(code string) string {
	return fmt.Sprintf("package nexus.access\n\nno := {\"reason\": \"test\", \"code\": %q}\n", code)
}

// The status tells which engine evaluates, and why it is not Wasm where that might have been.
func TestStatusTellsTheEngine(t *testing.T) {
	_, url := backend(t)
	dir := t.TempDir()
	file, rules := filepath.Join(dir, "nexus.yaml"), filepath.Join(dir, "policy", "rules.rego")
	if err := os.Mkdir(filepath.Dir(rules), 0o700); err != nil {
		t.Fatal(err)
	}
	set := func(policy string) {
		write(t, file, strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}", policy, 1))
	}
	const slow = `package nexus.routes

_attempt := input.attempt

a := {"reason": "x"} if _attempt == 2 with input.attempt as 2
`
	const quick = "package nexus.routes\n\na := {\"reason\": \"x\"} if input.attempt == 1\n"
	write(t, rules, quick)
	set("{deadline: 1s, dir: policy}")
	g, _, admin := runFile(t, file)
	for _, tt := range []struct{ name, policy, rego, engine, why string }{
		{"wasm", "{deadline: 1s, dir: policy}", quick, "wasm", ""},
		{"auto that stays with topdown", "{deadline: 1s, dir: policy}", slow, "topdown", "it uses with"},
		{"topdown that was asked for", "{deadline: 1s, dir: policy, engine: topdown}", slow, "topdown", ""},
		{"no policy", "{enabled: false}", slow, "", ""},
	} {
		write(t, rules, tt.rego)
		set(tt.policy)
		if _, err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Policy struct {
				Engine string
				Why    string `json:"why_topdown"`
			}
		}
		if err := json.Unmarshal([]byte(get(t, "http://"+admin+"/status")), &got); err != nil || got.Policy.Engine != tt.engine || got.Policy.Why != tt.why {
			t.Errorf("%s: got %+v, %v", tt.name, got.Policy, err)
		}
	}
}

// A bundle is taken while calls run and none of them fails or waits, a bad one is not, a rollback goes back to the
// one before, and the revision stands in the status and in both logs.
func TestBundleEndToEnd(t *testing.T) {
	_, url := backend(t)
	source := &bundles{}
	server := httptest.NewServer(source)
	defer server.Close()
	dir := t.TempDir()
	decisions, accesses := filepath.Join(dir, "decisions"), filepath.Join(dir, "accesses")
	text := strings.NewReplacer(
		"{deadline: 1s}", fmt.Sprintf("{deadline: 1s, bundle: {url: %q, poll: 1s, keep: kept}, decision_log: {to: %s}}", server.URL+"/nexus.tar.gz", decisions),
		`access_log: "off"`, "access_log: "+accesses).Replace(fmt.Sprintf(minimal, url))
	file := filepath.Join(dir, "nexus.yaml")
	write(t, file, text)
	source.put(t, "r1", denies("one"))
	g, address, admin := runFile(t, file)
	is := func(code string) func() bool {
		return func() bool {
			_, _, body := told(t, "http://"+address)
			return strings.Contains(body, `"code":"`+code+`"`)
		}
	}
	if !is("one")() {
		t.Error("the bundle does not decide")
	}
	var strange atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, body, err := ask(http.DefaultClient, address, whole)
				if err != nil || status != http.StatusForbidden || !strings.Contains(body, `"code":"one"`) && !strings.Contains(body, `"code":"two"`) {
					strange.Add(1)
				}
			}
		})
	}
	source.put(t, "r2", denies("two"))
	waitFor(t, "the second bundle", is("two"))
	source.put(t, "r3", "package nexus.access\n\nno := {\"reason\": input.tennant}\n")
	waitFor(t, "the third to be refused", func() bool {
		return strings.Contains(get(t, "http://"+admin+"/status"), "rules.rego:3")
	})
	if generation := g.current.Load().generation; generation != 1 {
		t.Errorf("generation %d: a bundle is no configuration", generation)
	}
	turn := func(path string, status int, want string) {
		t.Helper()
		r, err := http.Post("http://"+admin+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		if r.StatusCode != status || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s, want %d and %s", path, r.StatusCode, body, status, want)
		}
	}
	turn("/policy/rollback", http.StatusOK, `"revision": "r1"`)
	if !is("one")() {
		t.Error("rolled back, but the second policy decides")
	}
	turn("/policy/rollback", http.StatusConflict, "no earlier policy is kept")
	turn("/policy/resume", http.StatusConflict, "rules.rego:3")
	source.put(t, "r4", denies("two"))
	waitFor(t, "the fourth bundle to end the rollback", is("two"))
	close(stop)
	load.Wait()
	if n := strange.Load(); n > 0 {
		t.Errorf("%d calls were decided by no policy", n)
	}
	for _, name := range []string{decisions, accesses} {
		waitFor(t, "every revision in "+filepath.Base(name), func() bool {
			text, _ := os.ReadFile(name)
			return bytes.Contains(text, []byte(`revision":"r1"`)) && bytes.Contains(text, []byte(`revision":"r2"`)) && bytes.Contains(text, []byte(`revision":"r4"`))
		})
	}
	source.mu.Lock()
	source.down = true
	source.mu.Unlock()
	_, again, _ := runFile(t, file)
	if _, _, body := told(t, "http://"+again); !strings.Contains(body, `"code":"two"`) {
		t.Errorf("started without the server: %s", body)
	}
}

// A shadow policy is asked, counted and logged; its failures, its server and its hanging change nothing for callers.
func TestShadowEndToEnd(t *testing.T) {
	_, url := backend(t)
	source := &bundles{down: true}
	server := httptest.NewServer(source)
	defer server.Close()
	dir := t.TempDir()
	decisions := filepath.Join(dir, "decisions")
	rules, other := filepath.Join(dir, "main", "rules.rego"), filepath.Join(dir, "next", "rules.rego")
	for _, name := range []string{rules, other} {
		if err := os.Mkdir(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := func(shadow string) string {
		return strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}",
			fmt.Sprintf("{deadline: 1s, dir: main, shadow: %s, decision_log: {to: %s}}", shadow, decisions), 1)
	}
	write(t, rules, "package nexus.access\n\nno := {\"reason\": \"test\"} if input.request.model == \"nothing\"\n")
	write(t, other, denies("next"))
	file := filepath.Join(dir, "nexus.yaml")
	write(t, file, config("{dir: next}"))
	g, address, admin := runFile(t, file)
	served := func() {
		t.Helper()
		if status, _, body := told(t, "http://"+address); status != http.StatusOK {
			t.Errorf("got %d %s", status, body)
		}
	}
	counted := func(series string) func() bool {
		return func() bool {
			served()
			return strings.Contains(get(t, "http://"+admin+"/metrics"), series)
		}
	}
	waitFor(t, "the difference to be counted", counted(`gateway_policy_shadow_differences_total{from="allow",rule="access.no",to="deny"}`))
	waitFor(t, "the difference to be logged", func() bool {
		text, _ := os.ReadFile(decisions)
		return bytes.Contains(text, []byte(`"path":"nexus/shadow"`))
	})
	if status := get(t, "http://"+admin+"/status"); !strings.Contains(status, `"shadow": {`) {
		t.Errorf("status %s", status)
	}
	write(t, other, refusals[2].rego) // never ends by itself
	if _, err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the shadow to pass its deadline", counted(`gateway_policy_shadow_decisions_total{outcome="timeout"}`))
	if text := get(t, "http://"+admin+"/metrics"); strings.Contains(text, `gateway_policy_decisions_total{action="deny"`) {
		t.Error("a call was denied")
	}
	write(t, other, "package nexus.routes\n\nx := {")
	if _, err := g.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "next/rules.rego:3") {
		t.Errorf("a shadow that is no policy: %v", err)
	}
	served()
	write(t, file, config(fmt.Sprintf("{bundle: {url: %q, poll: 1s}}", server.URL)))
	if _, err := g.Reload(t.Context()); err != nil {
		t.Errorf("a shadow whose server is away: %v", err)
	}
	served()
	source.put(t, "s1", denies("next"))
	source.mu.Lock()
	source.down = false
	source.mu.Unlock()
	waitFor(t, "the shadow's bundle", counted(`gateway_policy_shadow_differences_total{from="allow",rule="access.no",to="deny"}`))
	write(t, file, config("{}"))
	if _, err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := get(t, "http://"+admin+"/status"); strings.Contains(status, `"shadow": {`) {
		t.Errorf("status after it was turned off: %s", status)
	}
}

// With its disk full, or nobody reading it, the decision log loses every line, counts it, and holds up no call.
func TestDecisionLogThatCannotBeWritten(t *testing.T) {
	_, url := backend(t)
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	text := strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}", "{deadline: 1s, decision_log: {to: /dev/full}}", 1)
	_, address, admin := run(t, text)
	const calls = 50
	for range calls {
		if status, _, body := told(t, "http://"+address); status != http.StatusOK {
			t.Fatalf("got %d %s", status, body)
		}
	}
	waitFor(t, "every missing line to be counted", func() bool {
		return strings.Contains(get(t, "http://"+admin+"/metrics"), fmt.Sprintf("gateway_policy_log_dropped_total %d\n", calls))
	})
}
