package plugins_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/plugin"
)

// modules are built from source once per test run.
var modules = struct {
	sync.Mutex
	byName map[string][]byte
}{byName: map[string][]byte{}}

func module(t testing.TB, name string) []byte {
	t.Helper()
	modules.Lock()
	defer modules.Unlock()
	if wasm := modules.byName[name]; wasm != nil {
		return wasm
	}
	out := filepath.Join(t.TempDir(), name+".wasm")
	cmd := exec.Command("go", "build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s", "-o", out, "./"+name)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	modules.byName[name] = wasm
	return wasm
}

func decode(name string, data []byte, into any) error {
	_, err := config.Decode(name, data, into)
	return err
}

// hosted loads a plugin into the gateway's own host, with a configuration as an operator writes it.
func hosted(t testing.TB, name, text string, counters plugin.Counters) *plugin.Trial {
	t.Helper()
	trial, err := open(t, name, text, counters)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := trial.Close(); err != nil {
			t.Error(err)
		}
	})
	return trial
}

func open(t testing.TB, name, text string, counters plugin.Counters) (*plugin.Trial, error) {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(name, "manifest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var entry plugin.Entry
	if err := decode("entry", []byte("name: "+name+"\nconfig:\n  "+strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")), &entry); err != nil {
		t.Fatal(err)
	}
	return plugin.OpenTrial(context.Background(), module(t, name), manifest,
		plugin.TrialOptions{Decode: decode, Config: entry.Config, Counters: counters, CacheDir: cache(t), Deadline: 5 * time.Second})
}

var cacheDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "nexus-plugins-test") })

func cache(t testing.TB) string {
	t.Helper()
	dir, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := cacheDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// call makes a call of someone.
func call(t testing.TB, body string, who pipeline.Principal) *pipeline.Call {
	t.Helper()
	c, err := plugin.NewCall(llm.Chat, body)
	if err != nil {
		t.Fatal(err)
	}
	c.Principal = &who
	return c
}

// refusal is the gateway's no in an error, nil when it is none.
func refusal(err error) *pipeline.Refusal {
	var r *pipeline.Refusal
	_ = errors.As(err, &r)
	return r
}

const (
	offers = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"tools":[
		{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string","maxLength":5}},"required":["city"],"additionalProperties":false}}},
		{"type":"function","function":{"name":"shell_run","parameters":{}}},
		{"type":"function","function":{"name":"noop"}}]}`
	called = `{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[
		{"id":"c1","type":"function","function":{"name":"NAME","arguments":"ARGUMENTS"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
	streamed = "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"NAME\",\"arguments\":\"\"}}]}}]}\n\n" +
		"data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"ARGUMENTS\"}}]}}]}\n\n" +
		"data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n"
)

func TestToolGuardHosted(t *testing.T) {
	guard := hosted(t, "tool-guard", `
rules:
  - {tenants: [acme], deny: ["shell*"]}
  - {tenants: [other], allow: [noop]}
message: "NO {tool}: {reason}"
schemas:
  get_weather: {properties: {city: {not: {const: Pompeii}}}}`, nil)
	tests := []struct{ name, tenant, tool, arguments, want string }{
		{"passes", "acme", "get_weather", `{\"city\":\"Seoul\"}`, ""},
		{"denied", "acme", "shell_run", `{}`, "NO shell_run: the caller may not"},
		{"not allowed", "other", "get_weather", `{\"city\":\"Seoul\"}`, "NO get_weather: the caller may not"},
		{"nobody", "nobody", "noop", `{}`, "NO noop: the caller may not"},
		{"not offered", "acme", "invented", `{}`, "NO invented: the request did not offer it"},
		{"against the schema offered", "acme", "get_weather", `{\"city\":\"Ouagadougou\"}`, "maxLength does not fit at /city"},
		{"against the operator's", "acme", "get_weather", `{\"city\":\"Pompeii\"}`, "not does not fit at /city"},
		{"twice", "acme", "get_weather", `{\"city\":\"a\",\"city\":\"b\"}`, "a member is named twice"},
		{"offered without a schema", "other", "noop", ``, ""},
	}
	for _, tt := range tests {
		for kind, answer := range map[string]string{"whole": called, "streamed": streamed} {
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				c := call(t, offers, pipeline.Principal{ID: "k", Tenant: tt.tenant})
				got, err := guard.Reply(context.Background(), c, strings.NewReplacer("NAME", tt.tool, "ARGUMENTS", tt.arguments).Replace(answer))
				if err != nil {
					t.Fatal(err)
				}
				if tt.want == "" {
					if !strings.Contains(got, `"`+tt.tool+`"`) || !strings.Contains(got, tt.arguments) || strings.Contains(got, "NO ") {
						t.Errorf("a good call became %s", got)
					}
					return
				}
				if !strings.Contains(got, tt.want) || strings.Contains(got, `"tool_calls":[{`) || c.Labels["tool_guard.refused"] == "" {
					t.Errorf("got %s (labels %v), want %q", got, c.Labels, tt.want)
				}
			})
		}
	}
	metrics, err := guard.Metrics()
	if err != nil || metrics["refused_rule"] == 0 || metrics["refused_arguments"] == 0 || metrics["offers_forbidden"] == 0 {
		t.Errorf("counted %v, %v", metrics, err)
	}
}

func TestToolGuardEnds(t *testing.T) {
	guard := hosted(t, "tool-guard", "on_refused: end\non_offer: refuse\nrules: [{tenants: [acme]}, {deny: [shell*]}]", nil)
	c := call(t, offers, pipeline.Principal{Tenant: "acme"})
	got, err := guard.Reply(context.Background(), c, strings.ReplaceAll(strings.ReplaceAll(streamed, "NAME", "invented"), "ARGUMENTS", "{}"))
	if strings.Contains(got, "invented\"") || refusal(err) == nil && !strings.Contains(got, "tool_call_refused") {
		t.Errorf("got %s, %v", got, err)
	}
	err = guard.Request(context.Background(), call(t, offers, pipeline.Principal{Tenant: "other"}))
	if r := refusal(err); r == nil || r.Code != "tool_not_allowed" {
		t.Errorf("got %v", err)
	}
}

// store is the counters that replicas share.
type store struct {
	sync.Mutex
	counts map[string]int64
}

func newStore() *store { return &store{counts: map[string]int64{}} }

func (s *store) Get(_ context.Context, key string) (int64, error) {
	s.Lock()
	defer s.Unlock()
	return s.counts[key], nil
}

func (s *store) IncrIf(_ context.Context, key string, amount, limit int64, _ time.Duration) (int64, bool, error) {
	s.Lock()
	defer s.Unlock()
	n := max(s.counts[key]+amount, 0)
	if amount >= 0 && n > limit {
		return 0, false, nil
	}
	s.counts[key] = n
	return n, true, nil
}

func (s *store) total() (n int64) {
	s.Lock()
	defer s.Unlock()
	for _, v := range s.counts {
		n += v
	}
	return n
}

const (
	plain  = `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`
	answer = `{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":4,"completion_tokens":3,"total_tokens":7}}`
)

// TestQuotaUnitsSettles: what a call reserves is corrected to what it used, and given back when it fails.
func TestQuotaUnitsSettles(t *testing.T) {
	s := newStore()
	quota := hosted(t, "quota-units", "limit: 100\nbytes_per_token: 0\nweights: [{request: 1, prompt: 0.5, completion: 2}]", s)
	c := call(t, plain, pipeline.Principal{Tenant: "a"})
	if _, err := quota.Reply(context.Background(), c, answer); err != nil {
		t.Fatal(err)
	}
	if got, want := s.total(), int64(9_000_000); got != want {
		t.Errorf("charged %d, want %d; labels %v", got, want, c.Labels)
	}
	if c.Labels["units.charged"] != "9" || c.Labels["units.remaining"] != "79" {
		t.Errorf("labels %v", c.Labels)
	}
	broken := pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		return nil, &pipeline.Refusal{Status: http.StatusForbidden, Code: "no"}
	})
	if _, err := quota.Stage().Handle(context.Background(), call(t, plain, pipeline.Principal{Tenant: "a"}), broken); refusal(err) == nil {
		t.Fatalf("got %v", err)
	}
	eventually(t, func() bool { return s.total() == 9_000_000 }, func() string { return "what a refused call reserved stays: " + strconv.FormatInt(s.total(), 10) })
}

func eventually(t *testing.T, ok func() bool, what func() string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what())
		}
	}
}

// TestQuotaUnitsReplicas: two replicas on one store let through what the limit allows and not one call more.
func TestQuotaUnitsReplicas(t *testing.T) {
	s := newStore()
	const text = "limit: 25\nweights: [{request: 1}]"
	var passed, refused int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 2 {
		quota := hosted(t, "quota-units", text, s)
		wg.Go(func() {
			for range 20 {
				_, err := quota.Reply(context.Background(), call(t, plain, pipeline.Principal{Tenant: "a"}), answer)
				mu.Lock()
				switch r := refusal(err); {
				case err == nil:
					passed++
				case r != nil && r.Status == http.StatusTooManyRequests && r.Code == "units_exhausted" && r.Retry > 0:
					refused++
				default:
					t.Errorf("got %v", err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if passed != 25 || refused != 15 {
		t.Errorf("%d passed and %d were refused, want 25 and 15", passed, refused)
	}
}

// TestQuotaUnitsCuts: a running answer ends when the limit is passed, and what was used is charged.
func TestQuotaUnitsCuts(t *testing.T) {
	s := newStore()
	quota := hosted(t, "quota-units", "limit: 20\nbytes_per_token: 0\ncut: true\nmost_completion_tokens: 5\nweights: [{completion: 1}]", s)
	var events strings.Builder
	for n := 1; n <= 40; n++ {
		events.WriteString(`data: {"id":"1","choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":` + strconv.Itoa(n) + `,"total_tokens":9}}` + "\n\n")
	}
	events.WriteString("data: [DONE]\n\n")
	c := call(t, strings.Replace(plain, `{`, `{"stream":true,"stream_options":{"include_usage":true},`, 1), pipeline.Principal{Tenant: "a"})
	got, err := quota.Reply(context.Background(), c, events.String())
	if refusal(err) == nil && !strings.Contains(got, "units_exhausted") {
		t.Fatalf("not cut: %v\n%s", err, got)
	}
	if n := strings.Count(got, `"content":"x"`); n < 18 || n > 22 {
		t.Errorf("cut after %d tokens", n)
	}
	eventually(t, func() bool { n := s.total(); return n >= 20_000_000 && n <= 22_000_000 }, func() string { return "charged " + strconv.FormatInt(s.total(), 10) })
}

func TestSystemPromptHosted(t *testing.T) {
	prompt := hosted(t, "system-prompt", "text: \"House rules of {tenant}.\"\nwhere: after\nrules:\n  - {tenants: [raw]}", nil)
	c := call(t, plain, pipeline.Principal{Tenant: "acme"})
	if err := prompt.Request(context.Background(), c); err != nil || c.System.After != "House rules of acme." || c.System.Before != "" {
		t.Errorf("got %+v, %v", c.System, err)
	}
	c = call(t, plain, pipeline.Principal{Tenant: "raw"})
	if err := prompt.Request(context.Background(), c); err != nil || c.System != (pipeline.System{}) {
		t.Errorf("got %+v, %v", c.System, err)
	}
}

func TestHeadersHosted(t *testing.T) {
	headers := hosted(t, "headers", `
rules:
  - require: [X-Project]
    request: {set: {X-Tenant: "{tenant}"}, forward: [X-Project]}
    reply: {set: {X-Gateway: nexus}, remove: [Server]}`, nil)
	c := call(t, plain, pipeline.Principal{Tenant: "acme"})
	if r := refusal(headers.Request(context.Background(), c)); r == nil || r.Status != 400 || r.Code != "header_missing" {
		t.Errorf("got %v", r)
	}
	c = call(t, plain, pipeline.Principal{Tenant: "acme"})
	c.Header.Set("X-Project", "p1")
	if err := headers.Request(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if c.Forward.Get("X-Tenant") != "acme" || c.Forward.Get("X-Project") != "p1" || c.Headers.Get("X-Gateway") != "nexus" || c.Headers["Server"] == nil {
		t.Errorf("to the backend %v, back %v", c.Forward, c.Headers)
	}
}

// TestConfigurationsRefused: a wrong configuration is refused at load, by the manifest's schema or by the plugin.
func TestConfigurationsRefused(t *testing.T) {
	tests := []struct{ name, config, want string }{
		{"tool-guard", "offerd: require", "offerd"},
		{"tool-guard", "schemas: {a: {properties: {b: {pattern: x}}}}", "pattern is not judged here"},
		{"quota-units", "limit: 1", "weights"},
		{"quota-units", "limit: 1\nweights: [{models: [a], request: 1}]", "the last of weights must name no models"},
		{"system-prompt", "where: after", "there is nothing to say"},
		{"system-prompt", "text: \"{user}\"", "{user} is nothing that can be filled in"},
		{"headers", "rules: []", "rules"},
		{"headers", "rules: [{reply: {set: {Content-Length: \"1\"}}}]", "content-length is the gateway's own"},
	}
	for _, tt := range tests {
		trial, err := open(t, tt.name, tt.config, newStore())
		if err == nil {
			_ = trial.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %s: got %v, want %q", tt.name, tt.config, err, tt.want)
		}
	}
}

var _ plugin.Counters = (*store)(nil)

// BenchmarkRequest is a whole pass of a call with a whole answer through one plugin in the host, the reading of both
// included.
func BenchmarkRequest(b *testing.B) {
	for _, one := range []struct{ name, config string }{
		{"headers", "rules: [{request: {set: {X-Tenant: \"{tenant}\"}}, reply: {set: {X-Gateway: nexus}}}]"},
		{"system-prompt", "text: \"House rules of {tenant}.\""},
		{"quota-units", "limit: 1000000000\nweights: [{request: 0.000001}]"},
	} {
		b.Run(one.name, func(b *testing.B) {
			p := hosted(b, one.name, one.config, newStore())
			pass(b, p, plain, answer)
		})
	}
	b.Run("tool-guard", func(b *testing.B) {
		p := hosted(b, "tool-guard", "rules: [{deny: [\"shell*\"]}]\nschemas: {get_weather: {required: [city]}}", nil)
		pass(b, p, strings.Replace(offers, `"stream":true,`, "", 1), strings.NewReplacer("NAME", "get_weather", "ARGUMENTS", `{\"city\":\"Seoul\"}`).Replace(called))
	})
}

func pass(b *testing.B, p *plugin.Trial, body, answer string) {
	c := call(b, body, pipeline.Principal{Tenant: "a"})
	b.ReportAllocs()
	for b.Loop() {
		c.Labels, c.Edits, c.Headers, c.Forward, c.System = nil, nil, nil, nil, pipeline.System{}
		if _, err := p.Reply(context.Background(), c, answer); err != nil {
			b.Fatal(err)
		}
	}
}

// TestToolGuardIsBounded: the most work that a check may do takes no longer than the plugin has.
func TestToolGuardIsBounded(t *testing.T) {
	guard := hosted(t, "tool-guard", "offered: ignore", nil)
	schema := `{\"$defs\":{\"z\":false`
	for c := 'a'; c < 'u'; c++ {
		next := string(c + 1)
		if c == 't' {
			next = "z"
		}
		schema += `,\"` + string(c) + `\":{\"anyOf\":[{\"$ref\":\"#/$defs/` + next + `\"},{\"$ref\":\"#/$defs/` + next + `\"}]}`
	}
	schema = strings.ReplaceAll(schema+`},\"$ref\":\"#/$defs/a\"}`, `\`, "")
	body := strings.Replace(offers, `"parameters":{}`, `"parameters":`+schema, 1)
	begin := time.Now()
	got, err := guard.Reply(context.Background(), call(t, body, pipeline.Principal{}), strings.NewReplacer("NAME", "shell_run", "ARGUMENTS", "{}").Replace(called))
	if err != nil || !strings.Contains(got, "too much to check") {
		t.Errorf("got %s, %v", got, err)
	}
	t.Logf("given up after %v", time.Since(begin))
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
}
