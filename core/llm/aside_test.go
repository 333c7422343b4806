package llm

import (
	"slices"
	"testing"
)

// TestAsides: every string that no dialect names is noted, but for what is an address, an identifier or data.
func TestAsides(t *testing.T) {
	const user = `"messages":[{"role":"user","content":"x"}]`
	for _, tt := range []struct {
		name, body string
		want       []string
	}{
		{"none", user + `,"stream":true,"tool_choice":"auto"`, nil},
		{"name", `"messages":[{"role":"user","name":"kim","content":"x"}]`, []string{"kim"}},
		{"user", user + `,"user":"kim@x.io"`, []string{"kim@x.io"}},
		{"tool", user + `,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"url":{"description":"e"}}}}}]`, []string{"d", "e"}},
		{"metadata", user + `,"metadata":{"a":["b",{"id":"c","d":"e"}],"f":1,"g":null,"h":true}`, []string{"b", "e"}},
		{"unknown part", `"messages":[{"role":"user","content":[{"type":"new","value":{"deep":["a"]}}]}]`, []string{"a"}},
		{"address and data", `"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a/b"}},{"type":"file","file":{"file_data":"x","filename":"f"}},{"type":"new","new":"data:image/png;base64,AA"}]}]`, []string{"f"}},
		{"the engine's own", user + `,"kv_transfer_params":{"a":"b"},"cache_salt":"c","image_data":["AA"]`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			if err := ParseRequest(Chat, []byte(`{"model":"m",`+tt.body+`}`), &r); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range r.Texts {
				if x.Channel == Aside {
					got = append(got, string(AppendText(nil, r.Body, x)))
					if x.Role != NoRole || !x.Whole {
						t.Errorf("%+v", x)
					}
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
