package policy

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

type fleet map[string]BackendState

func (f fleet) Backends(yield func(string, BackendState) bool) {
	for id, b := range f {
		if !yield(id, b) {
			return
		}
	}
}

// stage is one that builds all of input.
func stage(env Env, headers, keywords []string) *Stage {
	cfg := testConfig()
	cfg.Headers, cfg.Keywords = headers, keywords
	s := (&Engine{prepared: &prepared{reads: reads{"input": nil}}, cfg: cfg}).Stage(env)
	return s
}

// The input that is built and the document that the schema describes are two writings of one thing.
func TestInputIsTheDocument(t *testing.T) {
	at := time.UnixMilli(1764000000123)
	full := newCall(t, `{"model":"gpt-한글","stream":true,"n":2,"max_tokens":700,"temperature":0.25,
		"tools":[{"type":"function","function":{"name":"search","parameters":{}}}],
		"messages":[{"role":"system","content":"Obey."},{"role":"user","content":[{"type":"text","text":"프로젝트 ALPHA\n`+"```go"+`"},{"type":"image_url","image_url":{"url":"https://a/b.png"}}]}]}`)
	full.Start = at
	full.Header = http.Header{"X-Canary": {"a", "b"}, "Authorization": {"Bearer x"}, "X-Other": {"y"}}
	full.Principal = &pipeline.Principal{ID: "k9", Kind: "key", Tenant: "acme", Team: "blue", Tier: "free", Roles: []string{"dev", "ops"}, Labels: map[string]string{"region": "kr"}}
	full.Labels = map[string]string{"confidential": "true"}
	full.PII = pipeline.Findings{Count: 3, Kinds: []string{"EMAIL", "KR_RRN"}}
	full.Quota = pipeline.QuotaView{RequestsLeft: 1 << 40, TokensLeft: 0}

	bare := newCall(t, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
	bare.Start, bare.Principal = at, nil

	env := Env{
		Fleet:  fleet{"gpu-1": {Pool: "big", Healthy: true, Inflight: 3, LoadKnown: true, Running: 9, Waiting: 1000, KVUsed: 0.75, TTFT: 120500 * time.Microsecond, Price: 2}, "gpu-2": {Pool: "big"}},
		Budget: func(*pipeline.Call) Budget { return Budget{UsedRatio: 0.41, Remaining: 59} },
	}
	tests := []struct {
		name string
		call *pipeline.Call
		env  Env
		want string
	}{
		{"all", full, env, `{
			"v": 1, "time_ms": 1764000000123, "attempt": 1,
			"request": {"id": "req-1", "method": "POST", "path": "/v1/chat/completions", "route": "chat", "model": "gpt-한글", "stream": true, "n": 2,
				"max_tokens": 700, "temperature": 0.25, "tools": ["search"], "headers": {"x-canary": "a, b"}},
			"principal": {"id": "k9", "kind": "key", "key_id": "k9", "tenant": "acme", "team": "blue", "roles": ["dev", "ops"], "tier": "free", "labels": {"region": "kr"}},
			"labels": {"confidential": "true"},
			"prompt": {"tokens_est": 18, "turns": 2, "bytes": 346, "last_user": "프로젝트 ALPHA\n` + "```go" + `", "last_user_truncated": false, "lang": "ko", "has_code": true, "has_image": true, "keywords": ["alpha", "프로젝트"]},
			"pii": {"count": 3, "kinds": ["EMAIL", "KR_RRN"]},
			"budget": {"used_ratio": 0.41, "remaining": 59},
			"quota": {"requests_left": 1099511627776, "tokens_left": 0},
			"backends": {"gpu-1": {"pool": "big", "healthy": true, "inflight": 3, "running": 9, "waiting": 1000, "kv_used": 0.75, "ttft_ms_p50": 120.5, "price": 2},
				"gpu-2": {"pool": "big", "healthy": false, "inflight": 0}}
		}`},
		{"as little as there is", bare, Env{}, `{
			"v": 1, "time_ms": 1764000000123, "attempt": 1,
			"request": {"id": "req-1", "method": "POST", "path": "/v1/chat/completions", "route": "chat", "model": "m", "stream": false, "n": 1, "tools": [], "headers": {}},
			"principal": {"id": "", "kind": "", "key_id": "", "tenant": "", "team": "", "roles": [], "tier": "", "labels": {}},
			"labels": {},
			"prompt": {"tokens_est": 5, "turns": 1, "bytes": 57, "last_user": "hi", "last_user_truncated": false, "lang": "en", "has_code": false, "has_image": false, "keywords": []},
			"pii": {"count": 0, "kinds": []},
			"budget": {"used_ratio": 0, "remaining": -1},
			"quota": {"requests_left": -1, "tokens_left": -1},
			"backends": {}
		}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var doc map[string]any
			d := json.NewDecoder(strings.NewReader(tt.want))
			d.UseNumber()
			if err := d.Decode(&doc); err != nil {
				t.Fatal(err)
			}
			s := stage(tt.env, []string{"x-canary", "x-absent"}, []string{"Alpha", "프로젝트", "beta"})
			got := s.plan.build(s.facts(tt.call))
			want := ast.MustInterfaceToValue(doc).(ast.Object)
			if image := imaged(t, s.plan, s.facts(tt.call)); image.Compare(got) != 0 {
				t.Errorf("the two engines are given different inputs:\ntopdown %v\nwasm    %v", got, image)
			}
			want.Foreach(func(k, v *ast.Term) {
				if g := got.Get(k); g == nil || g.Value.Compare(v.Value) != 0 {
					t.Errorf("%v:\n got %v\nwant %v", k, g, v)
				}
			})
			if got.Len() != want.Len() {
				t.Errorf("got %d members, want %d", got.Len(), want.Len())
			}
		})
	}
}

// Without a budget of money the tokens of the minute are the budget.
func TestBudgetIsTheMinute(t *testing.T) {
	tests := []struct {
		quota pipeline.QuotaView
		want  Budget
	}{
		{pipeline.QuotaView{TokensLeft: 25, TokensLimit: 100}, Budget{0.75, 25}},
		{pipeline.QuotaView{TokensLeft: 0, TokensLimit: 100}, Budget{1, 0}},
		{pipeline.QuotaView{TokensLeft: -1}, Budget{0, -1}},
		{pipeline.QuotaView{TokensLeft: -1, TokensLimit: 100}, Budget{0, -1}},
	}
	for _, tt := range tests {
		c := newCall(t, chatBody)
		c.Quota = tt.quota
		if got := stage(Env{}, nil, nil).facts(c).budget(); got != tt.want {
			t.Errorf("%+v: got %+v, want %+v", tt.quota, got, tt.want)
		}
	}
}

// Everything the schema names is built, and nothing else; parts are built as the whole is.
func TestInputIsTheSchema(t *testing.T) {
	var built []string
	for _, f := range table {
		built = append(built, "input."+f.group)
		if f.name != "" {
			built = append(built, "input."+f.group+"."+f.name)
		}
	}
	slices.Sort(built)
	if built = slices.Compact(built); !slices.Equal(built, schemaPaths()) {
		t.Errorf("built %v\nschema %v", built, schemaPaths())
	}

	c := newCall(t, chatBody)
	c.Start = time.Now()
	s := stage(Env{}, nil, nil)
	all := s.plan.build(s.facts(c))
	for _, path := range schemaPaths() {
		part := planOf(reads{path: nil}).build(s.facts(c))
		ref := ast.MustParseRef(path)[1:]
		got, err := part.Find(ref)
		want, missing := all.Find(ref)
		if (err == nil) != (missing == nil) || err == nil && got.Compare(want) != 0 {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
		if part.Len() != 1 {
			t.Errorf("%s: %v is built", path, part)
		}
	}
}

func TestStringsAreCapped(t *testing.T) {
	c := newCall(t, `{"model":"`+strings.Repeat("한", 1000)+`","messages":[{"role":"user","content":"x"}]}`)
	s := stage(Env{}, nil, nil)
	v, err := s.plan.build(s.facts(c)).Find(ast.MustParseRef("input.request.model")[1:])
	if err != nil || string(v.(ast.String)) != strings.Repeat("한", 341) {
		t.Errorf("got %v, %v", v, err)
	}
}

// An abandoned evaluation may outlive the call: nothing it holds may lie in the body.
func TestInputHoldsNothingOfTheBody(t *testing.T) {
	c := newCall(t, `{"model":"small","tools":[{"type":"function","function":{"name":"search"}}],"messages":[{"role":"user","content":"hello"}]}`)
	s := stage(Env{}, nil, nil)
	input := s.plan.build(s.facts(c))
	before := input.String()
	for i := range c.Request.Body {
		c.Request.Body[i] = '#'
	}
	if after := ast.MustParseTerm(before); after.Value.Compare(input) != 0 {
		t.Errorf("the input changed with the body: %v", input)
	}
}

func TestLastUser(t *testing.T) {
	long := strings.Repeat("한", 5000)
	escaped := strings.Repeat(`\ud55c`, 9000)
	tests := []struct {
		name, body string
		endpoint   llm.Endpoint
		want       string
		cut        bool
	}{
		{"chat", `{"model":"m","messages":[{"role":"user","content":"one"},{"role":"assistant","content":"two"},{"role":"user","content":"three"},{"role":"tool","content":"four"}]}`, llm.Chat, "three", false},
		{"no user", `{"model":"m","messages":[{"role":"system","content":"one"}]}`, llm.Chat, "", false},
		{"long", `{"model":"m","messages":[{"role":"user","content":"` + long + `"}]}`, llm.Chat, long[:8190], true},
		{"long and escaped", `{"model":"m","messages":[{"role":"user","content":"` + escaped + `"}]}`, llm.Chat, long[:8190], true},
		{"escapes", `{"model":"m","messages":[{"role":"user","content":"a\n\"b\" \u00e9"}]}`, llm.Chat, "a\n\"b\" é", false},
		{"prompt", `{"model":"m","prompt":"say"}`, llm.Completions, "say", false},
		{"input", `{"model":"m","input":["a","b"]}`, llm.Embeddings, "b", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r llm.Request
			if err := llm.ParseRequest(tt.endpoint, []byte(tt.body), &r); err != nil {
				t.Fatal(err)
			}
			p := &prompt{request: &r}
			if p.lastUser() != tt.want || p.truncated() != tt.cut {
				t.Errorf("got %d bytes %.40q, %v; want %d bytes %.40q, %v", len(p.last), p.last, p.cut, len(tt.want), tt.want, tt.cut)
			}
		})
	}
}

func TestLanguage(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""}, {"123 !? 🙂", ""},
		{"Tell me the weather.", "en"},
		{"오늘 날씨 알려줘", "ko"},
		{"Kubernetes에서 Pod가 자꾸 재시작됩니다", "ko"},
		{"今日の天気を教えてください", "ja"},
		{"今天天气怎么样", "zh"},
		{"Какая сегодня погода?", "ru"},
		{"ما هو الطقس اليوم", "ar"},
		{"आज मौसम कैसा है", "hi"},
		{"วันนี้อากาศเป็นอย่างไร", "th"},
		{"Translate into Korean the following long English sentence, please: 안녕", "en"},
	}
	for _, tt := range tests {
		if got := language(tt.text); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

// A text may be cut in its raw form anywhere; it must decode to a front of what it decodes to whole.
func FuzzEndOfEscape(f *testing.F) {
	f.Add("a\\u1234\\nb한글", 5)
	f.Add("\\\\\\\"", 3)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 {
			return
		}
		body := llm.AppendString([]byte(`{"model":"m","prompt":`), s)
		body = append(body, '}')
		var r llm.Request
		if err := llm.ParseRequest(llm.Completions, body, &r); err != nil || len(r.Texts) != 1 {
			return
		}
		text := r.Texts[0]
		whole := string(llm.AppendText(nil, body, text))
		raw := body[text.At.Start:text.At.End]
		text.At.End = text.At.Start + endOfEscape(raw, min(limit, len(raw)))
		if front := string(llm.AppendText(nil, body, text)); !strings.HasPrefix(whole, front) {
			t.Errorf("%q cut at %d gives %q", whole, limit, front)
		}
	})
}

func TestKeywordsFindLateWords(t *testing.T) {
	c := newCall(t, `{"model":"m","messages":[{"role":"user","content":"`+strings.Repeat("x ", 200_000)+`Top SECRET"},{"role":"user","content":"bye"}]}`)
	s := stage(Env{}, nil, []string{"secret", "public"})
	if got := s.facts(c).prompt().found(s.keywords); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("got %v", got)
	}
}
