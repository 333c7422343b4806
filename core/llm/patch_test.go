package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func parsed(t testing.TB, e Endpoint, body string) *Request {
	t.Helper()
	r := new(Request)
	if err := ParseRequest(e, []byte(body), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func applied(t testing.TB, p *Patch, body string) string {
	t.Helper()
	out, err := p.Apply(nil, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if json.Valid([]byte(body)) && !json.Valid(out) {
		t.Fatalf("%s is not JSON", out)
	}
	return string(out)
}

func TestEditText(t *testing.T) {
	edit := func(start, end int, with string) Edit { return Edit{Start: start, End: end, With: []byte(with)} }
	tests := []struct {
		name  string
		raw   string // of the text
		edits []Edit
		want  string // raw; empty: an error
	}{
		{"none", `abc`, nil, `abc`},
		{"middle", `abcdef`, []Edit{edit(2, 4, "XYZ")}, `abXYZef`},
		{"two", `abcdef`, []Edit{edit(0, 1, "X"), edit(5, 6, "Z")}, `XbcdeZ`},
		{"adjacent", `abcdef`, []Edit{edit(1, 2, "X"), edit(2, 3, "Y")}, `aXYdef`},
		{"insertions", `ab`, []Edit{edit(0, 0, "X"), edit(1, 1, "Y"), edit(1, 1, "Z"), edit(2, 2, "!")}, `XaYZb!`},
		{"deletion", `abc`, []Edit{edit(0, 3, "")}, ``},
		{"escaped with", `abc`, []Edit{edit(1, 2, "\"\\\n\x01\t\r")}, `a\"\\\n\u0001\t\rc`},
		{"invalid with", `abc`, []Edit{edit(1, 2, "\xff")}, "a\ufffdc"},
		{"Korean", `전화 010 번`, []Edit{edit(7, 10, "***")}, `전화 *** 번`},
		{"in a rune", `전화`, []Edit{edit(1, 3, "x")}, ""},
		{"behind escapes", `a\n\u0041\/\"bc`, []Edit{edit(5, 6, "X")}, `a\n\u0041\/\"Xc`},
		{"of an escape", `a\u0041b`, []Edit{edit(1, 2, "X")}, `aXb`},
		{"of an escaped Korean", `\uac00\uac01`, []Edit{edit(3, 6, "x")}, `\uac00x`},
		{"in an escaped Korean", `\uac00`, []Edit{edit(1, 3, "x")}, ""},
		{"of a surrogate pair", `a\ud83d\ude00b`, []Edit{edit(1, 5, "X")}, `aXb`},
		{"in a surrogate pair", `a\ud83d\ude00b`, []Edit{edit(1, 4, "X")}, ""},
		{"behind a surrogate pair", `\ud83d\ude00b`, []Edit{edit(4, 5, "X")}, `\ud83d\ude00X`},
		{"behind half a pair", `\ud83db`, []Edit{edit(3, 4, "X")}, `\ud83dX`},
		{"out of bounds", `abc`, []Edit{edit(2, 4, "x")}, ""},
		{"out of order", `abc`, []Edit{edit(2, 3, "x"), edit(0, 1, "y")}, ""},
		{"overlap", `abc`, []Edit{edit(0, 2, "x"), edit(1, 3, "y")}, ""},
		{"backwards", `abc`, []Edit{edit(2, 1, "x")}, ""},
		{"negative", `abc`, []Edit{edit(-1, 1, "x")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(`{"x":"` + tt.raw + `"}`)
			var p Patch
			p.Replace(Span{1, 4}, []byte(`"y"`)) // must survive a refused edit
			err := p.EditText(body, Text{At: Span{6, 6 + len(tt.raw)}}, tt.edits)
			if refused := tt.want == "" && tt.name != "deletion"; (err != nil) != refused || refused && !errors.Is(err, ErrEdit) {
				t.Fatalf("got error %v", err)
			} else if refused {
				tt.want = tt.raw
			}
			if got, want := applied(t, &p, string(body)), `{"y":"`+tt.want+`"}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	var p Patch
	if err := p.EditText([]byte(`"x"`), Text{At: Span{1, 9}}, nil); err == nil {
		t.Error("a text outside of its body was taken")
	}
}

// The arguments of a tool call are JSON inside a JSON string: after an edit both are still JSON.
func TestEditToolArguments(t *testing.T) {
	tests := []struct {
		name, inner, find, with, want string
		whole                         bool
	}{
		{"plain", `{"to":"bob@x.kr"}`, "bob@x.kr", "[EMAIL]", `{"to":"[EMAIL]"}`, true},
		{"specials", `{"to":"bob@x.kr"}`, "bob@x.kr", "\"a\\\n", `{"to":"\"a\\\n"}`, true},
		{"Korean", `{"받는 이":"박 bob@x.kr 님"}`, "bob@x.kr", "[이메일]", `{"받는 이":"박 [이메일] 님"}`, true},
		{"outside a string", `{"n":123,"s":"\"1\""}`, "123", `"x"`, `{"n":"x","s":"\"1\""}`, true},
		{"behind an escaped quote", `{"s":"\"123\""}`, "123", `"x"`, `{"s":"\"\"x\"\""}`, true},
		{"beginning in an escape", `{"s":"hi\nbob@x.kr"}`, "nbob@x.kr", "[EMAIL]", `{"s":"hi\n[EMAIL]"}`, true},
		{"beginning in a \\u escape", `{"s":"\u00e9bob@x.kr"}`, "e9bob@x.kr", "[EMAIL]", `{"s":"\u00e9[EMAIL]"}`, true},
		{"ending in an escape", `{"s":"bob\u00e9!"}`, `bob\u00`, "X", `{"s":"X!"}`, true},
		{"ending in a surrogate pair", `{"s":"bob\ud83d\ude00!"}`, `bob\ud83d`, "X", `{"s":"X!"}`, true},
		{"delta", `to":"bob@x.kr","b`, "bob@x.kr", `"`, `to":"\"","b`, false},
		{"delta beginning in an escape", `\nbob@x.kr`, "nbob@x.kr", "X", `\nX`, false},
		{"delta cut in an escape", `bob\u00`, `bob\u0`, "X", `X0`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := AppendString(nil, tt.inner)
			text := Text{At: Span{1, len(body) - 1}, Channel: ToolArguments, Whole: tt.whole}
			i := strings.Index(tt.inner, tt.find)
			var p Patch
			if err := p.EditText(body, text, []Edit{{Start: i, End: i + len(tt.find), With: []byte(tt.with)}}); err != nil {
				t.Fatal(err)
			}
			var got string
			if err := json.Unmarshal([]byte(applied(t, &p, string(body))), &got); err != nil || got != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
			if tt.whole && !json.Valid([]byte(got)) {
				t.Errorf("%s is not JSON", got)
			}
		})
	}
	inner := `{"s":"a\nb"}` // two edits, the first of which is widened over the second's beginning
	body := AppendString(nil, inner)
	var p Patch
	if err := p.EditText(body, Text{At: Span{1, len(body) - 1}, Channel: ToolArguments, Whole: true},
		[]Edit{{Start: 6, End: 8, With: []byte("X")}, {Start: 8, End: 10, With: []byte("Y")}}); err != nil {
		t.Fatal(err)
	}
	if got, want := applied(t, &p, string(body)), `"{\"s\":\"XY\"}"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPatchMembers(t *testing.T) {
	const m = `"messages":[{"role":"user","content":"x"}]`
	tests := []struct {
		name, body string
		do         func(p *Patch, r *Request)
		want       string
	}{
		{"nothing", `{ "model":"m", ` + m + ` }`, func(p *Patch, r *Request) {}, `{ "model":"m", ` + m + ` }`},
		{"set", `{ "model" : "m" , ` + m + `}`, func(p *Patch, r *Request) { p.SetField(r, "model", []byte(`"other"`)) }, `{ "model" : "other" , ` + m + `}`},
		{"set escaped", `{"\u006dodel":"m",` + m + `}`, func(p *Patch, r *Request) { p.SetField(r, "model", []byte(`"o"`)) }, `{"\u006dodel":"o",` + m + `}`},
		{"set twice", `{"model":"m",` + m + `}`, func(p *Patch, r *Request) {
			p.SetField(r, "model", []byte(`"a"`))
			p.SetField(r, "model", []byte(`"b"`))
		}, `{"model":"b",` + m + `}`},
		{"add", `{"model":"m",` + m + ` }`, func(p *Patch, r *Request) {
			p.SetField(r, "cache_salt", []byte(`"s"`))
			p.SetField(r, "a\"b", []byte(`1`))
			p.SetField(r, "cache_salt", []byte(`"t"`))
		}, `{"model":"m",` + m + `,"cache_salt":"t","a\"b":1 }`},
		{"drop first", `{"x":1, "model":"m",` + m + `}`, func(p *Patch, r *Request) { p.DropField(r, "x") }, `{"model":"m",` + m + `}`},
		{"drop middle", `{"model":"m","x":[1,2] ,` + m + `}`, func(p *Patch, r *Request) { p.DropField(r, "x") }, `{"model":"m",` + m + `}`},
		{"drop last", `{"model":"m",` + m + ` , "x":{} }`, func(p *Patch, r *Request) { p.DropField(r, "x") }, `{"model":"m",` + m + ` }`},
		{"drop neighbours", `{"model":"m","a":1,"b":2,` + m + `,"c":3,"d":4}`, func(p *Patch, r *Request) {
			for _, n := range []string{"d", "b", "c", "a", "a", "none"} {
				p.DropField(r, n)
			}
		}, `{"model":"m",` + m + `}`},
		{"drop last and add", `{"model":"m",` + m + `,"x":1}`, func(p *Patch, r *Request) {
			p.DropField(r, "x")
			p.SetField(r, "y", []byte("2"))
		}, `{"model":"m",` + m + `,"y":2}`},
		{"drop all", `{"model":"m",` + m + `}`, func(p *Patch, r *Request) {
			p.DropField(r, "model")
			p.DropField(r, "messages")
		}, `{}`},
		{"drop all and add", `{ "model":"m",` + m + ` }`, func(p *Patch, r *Request) {
			p.DropField(r, "model")
			p.DropField(r, "messages")
			p.SetField(r, "y", []byte("2"))
			p.SetField(r, "z", []byte("3"))
		}, `{ "y":2,"z":3 }`},
		{"drop what was set", `{"model":"m",` + m + `,"x":1}`, func(p *Patch, r *Request) {
			p.SetField(r, "x", []byte("2"))
			p.DropField(r, "x")
		}, `{"model":"m",` + m + `}`},
		{"set what was dropped", `{"model":"m",` + m + `,"x":1}`, func(p *Patch, r *Request) {
			p.DropField(r, "x")
			p.SetField(r, "x", []byte("2"))
		}, `{"model":"m",` + m + `,"x":2}`},
		{"drop what was added", `{"model":"m",` + m + `}`, func(p *Patch, r *Request) {
			p.SetField(r, "x", []byte("2"))
			p.DropField(r, "x")
		}, `{"model":"m",` + m + `}`},
		{"drop an edited text", `{"model":"m",` + m + `}`, func(p *Patch, r *Request) {
			if err := p.EditText(r.Body, r.Texts[0], []Edit{{Start: 0, End: 1, With: []byte("y")}}); err != nil {
				t.Error(err)
			}
			p.DropField(r, "messages")
		}, `{"model":"m"}`},
	}
	var p Patch
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p.Reset()
			r := parsed(t, Chat, tt.body)
			tt.do(&p, r)
			if p.Empty() != (tt.body == tt.want) {
				t.Errorf("got empty %v", p.Empty())
			}
			for range 2 { // Apply changes nothing in the patch
				if got := applied(t, &p, tt.body); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
		})
	}
}

func TestPatchMistakes(t *testing.T) {
	var p Patch
	p.Replace(Span{1, 4}, nil)
	p.Replace(Span{3, 5}, []byte("x"))
	if out, err := p.Apply([]byte("keep"), []byte("0123456")); !errors.Is(err, ErrOverlap) || string(out) != "keep" {
		t.Errorf("overlap: got %q, %v", out, err)
	}
	for _, at := range []Span{{-1, 0}, {2, 1}, {0, 9}} {
		p.Reset()
		p.Replace(at, nil)
		if _, err := p.Apply(nil, []byte("0123456")); err == nil {
			t.Errorf("%v was taken", at)
		}
	}
	p.Reset()
	p.SetField(parsed(t, Tokenize, `{"model":"m","prompt":"p"}`), "model", []byte(`"n"`))
	if _, err := p.Apply(nil, []byte(`{}`)); err == nil {
		t.Error("another body was taken")
	}
	p.Reset()
	p.SetField(new(Request), "model", []byte(`"n"`))
	if _, err := p.Apply(nil, nil); err == nil {
		t.Error("a request that was never parsed was taken")
	}
	p.Reset()
	r := parsed(t, Tokenize, `{"model":"m","prompt":"p"}`)
	_ = p.EditText(r.Body, r.Texts[0], []Edit{{Start: 0, End: 1, With: []byte("q")}})
	p.SetField(r, "prompt", []byte(`"z"`))
	if _, err := p.Apply(nil, r.Body); !errors.Is(err, ErrOverlap) {
		t.Errorf("set over an edit: got %v", err)
	}
}

func TestPatchAllocatesNothing(t *testing.T) {
	r := parsed(t, Chat, string(chatBody(1<<10)))
	var p Patch
	var dst []byte
	edits := []Edit{{Start: 4, End: 9, With: []byte("x\n")}, {Start: 9, End: 12, With: []byte("y")}}
	if n := testing.AllocsPerRun(100, func() {
		p.Reset()
		_ = p.EditText(r.Body, r.Texts[1], edits)
		p.SetField(r, "model", []byte(`"a"`))
		p.SetField(r, "cache_salt", []byte(`"b"`))
		p.DropField(r, "user")
		dst, _ = p.Apply(dst[:0], r.Body)
	}); n > 0 {
		t.Errorf("got %v allocations", n)
	}
}

var fuzzBodies = []string{
	`{"model":"m","messages":[{"role":"user","content":"a\ud83d\ude00\n한국 bob@x.kr"}],"stream":true,"n":2,"max_tokens":5}`,
	`{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":\"b\\n\"}"}}]}],"x":{"y":[1,2.5e3,null]}}`,
	`{"prompt":["a","b"],"model":"\u006d","stream_options":{"include_usage":true}, "z" : 1 }`,
	`{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"t"}]}],"instructions":"i","max_output_tokens":3}`,
	`{"model":"m","query":"q","documents":["가",{"text":"나"}],"temperature":-0.5}`,
	`{"model":"m","Model":"n","messages":[{"role":"user","content":"x"}]}`,
	`{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1e2,"a":1,"a":2}`,
}

// FuzzParseRequest: what is taken is valid JSON, and model, stream, n and max_tokens are what
// encoding/json reads into a map, whose keys are exact.
func FuzzParseRequest(f *testing.F) {
	for _, s := range fuzzBodies {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		kept := bytes.Clone(body)
		for _, e := range []Endpoint{Chat, Completions, Responses, Embeddings, Rerank, Score, Tokenize} {
			checkRequest(t, e, body)
		}
		if !bytes.Equal(body, kept) {
			t.Fatal("the body was changed")
		}
	})
}

func checkRequest(t *testing.T, e Endpoint, body []byte) {
	var r Request
	if err := ParseRequest(e, body, &r); err != nil {
		var be *BodyError
		if !errors.As(err, &be) || be.Reason == "" || !utf8.ValidString(be.Param) {
			t.Fatalf("%s: got %#v", e, err)
		}
		return
	}
	if !json.Valid(body) || !utf8.Valid(body) {
		t.Fatalf("%s: %q was taken", e, body)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var want map[string]any
	if err := d.Decode(&want); err != nil {
		t.Fatal(err)
	}
	stream, _ := want["stream"].(bool)
	if r.Model != want["model"] || r.Stream != stream {
		t.Fatalf("%s: got model %q, stream %v, want %v, %v", e, r.Model, r.Stream, want["model"], stream)
	}
	n, limit := any(json.Number(fmt.Sprint(r.N))), any(json.Number(fmt.Sprint(r.MaxTokens)))
	if w := want["n"]; w != nil && w != n {
		t.Fatalf("%s: got n %v, want %v", e, n, w)
	}
	if w := want["max_tokens"]; w != nil && want["max_completion_tokens"] == nil && w != limit {
		t.Fatalf("%s: got max_tokens %v, want %v", e, limit, w)
	}
	if len(r.fields) != len(want) {
		t.Fatalf("%s: got %d members, want %d", e, len(r.fields), len(want))
	}
	for _, x := range r.Texts {
		var s string
		if err := json.Unmarshal(body[x.At.Start-1:x.At.End+1], &s); err != nil || s != string(AppendText(nil, body, x)) {
			t.Fatalf("%s: text %q: %v", e, body[x.At.Start-1:x.At.End+1], err)
		}
	}
}

// FuzzPatch: an empty patch gives the same bytes; an edit of one text changes that text alone; a member
// set, added or dropped changes nothing else.
func FuzzPatch(f *testing.F) {
	for i, s := range fuzzBodies {
		f.Add([]byte(s), "X\"\\\n한😀", uint(i), uint(2), uint(5))
	}
	f.Fuzz(func(t *testing.T, body []byte, with string, which, from, to uint) {
		for _, e := range []Endpoint{Chat, Completions, Responses, Rerank} {
			var r Request
			if ParseRequest(e, body, &r) != nil {
				continue
			}
			var p Patch
			if got := applied(t, &p, string(body)); got != string(body) {
				t.Fatalf("an empty patch made %q", got)
			}
			checkMembers(t, e, &r, with, int(which%uint(len(r.fields))))
			if len(r.Texts) > 0 {
				checkEdit(t, e, &r, with, int(which%uint(len(r.Texts))), int(from%99), int(to%99))
			}
		}
	})
}

func checkEdit(t *testing.T, e Endpoint, r *Request, with string, which, from, to int) {
	x := r.Texts[which]
	old := string(AppendText(nil, r.Body, x))
	from, to = min(from, len(old)), min(to, len(old))
	boundary := func(i int) bool { return i == len(old) || utf8.RuneStart(old[i]) }
	var p Patch
	err := p.EditText(r.Body, x, []Edit{{Start: from, End: to, With: []byte(with)}})
	if fits := from <= to && boundary(from) && boundary(to); x.Channel != ToolArguments && fits != (err == nil) {
		t.Fatalf("edit [%d, %d) of %q: %v", from, to, old, err)
	}
	if err != nil {
		return
	}
	out := applied(t, &p, string(r.Body))
	head, tail := string(r.Body[:x.At.Start]), string(r.Body[x.At.End:])
	if !strings.HasPrefix(out, head) || !strings.HasSuffix(out, tail) || len(out) < len(head)+len(tail) {
		t.Fatalf("edit of %d:%d made %q of %q", x.At.Start, x.At.End, out, r.Body)
	}
	got := string(AppendText(nil, []byte(out), Text{At: Span{len(head), len(out) - len(tail)}}))
	want := old[:from] + strings.ToValidUTF8(with, "\ufffd") + old[to:]
	if x.Channel != ToolArguments && len(got) != len(want) && utf8.ValidString(with) || x.Channel != ToolArguments && utf8.ValidString(with) && got != want {
		t.Fatalf("edit [%d, %d) of %q made %q, want %q", from, to, old, got, want)
	}
	if x.Channel == ToolArguments && json.Valid([]byte(old)) && from == to && strings.Count(old[:from], `"`)%2 == 1 && !strings.Contains(old, `\`) && !json.Valid([]byte(got)) {
		t.Fatalf("an insertion at %d of %q made %q", from, old, got)
	}
	if other := parsedAfter(t, e, out, r); other != nil {
		others := func(r *Request) (all []string) {
			for i, y := range r.Texts {
				if i != which {
					all = append(all, string(AppendText(nil, r.Body, y)))
				}
			}
			return all
		}
		if !reflect.DeepEqual(others(other), others(r)) {
			t.Fatalf("other texts changed: %q", out)
		}
	}
}

func parsedAfter(t *testing.T, e Endpoint, out string, r *Request) *Request {
	again := new(Request)
	if err := ParseRequest(e, []byte(out), again); err != nil {
		t.Fatalf("%q became %q: %v", r.Body, out, err)
	}
	return again
}

func checkMembers(t *testing.T, e Endpoint, r *Request, with string, which int) {
	members := func(body []byte) map[string]json.RawMessage {
		m := map[string]json.RawMessage{}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		return m
	}
	name, added := r.fields[which].name, "added "+strings.ToValidUTF8(with, "?")
	want := members(r.Body)
	delete(want, name)
	if _, has := want[added]; has || added == name {
		return
	}
	var p Patch
	p.DropField(r, name)
	if got := members([]byte(applied(t, &p, string(r.Body)))); !reflect.DeepEqual(got, want) {
		t.Fatalf("without %q: got %q, want %q", name, got, want)
	}
	value := AppendString(nil, with)
	want[added] = value
	p.SetField(r, added, value)
	if got := members([]byte(applied(t, &p, string(r.Body)))); !reflect.DeepEqual(got, want) {
		t.Fatalf("with %q: got %q, want %q", added, got, want)
	}
	want[name] = value
	p.SetField(r, name, value)
	if got := members([]byte(applied(t, &p, string(r.Body)))); !reflect.DeepEqual(got, want) {
		t.Fatalf("with another %q: got %q, want %q", name, got, want)
	}
}
