package main

import (
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

const weather = `{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}`

func TestToolCall(t *testing.T) {
	const rules = `"rules":[
		{"keys":["k-admin"]},
		{"tenants":["acme*"],"teams":["ops"],"allow":["*"],"deny":["shell*"]},
		{"tenants":["acme*"],"allow":["get_*","search"]},
		{"tiers":["free"],"deny":["*"]}]`
	offered := nexus.Called{Name: "get_weather", Arguments: `{"city":"Seoul"}`, Schema: weather}
	with := func(change func(*nexus.Called)) nexus.Called {
		c := offered
		change(&c)
		return c
	}
	by := func(key, tenant, team, tier, tool string) nexus.Called {
		c := offered
		c.Principal, c.Tenant, c.Team, c.Tier, c.Name = key, tenant, team, tier, tool
		return c
	}
	tests := []struct {
		name, config string
		call         nexus.Called
		why, text    string // why is empty: it passes
	}{
		{"as offered", `{}`, offered, "", ""},
		{"no configuration", ``, offered, "", ""},
		{"not offered", `{}`, with(func(c *nexus.Called) { c.Schema = "" }), "offered", "The call of get_weather was refused: the request did not offer it."},
		{"not offered, ignored", `{"offered":"ignore"}`, with(func(c *nexus.Called) { c.Schema = "" }), "", ""},
		{"does not fit what was offered", `{}`, with(func(c *nexus.Called) { c.Arguments = `{"city":1}` }), "arguments", "not accepted: type does not fit at /city."},
		{"does not fit, ignored", `{"offered_schema":"ignore"}`, with(func(c *nexus.Called) { c.Arguments = `{"city":1}` }), "", ""},
		{"offered without a schema", `{}`, with(func(c *nexus.Called) { c.Schema = " " }), "", ""},
		{"offered with what is no schema", `{}`, with(func(c *nexus.Called) { c.Schema = "{" }), "arguments", "the schema that the request offered cannot be read"},
		{"no arguments", `{}`, with(func(c *nexus.Called) { c.Arguments, c.Schema = "", "{}" }), "", ""},
		{"no arguments where some are wanted", `{}`, with(func(c *nexus.Called) { c.Arguments = " " }), "arguments", "required does not fit at the top"},
		{"no JSON", `{"offered_schema":"ignore"}`, with(func(c *nexus.Called) { c.Arguments = `{"city":` }), "arguments", "they are not JSON"},
		{"a member twice", `{"offered_schema":"ignore"}`, with(func(c *nexus.Called) { c.Arguments = `{"city":1,"city":2}` }), "arguments", "a member is named twice"},
		{"long arguments", `{"largest_arguments":15}`, offered, "size", "longer than 15 bytes"},
		{"arguments just short enough", `{"largest_arguments":16}`, offered, "", ""},
		{"many calls", `{"most_calls":2}`, with(func(c *nexus.Called) { c.Index = 2 }), "count", "more than 2 calls"},
		{"calls just few enough", `{"most_calls":2}`, with(func(c *nexus.Called) { c.Index = 1 }), "", ""},

		{"the operator's schema", `{"schemas":{"get_weather":{"properties":{"city":{"enum":["Busan"]}}}}}`, offered, "arguments", "enum does not fit at /city"},
		{"the longest pattern", `{"schemas":{"*":false,"get_*":true,"get":false,"g*":false}}`, offered, "", ""},
		{"its own name before a pattern", `{"schemas":{"get_weather*":true,"get_weather":false}}`, offered, "arguments", "false does not fit at the top"},
		{"another tool's schema", `{"schemas":{"search":false}}`, offered, "", ""},

		{"an admin", `{` + rules + `}`, by("k-admin", "acme", "", "", "shell_exec"), "", ""},
		{"allowed by a pattern", `{` + rules + `}`, by("k", "acme-eu", "", "", "get_weather"), "", ""},
		{"not in the list", `{` + rules + `}`, by("k", "acme-eu", "", "", "searching"), "rule", "the caller may not have it called"},
		{"denied above allowed", `{` + rules + `}`, by("k", "acme", "ops", "", "shell_exec"), "rule", ""},
		{"denied all", `{` + rules + `}`, by("k", "x", "", "free", "search"), "rule", ""},
		{"nobody", `{` + rules + `}`, by("k", "x", "", "", "search"), "rule", ""},
		{"a name that is not text", `{"rules":[{"deny":["*"]}]}`, by("", "", "", "", "a\nb\x00"+strings.Repeat("x", 100)), "rule", "The call of a?b?xxx"},
		{"a message of the operator's", `{"rules":[{"deny":["*"]}],"message":"No {tool}. {other}"}`, offered, "rule", "No get_weather. {other}"},
		{"no message", `{"rules":[{"deny":["*"]}],"message":""}`, offered, "rule", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := nexus.TryHost(nexus.NewHost())
			g := guard{}
			if err := g.configure([]byte(tt.config)); err != nil {
				t.Fatal(err)
			}
			said, err := nexus.TryToolCall(g.toolCall, tt.call)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.Labels["tool_guard.refused"]; got != tt.why || said.Dropped != (tt.why != "") || said.Refused {
				t.Fatalf("got %q, %+v; want %q", got, said, tt.why)
			}
			if tt.why != "" && h.Metrics["refused_"+tt.why] != 1 {
				t.Errorf("counted %v", h.Metrics)
			}
			if !strings.Contains(said.Text, tt.text) {
				t.Errorf("got %q, want %q", said.Text, tt.text)
			}
		})
	}
}

func TestEnd(t *testing.T) {
	nexus.TryHost(nexus.NewHost())
	g := guard{}
	if err := g.configure([]byte(`{"on_refused":"end"}`)); err != nil {
		t.Fatal(err)
	}
	said, err := nexus.TryToolCall(g.toolCall, nexus.Called{Name: "x", Arguments: "{}"})
	if err != nil || !said.Refused || said.Dropped || said.Status != "403" || said.Code != "tool_call_refused" || !strings.Contains(said.Message, "did not offer") {
		t.Errorf("got %+v, %v", said, err)
	}
}

func TestRequest(t *testing.T) {
	const rules = `"rules":[{"tenants":["a"],"deny":["shell*","rm"]},{}]`
	tests := []struct {
		name, config, tenant string
		tools                []string
		label                string
		refused              bool
	}{
		{"nothing offered", `{` + rules + `}`, "a", nil, "", false},
		{"nothing forbidden", `{` + rules + `}`, "a", []string{"search"}, "", false},
		{"some forbidden", `{` + rules + `}`, "a", []string{"shell", "search", "rm"}, "2", false},
		{"another's", `{` + rules + `}`, "b", []string{"shell"}, "", false},
		{"refused", `{` + rules + `,"on_offer":"refuse"}`, "a", []string{"search", "shell"}, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := nexus.TryHost(nexus.NewHost())
			g := guard{}
			if err := g.configure([]byte(tt.config)); err != nil {
				t.Fatal(err)
			}
			said, err := nexus.TryRequest(g.request, nexus.Call{Tenant: tt.tenant, Tools: tt.tools})
			if err != nil || said.Labels["tool_guard.forbidden"] != tt.label || said.Refused != tt.refused {
				t.Fatalf("got %+v, %v", said, err)
			}
			if (h.Metrics["offers_forbidden"] > 0) != (tt.refused || tt.label != "") {
				t.Errorf("counted %v", h.Metrics)
			}
			if tt.refused && (said.Code != "tool_not_allowed" || !strings.Contains(said.Message, "the tool shell,")) {
				t.Errorf("refused with %+v", said)
			}
		})
	}
}

func TestConfigure(t *testing.T) {
	tests := []struct{ name, config, want string }{
		{"no object", `[]`, "must be an object"},
		{"no JSON", `{`, "not JSON"},
		{"an unknown key", `{"rule":[]}`, "unknown key rule"},
		{"rules of another kind", `{"rules":{}}`, "list of at most 256 rules"},
		{"a rule of another kind", `{"rules":["x"]}`, "rules[0] must be an object"},
		{"an unknown key of a rule", `{"rules":[{},{"tenant":["a"]}]}`, "rules[1]: unknown key tenant"},
		{"no list", `{"rules":[{"allow":"a"}]}`, "rules[0]: allow must be a list"},
		{"an empty list", `{"rules":[{"allow":[]}]}`, "rules[0]: allow must be a list of 1"},
		{"a star inside", `{"rules":[{"deny":["a*b"]}]}`, `in "a*b" a * stands before the end`},
		{"an empty name", `{"rules":[{"deny":[""]}]}`, "1 to 128 bytes"},
		{"a wrong word", `{"offered":"maybe"}`, "offered must be require or ignore"},
		{"a wrong number", `{"largest_arguments":1.5}`, "largest_arguments must be a whole number from 2 to 196608"},
		{"too many", `{"most_calls":-1}`, "most_calls must be a whole number from 0 to 1024"},
		{"a message of lines", `{"message":"a\nb"}`, "without control characters"},
		{"no schema", `{"schemas":{"a":1}}`, "schemas.a: a schema must be an object"},
		{"pattern", `{"schemas":{"a":{"properties":{"b":{"pattern":"^x"}}}}}`, "schemas.a: pattern is not judged here"},
		{"format", `{"schemas":{"a":{"format":"date"}}}`, "format is not judged here"},
		{"a misspelt keyword", `{"schemas":{"a":{"minimun":1}}}`, `"minimun" is not a keyword`},
		{"if", `{"schemas":{"a":{"if":true}}}`, `"if" is not a keyword`},
		{"nullable", `{"schemas":{"a":{"nullable":true}}}`, "nullable is not JSON Schema"},
		{"a wrong type", `{"schemas":{"a":{"type":"text"}}}`, "type must be object,"},
		{"a wrong type in a list", `{"schemas":{"a":{"type":["string",1]}}}`, "type must be object,"},
		{"a wrong required", `{"schemas":{"a":{"required":true}}}`, "required must be a list of names"},
		{"a wrong enum", `{"schemas":{"a":{"enum":[]}}}`, "enum must be a list of values"},
		{"a wrong minimum", `{"schemas":{"a":{"minimum":"1"}}}`, "minimum must be a number"},
		{"a wrong multipleOf", `{"schemas":{"a":{"multipleOf":0}}}`, "multipleOf must be a number above 0"},
		{"a wrong minLength", `{"schemas":{"a":{"minLength":-1}}}`, "minLength must be a whole number"},
		{"a wrong uniqueItems", `{"schemas":{"a":{"uniqueItems":1}}}`, "uniqueItems must be true or false"},
		{"an empty anyOf", `{"schemas":{"a":{"anyOf":[]}}}`, "anyOf must be a list of schemas"},
		{"a wrong member of anyOf", `{"schemas":{"a":{"anyOf":[1]}}}`, "a schema must be an object"},
		{"wrong properties", `{"schemas":{"a":{"properties":[]}}}`, "properties must name schemas"},
		{"a ref to nothing", `{"schemas":{"a":{"$ref":"#/$defs/b"}}}`, "$ref must be # or a path"},
		{"a ref elsewhere", `{"schemas":{"a":{"$ref":"https://example.com"}}}`, "$ref must be # or a path"},
		{"a ref to itself", `{"schemas":{"a":{"properties":{"x":{"$ref":"#/properties/x"}}}}}`, "$ref leads back"},
		{"a ref round", `{"schemas":{"a":{"$ref":"#/$defs/b","$defs":{"b":{"anyOf":[true,{"not":{"$ref":"#"}}]}}}}}`, "$ref leads back"},
		{"a recursive schema", `{"schemas":{"a":{"properties":{"next":{"$ref":"#"}},"title":"t","const":1,"type":["object","null"]}}}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard()
			err := g.configure([]byte(tt.config))
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && len(g.schemas)+len(g.rules) != 0 {
				t.Error("a configuration that was refused left something behind")
			}
		})
	}
}

// FuzzJudge judges any call: what is refused is explained in plain text, and nothing is allocated for what passes.
func FuzzJudge(f *testing.F) {
	f.Add("get_weather", `{"city":"Seoul"}`, weather)
	f.Add("x", `{"a":[1,1]}`, `{"properties":{"a":{"uniqueItems":true}}}`)
	f.Add("", ``, `{"$ref":"#"}`)
	g := guard{}
	if err := g.configure([]byte(`{"rules":[{"deny":["shell*"]}],"schemas":{"s*":{"maxProperties":2}}}`)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, args, schema string) {
		c := call{name: []byte(name), arguments: []byte(args), offered: []byte(schema)}
		j := g.judge(&c)
		if j.why == allowed {
			return
		}
		text := g.explain(&c, j)
		if string(callers.AppendPlain(nil, []byte(text), 1<<20)) != text || len(text) > 1024 {
			t.Errorf("explained as %q", text)
		}
		if again := g.judge(&c); again != j {
			t.Errorf("judged %v, then %v", j, again)
		}
	})
}

func TestAllocations(t *testing.T) {
	g := newGuard()
	if err := g.configure([]byte(`{"rules":[{"tenants":["a"],"allow":["get_*"]}],"schemas":{"get_weather":{"required":["city"]}}}`)); err != nil {
		t.Fatal(err)
	}
	c := call{caller: callers.Call{Tenant: []byte("a")}, name: []byte("get_weather"), arguments: []byte(`{"city":"Seoul","n":1.5}`),
		offered: []byte(`{"properties":{"city":{"type":"string"},"n":{"type":["integer","number"],"enum":[1.5,2]}}}`)}
	if n := testing.AllocsPerRun(100, func() {
		if j := g.judge(&c); j.why != allowed {
			t.Fatalf("judged %+v", j)
		}
	}); n > 0 {
		t.Errorf("%.0f allocations a call", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	g := newGuard()
	if err := g.configure([]byte(`{"rules":[{"tenants":["a"],"allow":["get_*"]}],"schemas":{"get_weather":` + weather + `}}`)); err != nil {
		b.Fatal(err)
	}
	c := call{caller: callers.Call{Tenant: []byte("a")}, name: []byte("get_weather"), arguments: []byte(`{"city":"Seoul"}`), offered: []byte(weather)}
	b.ReportAllocs()
	for b.Loop() {
		g.judge(&c)
	}
}
