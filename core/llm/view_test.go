package llm

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// viewed is a text of a payload as tests write it.
type viewed struct {
	Channel Channel
	Choice  int
	Tool    int
	Whole   bool
	Text    string
}

func viewTexts(v *View, payload string) (all []viewed) {
	for _, t := range v.Texts {
		all = append(all, viewed{t.Channel, t.Choice, t.Tool, t.Whole, string(AppendText(nil, []byte(payload), t))})
	}
	return all
}

func TestViewScanTexts(t *testing.T) {
	tests := []struct {
		name    string
		e       Endpoint
		event   bool
		payload string
		texts   []viewed
		ends    []Finish
		choices int
	}{
		{"role chunk", Chat, true, `{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`, []viewed{{Content, 0, 0, false, ""}}, nil, 1},
		{"content", Chat, true, `{"choices":[{"index":0,"delta":{"content":"안\ud83d\ude00"},"finish_reason":null}]}`, []viewed{{Content, 0, 0, false, "안😀"}}, nil, 1},
		{"index behind", Chat, true, `{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","index":2},{"delta":{"content":"b"},"index":1}]}`, []viewed{{Content, 2, 0, false, "a"}, {Content, 1, 0, false, "b"}}, []Finish{{Choice: 2, Reason: "stop"}}, 2},
		{"reasoning in both names", Chat, true, `{"choices":[{"index":0,"delta":{"reasoning":"a","reasoning_content":"a"}}]}`, []viewed{{Reasoning, 0, 0, false, "a"}, {Reasoning, 0, 1, false, "a"}}, nil, 1},
		{"every null", Chat, true, `{"choices":[{"index":0,"delta":{"role":null,"content":null,"reasoning_content":null,"tool_calls":null,"refusal":null},"finish_reason":null}],"usage":null}`, nil, nil, 1},
		{"refusal", Chat, true, `{"choices":[{"index":0,"delta":{"refusal":"no"},"finish_reason":"content_filter"}]}`, []viewed{{Refused, 0, 0, false, "no"}}, []Finish{{Choice: 0, Reason: "content_filter"}}, 1},
		{"tool calls", Chat, true, `{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"a"},"index":1,"id":"x"},{"index":0,"function":{"arguments":"\": 1}"}}]}}]}`, []viewed{{ToolArguments, 0, 1, false, `{"a`}, {ToolArguments, 0, 0, false, `": 1}`}}, nil, 1},
		{"function call", Chat, true, `{"choices":[{"index":0,"delta":{"function_call":{"arguments":"{}"}}}]}`, []viewed{{ToolArguments, 0, 0, false, `{}`}}, nil, 1},
		{"whole", Chat, false, `{"choices":[{"index":0,"message":{"role":"assistant","content":"hi","reasoning":"r","tool_calls":[{"function":{"arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`, []viewed{{Content, 0, 0, true, "hi"}, {Reasoning, 0, 0, true, "r"}, {ToolArguments, 0, 0, true, "{}"}}, []Finish{{Choice: 0, Reason: "tool_calls"}}, 1},
		{"whole in parts", Chat, false, `{"choices":[{"index":0,"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]}`, []viewed{{Content, 0, 0, true, "a"}, {Content, 0, 1, true, "b"}}, nil, 1},
		{"lone surrogate", Chat, true, `{"choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}`, []viewed{{Content, 0, 0, false, "a\ufffd"}}, nil, 1},
		{"completion chunk", Completions, true, `{"choices":[{"index":1,"text":"글","finish_reason":"length"}]}`, []viewed{{Content, 1, 0, false, "글"}}, []Finish{{Choice: 1, Reason: "length"}}, 1},
		{"completion", Completions, false, `{"choices":[{"index":0,"text":"all","finish_reason":"stop"}]}`, []viewed{{Content, 0, 0, true, "all"}}, []Finish{{Choice: 0, Reason: "stop"}}, 1},
		{"usage chunk", Chat, true, `{"choices":[],"usage":{"prompt_tokens":1}}`, nil, nil, 0},
		{"no choices", Chat, true, `{"id":"x"}`, nil, nil, -1},
		{"array", Rerank, false, `[{"score":0.5,"index":0}]`, nil, nil, -1},
		{"odd shapes", Chat, true, `{"choices":[5,{"index":"x","delta":[],"message":7,"text":1,"finish_reason":2},{"delta":{"content":5,"tool_calls":[3,{"function":4,"index":-1}]}}],"model":1,"usage":[],"object":{}}`, nil, nil, 3},
		{"text delta", Responses, true, `{"type":"response.output_text.delta","item_id":"m","output_index":1,"content_index":2,"delta":"안"}`, []viewed{{Content, 1, 2, false, "안"}}, nil, -1},
		{"type behind", Responses, true, `{"delta":"r","output_index":3,"type":"response.reasoning_text.delta"}`, []viewed{{Reasoning, 3, 0, false, "r"}}, nil, -1},
		{"reasoning summary", Responses, true, `{"type":"response.reasoning_summary_text.delta","summary_index":1,"delta":"r"}`, []viewed{{Reasoning, 0, 1, false, "r"}}, nil, -1},
		{"refusal delta", Responses, true, `{"type":"response.refusal.delta","delta":"no"}`, []viewed{{Refused, 0, 0, false, "no"}}, nil, -1},
		{"arguments delta", Responses, true, `{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{\"a\""}`, []viewed{{ToolArguments, 1, 0, false, `{"a"`}}, nil, -1},
		{"arguments done", Responses, true, `{"type":"response.function_call_arguments.done","output_index":1,"arguments":"{}"}`, []viewed{{ToolArguments, 1, 0, true, `{}`}}, nil, -1},
		{"text done", Responses, true, `{"type":"response.output_text.done","output_index":1,"text":"all"}`, []viewed{{Content, 1, 0, true, `all`}}, nil, -1},
		{"refusal done", Responses, true, `{"type":"response.refusal.done","refusal":"all"}`, []viewed{{Refused, 0, 0, true, `all`}}, nil, -1},
		{"part done", Responses, true, `{"type":"response.content_part.done","output_index":1,"content_index":1,"part":{"type":"output_text","text":"p"}}`, []viewed{{Content, 1, 1, true, `p`}}, nil, -1},
		{"item done", Responses, true, `{"type":"response.output_item.done","output_index":2,"item":{"type":"message","status":"completed","content":[{"type":"output_text","text":"a"},{"type":"refusal","refusal":"b"}]}}`, []viewed{{Content, 2, 0, true, `a`}, {Refused, 2, 1, true, "b"}}, nil, -1},
		{"reasoning item", Responses, true, `{"type":"response.output_item.done","item":{"content":[{"text":"a"}],"summary":[{"type":"summary_text","text":"s"}],"type":"reasoning"}}`, []viewed{{Reasoning, 0, 0, true, `a`}, {Reasoning, 0, 0, true, "s"}}, nil, -1},
		{"created", Responses, true, `{"type":"response.created","response":{"status":"in_progress","output":[],"error":null}}`, nil, nil, -1},
		{"completed", Responses, true, `{"type":"response.completed","response":{"status":"completed","output":[{"type":"reasoning","summary":[]},{"type":"message","content":[{"type":"output_text","text":"all"}]},{"type":"function_call","arguments":"{}"}]}}`, []viewed{{Content, 1, 0, true, "all"}, {ToolArguments, 2, 0, true, "{}"}}, []Finish{{Choice: 0, Reason: "stop"}}, -1},
		{"incomplete", Responses, true, `{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}}`, nil, []Finish{{Choice: 0, Reason: "length"}}, -1},
		{"filtered", Responses, true, `{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}}`, nil, []Finish{{Choice: 0, Reason: "content_filter"}}, -1},
		{"audio", Responses, true, `{"type":"response.output_audio.delta","delta":"AAAA"}`, nil, nil, -1},
		{"whole response", Responses, false, `{"object":"response","text":{"format":{"type":"text"}},"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"전부"}]}]}`, []viewed{{Content, 0, 0, true, "전부"}}, []Finish{{Choice: 0, Reason: "stop"}}, -1},
	}
	var v View // reused, so that what one scan leaves shows in the next
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := v.Scan(tt.e, tt.event, []byte(tt.payload)); err != nil {
				t.Fatal(err)
			}
			if got := viewTexts(&v, tt.payload); !reflect.DeepEqual(got, tt.texts) {
				t.Errorf("got texts\n%+v, want\n%+v", got, tt.texts)
			}
			got := append([]Finish(nil), v.Finishes...)
			for i, f := range got {
				if raw := tt.payload[f.At.Start:f.At.End]; f.At.Len() > 0 && raw != `"`+f.Reason+`"` {
					t.Errorf("the finish reason %q stands at %q", f.Reason, raw)
				}
				got[i].At = Span{}
			}
			if !reflect.DeepEqual(got, tt.ends) {
				t.Errorf("got finishes %+v, want %+v", got, tt.ends)
			}
			if v.Choices != tt.choices || v.Error {
				t.Errorf("got choices %d, error %v", v.Choices, v.Error)
			}
		})
	}
}

func TestViewScanUsage(t *testing.T) {
	full := Usage{Prompt: 10, Completion: 5, Cached: 4, Reasoning: 2}
	tests := []struct {
		name    string
		e       Endpoint
		payload string
		want    Usage
		has     bool
		rest    string // the payload without UsageAt
	}{
		{"last", Chat, `{"choices":[], "usage":{"prompt_tokens":10,"total_tokens":15,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"x":1,"reasoning_tokens":2}} }`, full, true, `{"choices":[] }`},
		{"first", Chat, `{"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"reasoning_tokens":2}, "choices":[]}`, full, true, `{"choices":[]}`},
		{"middle", Chat, `{"a":1,"usage":{"prompt_tokens":1} ,"b":2}`, Usage{Prompt: 1}, true, `{"a":1,"b":2}`},
		{"alone", Chat, `{ "usage":{"prompt_tokens":1} }`, Usage{Prompt: 1}, true, `{  }`},
		{"null", Chat, `{"a":1,"usage":null}`, Usage{}, false, `{"a":1}`},
		{"absent", Chat, `{"a":1}`, Usage{}, false, `{"a":1}`},
		{"no details", Chat, `{"a":1,"usage":{"prompt_tokens":3,"completion_tokens":0,"prompt_tokens_details":null}}`, Usage{Prompt: 3}, true, `{"a":1}`},
		{"zero", Chat, `{"a":1,"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`, Usage{}, true, `{"a":1}`},
		{"odd counts", Chat, `{"a":1,"usage":{"prompt_tokens":7.0,"completion_tokens":-3,"prompt_tokens_details":{"cached_tokens":99999999999999999999}}}`, Usage{Prompt: 7}, true, `{"a":1}`},
		{"rerank", Rerank, `{"results":[],"usage":{"total_tokens":8}}`, Usage{Prompt: 8}, true, `{"results":[]}`},
		{"embeddings", Embeddings, `{"data":[{"embedding":[0.1,-2e-3,5]}],"usage":{"prompt_tokens":8,"total_tokens":8}}`, Usage{Prompt: 8}, true, `{"data":[{"embedding":[0.1,-2e-3,5]}]}`},
		{"responses event", Responses, `{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":10,"output_tokens":5,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":2}},"x":1}}`, full, true, `{"type":"response.completed","response":{"status":"completed","x":1}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v View
			if err := v.Scan(tt.e, true, []byte(tt.payload)); err != nil {
				t.Fatal(err)
			}
			if v.Usage != tt.want || v.HasUsage != tt.has {
				t.Errorf("got %+v %v, want %+v %v", v.Usage, v.HasUsage, tt.want, tt.has)
			}
			rest := tt.payload[:v.UsageAt.Start] + tt.payload[v.UsageAt.End:]
			if rest != tt.rest || !json.Valid([]byte(rest)) {
				t.Errorf("got rest %s, want %s", rest, tt.rest)
			}
		})
	}
}

func TestViewScanErrorsAndNames(t *testing.T) {
	tests := []struct {
		name, payload, at string
		e                 Endpoint
	}{
		{"nested", `{"error":{"message":"x","code":500}}`, `{"message":"x","code":500}`, Chat},
		{"string", `{"error":"Unauthorized"}`, `"Unauthorized"`, Chat},
		{"flat", ` {"object":"error","message":"x"}`, `{"object":"error","message":"x"}`, Chat},
		{"responses event", `{"type":"error","code":"x","message":"y"}`, `{"type":"error","code":"x","message":"y"}`, Responses},
		{"failed response", `{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"}}}`, `{"code":"server_error"}`, Responses},
		{"null", `{"error":null}`, ``, Chat},
		{"false", `{"error":false}`, ``, Chat},
		{"empty", `{"error":""}`, ``, Chat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v View
			if err := v.Scan(tt.e, true, []byte(tt.payload)); err != nil {
				t.Fatal(err)
			}
			if got := tt.payload[v.ErrorAt.Start:v.ErrorAt.End]; got != tt.at || v.Error != (tt.at != "") {
				t.Errorf("got error %v at %s, want %s", v.Error, got, tt.at)
			}
		})
	}
	var v View
	if err := v.Scan(Chat, true, []byte(benchChunk)); err != nil || v.Model != "qwen2.5-7b" {
		t.Errorf("got model %q, %v", v.Model, err)
	}
	if err := v.Scan(Responses, true, []byte(`{"type":"response.created","response":{"model":"m\u0031"}}`)); err != nil || v.Model != "m1" || v.Type != "response.created" {
		t.Errorf("got model %q, type %q, %v", v.Model, v.Type, err)
	}
}

func TestViewScanRefuses(t *testing.T) {
	for _, p := range []string{``, ` `, `{`, `{"choices":[{"delta":{"content":"x"`, `{"a":1}}`, `{"a":}`, `not json`, "{\"a\":\"\xff\"}", `{"a":1,}`,
		`{"usage":{"prompt_tokens":}}`, `{"choices":[{]}`, `{"model":"x`, strings.Repeat("[", 100), `{"choices":[{"index":}]}`} {
		for _, e := range []Endpoint{Chat, Responses} {
			var v View
			if err := v.Scan(e, true, []byte(p)); err == nil {
				t.Errorf("%s: %q was taken", e, p)
			}
		}
	}
}

func TestViewScanAllocatesNothing(t *testing.T) {
	var v View
	payload := []byte(benchChunk)
	if n := testing.AllocsPerRun(100, func() { _ = v.Scan(Chat, true, payload) }); n > 0 {
		t.Errorf("got %v allocations", n)
	}
}

// FuzzView: what Scan takes is valid JSON, and what encoding/json takes and is not absurd, Scan takes;
// spans lie inside the payload; cutting UsageAt leaves valid JSON.
func FuzzView(f *testing.F) {
	for _, s := range []string{benchChunk, `{"choices":[],"usage":{"prompt_tokens":1}}`, `{"error":{"message":"x"}}`, `[1,2.5e3]`,
		`{"type":"response.completed","response":{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"한😀"}]}],"usage":{"input_tokens":1}}}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\\n\""}}]},"finish_reason":"stop"}]}`} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, payload []byte, event bool) {
		for _, e := range []Endpoint{Chat, Completions, Responses, Embeddings} {
			checkView(t, e, event, payload)
		}
	})
}

func checkView(t *testing.T, e Endpoint, event bool, payload []byte) {
	var v View
	err := v.Scan(e, event, payload)
	valid := json.Valid(payload)
	if err == nil && !valid {
		t.Fatalf("%s: %q was taken", e, payload)
	}
	if err != nil {
		if reason := err.Error(); valid && !strings.Contains(reason, "deeper") && !strings.Contains(reason, "UTF-8") {
			t.Fatalf("%s: %q was refused: %v", e, payload, err)
		}
		return
	}
	for _, x := range v.Texts {
		at := Span{x.At.Start - 1, x.At.End + 1}
		var s string
		if err := json.Unmarshal(payload[at.Start:at.End], &s); err != nil {
			t.Fatalf("%s: text %q: %v", e, payload[at.Start:at.End], err)
		}
		if got := string(AppendText(nil, payload, x)); got != s {
			t.Fatalf("%s: got text %q, want %q", e, got, s)
		}
	}
	if rest := append(append([]byte(nil), payload[:v.UsageAt.Start]...), payload[v.UsageAt.End:]...); !json.Valid(rest) {
		t.Fatalf("%s: without usage: %q", e, rest)
	}
	if v.Error && !json.Valid(payload[v.ErrorAt.Start:v.ErrorAt.End]) {
		t.Fatalf("%s: error %q", e, payload[v.ErrorAt.Start:v.ErrorAt.End])
	}
}

func ExampleView() {
	payload := []byte(`{"choices":[{"index":0,"delta":{"content":"안녕"},"finish_reason":"stop"}]}`)
	var v View
	if err := v.Scan(Chat, true, payload); err != nil {
		panic(err)
	}
	fmt.Printf("%s %s\n", AppendText(nil, payload, v.Texts[0]), v.Finishes[0].Reason)
	// Output: 안녕 stop
}
