package gateway

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const everything = "[answer, call_get, headers, http_call, kv_get, kv_incr_if, label_get, label_set, log, metric, model, now_ms, pool, random, system, vault_put]"

// probe is the Go SDK's probe, which does on demand all that a plugin can do.
var probe = sync.OnceValues(func() ([]byte, error) { return buildGuest("../../sdk/go/probe") })

// probed is a gateway with the probe in its chain, before two backends; the second is the pool other.
func probed(t *testing.T, policy string) (first, second *puppet, address, admin string) {
	t.Helper()
	wasm, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("../../sdk/go/probe/manifest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "probe.wasm"), string(wasm))
	write(t, filepath.Join(dir, "probe.yaml"), string(manifest))
	first, second = newPuppet(t), newPuppet(t)
	pools := strings.NewReplacer(
		"models: [mock, mock-echo]", "models: [m, answer, refuse, trap, system, pool, set, switch, other, headers, vault], model: real",
		"backends: [one]}}", "backends: [one]}, other: {models: [elsewhere], backends: [two]}}",
		"backends: {one:", fmt.Sprintf("backends: {two: {kind: openai, url: %q}, one:", second.url),
		"{deadline: 1s}", "{deadline: 1s"+policy+"}")
	text := pools.Replace(fmt.Sprintf(minimal, first.url))
	_, address, admin = run(t, text+fmt.Sprintf("plugins: {dir: %q, breaker: {failures: 0}, chain: [{name: probe, deadline: 5s, capabilities: %s, http: {hosts: [\"probe.test:443\"]}}]}\n", dir, everything))
	return first, second, address, admin
}

// chatOf is a chat call of a model.
func chatOf(model string, stream bool) string {
	return fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"hi"}]}`, model, stream)
}

// replyOf is a backend's reply with some text and calls of tools, whole or streamed.
func replyOf(stream bool, completion int, tools ...string) string {
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":3,"completion_tokens":%d}`, completion)
	reason := "stop"
	if len(tools) > 0 {
		reason = "tool_calls"
	}
	call := func(i int, name, arguments string) string {
		return fmt.Sprintf(`{"index":%d,"id":"call-%d","type":"function","function":{"name":%q,"arguments":%q}}`, i, i, name, arguments)
	}
	var calls []string
	if !stream {
		for i, name := range tools {
			calls = append(calls, call(i, name, `{"a":1}`))
		}
		return `{"choices":[{"index":0,"message":{"role":"assistant","content":"text","tool_calls":[` + strings.Join(calls, ",") + `]},"finish_reason":"` + reason + `"}],` + usage + `}`
	}
	event := func(delta, finish, more string) string {
		return `data: {"id":"c","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + `}]` + more + "}\n\n"
	}
	all := event(`{"role":"assistant","content":"text"}`, "null", "")
	for i, name := range tools {
		all += event(`{"tool_calls":[`+call(i, name, `{"a`)+`]}`, "null", "") +
			event(fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":"\":1}"}}]}`, i), "null", "")
	}
	return all + event("{}", `"`+reason+`"`, "") + `data: {"id":"c","choices":[],` + usage + "}\n\ndata: [DONE]\n\n"
}

// TestToolCallsOverHTTP: what a plugin says of a tool call is what the caller gets, in a body and in a stream.
func TestToolCallsOverHTTP(t *testing.T) {
	backend, _, address, _ := probed(t, "")
	const (
		fails   = `plugin_failed`
		refuses = `probe_refused`
	)
	for _, tt := range []struct {
		tools           []string
		status          int // of a whole reply; a stream has begun
		has, hasNot     []string
		streams, broken bool
	}{
		{tools: []string{"f"}, status: 200, has: []string{`text`, `"f"`, `call-0`, `tool_calls"`}},
		{tools: []string{"drop"}, status: 200, has: []string{`text`, `[dropped]`, `"stop"`}, hasNot: []string{`"drop"`, `call-0`, `"tool_calls","`}},
		{tools: []string{"drop", "f"}, status: 200, has: []string{`[dropped]`, `"f"`, `call-1`, `"tool_calls"`}, hasNot: []string{`"drop"`, `call-0`}},
		{tools: []string{"f", "rewrite"}, status: 200, has: []string{`"f"`, `"rewrite"`, `{\"rewritten\":true}`, `call-1`}},
		{tools: []string{"refuse"}, status: 403, has: []string{refuses}, hasNot: []string{`"refuse"`, `call-0`, `[DONE]`}, broken: true},
		{tools: []string{"f", "refuse"}, status: 403, has: []string{refuses}, hasNot: []string{`"refuse"`, `call-1`, `[DONE]`}, broken: true},
		{tools: []string{"trap"}, status: 503, has: []string{fails}, hasNot: []string{`"trap"`, `call-0`, `[DONE]`}, broken: true},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v %t", tt.tools, stream), func(t *testing.T) {
				backend.says(http.StatusOK, replyOf(stream, 5, tt.tools...))
				status, out := post(t, address, "/v1/chat/completions", chatOf("m", stream))
				want := tt.status
				if stream {
					want = http.StatusOK
				}
				if status != want {
					t.Errorf("status %d, want %d", status, want)
				}
				if stream && strings.HasSuffix(out, "data: [DONE]\n\n") == tt.broken {
					t.Errorf("its end: broken should be %t", tt.broken)
				}
				contains(t, out, tt.has, tt.hasNot)
			})
		}
	}
}

// TestRefusedToolCallHasAStatus: a stream of which nothing has been let go is refused like a whole reply.
func TestRefusedToolCallHasAStatus(t *testing.T) {
	backend, _, address, _ := probed(t, "")
	_, calls, _ := strings.Cut(replyOf(true, 5, "refuse"), "\n\n") // without the text
	backend.says(http.StatusOK, calls)
	status, out := post(t, address, "/v1/chat/completions", chatOf("m", true))
	if contains(t, out, []string{"probe_refused"}, []string{"data:"}); status != http.StatusForbidden {
		t.Errorf("%d %s", status, out)
	}
}

func contains(t *testing.T, out string, has, hasNot []string) {
	t.Helper()
	for _, s := range has {
		if !strings.Contains(out, s) {
			t.Errorf("no %s in %s", s, out)
		}
	}
	for _, s := range hasNot {
		if strings.Contains(out, s) {
			t.Errorf("%s in %s", s, out)
		}
	}
}

// TestRequestHooksOverHTTP: an answer asks no backend; system text, headers, pool and model reach theirs.
func TestRequestHooksOverHTTP(t *testing.T) {
	first, second, address, _ := probed(t, "")
	send := func(model string, stream bool) (*http.Response, string) {
		t.Helper()
		first.says(http.StatusOK, replyOf(stream, 5))
		second.says(http.StatusOK, replyOf(stream, 5))
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(chatOf(model, stream)))
		r.Header = http.Header{"Content-Type": {"application/json"}, "X-Ask": {"asked"}, "Cookie": {"secret"}}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		out, err := io.ReadAll(response.Body)
		if err != nil || model != "refuse" && response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %v %s", model, response.StatusCode, err, out)
		}
		return response, string(out)
	}
	for _, stream := range []bool{false, true} {
		_, out := send("answer", stream)
		if contains(t, out, []string{"hello from the probe", `"stop"`}, nil); first.heard()+second.heard() != "" {
			t.Error("a backend was asked for what a plugin answered")
		}
		send("system", stream)
		contains(t, first.heard(), []string{`{"role":"system","content":"Be brief."},{"role":"user"`}, nil)
		for _, model := range []string{"pool", "set"} {
			if send(model, stream); first.heard() != "" || second.heard() == "" {
				t.Errorf("%s: the pool that was chosen was not asked", model)
			}
		}
		if send("switch", stream); !strings.Contains(first.heard(), `"model":"real"`) {
			t.Errorf("got %s", first.heard())
		}
		response, _ := send("headers", stream)
		if response.Header.Get("X-Probe") != "1" || first.header.Get("X-Probe-In") != "asked" || first.header.Get("Cookie") != "" {
			t.Errorf("the caller got %v, the backend %v", response.Header, first.header)
		}
		if response, out := send("refuse", stream); response.StatusCode != http.StatusPaymentRequired || first.heard() != "" {
			t.Errorf("refused: %d %s", response.StatusCode, out)
		}
	}
}

// TestUsageRefusedOverHTTP: too much ends a stream with an error event, and is the answer in place of a whole reply.
func TestUsageRefusedOverHTTP(t *testing.T) {
	backend, _, address, _ := probed(t, "")
	backend.says(http.StatusOK, replyOf(false, 1001))
	status, out := post(t, address, "/v1/chat/completions", chatOf("m", false))
	if contains(t, out, []string{"probe_usage"}, []string{`"content"`}); status != http.StatusTooManyRequests {
		t.Errorf("%d %s", status, out)
	}
	backend.says(http.StatusOK, replyOf(true, 1001))
	status, out = post(t, address, "/v1/chat/completions", chatOf("m", true))
	if contains(t, out, []string{"probe_usage", `"text"`}, []string{"[DONE]"}); status != http.StatusOK {
		t.Errorf("%d %s", status, out)
	}
}

// TestEndOverHTTP: a plugin is told of the end of every call once, also of one whose caller leaves.
func TestEndOverHTTP(t *testing.T) {
	backend, _, address, admin := probed(t, "")
	ended := func() int {
		_, text := fetch(t, "http://"+admin+"/metrics")
		return int(metric(text, "gateway_plugin_metric_total"))
	}
	calls := 0
	for _, tt := range []struct {
		model, answer string
		status        int
		leaves        bool
	}{
		{"m", replyOf(true, 5, "f"), 200, false},
		{"m", replyOf(false, 5, "f"), 200, false},
		{"m", replyOf(true, 5, "refuse"), 200, false},
		{"m", replyOf(true, 1001), 200, false},
		{"answer", "", 200, false},
		{"refuse", "", 200, false},
		{"trap", "", 200, false},
		{"m", `{"error":{"message":"no"}}`, 400, false},
		{"m", `{`, 200, false},
		{"m", `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 1<<20) + "\"}}]}\n\n" + replyOf(true, 5), 200, true},
	} {
		backend.says(tt.status, tt.answer)
		for _, stream := range []bool{true, false} {
			if stream != strings.HasPrefix(tt.answer, "data:") && tt.answer != "" {
				continue
			}
			calls++
			if tt.leaves {
				leave(t, address, chatOf(tt.model, stream))
				continue
			}
			post(t, address, "/v1/chat/completions", chatOf(tt.model, stream))
		}
	}
	waitFor(t, "every end to be told", func() bool { return ended() >= calls })
	time.Sleep(50 * time.Millisecond)
	if n := ended(); n != calls {
		t.Errorf("%d ends of %d calls", n, calls)
	}
}

// leave sends a call and goes once the reply has begun.
func leave(t *testing.T, address, body string) {
	t.Helper()
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = response.Body.Read(make([]byte, 10))
	_ = response.Body.Close()
}

// TestRestoreOverHTTP: what a plugin took out comes back where policy says so, however the reply is cut, and only there.
func TestRestoreOverHTTP(t *testing.T) {
	rules := t.TempDir()
	write(t, filepath.Join(rules, "masks.rego"), "package nexus.masks\n\na := {\"restore\": true} if input.request.model == \"vault\"\n")
	for name, policy := range map[string]string{"restored": fmt.Sprintf(", dir: %q", rules), "left": ""} {
		t.Run(name, func(t *testing.T) {
			backend, _, address, _ := probed(t, policy)
			const token = "probe-token"
			for cut := range len(token) {
				event := func(text string) string {
					return `data: {"choices":[{"index":0,"delta":{"content":"` + text + `"}}]}` + "\n\n"
				}
				backend.says(http.StatusOK, event("<"+token[:cut])+event(token[cut:]+">")+replyOf(true, 5))
				for _, model := range []string{"vault", "m"} {
					_, out := post(t, address, "/v1/chat/completions", chatOf(model, true))
					want := "<" + token + ">"
					if name == "restored" && model == "vault" {
						want = "<probe value>"
					}
					if got := said(t, out)[0]; got != want+"text" {
						t.Errorf("%s, cut at %d: got %q, want %q", model, cut, got, want)
					}
				}
			}
		})
	}
}

// TestRestoreOverASeam: an answer that breaks off inside what stands for a value, and goes on at another attempt, is one
// text to those who look at it.
func TestRestoreOverASeam(t *testing.T) {
	rules := t.TempDir()
	write(t, filepath.Join(rules, "masks.rego"), "package nexus.masks\n\na := {\"restore\": true} if input.request.model == \"vault\"\n")
	backend, _, address, _ := probed(t, fmt.Sprintf(", dir: %q", rules))
	const token = "probe-token"
	for cut := 1; cut < len(token); cut++ {
		event := func(text string) string {
			return `data: {"choices":[{"index":0,"delta":{"content":"` + text + `"}}]}` + "\n\n"
		}
		backend.says(http.StatusOK, "")
		backend.then(event("<"+token[:cut]), event(token[cut:]+">")+replyOf(true, 5))
		_, out := post(t, address, "/v1/chat/completions", chatOf("vault", true))
		if got := said(t, out)[0]; got != "<probe value>text" || strings.Count(out, "[DONE]") != 1 {
			t.Errorf("cut at %d: got %q", cut, got)
		}
		if sent := backend.heard(); !strings.Contains(sent, `"content":"<`+token[:cut]+`"`) {
			t.Errorf("cut at %d: the backend is not told what it had said: %s", cut, sent)
		}
	}
}

// TestReloadWaitsForNobody: the last caller of an old configuration is not kept waiting by what its plugins still have to do.
func TestReloadWaitsForNobody(t *testing.T) {
	wasm, err := buildGuest("../plugin/testdata/chaos")
	if err != nil {
		t.Fatal(err)
	}
	_, url := backend(t)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, filepath.Join(dir, "chaos.wasm"), string(wasm))
	write(t, filepath.Join(dir, "chaos.yaml"), "name: chaos\nhooks: [on_request, on_text, on_tool_call, on_usage, on_end]\ncapabilities: [log]\n")
	setting := func(harm string) string {
		return fmt.Sprintf(minimal, url) + fmt.Sprintf("plugins: {dir: %q, chain: [{name: chaos, deadline: 4s, on_error: allow, capabilities: [log], config: {harm: %q, place: on_end}}]}\n", dir, harm)
	}
	write(t, file, setting("loop"))
	g, address, _ := runFile(t, file)
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"mock","stream":true,"messages":[{"role":"user","content":"[[mock tokens=20 pace=20ms]]"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	write(t, file, setting("none"))
	if _, err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if out, err := io.ReadAll(response.Body); err != nil || !strings.HasSuffix(string(out), "data: [DONE]\n\n") {
		t.Errorf("%v %s", err, out)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the reply's end came after %v", took)
	}
}
