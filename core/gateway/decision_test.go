package gateway

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A witness is a backend that answers every call and remembers what it was asked.
type witness struct {
	url string

	mu    sync.Mutex
	asked []map[string]any
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	w := &witness{}
	s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var call map[string]any
		if r.Method == http.MethodPost && json.Unmarshal(body, &call) == nil {
			w.mu.Lock()
			w.asked = append(w.asked, call)
			w.mu.Unlock()
		}
		out.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(out, fine)
	}))
	t.Cleanup(s.Close)
	w.url = s.URL
	return w
}

// calls gives what was asked since it was last asked for.
func (w *witness) calls() []map[string]any {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.asked = nil }()
	return w.asked
}

// chat sends a chat call and returns all of the answer. key may be empty.
func chat(t *testing.T, address, key, body string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	out, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(out)
}

// acting has a rule for each member of a decision, which claims the calls that ask for the model of its name.
const acting = `package nexus.routes

second := {"targets": ["second"], "reason": "r"} if input.request.model == "case-target"

fallback := {"targets": ["dead", "second"]} if input.request.model == "case-fallback"

weighted := {"targets": ["first", "second"], "weights": {"first": 0, "second": 1}} if input.request.model == "case-weights"

weight := {"targets": [{"pool": "first", "weight": 0}, {"pool": "second", "weight": 3}]} if input.request.model == "case-weight"

model := {"set": {"model": "case-other"}} if input.request.model == "case-model"

tokens := {"set": {"max_tokens": 7}} if input.request.model == "case-tokens"

headers := {"headers": {"x-lane": "느린-slow"}, "tags": {"lane": "slow"}} if input.request.model == "case-headers"
`

const actingAccess = `package nexus.access

denied := {
	"status": 402, "code": "unpaid", "message": "먼저 결제해 주세요.", "retry_after": 2.5,
	"reason": "not for the caller", "headers": {"x-why": "unpaid"}, "tags": {"t": "u"},
} if input.request.model == "case-deny"

plain := {} if input.request.model == "case-plain"

answered := {"action": "respond", "respond": {"text": "점검 중"}, "headers": {"x-lane": "none"}} if input.request.model == "case-respond"
`

const actingLimits = `package nexus.limits

once := {"key": "shared", "requests": 1} if input.request.model == "case-limit"

brief := {"max_tokens": 5} if input.request.model == "case-brief"

few := {"tokens": 5} if input.request.model == "case-few"
`

func actingGateway(t *testing.T) (first, second *witness, address, log string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"routes.rego": acting, "access.rego": actingAccess, "limits.rego": actingLimits} {
		write(t, filepath.Join(dir, name), text)
	}
	first, second = newWitness(t), newWitness(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	log = filepath.Join(t.TempDir(), "decisions.ndjson")
	text := strings.NewReplacer(
		"backends: {one: ", "backends: {two: {kind: vllm, url: "+second.url+"}, three: {kind: vllm, url: "+gone.URL+"}, one: ",
		"pools: {default: {models: [mock, mock-echo], backends: [one]}}",
		`pools: {first: {models: ["case-*"], backends: [one]}, second: {models: [other], backends: [two]}, dead: {models: [none], backends: [three]}}`,
		"{deadline: 1s}", fmt.Sprintf("{deadline: 1s, dir: %q, decision_log: {to: %q}}", dir, log),
	).Replace(fmt.Sprintf(minimal, first.url))
	_, address, _ = run(t, text)
	return first, second, address, log
}

// Every member that a decision may have is acted on.
func TestDecisionsAreCarriedOut(t *testing.T) {
	first, second, address, log := actingGateway(t)
	call := func(name, more string) string {
		return fmt.Sprintf(`{"model":"case-%s",%s"messages":[{"role":"user","content":"hi"}]}`, name, more)
	}
	for _, tt := range []struct {
		name   string
		asked  *witness
		member string
		want   any
	}{
		{"none", first, "model", "case-none"},
		{"target", second, "model", "case-target"},
		{"fallback", second, "model", "case-fallback"},
		{"weights", second, "model", "case-weights"},
		{"weight", second, "model", "case-weight"},
		{"model", first, "model", "case-other"},
		{"tokens", first, "max_tokens", 7.0},
		{"brief", first, "max_tokens", 5.0},
	} {
		for range 5 {
			status, _, out := chat(t, address, "", call(tt.name, ""))
			got := tt.asked.calls()
			if status != http.StatusOK || len(got) != 1 || got[0][tt.member] != tt.want {
				t.Errorf("%s: %d %s; the backend was asked %v, want %s %v", tt.name, status, out, got, tt.member, tt.want)
			}
		}
	}
	if _, _, _ = chat(t, address, "", call("tokens", `"max_tokens":3,`)); first.calls()[0]["max_tokens"] != 3.0 {
		t.Error("the caller's own bound, which is lower, was raised")
	}

	status, header, out := chat(t, address, "", call("deny", ""))
	if status != http.StatusPaymentRequired || header.Get("Retry-After") != "3" || header.Get("X-Why") != "unpaid" || header.Get("X-Nexus-Decision-Id") == "" ||
		!strings.Contains(out, `"code":"unpaid"`) || !strings.Contains(out, "먼저 결제해 주세요.") || strings.Contains(out, "not for the caller") {
		t.Errorf("deny: %d %v %s", status, header, out)
	}
	status, header, out = chat(t, address, "", call("plain", ""))
	if status != http.StatusForbidden || header.Get("X-Should-Retry") != "false" || !strings.Contains(out, header.Get("X-Nexus-Decision-Id")) {
		t.Errorf("a plain denial: %d %v %s", status, header, out)
	}
	if _, header, _ = chat(t, address, "", call("headers", "")); header.Get("X-Lane") != "느린-slow" {
		t.Errorf("headers: %v", header)
	}
	for _, stream := range []string{"false", "true"} {
		status, header, out = chat(t, address, "", call("respond", `"stream":`+stream+","))
		if status != http.StatusOK || header.Get("X-Lane") != "none" || said(t, out)[0] != "점검 중" {
			t.Errorf("respond, stream %s: %d %v %s", stream, status, header, out)
		}
	}
	if status, out := post(t, address, "/v1/completions", `{"model":"case-respond","prompt":"hi"}`); status != http.StatusOK || !strings.Contains(out, `"text":"점검 중"`) {
		t.Errorf("respond to a completion: %d %s", status, out)
	}
	first.calls()
	statuses := map[int]int{}
	for range 4 { // a minute may end among them, once
		status, _, _ = chat(t, address, "", call("limit", ""))
		statuses[status]++
	}
	if statuses[http.StatusTooManyRequests] < 2 || statuses[http.StatusOK] < 1 || statuses[http.StatusTooManyRequests]+statuses[http.StatusOK] != 4 {
		t.Errorf("a limit of one request: %v", statuses)
	}
	if status, _, out = chat(t, address, "", call("few", `"max_tokens":100,`)); status == http.StatusOK {
		t.Errorf("a limit of five tokens: %d %s", status, out)
	}
	waitFor(t, "tags in the decision log", func() bool {
		text, _ := os.ReadFile(log)
		return strings.Contains(string(text), `"tags":{"lane":"slow"}`) && strings.Contains(string(text), `"tags":{"t":"u"}`)
	})
}

// exampleGateway runs an example policy on the two pools that it names, with keys of Korean tenants.
func exampleGateway(t *testing.T, example, more string, pools ...string) (first, second *witness, address string) {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("../../policies/examples", example))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(id, tenant, tier string) string {
		return fmt.Sprintf("{id: %s, sha256: %x, tenant: %q, tier: %q}", id, sha256.Sum256([]byte("nx-"+id+"-key")), tenant, tier)
	}
	first, second = newWitness(t), newWitness(t)
	list := fmt.Sprintf("%s: {models: [m], backends: [one]}", pools[0])
	for _, name := range pools[1:] {
		list += fmt.Sprintf(", %s: {models: [none], backends: [two]}", name)
	}
	text := strings.NewReplacer(
		"{anonymous: true}", "{keys: ["+entry("bank", "한빛은행", "enterprise")+", "+entry("free", "작은회사", "free")+", "+entry("gold", "모름", "gold")+"]}",
		"backends: {one: ", "backends: {two: {kind: vllm, url: "+second.url+"}, one: ",
		"pools: {default: {models: [mock, mock-echo], backends: [one]}}", "pools: {"+list+"}",
		"{deadline: 1s}", fmt.Sprintf("{deadline: 1s, dir: %q, keywords: [대외비]}", dir),
	).Replace(fmt.Sprintf(minimal, first.url))
	_, address, _ = run(t, text+more)
	return first, second, address
}

// Prompts with a resident registration number stay on the local pool, as they were written; others go where their
// model is, masked.
func TestExampleConfidential(t *testing.T) {
	needPlugins(t)
	cloud, local, address := exampleGateway(t, "confidential-stays-local", masking, "cloud", "local")
	text := func(w *witness) string {
		calls := w.calls()
		if len(calls) != 1 {
			return fmt.Sprintf("%d calls", len(calls))
		}
		out, _ := json.Marshal(calls[0]["messages"])
		return string(out)
	}
	for _, tt := range []struct {
		prompt string
		asked  *witness
		want   string
	}{
		{"제 번호는 900101-1234568 입니다", local, "900101-1234568"},
		{"메일은 kim@example.com 입니다", cloud, "[EMAIL]"},
		{"이 문서는 대외비: kim@example.com", local, "kim@example.com"},
	} {
		status, _, out := chat(t, address, "nx-free-key", fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":%q}]}`, tt.prompt))
		if got := text(tt.asked); status != http.StatusOK || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %d %s; the backend got %s, want %s", tt.prompt, status, out, got, tt.want)
		}
	}
}

// A fallback to a backend that is trusted less is masked, although the first target is not.
func TestFallbacksAreMasked(t *testing.T) {
	needPlugins(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "r.rego"), `package nexus.routes

near := {"targets": [{"pool": "near", "mask": "none"}, "far"]} if input.request.model == "near"

gone := {"targets": [{"pool": "gone", "mask": "none"}, "far"]} if input.request.model == "gone"
`)
	near, far := newWitness(t), newWitness(t)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	text := strings.NewReplacer(
		"backends: {one: ", "backends: {two: {kind: vllm, url: "+far.url+"}, three: {kind: vllm, url: "+down.URL+"}, one: ",
		"pools: {default: {models: [mock, mock-echo], backends: [one]}}",
		`pools: {near: {models: [near], backends: [one]}, far: {models: [far], backends: [two]}, gone: {models: [gone], backends: [three]}}`,
		"{deadline: 1s}", fmt.Sprintf("{deadline: 1s, dir: %q}", dir),
	).Replace(fmt.Sprintf(minimal, near.url))
	_, address, _ := run(t, text+masking)
	for _, tt := range []struct {
		model string
		asked *witness
		want  string
	}{{"near", near, "kim@example.com"}, {"gone", far, "[EMAIL]"}} {
		status, _, out := chat(t, address, "", fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"kim@example.com"}]}`, tt.model))
		got, _ := json.Marshal(tt.asked.calls())
		if status != http.StatusOK || !strings.Contains(string(got), tt.want) {
			t.Errorf("%s: %d %s; the backend was asked %s, want %s", tt.model, status, out, got, tt.want)
		}
	}
}

// A mirror sees what plugins let through, whatever the decision shows to the pool that answers.
func TestMirrorsAreMasked(t *testing.T) {
	needPlugins(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "m.rego"), "package nexus.masks\n\nraw := {\"profile\": \"none\"}\n")
	near, far := newWitness(t), newWitness(t)
	text := strings.NewReplacer(
		"backends: {one: ", "backends: {two: {kind: vllm, url: "+far.url+"}, one: ",
		"pools: {default: {models: [mock, mock-echo], backends: [one]}}",
		`pools: {near: {models: [near], backends: [one], mirror: {pool: far, share: 1}}, far: {models: [far], backends: [two]}}`,
		"{deadline: 1s}", fmt.Sprintf("{deadline: 1s, dir: %q}", dir),
	).Replace(fmt.Sprintf(minimal, near.url))
	_, address, _ := run(t, text+masking)
	status, _, out := chat(t, address, "", `{"model":"near","messages":[{"role":"user","content":"kim@example.com"}]}`)
	if got, _ := json.Marshal(near.calls()); status != http.StatusOK || !strings.Contains(string(got), "kim@example.com") {
		t.Errorf("%d %s; the pool was asked %s", status, out, got)
	}
	var seen []map[string]any
	waitFor(t, "the mirror to be asked", func() bool { seen = append(seen, far.calls()...); return len(seen) > 0 })
	if got, _ := json.Marshal(seen); !strings.Contains(string(got), "[EMAIL]") {
		t.Errorf("the mirror was asked %s", got)
	}
}

func TestExampleTenantTiers(t *testing.T) {
	large, small, address := exampleGateway(t, "tenant-tiers", "", "large", "small", "seoul", "cloud")
	body := `{"model":"m","max_tokens":9000,"messages":[{"role":"user","content":"안녕"}]}`
	if status, _, out := chat(t, address, "nx-free-key", body); status != http.StatusOK || small.calls()[0]["max_tokens"] != 512.0 {
		t.Errorf("free: %d %s", status, out)
	}
	if status, _, out := chat(t, address, "nx-bank-key", body); status != http.StatusOK || len(small.calls()) != 1 || len(large.calls()) != 0 { // seoul is the second backend's too
		t.Errorf("한빛은행: %d %s", status, out)
	}
	if status, _, out := chat(t, address, "nx-gold-key", body); status != http.StatusForbidden || !strings.Contains(out, `"code":"unknown_tier"`) {
		t.Errorf("gold: %d %s", status, out)
	}
}

// While nothing is known to be idle, the free tier is told when to come back.
func TestExampleFreeTier(t *testing.T) {
	_, _, address := exampleGateway(t, "free-tier-when-idle", "", "small")
	status, header, out := chat(t, address, "nx-free-key", `{"model":"m","messages":[{"role":"user","content":"안녕"}]}`)
	if status != http.StatusTooManyRequests || header.Get("Retry-After") == "" || !strings.Contains(out, "rate_limit_error") || !strings.Contains(out, "free_tier_busy") {
		t.Errorf("free: %d %v %s", status, header, out)
	}
	if status, _, out := chat(t, address, "nx-bank-key", `{"model":"m","messages":[{"role":"user","content":"안녕"}]}`); status != http.StatusOK {
		t.Errorf("who pays: %d %s", status, out)
	}
}

// A policy that has a mistake is refused with its file, its line and what was meant; the one that runs stays.
func TestAWrongPolicyChangesNothing(t *testing.T) {
	_, url := backend(t)
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.rego")
	write(t, rules, "package nexus.access\n\nno := {\"code\": \"mine\"}\n")
	text := strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}", fmt.Sprintf("{deadline: 1s, dir: %q}", dir), 1)
	g, address, admin := run(t, text)
	for _, tt := range []struct{ rego, want string }{
		{"package nexus.access\n\nno := {", "rules.rego:3: "},
		{"package nexus.access\n\nno := {} if input.tennant.id == \"a\"", "rules.rego:3: input.tennant.id is not in the input schema: did you mean input.principal.tenant?"},
		{"package nexus.access\n\nno := {} if { some b in input.backends; b.kv_usd > 1 }", "rules.rego:3: input.backends[_].kv_usd is not in the input schema: did you mean input.backends[_].kv_used?"},
		{"package nexus.access\n\nno := {} if input.prompt.turns == \"x\"", "rules.rego:3: "},
		{"package nexus.access\n\nno := {\"mesage\": \"x\"}", "rules.rego:3: rule no: unknown member \\\"mesage\\\": did you mean \\\"message\\\"?"},
		{"package nexus.routes\n\nno := {\"targets\": [\"defualt\"]}", "rules.rego:3: there is no pool \\\"defualt\\\": did you mean \\\"default\\\"?"},
		{"package nexus\n\ndecision := {\"action\": \"allow\"} if input.attempt == 1", "rules.rego:3: decision is undefined for calls that none of its rules holds for"},
		{"package nexus.access\n\nno := {} if http.send({\"url\": \"http://a\", \"method\": \"get\"}).status_code == 200", "rules.rego:3: the builtin http.send may not be used in a policy"},
	} {
		write(t, rules, tt.rego)
		_, err := g.Reload(t.Context())
		if err == nil {
			t.Errorf("%s: it was taken", tt.rego)
			continue
		}
		if status := get(t, "http://"+admin+"/status"); !strings.Contains(status, tt.want) {
			t.Errorf("%s: status says\n%v\nwant %s", tt.rego, status, tt.want)
		}
		if status, out, err := ask(http.DefaultClient, address, whole); err != nil || status != http.StatusForbidden || !strings.Contains(out, `"code":"mine"`) {
			t.Errorf("%s: the running policy is gone: %d %s %v", tt.rego, status, out, err)
		}
	}
}
