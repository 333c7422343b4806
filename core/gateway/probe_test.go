package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

type puppet struct {
	sync.Mutex
	got    string
	answer func(w http.ResponseWriter, body string)
}

func (p *puppet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	p.Lock()
	p.got = string(b)
	p.Unlock()
	p.answer(w, string(b))
}

const pii = "010-2345-6789"

func TestProbeRequest(t *testing.T) {
	p := &puppet{answer: func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"object":"x","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`)
	}}
	s := httptest.NewServer(p)
	defer s.Close()
	_, address, _ := run(t, fmt.Sprintf(minimal, s.URL)+"plugins: {chain: [{name: pii-mask, deadline: 1s}]}\n")
	for _, tt := range []struct{ path, body string }{
		{"/v1/chat/completions", `{"messages":[{"role":"system","content":"P"},{"role":"developer","content":"P"},{"role":"user","content":[{"type":"text","text":"P"}]},{"role":"tool","tool_call_id":"x","content":[{"type":"text","text":"P"}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"assistant","content":null,"reasoning_content":"P","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"a\":\"P\"}"}}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"a\":\"\\u0030\\u0031\\u0030-2345-6789\"}"}}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"a\":\"\\nP\",\"b\":\"x\\nkim@example.com\"}"}}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"a\":1P}"}}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{"a":"P"}}}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"\u0030\u0031\u0030-2345-6789"}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","name":"P","content":"x"}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x","foo":"P"}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x","tool_calls":[{"x":"P"}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/P"}}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"file","file":{"filename":"P","file_data":"x"}}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"new","value":"P"}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"tool_result","content":"P"}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"P"}]}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"document","source":{"data":"P"}}]}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","description":"P","parameters":{"type":"object","properties":{"a":{"description":"P","type":"string","enum":["P"]}}}}}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"functions":[{"name":"f","description":"P"}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"metadata":{"a":"P"},"user":"P"}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"a":"P"}}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"documents":[{"title":"P","text":"P","x":"P"}]}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"prediction":{"type":"content","content":"P"}}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"stop":["P"],"response_format":{"type":"json_schema","json_schema":{"description":"P","schema":{"description":"P"}}}}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"guided_choice":["P"],"structured_outputs":{"choice":["P"]},"guided_regex":"P"}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"unknown":"P","safety_identifier":"P","prompt_cache_key":"P"}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"prompt":"P"}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"input":"P","text":"P","instructions":"P"}`},
		{"/v1/completions", `{"prompt":"P"}`},
		{"/v1/completions", `{"prompt":["P","x P y"],"suffix":"P"}`},
		{"/v1/completions", `{"prompt":"x","messages":[{"role":"user","content":"P"}]}`},
		{"/v1/embeddings", `{"input":"P"}`},
		{"/v1/embeddings", `{"input":["P"]}`},
		{"/v1/embeddings", `{"messages":[{"role":"user","content":"P"}]}`},
		{"/v1/embeddings", `{"input":{"content":[{"type":"text","text":"P"}]}}`},
		{"/v1/embeddings", `{"input":[{"content":[{"type":"text","text":"P"}]}]}`},
		{"/v1/embeddings", `{"input":[{"text":"P"}]}`},
		{"/v1/responses", `{"input":"P","instructions":"P"}`},
		{"/v1/responses", `{"input":[{"role":"user","content":[{"type":"input_text","text":"P"}]},{"type":"function_call","call_id":"a","name":"f","arguments":"{\"a\":\"P\"}"},{"type":"function_call_output","call_id":"a","output":"P"},{"type":"function_call_output","call_id":"a","output":[{"type":"input_text","text":"P"}]},{"type":"reasoning","summary":[{"type":"summary_text","text":"P"}],"content":[{"type":"reasoning_text","text":"P"}]},{"type":"custom_tool_call","input":"P"}]}`},
		{"/v1/responses", `{"input":[{"type":"code_interpreter_call","code":"P","outputs":[{"type":"logs","logs":"P"}]}]}`},
		{"/v1/responses", `{"input":[{"type":"shell_call_output","output":[{"stdout":"P","stderr":"P"}]}]}`},
		{"/v1/responses", `{"input":[{"type":"local_shell_call","action":{"command":["P"]}}]}`},
		{"/v1/responses", `{"input":[{"type":"file_search_call","queries":["P"],"results":[{"text":"P"}]}]}`},
		{"/v1/responses", `{"input":[{"type":"mcp_call","arguments":"P","output":"P","error":"P"}]}`},
		{"/v1/responses", `{"input":[{"type":"function_call_output","output":{"a":"P"}}]}`},
		{"/v1/responses", `{"input":"x","prompt":{"id":"a","variables":{"x":"P","y":{"type":"input_text","text":"P"}}}}`},
		{"/v1/responses", `{"input":"x","text":{"format":{"description":"P"}},"tools":[{"type":"function","name":"f","description":"P"}]}`},
		{"/v1/responses", `{"input":[{"role":"user","content":[{"type":"input_file","filename":"P"}]}]}`},
		{"/v1/responses", `{"input":[{"type":"new_thing","text":"P"}]}`},
		{"/v1/rerank", `{"query":"P","documents":["P",{"text":"P"},{"content":[{"type":"text","text":"P"}]}]}`},
		{"/v1/rerank", `{"query":"P","documents":[{"a":"P"}],"instruction":"P","instruct":"P"}`},
		{"/v1/score", `{"text_1":"P","text_2":["P"]}`},
		{"/v1/score", `{"queries":"P","documents":["P"],"data_1":"P","data_2":{"content":[{"type":"text","text":"P"}]}}`},
		{"/v1/score", `{"query":"P","items":["P"]}`},
		{"/tokenize", `{"prompt":"P"}`},
		{"/tokenize", `{"messages":[{"role":"user","content":"P"}]}`},
		{"/tokenize", `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","description":"P"}}]}`},
	} {
		body := strings.ReplaceAll(tt.body, "P", pii)
		body = `{"model":"mock",` + body[1:]
		p.got = ""
		r, err := http.Post("http://"+address+tt.path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		out, _ := io.ReadAll(r.Body)
		r.Body.Close()
		bad := strings.Contains(p.got, "2345-6789") || strings.Contains(p.got, "@")
		if bad {
			t.Errorf("LEAK %s %s\n  got %s", tt.path, tt.body, p.got)
		} else if r.StatusCode != 200 {
			t.Logf("status %d %s %s: %s", r.StatusCode, tt.path, tt.body, out)
		} else {
			t.Logf("ok %s", p.got)
		}
	}
}
