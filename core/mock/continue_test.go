package mock

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/quick"
)

func jsonOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// split is where a stream was cut: the ids and the text that a client has by then.
func split(got told, n int) (ids []int32, text string) {
	for _, id := range got.ids[:n] {
		text += textOf(id)
	}
	return got.ids[:n], text
}

func TestContinuationIsExact(t *testing.T) {
	const messages = `{"role":"system","content":"be brief"},{"role":"user","content":"하나, \"two\" 🎉"}`
	type forms struct {
		kind       Kind
		name, body string
	}
	for _, kind := range []Kind{VLLM, SGLang} {
		_, url := start(t, Options{Kind: kind, Tokens: 40})
		chat := func(members, messages string) told {
			_, body, err := ask(t, url+"/v1/chat/completions", `{"model":"mock","stream":true,`+members+`"messages":[`+messages+`]}`)
			if err != nil {
				t.Fatal(err)
			}
			return tell(t, body)
		}
		full := chat(`"return_token_ids":true,"return_prompt_token_ids":true,`, messages)
		if len(full.ids) != 40 {
			t.Fatalf("%s: %d ids, want 40", kind, len(full.ids))
		}
		prompt := full.chunks[0].PromptTokenIDs
		for _, n := range []int{0, 1, 7, 39, 40} {
			ids, text := split(full, n)
			resume := jsonOf(append(append([]int32{}, prompt...), ids...))
			said := `,{"role":"assistant","content":` + jsonOf(text) + `}`
			tests := []forms{
				{VLLM, "ids", `"kv_transfer_params":{"prompt_token_ids":` + resume + `},`},
				{SGLang, "ids", `"input_ids":` + resume + `,`},
				{kind, "text", `"continue_final_message":true,"add_generation_prompt":false,`},
			}
			for _, tt := range tests {
				if tt.kind != kind {
					continue
				}
				m := messages
				if tt.name == "text" {
					m += said
				}
				got := chat(tt.body, m)
				if text+got.text != full.text || got.finish != "stop" {
					t.Errorf("%s by %s after %d: %q + %q, want %q", kind, tt.name, n, text, got.text, full.text)
				}
			}
			if restarted := chat("", messages+said); n > 0 && text+restarted.text == full.text {
				t.Errorf("%s: an assistant message without continue_final_message was continued", kind)
			}
		}
	}
}

func TestContinuationKeepsThinkingApart(t *testing.T) {
	_, url := start(t, Options{Tokens: 10, Think: 6})
	body := `{"model":"mock","stream":true,"return_token_ids":true,"chat_template_kwargs":{"enable_thinking":true},"messages":[{"role":"user","content":"x"}]`
	_, b, _ := ask(t, url+"/v1/chat/completions", body+"}")
	full := tell(t, b)
	if full.reasoning == "" || len(full.ids) != 6+10+2 {
		t.Fatalf("reasoning %q, %d ids, want 18", full.reasoning, len(full.ids))
	}
	for n := range full.ids {
		ids := append(append([]int32{}, full.chunks[0].PromptTokenIDs...), full.ids[:n]...)
		_, b, _ := ask(t, url+"/v1/chat/completions", body+`,"kv_transfer_params":{"prompt_token_ids":`+jsonOf(ids)+`}}`)
		got := tell(t, b)
		if !strings.HasSuffix(full.reasoning, got.reasoning) || !strings.HasSuffix(full.text, got.text) || jsonOf(append(full.ids[:n:n], got.ids...)) != jsonOf(full.ids) {
			t.Errorf("after %d: %q %q, want the rest of %q %q", n, got.reasoning, got.text, full.reasoning, full.text)
		}
	}
}

func TestLegacyContinuation(t *testing.T) {
	_, url := start(t, Options{Tokens: 30})
	ask1 := func(prompt string, max int) told {
		_, b, err := ask(t, url+"/v1/completions", fmt.Sprintf(`{"model":"mock","stream":true,"return_token_ids":true,"max_tokens":%d,"prompt":%s}`, max, prompt))
		if err != nil {
			t.Fatal(err)
		}
		return tell(t, b)
	}
	full := ask1(`"once upon"`, 20)
	if len(full.ids) != 20 || full.finish != "length" {
		t.Fatalf("%d ids, finish %q", len(full.ids), full.finish)
	}
	ids, text := split(full, 8)
	if got := ask1(jsonOf("once upon"+text), 12); text+got.text != full.text {
		t.Errorf("by text: %q, want the rest of %q", got.text, full.text)
	}
	var r reading
	r.keep = true
	r.readText("once upon")
	if got := ask1(jsonOf(append(r.ids, ids...)), 12); text+got.text != full.text {
		t.Errorf("by ids: %q, want the rest of %q", got.text, full.text)
	}
}

func TestNoWordBeginsAnother(t *testing.T) {
	for i, a := range words {
		if len(a) < 2 {
			t.Errorf("word %q is too short for the index", a)
		}
		for j, b := range words {
			if i != j && strings.HasPrefix(b, a) {
				t.Errorf("%q begins %q", a, b)
			}
		}
	}
}

func FuzzTextHasIds(f *testing.F) {
	for _, s := range []string{"", "010-1234-5678", " the the", "안녕 🎉👩‍👩‍👧", "\n\n#", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "")
		var back strings.Builder
		var all []int32
		tokens(s, func(id int32) { back.WriteString(textOf(id)); all = append(all, id) })
		if back.String() != s {
			t.Errorf("%q came back as %q", s, back.String())
		}
		var esc string
		for _, id := range all {
			esc += escaped(id)
		}
		var read string
		if err := json.Unmarshal([]byte(`"`+esc+`"`), &read); err != nil || read != s {
			t.Errorf("%q escaped is %q: %v", s, esc, err)
		}
	})
}

func TestWordsReadBack(t *testing.T) {
	law := func(picks []uint16) bool {
		var text string
		var want, got []int32
		for _, p := range picks {
			id := firstWord + int32(int(p)%len(words))
			want, text = append(want, id), text+textOf(id)
		}
		tokens(text, func(id int32) { got = append(got, id) })
		return jsonOf(got) == jsonOf(want)
	}
	if err := quick.Check(law, nil); err != nil {
		t.Error(err)
	}
}

// FuzzRequest holds that whatever is asked gets JSON, of 200 or of an error that says why.
func FuzzRequest(f *testing.F) {
	s, err := New(Options{Record: -1, Tokens: 5, MaxContext: 100})
	if err != nil {
		f.Fatal(err)
	}
	paths := []string{"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize"}
	for i, body := range []string{hello, `{"prompt":[1,2],"n":2,"stop":" the"}`, `{"input":[{"role":"user","content":[{"type":"input_image"}]}]}`, `{"input":[[1]],"dimensions":3}`,
		`{"query":"a","documents":["b"],"top_n":-1}`, `{"text_1":"a","text_2":["b"]}`, `{"prompt":7}`, with(hello, `"tools":[{"function":{"name":"a","parameters":[]}}],"tool_choice":"required","stop":[""]`)} {
		f.Add(uint8(i), body)
	}
	f.Fuzz(func(t *testing.T, at uint8, body string) {
		if strings.Contains(body, string(directive)) {
			t.Skip("directives may ask for anything")
		}
		r := httptest.NewRequest("POST", paths[int(at)%len(paths)], strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if ct := w.Header().Get("Content-Type"); ct == streamType[0] {
			if got := tell(t, w.Body.String()); got.broken > 0 {
				t.Errorf("%s got broken events: %s", body, w.Body)
			}
			return
		}
		if w.Code != 200 && w.Code != 400 && w.Code != 404 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s got %d %s", body, w.Code, w.Body)
		}
	})
}
