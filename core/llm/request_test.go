package llm

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// seen is a text as tests write it: where it belongs and what it says.
type seen struct {
	Role    Role
	Channel Channel
	Message int
	Tool    int
	Text    string
}

func requestTexts(r *Request) (all []seen) {
	for _, t := range r.Texts {
		all = append(all, seen{t.Role, t.Channel, t.Message, t.Tool, string(AppendText(nil, r.Body, t))})
	}
	return all
}

func TestParseRequestReadsFields(t *testing.T) {
	body := `{"model":"qwen","messages":[{"role":"user","content":"안녕 👋"}],"stream":true,
		"stream_options":{"include_usage":true,"x":1},"n":3,"max_tokens":7,"max_completion_tokens":9,
		"temperature":0.25,"user":"u-1","top_k":5,
		"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}},{"type":"web_search"},{"type":"function","name":"flat"}],
		"functions":[{"name":"old"}]}`
	var r Request
	if err := ParseRequest(Chat, []byte(body), &r); err != nil {
		t.Fatal(err)
	}
	if r.Model != "qwen" || !r.Stream || !r.IncludeUsage || r.N != 3 || r.MaxTokens != 9 ||
		r.Temperature != 0.25 || !r.HasTemp || r.User != "u-1" || r.Turns != 1 {
		t.Errorf("got %+v", r)
	}
	if want := []string{"weather", "flat", "old"}; !reflect.DeepEqual(r.Tools, want) {
		t.Errorf("got tools %q, want %q", r.Tools, want)
	}
	if v, ok := r.Field("top_k"); !ok || string(v) != "5" {
		t.Errorf("got field top_k %q, %v", v, ok)
	}
	if v, ok := r.Field("top_p"); ok {
		t.Errorf("got field top_p %q", v)
	}
	var names []string
	r.EachField(func(name string, value []byte) bool {
		names = append(names, name)
		return name != "max_tokens"
	})
	want := []string{"model", "messages", "stream", "stream_options", "n", "max_tokens"}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("got fields %q, want %q", names, want)
	}
}

func TestParseRequestDefaults(t *testing.T) {
	r := Request{Model: "old", Stream: true, N: 9, Texts: make([]Text, 3), Tools: []string{"x"}, Images: 4}
	body := `{"model":"m","messages":[{"role":"user","content":null}],"n":null,"max_tokens":null,"stream":null,"temperature":null,"tools":null,"user":null,"stream_options":null}`
	if err := ParseRequest(Chat, []byte(body), &r); err != nil {
		t.Fatal(err)
	}
	if r.Model != "m" || r.Stream || r.N != 1 || r.MaxTokens != -1 || r.HasTemp || len(r.Texts) != 0 || len(r.Tools) != 0 || r.Images != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestParseRequestTexts(t *testing.T) {
	tests := []struct {
		name   string
		e      Endpoint
		body   string
		want   []seen
		turns  int
		images int
		tokens bool
	}{
		{"string contents", Chat, `{"model":"m","messages":[{"role":"system","content":"be kind"},{"content":"안녕","role":"user"},{"role":"developer","content":"d"},{"role":"critic","content":"c"}]}`,
			[]seen{{System, Content, 0, 0, "be kind"}, {User, Content, 1, 0, "안녕"}, {Developer, Content, 2, 0, "d"}, {NoRole, Content, 3, 0, "c"}}, 4, 0, false},
		{"parts", Chat, `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a\ud83d\ude00b"},{"type":"image_url","image_url":{"url":"data:,x"}},"bare",{"type":"input_audio","input_audio":{"data":"AA=="}},{"type":"new","text":"hidden"},{"image_url":"http://x"}]}]}`,
			[]seen{{User, Content, 0, 0, "a😀b"}, {User, Content, 0, 0, "bare"}, {User, Content, 0, 0, "hidden"}}, 1, 2, false},
		{"refusal and thinking parts", Chat, `{"model":"m","messages":[{"role":"assistant","content":[{"type":"refusal","refusal":"no"},{"type":"thinking","thinking":"hm"}],"reasoning_content":"r1","reasoning":"r2","refusal":"R"}]}`,
			[]seen{{Assistant, Refused, 0, 0, "no"}, {Assistant, Reasoning, 0, 0, "hm"}, {Assistant, Reasoning, 0, 0, "r1"}, {Assistant, Reasoning, 0, 0, "r2"}, {Assistant, Refused, 0, 0, "R"}}, 1, 0, false},
		{"tool calls and results", Chat, `{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"b","function":{"arguments":"{}","name":"g"}},{"type":"custom","custom":{"name":"c","input":"free"}}]},{"role":"tool","tool_call_id":"a","content":"결과"},{"role":"assistant","content":"","function_call":{"name":"f","arguments":"[]"}}]}`,
			[]seen{{Assistant, ToolArguments, 0, 0, `{"a":1}`}, {Assistant, ToolArguments, 0, 1, `{}`}, {Assistant, Content, 0, 2, `free`}, {Tool, Content, 1, 0, "결과"}, {Assistant, Content, 2, 0, ""}, {Assistant, ToolArguments, 2, 0, "[]"}}, 3, 0, false},
		{"documents", Chat, `{"model":"m","messages":[{"role":"user","content":"q"}],"documents":[{"title":"t","text":"d","id":7},"plain"],"prediction":{"type":"content","content":"guess"}}`,
			[]seen{{User, Content, 0, 0, "q"}, {NoRole, Input, 0, 0, "t"}, {NoRole, Input, 0, 0, "d"}, {NoRole, Input, 0, 0, "plain"}, {NoRole, Input, 0, 0, "guess"}}, 1, 0, false},
		{"prompt", Completions, `{"model":"m","prompt":"옛날 옛적에","suffix":"end"}`, []seen{{NoRole, Prompt, 0, 0, "옛날 옛적에"}, {NoRole, Prompt, 0, 0, "end"}}, 0, 0, false},
		{"prompts", Completions, `{"model":"m","prompt":["a","b"]}`, []seen{{NoRole, Prompt, 0, 0, "a"}, {NoRole, Prompt, 0, 0, "b"}}, 0, 0, false},
		{"token prompt", Completions, `{"model":"m","prompt":[1,2,3]}`, nil, 0, 0, true},
		{"token prompts", Completions, `{"model":"m","prompt":[[1,2],[3]]}`, nil, 0, 0, true},
		{"mixed prompts", Completions, `{"model":"m","prompt":["a",[3]]}`, []seen{{NoRole, Prompt, 0, 0, "a"}}, 0, 0, true},
		{"embeddings", Embeddings, `{"model":"m","input":["가","나"]}`, []seen{{NoRole, Input, 0, 0, "가"}, {NoRole, Input, 0, 0, "나"}}, 0, 0, false},
		{"embeddings of tokens", Embeddings, `{"model":"m","input":[[1]]}`, nil, 0, 0, true},
		{"embeddings of messages", Embeddings, `{"model":"m","messages":[{"role":"user","content":"x"}]}`, []seen{{User, Content, 0, 0, "x"}}, 1, 0, false},
		{"rerank", Rerank, `{"model":"m","query":"q","documents":["d1",{"text":"d2"}],"top_n":1}`, []seen{{NoRole, Prompt, 0, 0, "q"}, {NoRole, Input, 0, 0, "d1"}, {NoRole, Input, 0, 0, "d2"}}, 0, 0, false},
		{"score pair", Score, `{"model":"m","text_1":"a","text_2":["b","c"]}`, []seen{{NoRole, Prompt, 0, 0, "a"}, {NoRole, Input, 0, 0, "b"}, {NoRole, Input, 0, 0, "c"}}, 0, 0, false},
		{"score items", Score, `{"model":"m","query":"a","items":["b"],"label_token_ids":[1]}`, []seen{{NoRole, Prompt, 0, 0, "a"}, {NoRole, Input, 0, 0, "b"}}, 0, 0, false},
		{"score content", Score, `{"model":"m","queries":"a","documents":{"content":[{"type":"text","text":"b"},{"type":"image_url","image_url":{}}]}}`, []seen{{NoRole, Prompt, 0, 0, "a"}, {NoRole, Input, 0, 0, "b"}}, 0, 1, false},
		{"score tokens", Score, `{"model":"m","query":[1,2],"items":[[3]]}`, nil, 0, 0, true},
		{"tokenize", Tokenize, `{"model":"m","prompt":"p"}`, []seen{{NoRole, Prompt, 0, 0, "p"}}, 0, 0, false},
		{"tokenize chat", Tokenize, `{"model":"m","messages":[{"role":"user","content":"x"}]}`, []seen{{User, Content, 0, 0, "x"}}, 1, 0, false},
		{"responses string", Responses, `{"model":"m","input":"hi","instructions":"be brief"}`, []seen{{User, Input, 0, 0, "hi"}, {System, Input, 0, 0, "be brief"}}, 1, 0, false},
		{"responses items", Responses, `{"model":"m","input":[{"role":"user","content":"u"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"o"},{"type":"refusal","refusal":"n"}]},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"res"},{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}]},{"type":"item_reference","id":"x"},{"role":"user","content":[{"type":"input_image","image_url":"data:"},{"type":"input_text","text":"t"}]},{"type":"computer_call_output","output":{"type":"computer_screenshot"}}]}`,
			[]seen{{User, Input, 0, 0, "u"}, {Assistant, Input, 1, 0, "o"}, {Assistant, Refused, 1, 0, "n"}, {Assistant, ToolArguments, 2, 0, "{}"}, {Tool, Input, 3, 0, "res"}, {Assistant, Reasoning, 4, 0, "s"}, {User, Input, 6, 0, "t"}}, 8, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			if err := ParseRequest(tt.e, []byte(tt.body), &r); err != nil {
				t.Fatal(err)
			}
			if got := requestTexts(&r); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got texts\n%+v, want\n%+v", got, tt.want)
			}
			if r.Turns != tt.turns || r.Images != tt.images || r.TokenPrompt != tt.tokens {
				t.Errorf("got turns %d, images %d, tokens %v", r.Turns, r.Images, r.TokenPrompt)
			}
			for _, x := range r.Texts {
				if !x.Whole {
					t.Error("a request's text is not whole")
				}
			}
		})
	}
}

const msgs = `"messages":[{"role":"user","content":"x"}]`

func TestParseRequestRefuses(t *testing.T) {
	tests := []struct {
		name   string
		e      Endpoint
		body   string
		param  string
		reason string // part of it
	}{
		{"empty", Chat, ``, "", "empty"},
		{"white space", Chat, " \n", "", "empty"},
		{"byte order mark", Chat, "\ufeff{}", "", "not valid JSON"},
		{"array", Chat, `[{"model":"m"}]`, "", "must be a JSON object"},
		{"string", Chat, `"x"`, "", "must be a JSON object"},
		{"cut off", Chat, `{"model":"m","messages":[`, "", "ends too early"},
		{"cut in a string", Chat, `{"model":"m`, "", "inside a string"},
		{"trailing garbage", Chat, `{"model":"m",` + msgs + `} x`, "", "more text"},
		{"two values", Chat, `{"model":"m",` + msgs + `}{}`, "", "more text"},
		{"NUL after", Chat, `{"model":"m",` + msgs + "}\x00", "", "more text"},
		{"trailing comma", Chat, `{"model":"m",` + msgs + `,}`, "", "unexpected character '}'"},
		{"trailing comma in an array", Chat, `{"model":"m","x":[1,],` + msgs + `}`, "", "unexpected character ']'"},
		{"leading comma in an array", Chat, `{"model":"m","x":[,1],` + msgs + `}`, "", "unexpected character ','"},
		{"single quotes", Chat, `{'model':'m'}`, "", "unexpected"},
		{"comment", Chat, `{"model":"m"/**/}`, "", "unexpected"},
		{"NaN", Chat, `{"model":"m","temperature":NaN,` + msgs + `}`, "", "not valid JSON"},
		{"NaN unread", Chat, `{"model":"m","x":NaN}`, "", "unexpected"},
		{"Infinity", Chat, `{"model":"m","x":-Infinity}`, "", "wrong number"},
		{"leading zero", Chat, `{"model":"m","x":01}`, "", "wrong number"},
		{"no digits", Chat, `{"model":"m","x":1.}`, "", "wrong number"},
		{"no exponent", Chat, `{"model":"m","x":1e+}`, "", "wrong number"},
		{"control character", Chat, "{\"model\":\"a\tb\"}", "", "control character"},
		{"wrong escape", Chat, `{"model":"\x41"}`, "", "escape"},
		{"short escape", Chat, `{"model":"\u12"}`, "", "escape"},
		{"invalid UTF-8", Chat, "{\"model\":\"m\",\"x\":\"\xff\"," + msgs + "}", "", "UTF-8"},
		{"surrogate as UTF-8", Chat, "{\"model\":\"m\",\"x\":\"\xed\xa0\x80\"," + msgs + "}", "", "UTF-8"},
		{"overlong UTF-8", Chat, "{\"model\":\"m\",\"x\":\"\xc0\xaf\"," + msgs + "}", "", "UTF-8"},
		{"invalid UTF-8 in a key", Chat, "{\"mod\xffel\":\"m\"}", "", "UTF-8"},
		{"lone high surrogate", Chat, `{"model":"m","x":"\ud83d!",` + msgs + `}`, "", "surrogate"},
		{"lone low surrogate", Chat, `{"model":"m","x":"\ude00",` + msgs + `}`, "", "surrogate"},
		{"two high surrogates", Chat, `{"model":"m","x":"\ud83d\ud83d",` + msgs + `}`, "", "surrogate"},
		{"no model", Chat, `{` + msgs + `}`, "model", "is required"},
		{"null model", Chat, `{"model":null,` + msgs + `}`, "model", "is required"},
		{"empty model", Chat, `{"model":"",` + msgs + `}`, "model", "is required"},
		{"number model", Chat, `{"model":5,` + msgs + `}`, "model", "must be a string, not a number"},
		{"no messages", Chat, `{"model":"m"}`, "messages", "is required"},
		{"empty messages", Chat, `{"model":"m","messages":[]}`, "messages", "must not be empty"},
		{"messages object", Chat, `{"model":"m","messages":{}}`, "messages", "must be an array of messages, not an object"},
		{"messages null", Chat, `{"model":"m","messages":null}`, "messages", "must be an array of messages, not null"},
		{"message string", Chat, `{"model":"m","messages":["x"]}`, "messages[0]", "must be an object, not a string"},
		{"no role", Chat, `{"model":"m","messages":[{"content":"x"}]}`, "messages[0].role", "is required"},
		{"role number", Chat, `{"model":"m","messages":[{"role":1}]}`, "messages[0].role", "must be a string"},
		{"content number", Chat, `{"model":"m","messages":[{"role":"user","content":"x"},{"role":"user","content":1}]}`, "messages[1].content", "must be a string or an array of parts, not a number"},
		{"content object", Chat, `{"model":"m","messages":[{"role":"user","content":{"text":"x"}}]}`, "messages[0].content", "not an object"},
		{"part number", Chat, `{"model":"m","messages":[{"role":"user","content":["a",7]}]}`, "messages[0].content[1]", "must be an object, not a number"},
		{"part text number", Chat, `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":7}]}]}`, "messages[0].content[0].text", "must be a string"},
		{"arguments object", Chat, `{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":{}}}]}]}`, "messages[0].tool_calls[0].function.arguments", "must be a string that holds JSON, not an object"},
		{"stream string", Chat, `{"model":"m",` + msgs + `,"stream":"true"}`, "stream", "must be true or false, not a string"},
		{"stream one", Chat, `{"model":"m",` + msgs + `,"stream":1}`, "stream", "must be true or false, not a number"},
		{"stream options array", Chat, `{"model":"m",` + msgs + `,"stream_options":[]}`, "stream_options", "must be an object"},
		{"include usage string", Chat, `{"model":"m",` + msgs + `,"stream_options":{"include_usage":"yes"}}`, "stream_options.include_usage", "true or false"},
		{"tools object", Chat, `{"model":"m",` + msgs + `,"tools":{}}`, "tools", "must be an array of tools"},
		{"tool name number", Chat, `{"model":"m",` + msgs + `,"tools":[{"function":{"name":1}}]}`, "tools[0].function.name", "must be a string"},
		{"no prompt", Completions, `{"model":"m"}`, "prompt", "is required"},
		{"prompt object", Completions, `{"model":"m","prompt":{}}`, "prompt", "must be a string or an array of strings"},
		{"empty prompts", Completions, `{"model":"m","prompt":[]}`, "prompt", "must not be empty"},
		{"strings hidden in a token array", Completions, `{"model":"m","prompt":[["x"]]}`, "prompt[0][0]", "must be a token id"},
		{"no input", Embeddings, `{"model":"m"}`, "input", "is required"},
		{"no input in responses", Responses, `{"model":"m"}`, "input", "is required"},
		{"input number", Responses, `{"model":"m","input":3}`, "input", "must be a string or an array of items, not a number"},
		{"no query", Rerank, `{"model":"m","documents":["x"]}`, "query", "is required"},
		{"no documents", Rerank, `{"model":"m","query":"x"}`, "documents", "is required"},
		{"no texts", Score, `{"model":"m"}`, "", "must hold text_1 and text_2"},
		{"tokenize nothing", Tokenize, `{"model":"m"}`, "prompt", "is required"},
		{"tokenize without model", Tokenize, `{"prompt":"x"}`, "model", "is required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			err := ParseRequest(tt.e, []byte(tt.body), &r)
			var e *BodyError
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a *BodyError", err)
			}
			if e.Param != tt.param || !strings.Contains(e.Reason, tt.reason) {
				t.Errorf("got param %q, reason %q; want %q, %q", e.Param, e.Reason, tt.param, tt.reason)
			}
			if e.Offset < 0 || e.Offset > len(tt.body) {
				t.Errorf("got offset %d in a body of %d", e.Offset, len(tt.body))
			}
		})
	}
}

func TestParseRequestCounts(t *testing.T) {
	for _, name := range []string{"max_tokens", "max_completion_tokens", "max_output_tokens", "n"} {
		for _, v := range []string{"0", "-0", "-1", "5.0", "1e2", "1E0", "9007199254740993", "9223372036854775808", "1e400", `"5"`, "true", "[]", "{}"} {
			body := fmt.Sprintf(`{"model":"m",%s,%q:%s}`, msgs, name, v)
			var e *BodyError
			if err := ParseRequest(Chat, []byte(body), new(Request)); !errors.As(err, &e) || e.Param != name {
				t.Errorf("%s: %s: got %v, want it refused", name, v, err)
			}
		}
	}
	for _, v := range []string{"1", "16384", "9007199254740992"} {
		body := fmt.Sprintf(`{"model":"m",%s,"max_tokens":%s}`, msgs, v)
		var r Request
		if err := ParseRequest(Chat, []byte(body), &r); err != nil || fmt.Sprint(r.MaxTokens) != v {
			t.Errorf("max_tokens %s: got %d, %v", v, r.MaxTokens, err)
		}
	}
	body := `{"model":"m",` + msgs + `,"temperature":1e999}`
	if err := ParseRequest(Chat, []byte(body), new(Request)); err == nil {
		t.Error("temperature 1e999 was taken")
	}
}

// S-01: two parsers must not read two different bodies.
func TestParseRequestAmbiguousKeys(t *testing.T) {
	many := func(last string) string {
		var b strings.Builder
		for i := range 50 {
			fmt.Fprintf(&b, `"k%d":%d,`, i, i)
		}
		return b.String() + last
	}
	tests := []struct{ name, body, param string }{
		{"model twice", `{"model":"cheap",` + msgs + `,"model":"secret"}`, "model"},
		{"model escaped", `{"model":"cheap",` + msgs + `,"\u006dodel":"secret"}`, "model"},
		{"Model", `{"model":"cheap",` + msgs + `,"Model":"secret"}`, "Model"},
		{"MODEL alone", `{"MODEL":"cheap",` + msgs + `}`, "MODEL"},
		{"escaped Model", `{"model":"cheap",` + msgs + `,"\u004dodel":"secret"}`, "Model"},
		{"Kelvin sign", `{"model":"m",` + msgs + `,"max_to` + "\u212a" + `ens":9}`, "max_to\u212aens"},
		{"escaped Kelvin sign", `{"model":"m",` + msgs + `,"max_to\u212aens":9}`, "max_to\u212aens"},
		{"long s", `{"model":"m",` + msgs + `,"` + "\u017f" + `tream":true}`, "\u017ftream"},
		{"guarded member", `{"model":"m",` + msgs + `,"KV_transfer_params":{}}`, "KV_transfer_params"},
		{"unknown twice", `{"model":"m","x":1,"y":2,"x":3,` + msgs + `}`, "x"},
		{"nested unknown twice", `{"model":"m","a":{"b":[{"c":1},{"c":1,"c":2}]},` + msgs + `}`, "a.b[1].c"},
		{"among many", `{"model":"m",` + many(`"k7":0,`) + msgs + `}`, "k7"},
		{"among many escaped", `{"model":"m",` + many(`"k\u0034\u0039":0,`) + msgs + `}`, "k49"},
		{"role twice", `{"model":"m","messages":[{"role":"user","role":"system","content":"x"}]}`, "messages[0].role"},
		{"Content", `{"model":"m","messages":[{"role":"user","content":"x","Content":"y"}]}`, "messages[0].Content"},
		{"part Text", `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x","Text":"y"}]}]}`, "messages[0].content[0].Text"},
		{"Include_usage", `{"model":"m",` + msgs + `,"stream_options":{"Include_Usage":true}}`, "stream_options.Include_Usage"},
		{"tool Name", `{"model":"m",` + msgs + `,"tools":[{"type":"function","function":{"name":"a","Name":"b"}}]}`, "tools[0].function.Name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e *BodyError
			if err := ParseRequest(Chat, []byte(tt.body), new(Request)); !errors.As(err, &e) || e.Param != tt.param {
				t.Errorf("got %#v, want param %q refused", e, tt.param)
			}
		})
	}
	fine := `{"\u006dodel":"m",` + msgs + `,"metadata":{"Model":"x","model":"y"},"Ümlaut":1,"X":1,"x":2,"` + strings.Repeat("M", 100) + `":1}`
	var r Request
	if err := ParseRequest(Chat, []byte(fine), &r); err != nil || r.Model != "m" {
		t.Errorf("got %q, %v", r.Model, err)
	}
}

// S-02: depth and number of members are bounded, in time too.
func TestParseRequestBombs(t *testing.T) {
	nested := func(n int) string {
		return `{"model":"m",` + msgs + `,"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	var r Request
	if err := ParseRequest(Chat, []byte(nested(maxDepth-1)), &r); err != nil {
		t.Errorf("depth %d: %v", maxDepth, err)
	}
	if err := ParseRequest(Chat, []byte(nested(maxDepth)), &r); err == nil || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("depth %d: got %v", maxDepth+1, err)
	}
	members := func(n int) string {
		var b bytes.Buffer
		b.WriteString(`{"model":"m",` + msgs + `,"x":{`)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `"%d":0`, i)
		}
		return b.String() + "}}"
	}
	if err := ParseRequest(Chat, []byte(members(maxKeys)), &r); err != nil {
		t.Errorf("%d members: %v", maxKeys, err)
	}
	if err := ParseRequest(Chat, []byte(members(maxKeys+1)), &r); err == nil {
		t.Errorf("%d members were taken", maxKeys+1)
	}
	for _, open := range []string{"[", `{"a":`} {
		bomb := bytes.Repeat([]byte(open), 1<<20/len(open))
		inside := append([]byte(`{"x":`), bomb...)
		best := time.Hour // of a few tries: the machine may have other things to do
		for range 5 {
			start := time.Now()
			for _, body := range [][]byte{bomb, inside} {
				if err := ParseRequest(Chat, body, &r); err == nil {
					t.Error("a bomb was taken")
				}
			}
			best = min(best, time.Since(start))
		}
		if best > 5*time.Millisecond {
			t.Errorf("1 MiB of %s took %v", open, best)
		}
	}
}

// Three bytes of a body make one text of an array; what is kept of them is bounded.
func TestParseRequestTooManyTexts(t *testing.T) {
	many := func(n int) string { return `{"model":"m","prompt":["` + strings.Repeat(`","`, n-1) + `"]}` }
	var r Request
	if err := ParseRequest(Completions, []byte(many(maxTexts)), &r); err != nil || len(r.Texts) != maxTexts {
		t.Errorf("got %d texts, %v", len(r.Texts), err)
	}
	var e *BodyError
	if err := ParseRequest(Completions, []byte(many(maxTexts+1)), &r); !errors.As(err, &e) || e.Param != "prompt[65536]" {
		t.Errorf("got %v", err)
	}
	var v View
	if err := v.Scan(Chat, false, []byte(`{"choices":[{"message":{"content":["`+strings.Repeat(`","`, maxTexts)+`"]}}]}`)); err == nil {
		t.Error("a reply of too many texts was taken")
	}
}

func TestParseRequestAllocatesNothing(t *testing.T) {
	var r Request
	body := chatBody(1 << 10)
	if n := testing.AllocsPerRun(100, func() {
		if err := ParseRequest(Chat, body, &r); err != nil {
			t.Fatal(err)
		}
	}); n > 0 && !raceEnabled {
		t.Errorf("got %v allocations", n)
	}
}

// The strings of a Request do not point into its body, which may be used for another one.
func TestParseRequestStringsAreCopies(t *testing.T) {
	body := []byte(`{"model":"alpha",` + msgs + `,"user":"bob","tools":[{"function":{"name":"tool"}}]}`)
	var r Request
	if err := ParseRequest(Chat, body, &r); err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = 'X'
	}
	if r.Model != "alpha" || r.User != "bob" || r.Tools[0] != "tool" || r.fields[0].name != "model" {
		t.Errorf("got %q %q %q", r.Model, r.User, r.Tools)
	}
}

// chatBody is a chat request of about n bytes: English, Korean and an emoji.
func chatBody(n int) []byte {
	b := []byte(`{"model":"qwen2.5-7b","stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.7,"top_p":0.9,"user":"u-42","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"`)
	for len(b) < n-40 {
		b = append(b, "The quick brown fox jumps over the lazy dog, 그리고 개는 잠을 잔다 🐕. "...)
	}
	return append(b, `"}],"repetition_penalty":1.05}`...)
}
