package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func ev(s string) string { return "data: " + s + "\n\n" }
func q(s string) string  { b, _ := json.Marshal(s); return string(b) }

func TestProbeReply(t *testing.T) {
	var answer string
	var status int
	p := &puppet{}
	p.answer = func(w http.ResponseWriter, body string) {
		ct := "application/json"
		if strings.HasPrefix(answer, "data:") || strings.HasPrefix(answer, "event:") {
			ct = "text/event-stream"
		}
		w.Header().Set("Content-Type", ct)
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}
	s := httptest.NewServer(p)
	defer s.Close()
	_, address, _ := run(t, fmt.Sprintf(minimal, s.URL)+"plugins: {chain: [{name: pii-mask, deadline: 1s}]}\n")
	post := func(path, body string) (int, string) {
		r, err := http.Post("http://"+address+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		out, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(out)
	}
	chat := `{"model":"mock","stream":%v,"messages":[{"role":"user","content":"x"}]}`
	usage := `"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}`
	fin := ev(`{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`) + ev(`{"choices":[],`+usage+`}`) + "data: [DONE]\n\n"
	d := func(delta, more string) string {
		return ev(`{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":` + delta + more + `,"finish_reason":null}]}`)
	}
	for _, tt := range []struct{ name, path, body, answer string; status int }{
		{"whole", "/v1/chat/completions", fmt.Sprintf(chat, false), `{"choices":[{"index":0,"message":{"role":"assistant","content":"P","reasoning":"P","reasoning_content":"P","refusal":"P","audio":{"transcript":"P"},"annotations":[{"url_citation":{"title":"P"}}],"reasoning_details":[{"text":"P"}],"tool_calls":[{"id":"x","function":{"name":"f","arguments":"{\"a\":\"P\"}"}}]},"logprobs":{"content":[{"token":"P"}]},"token_ids":[1],"finish_reason":"stop"}],` + usage + `}`, 200},
		{"whole prompt_logprobs", "/v1/chat/completions", fmt.Sprintf(chat, false), `{"choices":[{"index":0,"message":{"role":"assistant","content":"P"},"finish_reason":"stop"}],"prompt_logprobs":[{"1":{"decoded_token":"P"}}],"prompt_token_ids":[1],` + usage + `}`, 200},
		{"whole kv", "/v1/chat/completions", fmt.Sprintf(chat, false), `{"choices":[{"index":0,"message":{"role":"assistant","content":"ok","thinking":"P"},"finish_reason":"stop","output":"P"}],` + usage + `}`, 200},
		{"error 400", "/v1/chat/completions", fmt.Sprintf(chat, false), `{"error":{"message":"bad prompt: P","type":"x","code":400}}`, 400},
		{"error 400 stream", "/v1/chat/completions", fmt.Sprintf(chat, true), `{"error":{"message":"bad prompt: P","type":"x","code":400}}`, 400},
		{"error in band first", "/v1/chat/completions", fmt.Sprintf(chat, true), ev(`{"error":{"message":"bad prompt: P","type":"x","code":400}}`), 200},
		{"error in band later", "/v1/chat/completions", fmt.Sprintf(chat, true), d(`{"content":"a"}`, "") + ev(`{"error":{"message":"bad prompt: P","type":"x","code":400}}`), 200},
		{"error in body 200", "/v1/chat/completions", fmt.Sprintf(chat, false), `{"error":{"message":"bad prompt: P","type":"x","code":400}}`, 200},
		{"logprobs alone", "/v1/chat/completions", fmt.Sprintf(chat, true), d(`{"content":""}`, `,"logprobs":{"content":[{"token":"P"}]}`) + d(`{"content":"P"}`, "") + fin, 200},
		{"logprobs null delta", "/v1/chat/completions", fmt.Sprintf(chat, true), d(`{}`, `,"logprobs":{"content":[{"token":"P"}]}`) + d(`{"content":"P"}`, "") + fin, 200},
		{"logprobs split", "/v1/chat/completions", fmt.Sprintf(chat, true), d(`{"content":"call 010-23"}`, `,"logprobs":{"content":[{"token":"010-23"}]}`) + d(`{"content":"45-6789."}`, `,"logprobs":{"content":[{"token":"45-6789"}]}`) + fin, 200},
		{"arrays of parts", "/v1/chat/completions", fmt.Sprintf(chat, true), d(`{"content":[{"type":"text","text":"P"}]}`, "") + fin, 200},
		{"completions whole", "/v1/completions", `{"model":"mock","prompt":"x"}`, `{"choices":[{"index":0,"text":"P","logprobs":{"tokens":["P"],"text_offset":[0]},"finish_reason":"stop"}],` + usage + `}`, 200},
		{"responses", "/v1/responses", `{"model":"mock","input":"x","stream":true}`, "event: response.output_text.delta\n" + ev(`{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,"delta":"call 010-2345","logprobs":[{"token":"P"}]}`) + "event: response.output_text.delta\n" + ev(`{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,"delta":"-6789 now"}`) + "event: response.output_text.done\n" + ev(`{"type":"response.output_text.done","item_id":"i","output_index":0,"content_index":0,"text":"call P now","logprobs":[{"token":"P"}]}`) +
			"event: response.code_interpreter_call_code.done\n" + ev(`{"type":"response.code_interpreter_call_code.done","output_index":1,"code":"P"}`) +
			"event: response.output_item.done\n" + ev(`{"type":"response.output_item.done","output_index":1,"item":{"type":"code_interpreter_call","code":"P","outputs":[{"type":"logs","logs":"P"}]}}`) +
			"event: response.output_item.done\n" + ev(`{"type":"response.output_item.done","output_index":1,"item":{"type":"mcp_call","output":"P","error":"P"}}`) +
			"event: response.audio.transcript.done\n" + ev(`{"type":"response.audio.transcript.done","output_index":1,"transcript":"P"}`) +
			"event: response.output_text.annotation.added\n" + ev(`{"type":"response.output_text.annotation.added","output_index":1,"annotation":{"title":"P"}}`) +
			"event: response.completed\n" + ev(`{"type":"response.completed","response":{"id":"r","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"call P now","annotations":[{"title":"P"}]}]},{"type":"function_call","arguments":"{\"a\":\"P\"}"}],"output_text":"P","instructions":"P","error":null,"usage":{"input_tokens":1,"output_tokens":1}}}`), 200},
		{"rerank", "/v1/rerank", `{"model":"mock","query":"x","documents":["x"]}`, `{"results":[{"index":0,"document":{"text":"P"},"relevance_score":0.5}],` + usage + `}`, 200},
		{"tokenize", "/tokenize", `{"model":"mock","prompt":"x"}`, `{"count":1,"tokens":[1],"token_strs":["P"]}`, 200},
	} {
		answer, status = strings.ReplaceAll(tt.answer, "P", pii), tt.status
		answer = strings.ReplaceAll(answer, pii+"rompt", "Prompt")
		code, out := post(tt.path, tt.body)
		if strings.Contains(out, "6789") {
			t.Errorf("LEAK %s: %d %s", tt.name, code, out)
		} else {
			t.Logf("ok %s: %d %s", tt.name, code, out)
		}
	}
}
