package llm

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEachMember(t *testing.T) {
	const object = ` {"a": 1 ,"b\"":[{"c":2}], "d":"x"}`
	var got []string
	err := EachMember([]byte(object), func(name []byte, m Member) bool {
		got = append(got, string(name)+"|"+object[m.At.Start:m.At.End]+"|"+object[m.Value.Start:m.Value.End])
		return true
	})
	if want := `a|"a": 1|1 b"|"b\"":[{"c":2}]|[{"c":2}] d|"d":"x"|"x"`; err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for _, bad := range []string{"", "[]", `{"a"}`, `{"a":1`, `{"a":1}x`, "7"} {
		if EachMember([]byte(bad), func([]byte, Member) bool { return true }) == nil {
			t.Errorf("%q is an object", bad)
		}
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct{ object, want string }{
		{`{"a":1,"x":2,"b":3}`, `{"a":1,"b":3}`},
		{`{"x":2 , "b":3}`, `{ "b":3}`},
		{`{"a":1 , "x":[2]}`, `{"a":1 }`},
		{`{"x":2}`, `{}`},
	} {
		_ = EachMember([]byte(tt.object), func(name []byte, m Member) bool {
			if string(name) == "x" {
				at := Cut([]byte(tt.object), m.At)
				if got := tt.object[:at.Start] + tt.object[at.End:]; got != tt.want || !json.Valid([]byte(got)) {
					t.Errorf("%s without x is %s, want %s", tt.object, got, tt.want)
				}
			}
			return true
		})
	}
}

func TestTokenNumbers(t *testing.T) {
	for _, tt := range []struct{ payload, tokens, prompt string }{
		{`{"choices":[{"index":0,"delta":{"content":"a"},"token_ids":[1,2]}],"prompt_token_ids":[3]}`, "[1,2]", "[3]"},
		{`{"choices":[{"text":"a","token_ids":[7],"prompt_token_ids":[5,6]}]}`, "[7]", "[5,6]"},
		{`{"choices":[{"token_ids":null}]}`, "null", ""},
		{`{"choices":[]}`, "", ""},
	} {
		var v View
		if err := v.Scan(Chat, true, []byte(tt.payload)); err != nil {
			t.Fatal(err)
		}
		text := func(at Span) string { return tt.payload[at.Start:at.End] }
		if text(v.Tokens.Value) != tt.tokens || text(v.Prompt.Value) != tt.prompt {
			t.Errorf("%s: %q, %q", tt.payload, text(v.Tokens.Value), text(v.Prompt.Value))
		}
	}
}

// FuzzEachMember holds that what is cut leaves JSON.
func FuzzEachMember(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":[2],"c":{"d":"e\u00e9"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := EachMember(b, func(_ []byte, m Member) bool { return m.At.End <= len(b) })
		if err != nil {
			return
		}
		_ = EachMember(b, func(_ []byte, m Member) bool {
			at := Cut(b, m.At)
			rest := append(append([]byte{}, b[:at.Start]...), b[at.End:]...)
			if !Valid(rest) || !Valid(b[m.Value.Start:m.Value.End]) {
				t.Errorf("%q without %q is %q", b, b[m.At.Start:m.At.End], rest)
			}
			return true
		})
	})
}
