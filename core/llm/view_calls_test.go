package llm

import (
	"fmt"
	"testing"
)

func TestViewCalls(t *testing.T) {
	tests := []struct {
		name    string
		event   bool
		payload string
		want    string // each call: choice/index id name arguments, and what it and its list are
	}{
		{"none", true, `{"choices":[{"index":0,"delta":{"content":"x","tool_calls":null,"function_call":null}}]}`, ``},
		{"a first part", true, `{"choices":[{"index":1,"delta":{"tool_calls":[ {"index":2,"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\""}} ]}}]}`,
			`1/2 id=c name=f arguments={\"a\" at={"index":2,"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\""}} list=87;`},
		{"a later part", true, `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]},"index":3}]}`,
			`3/0 id= name= arguments=:1} at={"index":0,"function":{"arguments":":1}"}} list=44;`},
		{"two of a body", false, `{"choices":[{"index":0,"message":{"content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","custom":{"name":"g","input":"x"}}]}}]}`,
			`0/0 id=a name=f arguments={} at={"id":"a","function":{"name":"f","arguments":"{}"}} list=98;0/1 id=b name=g arguments=x at={"id":"b","custom":{"name":"g","input":"x"}} list=98;`},
		{"legacy", false, `{"choices":[{"message":{"function_call":{"name":"f","arguments":"{}"}}}]}`, `0/0 id= name=f arguments={} at={"name":"f","arguments":"{}"} list=29;`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v View
			if err := v.Scan(Chat, tt.event, []byte(tt.payload)); err != nil {
				t.Fatal(err)
			}
			got := ""
			of := func(s Span) string { return tt.payload[s.Start:s.End] }
			for _, c := range v.Calls {
				got += fmt.Sprintf("%d/%d id=%s name=%s arguments=%s at=%s list=%d;", c.Choice, c.Index, of(c.ID), of(c.Name), of(c.Arguments), of(c.At), c.List.Len())
				if list := of(c.List); !Valid([]byte(list)) || c.At.Start < c.List.Start || c.At.End > c.List.End {
					t.Errorf("its list is %s", list)
				}
				if owner := of(c.Owner); owner[0] != '{' || owner[len(owner)-1] != '}' || c.Owner.Start >= c.List.Start || c.Owner.End <= c.List.End {
					t.Errorf("its owner is %s", owner)
				}
			}
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestParameters(t *testing.T) {
	tests := []struct {
		endpoint   Endpoint
		name, body string
		want       string
	}{
		{Chat, "send", `{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"web"},{"type":"function","function":{"name":"read","parameters":{"a":1}}},{"type":"function","function":{"parameters": {"b":[2]} ,"name":"s\u0065nd"}}]}`, `{"b":[2]}`},
		{Chat, "none", `{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"read","parameters":{"a":1}}}]}`, ``},
		{Chat, "bare", `{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"bare"}}]}`, `{}`},
		{Chat, "old", `{"model":"m","messages":[{"role":"user","content":"x"}],"functions":[{"name":"old","parameters":{"c":3}}]}`, `{"c":3}`},
		{Responses, "flat", `{"model":"m","input":"x","tools":[{"type":"function","name":"flat","parameters":{"d":4}}]}`, `{"d":4}`},
		{Chat, "send", `{"model":"m","messages":[{"role":"user","content":"x"}]}`, ``},
	}
	for _, tt := range tests {
		var r Request
		if err := ParseRequest(tt.endpoint, []byte(tt.body), &r); err != nil {
			t.Fatal(err)
		}
		if got := string(r.Parameters(tt.name)); got != tt.want {
			t.Errorf("%s of %s: got %s, want %s", tt.name, tt.body, got, tt.want)
		}
	}
}

func TestValid(t *testing.T) {
	for text, want := range map[string]bool{`{}`: true, ` [1] `: true, `"a"`: true, ``: false, `{`: false, `{} {}`: false, `{"a":1,"a":2}`: true} {
		if got := Valid([]byte(text)); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
