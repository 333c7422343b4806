package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/plugins"
)

// A puppet is a backend that keeps what it is sent and answers what it is told.
type puppet struct {
	url string

	mu     sync.Mutex
	got    string
	header http.Header
	status int
	answer string
	queue  []string // answers before answer, in turn
}

func newPuppet(t *testing.T) *puppet {
	t.Helper()
	p := &puppet{status: http.StatusOK}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

func (p *puppet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Method == http.MethodPost { // and not the gateway's own questions
		p.got, p.header = string(body), r.Header
	}
	answer := p.answer
	if len(p.queue) > 0 && r.Method == http.MethodPost {
		answer, p.queue = p.queue[0], p.queue[1:]
	}
	kind := "application/json"
	if strings.HasPrefix(answer, "data:") || strings.HasPrefix(answer, "event:") {
		kind = "text/event-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(p.status)
	_, _ = io.WriteString(w, answer)
}

// then makes the next requests be answered by answers in turn, before what says said.
func (p *puppet) then(answers ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = answers
}

func (p *puppet) says(status int, answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.answer, p.got = status, answer, ""
}

func (p *puppet) heard() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got
}

func needPlugins(t *testing.T) {
	t.Helper()
	if _, err := fs.Stat(plugins.Shipped(), "pii-mask.wasm"); err != nil {
		if os.Getenv("NEXUS_E2E") != "" {
			t.Fatal("the shipped plugins are not built: run make plugins")
		}
		t.Skip("SKIPPED: the shipped plugins are not built; run make plugins")
	}
}

func post(t *testing.T, address, path, body string) (int, string) {
	t.Helper()
	response, err := http.Post("http://"+address+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	out, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(out)
}

const (
	masking = "plugins: {chain: [{name: pii-mask, deadline: 5s}]}\n"
	// personal stands for each kind that is masked; it is written § below.
	personal = `kim@example.com, 010-2345-6789, 900101-1234568, 4111-1111-1111-1111`
	unnamed  = `[EMAIL], [PHONE], [KR_RRN], [CREDIT_CARD]`
	fine     = `{"choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`
	answered = `{"object":"response","status":"completed","output":[],"usage":{"input_tokens":1,"output_tokens":1}}`
)

// TestRequestsLeaveMasked: whatever a body carries text in, the backend sees it masked and nothing else changed.
func TestRequestsLeaveMasked(t *testing.T) {
	needPlugins(t)
	p := newPuppet(t)
	_, address, _ := run(t, fmt.Sprintf(minimal, p.url)+masking)
	const user = `"messages":[{"role":"user","content":"x"}]`
	for _, tt := range []struct{ path, body string }{
		{"/v1/chat/completions", `"messages":[{"role":"system","content":"§"},{"role":"developer","content":"§"},{"role":"user","content":[{"type":"text","text":"§"},"§"]},{"role":"tool","tool_call_id":"x","content":[{"type":"text","text":"§"}]}]`},
		{"/v1/chat/completions", `"messages":[{"role":"assistant","content":null,"reasoning_content":"§","reasoning":"§","refusal":"§","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"a\":\"\\n§\"}"}}],"function_call":{"name":"f","arguments":"{\"a\":\"§\"}"}}]`},
		{"/v1/chat/completions", `"messages":[{"role":"user","name":"§","content":"x","unknown":{"a":["§"]}}]`},
		{"/v1/chat/completions", `"messages":[{"role":"user","content":[{"type":"file","file":{"filename":"§","file_data":"data:text/plain;base64,eA=="}},{"type":"new","value":"§"},{"type":"tool_result","content":[{"type":"text","text":"§"}]}]}]`},
		{"/v1/chat/completions", user + `,"tools":[{"type":"function","function":{"name":"f","description":"§","parameters":{"type":"object","properties":{"url":{"description":"§","type":"string","enum":["§"]}}}}}],"functions":[{"name":"f","description":"§"}]`},
		{"/v1/chat/completions", user + `,"metadata":{"a":"§"},"user":"§","chat_template_kwargs":{"a":"§"},"documents":[{"title":"§","text":"§","x":"§"}],"prediction":{"type":"content","content":"§"},"stop":["§"]`},
		{"/v1/chat/completions", user + `,"response_format":{"type":"json_schema","json_schema":{"description":"§"}},"structured_outputs":{"choice":["§"]},"prompt":"§","input":"§","instructions":"§"`},
		{"/v1/completions", `"prompt":["§","x § y"],"suffix":"§"`},
		{"/v1/embeddings", `"input":["§","§"]`},
		{"/v1/embeddings", `"messages":[{"role":"user","content":"§"}]`},
		{"/v1/responses", `"instructions":"§","input":"§","prompt":{"id":"a","variables":{"x":"§","y":{"type":"input_text","text":"§"}}},"tools":[{"type":"function","name":"f","description":"§"}]`},
		{"/v1/responses", `"input":[{"role":"user","content":[{"type":"input_text","text":"§"},{"type":"input_file","filename":"§"}]},{"type":"function_call","call_id":"a","name":"f","arguments":"{\"a\":\"§\"}"},{"type":"function_call_output","call_id":"a","output":"§"},{"type":"function_call_output","call_id":"a","output":{"a":"§"}}]`},
		{"/v1/responses", `"input":[{"type":"reasoning","summary":[{"type":"summary_text","text":"§"}],"content":[{"type":"reasoning_text","text":"§"}]},{"type":"custom_tool_call","input":"§"},{"type":"code_interpreter_call","code":"§","outputs":[{"type":"logs","logs":"§"}]},{"type":"shell_call_output","output":[{"stdout":"§"}]},{"type":"mcp_call","arguments":"§","output":"§","error":"§"},{"type":"new","text":"§"}]`},
		{"/v1/rerank", `"query":"§","instruction":"§","documents":["§",{"text":"§","x":"§"},{"content":[{"type":"text","text":"§"}]}]`},
		{"/v1/score", `"text_1":"§","text_2":["§"]`},
		{"/v1/score", `"queries":"§","documents":["§"],"data_1":"§","data_2":{"content":[{"type":"text","text":"§"}]},"query":"§","items":["§"]`},
		{"/tokenize", `"prompt":"§"`},
		{"/tokenize", `"messages":[{"role":"user","content":"§"}],"tools":[{"type":"function","function":{"name":"f","description":"§"}}]`},
	} {
		p.says(http.StatusOK, fine)
		if tt.path == "/v1/responses" {
			p.says(http.StatusOK, answered)
		}
		with := func(text string) string { return `{"model":"mock",` + strings.ReplaceAll(tt.body, "§", text) + `}` }
		for _, text := range []string{personal, strings.NewReplacer("0", `\u0030`, "@", `\u0040`).Replace(personal)} {
			if strings.Contains(text, `\`) && strings.Contains(tt.body, `\`) {
				continue // an escape inside of JSON inside of JSON
			}
			status, out := post(t, address, tt.path, with(text))
			if status != http.StatusOK {
				t.Errorf("%s: %d %s", with(text), status, out)
				continue
			}
			if got, want := tree(t, p.heard()), tree(t, with(unnamed)); got != want {
				t.Errorf("%s:\n got %s\nwant %s", tt.path, got, want)
			}
		}
	}
}

// tree is JSON text in one canonical form, without what the gateway itself adds.
func tree(t *testing.T, text string) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	delete(v, "cache_salt")
	b, _ := json.Marshal(v)
	return string(b)
}

// TestRepliesArriveMasked: whatever a whole reply or an event says text in.
func TestRepliesArriveMasked(t *testing.T) {
	needPlugins(t)
	p := newPuppet(t)
	_, address, _ := run(t, fmt.Sprintf(minimal, p.url)+masking)
	const (
		chat      = `{"model":"mock","messages":[{"role":"user","content":"x"}]}`
		chatted   = `{"model":"mock","stream":true,"messages":[{"role":"user","content":"x"}]}`
		responded = `{"model":"mock","stream":true,"input":"x"}`
		end       = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
		usage     = `"usage":{"prompt_tokens":1,"completion_tokens":1}`
	)
	event := func(delta, more string) string {
		return `data: {"id":"c","choices":[{"index":0,"delta":` + delta + more + `,"finish_reason":null}]}` + "\n\n"
	}
	named := func(name, more string) string {
		return "event: response." + name + "\ndata: {\"type\":\"response." + name + `","output_index":0,` + more + "}\n\n"
	}
	for _, tt := range []struct{ name, path, body, answer string }{
		{"whole", "/v1/chat/completions", chat, `{"choices":[{"index":0,"message":{"role":"assistant","content":"§","reasoning":"§","reasoning_content":"§","refusal":"§","audio":{"transcript":"§"},"tool_calls":[{"id":"x","function":{"name":"f","arguments":"{\"a\":\"§\"}"}}],"function_call":{"name":"f","arguments":"{\"a\":\"§\"}"}},"logprobs":{"content":[{"token":"§"}]},"token_ids":[1],"finish_reason":"stop"}],` + usage + `}`},
		{"whole completion", "/v1/completions", `{"model":"mock","prompt":"x","echo":true,"logprobs":1}`, `{"choices":[{"index":0,"text":"§","logprobs":{"tokens":["§"],"text_offset":[0]},"finish_reason":"stop"}],` + usage + `}`},
		{"logprobs before the text", "/v1/chat/completions", chatted, event(`{"content":""}`, `,"logprobs":{"content":[{"token":"§"}]}`) + event(`{}`, `,"logprobs":{"content":[{"token":"§"}]},"token_ids":[5]`) + event(`{"content":"§"}`, "") + end},
		{"parts and speech", "/v1/chat/completions", chatted, event(`{"content":[{"type":"text","text":"§"}]}`, "") + event(`{"audio":{"transcript":"§"}}`, "") + end},
		{"responses", "/v1/responses", responded, named("output_text.delta", `"content_index":0,"delta":"§","logprobs":[{"token":"§"}]`) + named("output_text.done", `"content_index":0,"text":"§"`) +
			named("reasoning_text.delta", `"content_index":0,"delta":"§"`) + named("reasoning_text.done", `"content_index":0,"text":"§"`) +
			named("function_call_arguments.delta", `"delta":"{\"a\":\"§\"}"`) + named("function_call_arguments.done", `"arguments":"{\"a\":\"§\"}"`) +
			named("code_interpreter_call_code.delta", `"delta":"§"`) + named("code_interpreter_call_code.done", `"code":"§"`) +
			named("output_item.done", `"item":{"type":"code_interpreter_call","code":"§","outputs":[{"type":"logs","logs":"§"}]}`) +
			named("output_item.done", `"item":{"type":"mcp_call","output":"§","error":"§"}`) + named("audio.transcript.done", `"transcript":"§"`) +
			named("content_part.done", `"part":{"type":"output_text","text":"§"}`) +
			named("completed", `"response":{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"§"}]}],"usage":{"input_tokens":1,"output_tokens":1}}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.says(http.StatusOK, strings.ReplaceAll(tt.answer, "§", "mail "+personal+"."))
			status, out := post(t, address, tt.path, tt.body)
			if status != http.StatusOK || !strings.Contains(out, "[EMAIL]") {
				t.Errorf("%d %s", status, out)
			}
			for _, secret := range strings.Split(personal, ", ") {
				if strings.Contains(out, secret[len(secret)-7:]) {
					t.Errorf("%s is told in\n%s", secret, out)
				}
			}
		})
	}
}

// TestErrorsQuoteMasks: an error that quotes the prompt quotes what the backend was sent.
func TestErrorsQuoteMasks(t *testing.T) {
	needPlugins(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(llm.AppendError(nil, llm.APIError{Message: "cannot read " + string(body), Type: "BadRequestError"}))
	}))
	defer backend.Close()
	_, address, _ := run(t, fmt.Sprintf(minimal, backend.URL)+masking)
	status, out := post(t, address, "/v1/chat/completions", `{"model":"mock","messages":[{"role":"user","content":"`+personal+`"}]}`)
	if status != http.StatusBadRequest || strings.Contains(out, "6789") || !strings.Contains(out, "[PHONE]") {
		t.Errorf("%d %s", status, out)
	}
}

// TestStreamsSayWhatBodiesSay asks for the same answer whole and streamed, in every framing that the mock knows
// and cut in every number of pieces.
func TestStreamsSayWhatBodiesSay(t *testing.T) {
	needPlugins(t)
	_, url := backend(t)
	_, address, _ := run(t, fmt.Sprintf(minimal, url)+strings.Replace(masking, "name:", "directions: [reply], name:", 1))
	text := "안녕 😀 " + personal + "; \"따옴표\"\n\\\\ tel +82 10 2345 6789, (02) 345-6789 끝 kim@example.com"
	for _, fault := range []string{"none", "crlf", "bytewise", "no-space", "comments", "bytewise;crlf", "malformed-chunk=3", "no-done", "two-dones", "trailing-garbage"} {
		for per := 1; per <= 5; per++ {
			body := func(stream bool, fault string) string {
				directive := fmt.Sprintf("[[mock per=%d fault=%s]]", per, fault)
				b, _ := json.Marshal(map[string]any{"model": "mock-echo", "stream": stream, "n": 2, "messages": []any{
					map[string]any{"role": "system", "content": directive}, map[string]any{"role": "user", "content": text}}})
				return string(b)
			}
			_, out := post(t, address, "/v1/chat/completions", body(false, "none"))
			want := said(t, out)
			status, out := post(t, address, "/v1/chat/completions", body(true, fault))
			got := said(t, out)
			if status != http.StatusOK || len(want) != 2 || got[0] != want[0] || got[1] != want[1] {
				t.Errorf("%s, %d a piece: %d\n got %v\nwant %v", fault, per, status, got, want)
			}
			if strings.Contains(want[0], "6789") || !strings.Contains(want[0], "[PHONE]") {
				t.Fatalf("whole: %v", want)
			}
		}
	}
}

// said gathers what the choices of a chat reply say, streamed or whole.
func said(t *testing.T, reply string) map[int]string {
	t.Helper()
	all := map[int]string{}
	add := func(data []byte, event bool) {
		var v llm.View
		if err := v.Scan(llm.Chat, event, data); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		for _, x := range v.Texts {
			all[x.Choice] += string(llm.AppendText(nil, data, x))
		}
	}
	if strings.HasPrefix(reply, "{") {
		add([]byte(reply), false)
		return all
	}
	r := llm.NewReader(strings.NewReader(reply), llm.Chat, 0)
	defer r.Release()
	for {
		c, err := r.Next()
		if err != nil {
			return all
		}
		if c.Kind == llm.Event {
			add(c.Data, true)
		}
	}
}

// TestCanaries plants what must stay secret wherever a caller can put it, provokes every kind of answer, and
// looks for it in everything that is written down (trust A19).
func TestCanaries(t *testing.T) {
	needPlugins(t)
	var mu sync.Mutex
	var log, spans bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		spans.Write(b)
	}))
	defer collector.Close()
	c := &canaries{key: "nx-canary-key-in-the-environment-0000", written: map[string]string{}}
	c.all = []string{c.key}
	dir := t.TempDir()
	access, decisions := filepath.Join(dir, "access.log"), filepath.Join(dir, "decisions.log")
	calls := 0
	t.Run("calls", func(t *testing.T) { // with its end the gateway stops and writes what it still has
		_, url := backend(t)
		t.Setenv("NEXUS_CANARY_KEY", "a:"+c.key)
		file := filepath.Join(dir, "nexus.yaml")
		write(t, file, strings.NewReplacer(
			`access_log: "off"`, fmt.Sprintf("access_log: %q, traces: {endpoint: %q}", access, collector.URL),
			"anonymous: true", "keys_env: NEXUS_CANARY_KEY",
			"policy: {deadline: 1s}", fmt.Sprintf("policy: {deadline: 1s, decision_log: {to: %q}}", decisions),
		).Replace(fmt.Sprintf(minimal, url))+masking+"quota: {limits: {default: {requests_per_minute: 100000, tokens_per_minute: 100000000}}}\n")
		_, address, admin := runLogged(t, file, slog.New(slog.NewTextHandler(&lockedWriter{w: &log}, &slog.HandlerOptions{Level: slog.LevelDebug})))
		calls = c.plant(t, "http://"+address)
		for _, path := range []string{"/metrics", "/status"} {
			_, c.written[path] = fetch(t, "http://"+admin+path)
		}
	})
	for name, path := range map[string]string{"access log": access, "decision log": decisions} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		c.written[name] = string(b)
	}
	c.written["log"], c.written["spans"] = log.String(), spans.String()
	if lines := strings.Count(c.written["access log"], "\n"); lines != calls {
		t.Errorf("%d access-log lines for %d calls", lines, calls)
	}
	for where, text := range c.written {
		t.Logf("%d bytes in %s", len(text), where)
		if len(text) == 0 {
			t.Errorf("nothing was written: %s", where)
		}
		for _, secret := range append(c.all, "2345-6789") {
			if strings.Contains(text, secret) {
				t.Errorf("%s tells %s", where, secret)
			}
		}
	}
	t.Logf("%d canaries in %d calls", len(c.all), calls)
}

// canaries are texts that must be found nowhere.
type canaries struct {
	key     string // of the one caller
	all     []string
	written map[string]string // by where
}

// new makes one that says where it was put.
func (c *canaries) new(where string) string {
	all := fmt.Sprintf("cnry%02d%s", len(c.all), where)
	c.all = append(c.all, all)
	return all
}

// plant makes calls of every kind and returns how many.
func (c *canaries) plant(t *testing.T, base string) (calls int) {
	t.Helper()
	chat := func(body, credential string) {
		r, _ := http.NewRequest(http.MethodPost, base+"/v1/chat/completions", strings.NewReader(body))
		r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {credential}, "Cookie": {"session=" + c.new("cookie")},
			"X-Secret": {c.new("header")}, "User-Agent": {c.new("agent")}}
		send(t, r)
		calls++
	}
	for i, fault := range []string{"none", "die-after=2", "reset-after=2", "eof-after=2", "error-in-band=2", "error-first", "abort-finish=2", "status=400", "status=429", "status=500", "status=401",
		"reset", "garbage-line", "empty-200", "html", "malformed-chunk=1", "bad-utf8", "gzip", "context-length", "content-filter"} {
		chat(fmt.Sprintf(`{"model":"mock-echo","stream":%v,"user":%q,"metadata":{"a":%q},"messages":[{"role":"system","content":"[[mock fault=%s]]"},{"role":"user","content":"%s 010-2345-6789"}]}`,
			i%2 == 0, c.new("user"), c.new("meta"), fault, c.new("prompt")), "Bearer "+c.key)
	}
	for _, body := range []string{`{"model":"mock","messages":[{"role":"user","content":"` + c.new("broken") + `"`, `{"messages":"` + c.new("wrong") + `","model":"mock"}`,
		`{"model":"mock","model":"` + c.new("twice") + `"}`, `{"model":"mock","n":"` + c.new("n") + `"}`, `{"model":"mock","messages":[{"role":"user","content":"x"}],"chat_template":"` + c.new("template") + `"}`} {
		chat(body, "Bearer "+c.key)
	}
	for _, credential := range []string{"Bearer " + c.new("key"), "Basic " + c.new("basic"), c.new("bare"), "Bearer eyJhbGciOiJub25lIn0." + c.new("jwt") + "."} {
		chat(whole, credential)
	}
	r, _ := http.NewRequest(http.MethodGet, base+"/v1/models?api_key="+c.new("query")+"&key="+c.key, nil)
	send(t, r)
	return calls + 1
}

func send(t *testing.T, r *http.Request) string {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	b, _ := io.ReadAll(response.Body)
	return string(b)
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
