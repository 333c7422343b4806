package mock

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server on a free port for the length of the test.
func start(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s, p.URL
}

// ask posts body and returns the status, headers and the whole answer, with the error that ended it.
func ask(t *testing.T, url, body string, header ...string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// A chunk is what a test reads of an event.
type chunk struct {
	ID             string
	Model          string
	PromptTokenIDs []int32 `json:"prompt_token_ids"`
	Choices        []struct {
		Index int
		Text  string
		Delta struct {
			Role, Content    string
			Reasoning        string
			ReasoningContent string `json:"reasoning_content"`
			ToolCalls        []struct {
				ID       string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		FinishReason string  `json:"finish_reason"`
		StopReason   any     `json:"stop_reason"`
		TokenIDs     []int32 `json:"token_ids"`
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	}
	Error *struct {
		Message string
		Code    int
	}
}

// A told is a stream taken apart.
type told struct {
	chunks    []chunk
	text      string // of choice 0
	reasoning string
	args      string
	ids       []int32
	finish    string
	dones     int
	broken    int // events that are no JSON
}

func tell(t *testing.T, body string) told {
	t.Helper()
	var out told
	sc := bufio.NewScanner(strings.NewReader(body))
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		data, ok := strings.CutPrefix(sc.Text(), "data:")
		data = strings.TrimSpace(data)
		switch {
		case !ok:
		case data == "[DONE]":
			out.dones++
		default:
			out.add(data)
		}
	}
	return out
}

func (o *told) add(data string) {
	var c chunk
	dec := json.NewDecoder(strings.NewReader(data))
	if dec.Decode(&c) != nil {
		o.broken++
		return
	}
	o.chunks = append(o.chunks, c)
	for _, ch := range c.Choices {
		if ch.Index != 0 {
			continue
		}
		o.text += ch.Delta.Content + ch.Text
		o.reasoning += ch.Delta.Reasoning + ch.Delta.ReasoningContent
		o.ids = append(o.ids, ch.TokenIDs...)
		for _, tc := range ch.Delta.ToolCalls {
			o.args += tc.Function.Arguments
		}
		if ch.FinishReason != "" {
			o.finish = ch.FinishReason
		}
	}
}

const hello = `{"model":"mock","messages":[{"role":"user","content":"hello, 안녕 🎉"}]}`

// with adds members to a JSON object.
func with(body, members string) string {
	return strings.TrimSuffix(body, "}") + "," + members + "}"
}

func TestWholeAndStreamSayTheSame(t *testing.T) {
	for _, kind := range []Kind{VLLM, SGLang} {
		_, url := start(t, Options{Kind: kind, Tokens: 50})
		_, whole, err := ask(t, url+"/v1/chat/completions", hello)
		if err != nil {
			t.Fatal(err)
		}
		var w struct {
			Choices []struct {
				Message      struct{ Content string }
				FinishReason string `json:"finish_reason"`
			}
			Usage struct {
				CompletionTokens int `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(whole), &w); err != nil {
			t.Fatalf("%v in %s", err, whole)
		}
		resp, stream, err := ask(t, url+"/v1/chat/completions", with(hello, `"stream":true,"stream_options":{"include_usage":true}`))
		if err != nil {
			t.Fatal(err)
		}
		got := tell(t, stream)
		if got.text == "" || got.text != w.Choices[0].Message.Content {
			t.Errorf("%s: streamed %q, whole %q", kind, got.text, w.Choices[0].Message.Content)
		}
		if got.finish != "stop" || w.Choices[0].FinishReason != "stop" || got.dones != 1 || got.broken != 0 {
			t.Errorf("%s: finish %q and %q, %d [DONE], %d broken", kind, got.finish, w.Choices[0].FinishReason, got.dones, got.broken)
		}
		last := got.chunks[len(got.chunks)-1]
		if len(last.Choices) != 0 || last.Usage == nil || last.Usage.Completion != 50 || w.Usage.CompletionTokens != 50 {
			t.Errorf("%s: last chunk %+v, whole usage %+v, want 50 completion tokens", kind, last, w.Usage)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream; charset=utf-8" {
			t.Errorf("%s: content type %q", kind, ct)
		}
	}
}

func TestFaults(t *testing.T) {
	s, url := start(t, Options{Tokens: 20})
	stream := with(hello, `"stream":true,"stream_options":{"include_usage":true}`)
	_, body, _ := ask(t, url+"/v1/chat/completions", stream)
	whole := tell(t, body).text
	prefix := func(n int) string {
		var b bytes.Buffer
		for _, c := range tell(t, body).chunks {
			if len(c.Choices) > 0 && c.Choices[0].Delta.Content != "" && n > 0 {
				b.WriteString(c.Choices[0].Delta.Content)
				n--
			}
		}
		return b.String()
	}
	tests := []struct {
		fault       string
		text        string
		status      int
		fails       bool
		dones       int
		finish      string
		broken      int
		errors      int
		contentType string
	}{
		{fault: "die-after=5", text: prefix(5), status: 200, fails: true},
		{fault: "reset-after=5", status: 200, fails: true, text: "?"},
		{fault: "eof-after=5", text: prefix(5), status: 200},
		{fault: "stall-after=5;for=20ms", text: prefix(5), status: 200, fails: true},
		{fault: "error-in-band=5", text: prefix(5), status: 200, dones: 1, errors: 1},
		{fault: "error-first;code=503", status: 200, dones: 1, errors: 1},
		{fault: "abort-finish=5", text: prefix(5), status: 200, dones: 1, finish: "abort"},
		{fault: "die-after=20", text: whole, status: 200, fails: true},
		{fault: "malformed-chunk=3", text: whole, status: 200, dones: 1, finish: "stop", broken: 1},
		{fault: "no-done", text: whole, status: 200, finish: "stop"},
		{fault: "two-dones", text: whole, status: 200, dones: 2, finish: "stop"},
		{fault: "trailing-garbage", text: whole, status: 200, dones: 1, finish: "stop", broken: 1},
		{fault: "big-event=200000", text: whole, status: 200, dones: 1, finish: "stop"},
		{fault: "crlf;no-space;comments", text: whole, status: 200, dones: 1, finish: "stop"},
		{fault: "bytewise", text: whole, status: 200, dones: 1, finish: "stop"},
		{fault: "slow-drip=1us", text: whole, status: 200, dones: 1, finish: "stop"},
		{fault: "gzip", text: whole, status: 200, dones: 1, finish: "stop"},
		{fault: "no-usage", text: whole, status: 200, dones: 1, finish: "stop"},
		{fault: "empty-200", status: 200},
		{fault: "html", status: 200, contentType: "text/html"},
		{fault: "status=502;html", status: 502, contentType: "text/html"},
		{fault: "status=500", status: 500, contentType: "application/json"},
		{fault: "status=429;retry-after=2", status: 429},
		{fault: "context-length", status: 400},
		{fault: "content-filter", status: 400, errors: 0},
		{fault: "no-prefill", text: whole, status: 200, dones: 1, finish: "stop"},
		{fault: "headers-then-nothing;for=20ms", status: 200, fails: true},
		{fault: "reset", fails: true},
		{fault: "garbage-line", fails: true},
		{fault: "hang;for=20ms", fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			resp, body, err := ask(t, url+"/v1/chat/completions", stream, "x-mock-fault", tt.fault)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %v", err, tt.fails)
			}
			if resp == nil {
				if tt.status != 0 {
					t.Fatalf("no response: %v", err)
				}
				return
			}
			got := tell(t, body)
			errors := 0
			for _, c := range got.chunks {
				if c.Error != nil {
					errors++
				}
			}
			if resp.StatusCode != tt.status || got.dones != tt.dones || got.finish != tt.finish || got.broken != tt.broken || errors != tt.errors {
				t.Errorf("got status %d, dones %d, finish %q, broken %d, errors %d; want %+v", resp.StatusCode, got.dones, got.finish, got.broken, errors, tt)
			}
			if got.text != tt.text && tt.text != "?" {
				t.Errorf("text %q, want %q", got.text, tt.text)
			}
			if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, tt.contentType) {
				t.Errorf("content type %q, want %q", ct, tt.contentType)
			}
			if tt.status == 429 && resp.Header.Get("Retry-After") != "2" {
				t.Errorf("no retry-after on %v", resp.Header)
			}
		})
	}
	if got := s.Stats().Faults; got != int64(len(tests)) {
		t.Errorf("%d faults counted, want %d", got, len(tests))
	}
}
