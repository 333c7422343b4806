package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// probeLaws are PROBE.md.
var probeLaws = []law{
	{"probe: configuration", probeConfigures},
	{"probe: on_text", probeTexts},
	{"probe: on_text fails", probeTextFaults},
	{"probe: on_request", probeRequests},
	{"probe: on_request ends the call", probeRefusals},
	{"probe: counters", probeCounts},
	{"probe: http_call", probeHTTP},
	{"probe: log", probeLogs},
	{"probe: on_tool_call", probeToolCalls},
	{"probe: on_usage", probeUsages},
	{"probe: on_end", probeEnds},
	{"probe: a trap is one call's", probeTraps},
}

// probe loads the probe anew. Its manifest without a schema lets the plugin itself judge its configuration.
func (s *subject) probe(ctx context.Context, o plugin.TrialOptions) (*plugin.Trial, error) {
	manifest, _, _ := bytes.Cut(s.manifest, []byte("\nconfig:"))
	o.Decode, o.Deadline, o.CacheDir = Decode, patience, s.options.CacheDir
	return plugin.OpenTrial(ctx, s.wasm, append(bytes.Clone(manifest), '\n'), o)
}

func probeConfigures(ctx context.Context, s *subject) (string, error) {
	long := strings.Repeat("x", 65)
	for _, tt := range []struct {
		config map[string]any
		want   string
	}{
		{map[string]any{"word": ""}, "word must be a text of 1 to 64 bytes"},
		{map[string]any{"word": long}, "word must be a text of 1 to 64 bytes"},
		{map[string]any{"word": 1}, "word must be a text of 1 to 64 bytes"},
		{map[string]any{"with": long}, "with must be a text of up to 64 bytes"},
		{map[string]any{"with": []any{"a"}}, "with must be a text of up to 64 bytes"},
		{map[string]any{"fail": "yes"}, "fail must be true or false"},
		{map[string]any{"log": 1}, "log must be true or false"},
		{map[string]any{"kéy": true}, "unknown key kéy"},
		{map[string]any{"fail": true, "word": "x"}, "asked to fail"},
	} {
		t, err := s.probe(ctx, plugin.TrialOptions{Config: tt.config})
		if err == nil {
			_ = t.Close()
		}
		if err == nil || !strings.HasSuffix(err.Error(), "refuses its configuration: "+tt.want) {
			return "", fmt.Errorf("%v: got %v, want a refusal: %s", tt.config, err, tt.want)
		}
	}
	t, err := s.probe(ctx, plugin.TrialOptions{Config: map[string]any{"word": `비"밀` + "\n😀", "with": `\<`, "fail": false}})
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	got, err := put(ctx, t, kinds()[1], `a 비"밀`+"\n😀 b 비")
	if want := `a \< b 비`; err != nil || got.Text != want {
		return "", fmt.Errorf("got %v, %v; want %q", got, err, want)
	}
	return "", nil
}

func probeTexts(ctx context.Context, s *subject) (string, error) {
	for _, tt := range []struct {
		pieces []string
		want   string
		kinds  int
		held   int
	}{
		{[]string{"a secret b"}, "a [WORD] b", 1, 0},
		{[]string{"a sec", "retsecret", "!"}, "a [WORD][WORD]!", 2, 3},
		{[]string{"sec", "sec", "secre"}, "secsecsecre", 0, 3},
		{[]string{"!", "h"}, "!h", 0, 1},
		{[]string{"!", "hello secret"}, "!hello [WORD]", 1, 1},
		{[]string{"a!trap"}, "a!trap", 0, 0},
		{[]string{"a", "!trap"}, "a!trap", 0, 0},
		{[]string{"!la", "bel secret"}, "!label [WORD]", 1, 3},
	} {
		got, err := put(ctx, s.trial, kinds()[1], tt.pieces...)
		if err != nil || got.Text != tt.want || got.Count != tt.kinds || got.Held != tt.held {
			return "", fmt.Errorf("%q: got %v, %d held, %v; want %q, %d found, %d held", tt.pieces, got, got.Held, err, tt.want, tt.kinds, tt.held)
		}
	}
	for seen, want := range map[string]string{"": "none", "m": "m"} {
		call := newCall()
		if seen != "" {
			call.Labels = map[string]string{"seen": seen}
		}
		if _, err := s.trial.Text(ctx, plugin.TextTrial{Call: call}, "!label"); err != nil || call.Labels["probe"] != want {
			return "", fmt.Errorf("!label: the label is %q, want %q, %v", call.Labels["probe"], want, err)
		}
	}
	got, err := put(ctx, s.trial, kinds()[0], "!refuse me")
	if want := "403 probe_refused: asked to refuse"; err != nil || got.refused != want {
		return "", fmt.Errorf("!refuse: got %v, %v; want %s", got, err, want)
	}
	return "", nil
}

// stops are the causes that a trap may be counted under: some toolchains leave by WASI's proc_exit.
var stops = []string{"trap", "exit"}

func probeTextFaults(ctx context.Context, s *subject) (string, error) {
	for _, tt := range []struct {
		text   string
		causes []string
		why    string
	}{
		{"!trap", stops, ""}, {"!fail", []string{"declared"}, "asked to fail"}, {"!bad", []string{"bad_edit"}, ""}, {"!hold on", []string{"bad_hold"}, ""},
		{"!hold " + strings.Repeat("x", 400), []string{"bad_hold"}, ""},
	} {
		for _, pieces := range [][]string{{tt.text}, {tt.text, "x"}} {
			k := kinds()[0]
			k.Call = newCall()
			_, err := s.trial.Text(ctx, k.TextTrial, pieces...)
			if !slices.Contains(tt.causes, plugin.FaultCause(err)) || !strings.Contains(fmt.Sprint(failure(err)), tt.why) {
				return "", fmt.Errorf("%q: got %v, want a failure by %v %q", pieces, failure(err), tt.causes, tt.why)
			}
		}
	}
	return "", nil
}

// about is a request for a model.
func about(model, more string) string {
	return `{"model":` + quote(model) + `,"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}]` + more + `}`
}

func probeRequests(ctx context.Context, s *subject) (string, error) {
	tools := `,"stream":true,"n":2,"max_tokens":77,"tools":[{"type":"function","function":{"name":"search"}},{"type":"function","function":{"name":"mail"}}]`
	for _, c := range []Case{
		{Request: about("some", tools), Labels: map[string]string{"seen": "some", "tools": "search,mail", "tool_count": "2", "stream": "yes", "bytes": "yes",
			"turns": "2", "choices": "2", "images": "0", "systems": "1", "max_tokens": "77"}},
		{Request: about("some", ""), Labels: map[string]string{"stream": "no", "max_tokens": "-1", "tools": "", "tool_count": "0"}},
		{Request: about(strings.Repeat("m", 257), ""), Labels: map[string]string{"seen": "", "turns": "2"}},
		{Request: about("switch", ""), Labels: map[string]string{"seen": "switch"}, Model: "other"},
		{Request: about("pool", ""), Labels: map[string]string{"seen": "pool"}, Pool: "other"},
		{Request: about("set", ""), Labels: map[string]string{"seen": "set"}, Model: "other", Pool: "other"},
		{Request: about("system", ""), System: map[string]string{"before": "Be brief."}},
		{Request: about("headers", ""), Headers: map[string]string{"x-probe": "1", "server": ""}, Forward: map[string]string{"x-probe-in": "please"}},
		{Request: about("known", ""), Labels: map[string]string{"known": "key-1", "asked": "please", "grade": "a"}},
		{Request: about("time", ""), Labels: map[string]string{"time": "yes", "random": "yes"}},
		{Request: about("answer", ""), Want: new("hello from the probe")},
	} {
		c.Call = Caller{Principal: "key-1", PrincipalLabels: map[string]string{"grade": "a"}, Headers: map[string]string{"X-Ask": "please"}}
		if err := c.request(ctx, s.trial); err != nil {
			return "", fmt.Errorf("%s: %w", c.Request, err)
		}
	}
	bare := Case{Request: about("known", ""), Labels: map[string]string{"known": "none", "asked": "none", "grade": "none"}}
	if err := bare.request(ctx, s.trial); err != nil {
		return "", fmt.Errorf("nobody asks: %w", err)
	}
	return "", probeVault(ctx, s)
}

func probeVault(ctx context.Context, s *subject) error {
	call, err := plugin.NewCall(llm.Chat, about("vault", ""))
	if err != nil {
		return err
	}
	if err := s.trial.Request(ctx, call); err != nil {
		return failure(err)
	}
	if want := []pipeline.Token{{Token: "probe-token", Value: "probe value"}}; !slices.Equal(call.Vault, want) {
		return fmt.Errorf("the vault holds %v, want %v", call.Vault, want)
	}
	return nil
}

func probeRefusals(ctx context.Context, s *subject) (string, error) {
	for model, causes := range map[string][]string{"refuse": {""}, "trap": stops, "fail": {"declared"}} {
		call, err := plugin.NewCall(llm.Chat, about(model, ""))
		if err != nil {
			return "", err
		}
		err = s.trial.Request(ctx, call)
		var no *pipeline.Refusal
		if !errors.As(err, &no) || !slices.Contains(causes, plugin.FaultCause(err)) {
			return "", fmt.Errorf("%s: got %v, want a failure by %v", model, failure(err), causes)
		}
		if model == "refuse" && (no.Status != 402 || no.Code != "probe_refused" || no.Reason != "asked to refuse") {
			return "", fmt.Errorf("refuse: got %d %s %q", no.Status, no.Code, no.Reason)
		}
		if model == "fail" && !strings.Contains(failure(err).Error(), "asked to fail") {
			return "", fmt.Errorf("fail: got %v", failure(err))
		}
		if len(call.Labels) > 0 {
			return "", fmt.Errorf("%s: the labels %v were said", model, call.Labels)
		}
	}
	return "", nil
}

func probeCounts(ctx context.Context, s *subject) (string, error) {
	t, err := s.probe(ctx, plugin.TrialOptions{})
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	for i, tt := range [][2]string{{"read", "0"}, {"count", "1"}, {"count", "2"}, {"count", "full"}, {"read", "2"}} {
		c := Case{Request: about(tt[0], ""), Labels: map[string]string{"count": tt[1]}}
		if err := c.request(ctx, t); err != nil {
			return "", fmt.Errorf("question %d, %s: %w", i, tt[0], err)
		}
	}
	return "", nil
}

// A server answers http_call in the network's place.
type server func(*http.Request) (*http.Response, error)

func (f server) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func probeHTTP(ctx context.Context, s *subject) (string, error) {
	answers := server(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != "POST" || r.URL.String() != "https://probe.test/ask" || r.Header.Get("X-Probe") != "1" || string(body) != "ping" {
			return nil, errors.New("another question was expected")
		}
		return &http.Response{StatusCode: 418, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(strings.Repeat("pong", 20)))}, nil
	})
	silent := server(func(*http.Request) (*http.Response, error) { return nil, errors.New("nobody is there") })
	for _, tt := range []struct {
		o            plugin.TrialOptions
		status, said string
	}{
		{plugin.TrialOptions{Hosts: []string{"probe.test:443"}, HTTP: answers}, "418", strings.Repeat("pong", 16)},
		{plugin.TrialOptions{Hosts: []string{"probe.test:443"}, HTTP: silent}, "no", ""},
		{plugin.TrialOptions{Hosts: []string{"other.test:443"}, HTTP: answers}, "denied", ""},
	} {
		t, err := s.probe(ctx, tt.o)
		if err != nil {
			return "", err
		}
		c := Case{Request: about("http", ""), Labels: map[string]string{"http": tt.status, "said": tt.said, "seen": "http"}}
		if err := errors.Join(c.request(ctx, t), t.Close()); err != nil {
			return "", err
		}
	}
	return "", nil
}

func probeLogs(ctx context.Context, s *subject) (string, error) {
	var lines bytes.Buffer
	t, err := s.probe(ctx, plugin.TrialOptions{Config: map[string]any{"log": true}, Log: slog.New(slog.NewTextHandler(&lines, nil))})
	if err != nil {
		return "", err
	}
	c := Case{Request: about("log", "")}
	if err := errors.Join(c.request(ctx, t), t.Close()); err != nil {
		return "", err
	}
	ready, asked := strings.Count(lines.String(), "probe ready"), strings.Count(lines.String(), "probe was asked")
	if ready == 0 || asked != 1 {
		return "", fmt.Errorf("it logged\n%s", &lines)
	}
	return "", nil
}

func probeToolCalls(ctx context.Context, s *subject) (string, error) {
	for name, c := range map[string]Case{
		"other":   {Want: new(`{"q":"[WORD]"}`)},
		"rewrite": {Want: new(`{"rewritten":true}`)},
		"drop":    {Dropped: true},
		"refuse":  {Refused: "probe_refused"},
	} {
		c.ToolCall = &ToolCall{Name: name, Arguments: `{"q":"secret"}`}
		if err := c.reply(ctx, s.trial); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	call := newCall()
	out, err := s.trial.Reply(ctx, call, toolEvents("drop", "{}"))
	if h, _ := hear(out); err != nil || h.content != "one moment[dropped]" || h.finish != "stop" {
		return "", fmt.Errorf("drop: the caller hears %q, finish %q (%v)", h.content, h.finish, err)
	}
	_, err = s.trial.Reply(ctx, newCall(), toolEvents("trap", "{}"))
	if !slices.Contains(stops, plugin.FaultCause(err)) {
		return "", fmt.Errorf("trap: got %v", err)
	}
	return "", nil
}

func probeUsages(ctx context.Context, s *subject) (string, error) {
	for completion, refused := range map[int64]string{1000: "", 1001: "probe_usage"} {
		c := Case{Usage: &Usage{Prompt: 5000, Completion: completion}, Refused: refused}
		if err := c.reply(ctx, s.trial); err != nil {
			return "", fmt.Errorf("%d tokens: %w", completion, err)
		}
	}
	return "", nil
}

func probeEnds(ctx context.Context, s *subject) (string, error) {
	t, err := s.probe(ctx, plugin.TrialOptions{})
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	for _, answer := range []string{wholeReply(`{"role":"assistant","content":"hi"}`, "stop"), event(`{"content":"hi"}`, "null") + event(`{}`, `"stop"`) + done} {
		if _, err := t.Reply(ctx, newCall(), answer); err != nil {
			return "", failure(err)
		}
	}
	if _, err := t.Ask(ctx, plugin.Question{Hook: "on_end", In: head(abi.EndLength, map[int]uint64{abi.EndSize: abi.EndLength}), Call: newCall(), Reply: true}); err != nil {
		return "", err
	}
	counted, err := t.Metrics()
	if err != nil || !maps.Equal(counted, map[string]float64{"ended": 3}) {
		return "", fmt.Errorf("the counters are %v (%v), want ended 3", counted, err)
	}
	return "", nil
}

// probeTraps: after a trap in any hook the next question is answered as ever.
func probeTraps(ctx context.Context, s *subject) (string, error) {
	for range 3 {
		if _, err := put(ctx, s.trial, kinds()[0], "!trap"); err == nil {
			return "", errors.New("!trap does not trap")
		}
		got, err := put(ctx, s.trial, kinds()[1], "a secret")
		if err != nil || got.Text != "a [WORD]" {
			return "", fmt.Errorf("after a trap: %v, %v", got, err)
		}
	}
	return "", nil
}
