package llm

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
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

// What Within yields is what Apply writes in that place.
func TestWithinIsApplyInPart(t *testing.T) {
	body := []byte(`{"a":"one two","b":"three four"}`)
	var p Patch
	p.Replace(Span{26, 30}, []byte("4"))
	p.Replace(Span{6, 9}, []byte("1"))
	p.Replace(Span{20, 20}, []byte("~"))
	for _, tt := range []struct {
		at   Span
		want string
	}{
		{Span{0, len(body)}, `{"a":"1 two","b":"~three 4"}`},
		{Span{5, 14}, `"1 two"`},
		{Span{19, 31}, `"~three 4"`},
		{Span{10, 13}, `two`},
	} {
		got := ""
		p.Within(body, tt.at, func(piece []byte) { got += string(piece) })
		if got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.at, got, tt.want)
		}
	}
}
