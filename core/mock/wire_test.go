package mock

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestRefusals(t *testing.T) {
	const chat = "/v1/chat/completions"
	tests := []struct {
		name, path, body string
		header           []string
		vllm, sglang     int
	}{
		{"well", chat, hello, nil, 200, 200},
		{"unknown model", chat, strings.Replace(hello, `"mock"`, `"other"`, 1), nil, 404, 200},
		{"bad JSON", chat, `{"model":`, nil, 400, 400},
		{"wrong type", chat, `{"model":"mock","messages":7}`, nil, 400, 400},
		{"no messages", chat, `{"model":"mock","messages":[]}`, nil, 400, 400},
		{"content type", chat, hello, []string{"Content-Type", "text/plain"}, 400, 400},
		{"empty tools", chat, with(hello, `"tools":[]`), nil, 400, 400},
		{"stream options without stream", chat, with(hello, `"stream_options":{"include_usage":true}`), nil, 400, 400},
		{"both prompt flags", chat, with(hello, `"continue_final_message":true,"add_generation_prompt":true`), nil, 400, 200},
		{"n of none", chat, with(hello, `"n":0`), nil, 400, 400},
		{"n of many", chat, with(hello, `"n":100000`), nil, 400, 400},
		{"max_tokens of none", chat, with(hello, `"max_tokens":0`), nil, 400, 400},
		{"unknown fault", chat, hello, []string{"x-mock-fault", "nonsense"}, 400, 400},
		{"unknown word", chat, strings.Replace(hello, "hello", "[[mock nonsense=1]]", 1), nil, 400, 400},
		{"no prompt", "/v1/completions", `{"model":"mock"}`, nil, 400, 400},
		{"no input", "/v1/embeddings", `{"model":"mock"}`, nil, 400, 400},
		{"no documents", "/v1/rerank", `{"model":"mock","query":"x"}`, nil, 400, 400},
		{"uneven texts", "/v1/score", `{"model":"mock","text_1":["a","b"],"text_2":["a"]}`, nil, 400, 400},
		{"no such path", "/v1/none", hello, nil, 404, 404},
		{"wrong method", "/v1/models", hello, nil, 405, 405},
	}
	for _, kind := range []Kind{VLLM, SGLang} {
		_, url := start(t, Options{Kind: kind})
		for _, tt := range tests {
			want := tt.vllm
			if kind == SGLang {
				want = tt.sglang
			}
			resp, body, err := ask(t, url+tt.path, tt.body, tt.header...)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != want {
				t.Errorf("%s, %s: status %d, want %d: %s", kind, tt.name, resp.StatusCode, want, body)
			}
			if !json.Valid([]byte(body)) {
				t.Errorf("%s, %s: no JSON: %s", kind, tt.name, body)
			}
			if want == 400 && (strings.HasPrefix(body, `{"error":{`) != (kind == VLLM) || strings.HasPrefix(body, `{"object":"error"`) != (kind == SGLang)) {
				t.Errorf("%s, %s: not the engine's envelope: %s", kind, tt.name, body)
			}
		}
	}
}

func TestStreamShapes(t *testing.T) {
	tools := `"tools":[{"type":"function","function":{"name":"weather","parameters":{"properties":{"city":{},"day":{}}}}}]`
	tests := []struct {
		name, members string
		check         func(t *testing.T, got told, raw string)
	}{
		{"role first, usage absent", ``, func(t *testing.T, got told, raw string) {
			if got.chunks[0].Choices[0].Delta.Role != "assistant" || strings.Contains(raw, `"usage"`) {
				t.Error(raw)
			}
		}},
		{"continuous usage", `"stream_options":{"include_usage":true,"continuous_usage_stats":true}`, func(t *testing.T, got told, raw string) {
			for i, c := range got.chunks {
				if c.Usage == nil || c.Usage.Completion != min(i, 12) {
					t.Errorf("chunk %d has usage %+v", i, c.Usage)
				}
			}
		}},
		{"max_tokens", `"max_tokens":5`, func(t *testing.T, got told, raw string) {
			last := got.chunks[len(got.chunks)-1].Choices[0]
			if got.finish != "length" || last.Delta.Content == "" || len(got.chunks) != 1+5 {
				t.Errorf("finish %q in the last of %d chunks, %+v", got.finish, len(got.chunks), last)
			}
		}},
		{"required tool", tools + `,"tool_choice":"required"`, func(t *testing.T, got told, raw string) {
			var args map[string]string
			if err := json.Unmarshal([]byte(got.args), &args); err != nil || args["city"] == "" || got.finish != "tool_calls" || got.text != "" {
				t.Errorf("arguments %s: %v, finish %q", got.args, err, got.finish)
			}
		}},
		{"named tool", tools + `,"tool_choice":{"type":"function","function":{"name":"weather"}}`, func(t *testing.T, got told, raw string) {
			if got.args == "" || got.finish != "stop" {
				t.Errorf("arguments %q, finish %q", got.args, got.finish)
			}
		}},
		{"tool by directive", tools + `,"user":"[[mock call=weather]]"`, func(t *testing.T, got told, raw string) {
			if !strings.HasPrefix(got.args, `{"city": "`) || got.finish != "tool_calls" {
				t.Errorf("arguments %q, finish %q", got.args, got.finish)
			}
		}},
		{"tool not asked", tools, func(t *testing.T, got told, raw string) {
			if got.args != "" || got.text == "" {
				t.Errorf("arguments %q", got.args)
			}
		}},
		{"n", `"n":3`, func(t *testing.T, got told, raw string) {
			var seen [3]string
			for _, c := range got.chunks {
				for _, ch := range c.Choices {
					seen[ch.Index] += ch.Delta.Content
				}
			}
			if seen[0] == "" || seen[0] == seen[1] || seen[1] == seen[2] {
				t.Errorf("choices %q", seen)
			}
			if got.chunks[3].Choices[0].Index == got.chunks[4].Choices[0].Index {
				t.Error("choices do not take turns")
			}
		}},
	}
	_, url := start(t, Options{Tokens: 12})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := with(hello, `"stream":true`)
			if tt.members != "" {
				body = with(body, tt.members)
			}
			resp, raw, err := ask(t, url+"/v1/chat/completions", body)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v: %v %s", err, resp, raw)
			}
			tt.check(t, tell(t, raw), raw)
		})
	}
}

func TestReasoningField(t *testing.T) {
	for kind, field := range map[Kind]string{VLLM: `"reasoning":"`, SGLang: `"reasoning_content":"`} {
		_, url := start(t, Options{Kind: kind, Models: []string{"mock-think"}, Think: 5, Tokens: 6})
		body := strings.Replace(hello, `"mock"`, `"mock-think"`, 1)
		_, raw, _ := ask(t, url+"/v1/chat/completions", with(body, `"stream":true`))
		_, whole, _ := ask(t, url+"/v1/chat/completions", body)
		if strings.Count(raw, field) != 5 || strings.Count(whole, field) != 1 || tell(t, raw).text == "" {
			t.Errorf("%s: no 5 pieces and one whole of %s in %s\n%s", kind, field, raw, whole)
		}
		_, off, _ := ask(t, url+"/v1/chat/completions", with(body, `"chat_template_kwargs":{"enable_thinking":false}`))
		if strings.Contains(off, field) {
			t.Errorf("%s: it thinks although told not to", kind)
		}
	}
}

func TestStopStringCutsTheAnswer(t *testing.T) {
	_, url := start(t, Options{})
	_, raw, _ := ask(t, url+"/v1/chat/completions", with(hello, `"stream":true`))
	text := []rune(tell(t, raw).text)
	stop := string(text[20:23])
	want, _, _ := strings.Cut(string(text), stop)
	_, raw, _ = ask(t, url+"/v1/chat/completions", with(hello, `"stream":true,"stop":["nowhere",`+jsonOf(stop)+`]`))
	if got := tell(t, raw); got.text != want || got.finish != "stop" || !strings.Contains(raw, `"stop_reason":`+jsonOf(stop)) {
		t.Errorf("got %q (%s), want %q before %q", got.text, got.finish, want, stop)
	}
}

func TestEchoAndDirectives(t *testing.T) {
	s, url := start(t, Options{Models: []string{"mock", "mock-echo"}})
	const said = "call 010-1234-5678, 주민 900101-1234568 🎉\n\"bye\""
	body := `{"model":"mock-echo","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":` + jsonOf(said) + `}]}]}`
	_, raw, _ := ask(t, url+"/v1/chat/completions", body)
	if got := tell(t, raw); got.text != said || len(got.chunks) < 15 {
		t.Errorf("echo of %q in %d chunks is %q", said, len(got.chunks), got.text)
	}
	prompt := strings.Replace(with(hello, `"stream":true`), "hello", "[[mock tokens=7 per=2]]", 1)
	count := func(header ...string) int {
		_, raw, _ := ask(t, url+"/v1/chat/completions", with(prompt, `"stream_options":{"include_usage":true}`), header...)
		got := tell(t, raw)
		return got.chunks[len(got.chunks)-1].Usage.Completion
	}
	if got := count(); got != 7 {
		t.Errorf("%d tokens by the prompt, want 7", got)
	}
	if got := count("x-mock-tokens", "3"); got != 3 {
		t.Errorf("%d tokens by the header, want 3", got)
	}
	if err := s.SetScript("fault=status=503;once"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{503, 200, 200} {
		if resp, _, _ := ask(t, url+"/v1/chat/completions", hello); resp.StatusCode != want {
			t.Errorf("call %d with a fault marked once: status %d, want %d", i, resp.StatusCode, want)
		}
	}
	if resp, _, _ := ask(t, url+"/mock/script", "fault=nonsense"); resp.StatusCode != 400 {
		t.Errorf("a bad script got %d, want 400", resp.StatusCode)
	}
	if resp, _, _ := ask(t, url+"/mock/script", "tokens=2"); resp.StatusCode != 200 {
		t.Errorf("a good script got %d, want 200", resp.StatusCode)
	}
}

func TestFreshFaultSparesContinuations(t *testing.T) {
	_, url := start(t, Options{Script: "fault=die-after=3;fresh"})
	if _, _, err := ask(t, url+"/v1/chat/completions", with(hello, `"stream":true`)); err == nil {
		t.Error("the first request was spared")
	}
	body := `{"model":"mock","stream":true,"continue_final_message":true,"add_generation_prompt":false,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"so"}]}`
	if _, _, err := ask(t, url+"/v1/chat/completions", body); err != nil {
		t.Errorf("the continuation died: %v", err)
	}
}

func FuzzFault(f *testing.F) {
	for _, s := range []string{"die-after=5", "status=429;retry-after=2;once=a", "slow-drip", "=;;", "big-event=99999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseFault(text)
		if err != nil {
			return
		}
		b, err := ParseFault(";" + text + ";")
		if a.text, b.text = "", ""; err != nil || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%q reads as %+v, with empty parts as %+v, %v", text, a, b, err)
		}
	})
}
