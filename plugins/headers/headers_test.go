package main

import (
	"reflect"
	"strings"
	"testing"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

func TestRequest(t *testing.T) {
	const config = `{"rules":[
		{"routes":["chat"],"require":["X-Project"],"forbid":["x-debug"]},
		{"request":{"set":{"X-Tenant":"{tenant}/{team}","X-Who":"{principal} {tier} {model} {route} {request_id}"},"forward":["X-Project"],"remove":["x-old"]},
		 "reply":{"set":{"X-Served-By":"nexus"},"remove":["Server"]}},
		{"tenants":["acme"],"request":{"set":{"x-team":"{team}"}},"reply":{"set":{"x-team":"{team}"}}}]}`
	base := nexus.Call{ID: "r1", Route: "chat", Model: "m\n한", Tenant: "acme", Team: "law", Tier: "gold", Principal: "k1",
		Headers: map[string]string{"x-project": "p1"}}
	all := map[string]string{"x-project": "p1", "x-tenant": "acme/law", "x-who": "k1 gold m____ chat r1", "x-old": "", "x-team": "law"}
	with := func(change func(*nexus.Call)) nexus.Call {
		c := base
		change(&c)
		return c
	}
	tests := []struct {
		name    string
		call    nexus.Call
		code    string
		request map[string]string
		reply   map[string]string
	}{
		{"all rules", base, "", all, map[string]string{"x-served-by": "nexus", "x-team": "law"}},
		{"missing", with(func(c *nexus.Call) { c.Headers = nil }), "header_missing", nil, nil},
		{"empty is missing", with(func(c *nexus.Call) { c.Headers = map[string]string{"x-project": ""} }), "header_missing", nil, nil},
		{"forbidden", with(func(c *nexus.Call) { c.Headers = map[string]string{"x-project": "p", "x-debug": ""} }), "header_forbidden", nil, nil},
		{"another route, another tenant, nothing to forward", nexus.Call{Route: "embeddings", Headers: map[string]string{"x-debug": "1"}}, "",
			map[string]string{"x-tenant": "/", "x-who": "   embeddings ", "x-old": ""}, map[string]string{"x-served-by": "nexus"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &policy{}
			if err := p.configure([]byte(config)); err != nil {
				t.Fatal(err)
			}
			said, err := nexus.TryRequest(p.request, tt.call)
			if err != nil {
				t.Fatal(err)
			}
			if said.Refused != (tt.code != "") || said.Code != tt.code {
				t.Fatalf("got %+v, want %q", said, tt.code)
			}
			if tt.code != "" {
				if said.Status != "400" || !strings.Contains(said.Message, "header x-") {
					t.Errorf("refused with %+v", said)
				}
				return
			}
			if !reflect.DeepEqual(said.RequestHeaders, tt.request) || !reflect.DeepEqual(said.Headers, tt.reply) || !reflect.DeepEqual(said.DropHeaders, []string{"server"}) {
				t.Errorf("got %q, %q without %q", said.RequestHeaders, said.Headers, said.DropHeaders)
			}
		})
	}
}

// TestEmpty: a value with nothing to fill in takes the header out instead of sending an empty one.
func TestEmpty(t *testing.T) {
	p := &policy{}
	if err := p.configure([]byte(`{"rules":[{"reply":{"set":{"x-team":"{team}"}}}]}`)); err != nil {
		t.Fatal(err)
	}
	said, err := nexus.TryRequest(p.request, nexus.Call{})
	if err != nil || len(said.Headers) > 0 || len(said.DropHeaders) != 1 {
		t.Errorf("got %+v, %v", said, err)
	}
}

func TestConfigure(t *testing.T) {
	one := func(s string) string { return `{"rules":[` + s + `]}` }
	tests := []struct{ name, config, want string }{
		{"nothing", ``, "there is nothing to do"},
		{"no rules", `{"rules":[]}`, "there is nothing to do"},
		{"no JSON", `{`, "not JSON"},
		{"an unknown key", `{"rule":[]}`, "unknown key rule"},
		{"rules of another kind", `{"rules":{}}`, "rules must be a list"},
		{"a rule of another kind", one(`1`), "rules[0]: must be an object"},
		{"an unknown key of a rule", one(`{},{"tenant":[]}`), "rules[1]: unknown key tenant"},
		{"a wrong pattern", one(`{"routes":[]}`), "rules[0]: routes must be a list"},
		{"no list", one(`{"require":"x-a"}`), "require must be a list"},
		{"no name", one(`{"require":["a b"]}`), "require: a header's name is made of"},
		{"an underscore", one(`{"forbid":["a_b"]}`), "forbid: a header's name is made of"},
		{"a long name", one(`{"require":["` + strings.Repeat("x", 65) + `"]}`), "1 to 64 bytes"},
		{"a credential", one(`{"require":["Authorization"]}`), "authorization is a credential"},
		{"a credential to forward", one(`{"request":{"forward":["X-Api-Key"]}}`), "request: forward: x-api-key is a credential"},
		{"a framing header to forward", one(`{"request":{"forward":["Content-Type"]}}`), "content-type is the gateway's own on the way"},
		{"a framing header to set", one(`{"request":{"set":{"Host":"a"}}}`), "request: set: host is the gateway's own"},
		{"a credential to set", one(`{"request":{"set":{"Authorization":"Bearer x"}}}`), "authorization is the gateway's own"},
		{"a framing header to remove", one(`{"request":{"remove":["Transfer-Encoding"]}}`), "request: remove: transfer-encoding is the gateway's own"},
		{"a reply's length", one(`{"reply":{"set":{"Content-Length":"1"}}}`), "reply: set: content-length is the gateway's own in a reply"},
		{"a rate limit", one(`{"reply":{"remove":["X-RateLimit-Limit-Requests"]}}`), "is the gateway's own in a reply"},
		{"forward in a reply", one(`{"reply":{"forward":["x-a"]}}`), "reply: unknown key forward"},
		{"an unknown key of request", one(`{"request":{"drop":["x-a"]}}`), "request: unknown key drop"},
		{"a request of another kind", one(`{"request":[]}`), "request: must be an object"},
		{"a reply of another kind", one(`{"reply":[]}`), "reply: must be an object"},
		{"a value of another kind", one(`{"reply":{"set":{"x-a":1}}}`), "the value of x-a must be a text"},
		{"an empty value", one(`{"reply":{"set":{"x-a":""}}}`), "the value of x-a must be a text"},
		{"a value of lines", one(`{"reply":{"set":{"x-a":"a\r\nb: c"}}}`), "ASCII"},
		{"a hole that is none", one(`{"reply":{"set":{"x-a":"{user}"}}}`), "set: x-a: {user} is nothing that can be filled in"},
		{"whole", one(`{"require":[],"forbid":["x-a"],"request":{"set":{"x-a":"b"}},"reply":{}}`), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := new(policy).configure([]byte(tt.config))
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzFill: whatever a call holds, a header's value is one line of ASCII of a bounded length.
func FuzzFill(f *testing.F) {
	f.Add("a{tenant}{model}b", "acme", "m\r\nx: y")
	f.Fuzz(func(t *testing.T, template, tenant, model string) {
		v, err := nexus.ParseJSON([]byte(`{"x-a":` + quote(template) + `}`))
		if err != nil {
			t.Fatal(err)
		}
		var l rule
		if setAll(&l.reply, v, toCaller) != nil || len(tenant)+len(model) > 100_000 {
			return
		}
		p := &policy{rules: []rule{l}}
		said, err := nexus.TryRequest(p.request, nexus.Call{Tenant: tenant, Model: model})
		if err != nil {
			t.Fatal(err)
		}
		value := said.Headers["x-a"]
		if len(value) > maxValue || string(appendASCII(nil, []byte(value))) != value {
			t.Errorf("the value %q", value)
		}
	})
}

func quote(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		b = append(b, `\u`...)
		for shift := 12; shift >= 0; shift -= 4 {
			b = append(b, "0123456789abcdef"[r>>shift&15])
		}
	}
	return string(append(b, '"'))
}
