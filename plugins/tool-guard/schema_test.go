package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var outcomes = [...]string{"fits", "unknown", "misfits"}

// hold runs one check, and says what did not fit first and where.
func hold(t testing.TB, schemaText, valueText string) (got outcome, where string) {
	t.Helper()
	var s, v tree
	if err := s.parse([]byte(schemaText)); err != nil {
		t.Fatalf("schema %s: %v", schemaText, err)
	}
	if err := v.parse([]byte(valueText)); err != nil {
		t.Fatalf("value %s: %v", valueText, err)
	}
	c := check{schema: &s, value: &v}
	got = c.run()
	if c.tooMuch {
		return unknown, "too much"
	}
	if got == misfits {
		where = c.keyword + " " + string(v.appendPath(nil, c.at))
	}
	return got, where
}

func TestFits(t *testing.T) {
	tests := []struct{ schema, value, want string }{
		{`true`, `1`, "fits"},
		{`false`, `1`, "misfits false the top"},
		{`{}`, `null`, "fits"},
		{`{"type":"string"}`, `"a"`, "fits"},
		{`{"type":"string"}`, `1`, "misfits type the top"},
		{`{"type":["string","null"]}`, `null`, "fits"},
		{`{"type":["string","null"]}`, `1`, "misfits type the top"},
		{`{"type":"integer"}`, `1.0`, "fits"},
		{`{"type":"integer"}`, `10e-1`, "fits"},
		{`{"type":"integer"}`, `1.5`, "misfits type the top"},
		{`{"type":"integer"}`, `0.0`, "fits"},
		{`{"type":"boolean"}`, `false`, "fits"},
		{`{"type":"boolean"}`, `null`, "misfits type the top"},
		{`{"properties":{"a":{"type":"string"}}}`, `{"a":1}`, "misfits type /a"},
		{`{"properties":{"a":{"type":"string"}}}`, `{"\u0061":1}`, "misfits type /a"},
		{`{"properties":{"\u0061":{"type":"string"}}}`, `{"a":1}`, "misfits type /a"},
		{`{"properties":{"a":{"items":{"minimum":3}}}}`, `{"a":[3,4,2]}`, "misfits minimum /a/2"},
		{`{"required":["a","b"]}`, `{"a":1,"b":2}`, "fits"},
		{`{"required":["a","b"]}`, `{"a":1}`, "misfits required the top"},
		{`{"required":["a"]}`, `[]`, "fits"},
		{`{"properties":{"a":{}},"additionalProperties":false}`, `{"a":1}`, "fits"},
		{`{"properties":{"a":{}},"additionalProperties":false}`, `{"a":1,"b":2}`, "misfits additionalProperties /b"},
		{`{"additionalProperties":{"type":"string"},"properties":{"a":true}}`, `{"a":1,"b":"x"}`, "fits"},
		{`{"additionalProperties":{"type":"string"},"properties":{"a":true}}`, `{"a":1,"b":2}`, "misfits type /b"},
		{`{"prefixItems":[{"type":"string"}],"items":{"type":"number"}}`, `["a",1,2]`, "fits"},
		{`{"prefixItems":[{"type":"string"}],"items":{"type":"number"}}`, `["a",1,"b"]`, "misfits type /2"},
		{`{"items":[{"type":"string"}],"additionalItems":false}`, `["a"]`, "fits"},
		{`{"items":[{"type":"string"}],"additionalItems":false}`, `["a",1]`, "misfits false /1"},
		{`{"enum":[1,"a",{"b":[1.0,2]}]}`, `{"b":[1,2.0]}`, "fits"},
		{`{"enum":[1,"a"]}`, `"b"`, "misfits enum the top"},
		{`{"enum":["ä"]}`, `"\u00e4"`, "fits"},
		{`{"const":"😀"}`, `"\ud83d\ude00"`, "fits"},
		{`{"const":{"a":1,"b":2}}`, `{"b":2,"a":1}`, "fits"},
		{`{"const":0}`, `-0.0`, "fits"},
		{`{"const":100}`, `1e2`, "fits"},
		{`{"const":9007199254740993}`, `9007199254740992`, "misfits const the top"},
		{`{"minimum":0.1}`, `0.1`, "fits"},
		{`{"exclusiveMinimum":0.1}`, `0.10`, "misfits exclusiveMinimum the top"},
		{`{"maximum":-1}`, `-0.5`, "misfits maximum the top"},
		{`{"maximum":-1}`, `-1e3`, "fits"},
		{`{"minimum":1e3}`, `999.9`, "misfits minimum the top"},
		{`{"exclusiveMaximum":1}`, `0`, "fits"},
		{`{"multipleOf":0.01}`, `19.99`, "fits"},
		{`{"multipleOf":0.01}`, `19.999`, "misfits multipleOf the top"},
		{`{"multipleOf":7}`, `7e40`, "fits"},
		{`{"multipleOf":7}`, `1e40`, "misfits multipleOf the top"},
		{`{"multipleOf":30}`, `90`, "fits"},
		{`{"multipleOf":30}`, `100`, "misfits multipleOf the top"},
		{`{"multipleOf":3}`, `0`, "fits"},
		{`{"minLength":2}`, `"가나"`, "fits"},
		{`{"maxLength":1}`, `"\ud83d\ude00"`, "fits"},
		{`{"maxLength":1}`, `"ab"`, "misfits maxLength the top"},
		{`{"minLength":3.0}`, `"ab"`, "misfits minLength the top"},
		{`{"minItems":1}`, `[]`, "misfits minItems the top"},
		{`{"maxItems":1}`, `[[1,2]]`, "fits"},
		{`{"uniqueItems":true}`, `[1,"1",[1],{"a":1}]`, "fits"},
		{`{"uniqueItems":true}`, `[{"a":1,"b":2},3,{"b":2.0,"a":1}]`, "misfits uniqueItems the top"},
		{`{"uniqueItems":false}`, `[1,1]`, "fits"},
		{`{"minProperties":2}`, `{"a":1}`, "misfits minProperties the top"},
		{`{"maxProperties":1}`, `{"a":1}`, "fits"},
		{`{"anyOf":[{"type":"string"},{"minimum":3}]}`, `4`, "fits"},
		{`{"anyOf":[{"type":"string"},{"minimum":3}]}`, `2`, "misfits anyOf the top"},
		{`{"allOf":[{"type":"number"},{"minimum":3}]}`, `2`, "misfits minimum the top"},
		{`{"oneOf":[{"type":"number"},{"minimum":3}]}`, `3`, "misfits oneOf the top"},
		{`{"oneOf":[{"type":"number"},{"minimum":3}]}`, `2`, "fits"},
		{`{"not":{"type":"string"}}`, `"a"`, "misfits not the top"},
		{`{"not":{"type":"string"}}`, `1`, "fits"},
		{`{"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}}}`, `1`, "misfits type the top"},
		{`{"$ref":"#/definitions/a~1b","definitions":{"a/b":{"type":"string"}}}`, `"x"`, "fits"},
		{`{"$ref":"#/allOf/1","allOf":[true,{"type":"string"}]}`, `"x"`, "fits"},
		{`{"properties":{"next":{"$ref":"#"}},"additionalProperties":false}`, `{"next":{"next":{"x":1}}}`, "misfits additionalProperties /next/next/x"},

		// What is not judged never refuses, wherever it stands.
		{`{"pattern":"^a"}`, `"b"`, "unknown"},
		{`{"pattern":"^a"}`, `1`, "fits"},
		{`{"pattern":"^a","type":"number"}`, `"b"`, "misfits type the top"},
		{`{"not":{"pattern":"^a"}}`, `"b"`, "unknown"},
		{`{"anyOf":[{"pattern":"^a"},{"type":"number"}]}`, `"b"`, "unknown"},
		{`{"oneOf":[{"pattern":"^a"},{"pattern":"^b"}]}`, `"b"`, "unknown"},
		{`{"oneOf":[{"pattern":"^a"},{"type":"string"},{"maxLength":2}]}`, `"b"`, "misfits oneOf the top"},
		{`{"patternProperties":{"^a":true},"additionalProperties":false}`, `{"b":1}`, "unknown"},
		{`{"format":"date"}`, `"b"`, "fits"},
		{`{"$ref":"https://example.com/a"}`, `1`, "unknown"},
		{`{"exclusiveMinimum":true,"minimum":3}`, `2`, "misfits minimum the top"},
		{`{"exclusiveMinimum":true,"minimum":3}`, `3`, "unknown"},
		{`{"type":"string","nullable":true}`, `null`, "fits"},
		{`{"type":1,"enum":2,"properties":3,"required":true,"multipleOf":0}`, `{}`, "unknown"},
		{`{"x-note":1,"title":"t"}`, `1`, "fits"},

		// What would take for ever is given up.
		{`{"$ref":"#"}`, `1`, "unknown too much"},
		{`{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}`, `1`, "unknown too much"},
	}
	for _, tt := range tests {
		t.Run(tt.schema+" "+tt.value, func(t *testing.T) {
			got, where := hold(t, tt.schema, tt.value)
			if said := strings.TrimSpace(outcomes[got] + " " + where); said != tt.want {
				t.Errorf("got %q, want %q", said, tt.want)
			}
		})
	}
}

// TestTooMuch: work is bounded by steps, however a schema and a value are made.
func TestTooMuch(t *testing.T) {
	wide := `{"items":` + strings.Repeat(`{"anyOf":[false,`, 12) + `true` + strings.Repeat("]}", 12) + `}`
	doubling := `{"$defs":{"z":false`
	for c := 'a'; c < 'u'; c++ {
		next := string(c + 1)
		if c == 't' {
			next = "z"
		}
		doubling += `,"` + string(c) + `":{"anyOf":[{"$ref":"#/$defs/` + next + `"},{"$ref":"#/$defs/` + next + `"}]}`
	}
	doubling += `},"$ref":"#/$defs/a"}`
	tests := []struct{ name, schema, value string }{
		{"many refs", doubling, `1`},
		{"wide", wide, "[" + strings.Repeat("1,", 20000) + "1]"},
		{"unique", `{"uniqueItems":true}`, "[" + strings.Repeat(`"`+strings.Repeat("x", 40)+`",`, 1) + manyNumbers(2000) + "]"},
	}
	for _, tt := range tests {
		if got, where := hold(t, tt.schema, tt.value); where != "too much" {
			t.Errorf("%s: got %s %q", tt.name, outcomes[got], where)
		}
	}
}

func manyNumbers(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(rune('1'+i%9)) + strings.Repeat("0", i/9%30) + "." + strings.Repeat("1", i/270+1))
	}
	return b.String()
}

func TestParse(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an object", ` { "a" : [ 1 , -2.5e+3 , true , false , null , "x\n\u0041" ] } `, ""},
		{"a scalar", `"a"`, ""},
		{"nothing", ``, "not JSON"},
		{"two values", `1 2`, "not JSON"},
		{"a comma too many", `[1,]`, "not JSON"},
		{"a comma in front", `{,"a":1}`, "not JSON"},
		{"an open object", `{"a":1`, "not JSON"},
		{"a leading zero", `01`, "not JSON"},
		{"a bare fraction", `1.`, "not JSON"},
		{"a bare exponent", `1e`, "not JSON"},
		{"plus", `+1`, "not JSON"},
		{"a control character", "\"a\nb\"", "not JSON"},
		{"a bad escape", `"\x"`, "not JSON"},
		{"a short escape", `"\u12"`, "not JSON"},
		{"bad UTF-8", "\"\xff\"", "not JSON"},
		{"NaN", `NaN`, "not JSON"},
		{"a member twice", `{"a":1,"b":2,"a":3}`, "named twice"},
		{"a member twice, disguised", `{"a":1,"\u0061":3}`, "named twice"},
		{"a member twice, within", `[{"x":{"a":1,"a":1}}]`, "named twice"},
		{"deep", strings.Repeat("[", 65) + strings.Repeat("]", 65), "too deep"},
		{"not too deep", strings.Repeat("[", 64) + strings.Repeat("]", 64), ""},
		{"a monstrous number", `1e10000`, "too large"},
		{"many values", "[" + strings.Repeat("1,", maxNodes) + "1]", "too many"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := new(tree).parse([]byte(tt.text))
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzParse agrees with encoding/json about what JSON is, names that repeat and monstrous numbers aside.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x"]}`, `{"a":1,"a":2}`, `[1e5,-0]`, `"\ud800\u0041"`, `{"a":{"b":{}}}`, `01`, "\"\xff\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var tr tree
		err := tr.parse(b)
		isJSON := json.Valid(b) && utf8.Valid(b)
		if isJSON != (err == nil) && (err == errText || !isJSON && err == nil) {
			t.Fatalf("%q: got %v, valid JSON: %t", b, err, isJSON)
		}
		if err != nil {
			return
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		compareTree(t, &tr, 0, v)
	})
}

// compareTree holds a tree against what encoding/json read.
func compareTree(t *testing.T, tr *tree, at int32, v any) {
	t.Helper()
	n := tr.nodes[at]
	switch v := v.(type) {
	case string:
		if got := string(tr.string(at)); n.kind != isString || got != v || length([]byte(tr.text[n.start:n.end]), true) != len([]rune(v)) {
			t.Fatalf("got %q, want %q", got, v)
		}
	case []any:
		if n.kind != isArray || int(n.count) != len(v) {
			t.Fatalf("got %d elements, want %d", n.count, len(v))
		}
		c := at + 1
		for _, x := range v {
			compareTree(t, tr, c, x)
			c = tr.nodes[c].next
		}
		if c != n.next {
			t.Fatal("an array ends elsewhere")
		}
	case map[string]any:
		if n.kind != isObject || int(n.count) != len(v) {
			t.Fatalf("got %d members, want %d", n.count, len(v))
		}
		for c := at + 1; c < n.next; c = tr.nodes[c].next {
			x, ok := v[string(tr.name(c))]
			if !ok {
				t.Fatalf("a member %q from nowhere", tr.name(c))
			}
			compareTree(t, tr, c, x)
		}
	}
}

// FuzzSchema holds the validator against a whole implementation of JSON Schema: where it judges, it judges alike.
func FuzzSchema(f *testing.F) {
	for _, s := range [][2]string{
		{`{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"required":["a"],"additionalProperties":false}`, `{"a":0}`},
		{`{"anyOf":[{"type":"string","maxLength":2},{"enum":[1,null,[2]]}]}`, `[2.0]`},
		{`{"oneOf":[{"multipleOf":3},{"multipleOf":5}]}`, `15`},
		{`{"not":{"const":{"a":[]}}}`, `{"a":[]}`},
		{`{"$ref":"#/$defs/x","$defs":{"x":{"prefixItems":[{"type":"null"}],"items":{"$ref":"#/$defs/x"}}}}`, `[null,[1]]`},
		{`{"uniqueItems":true,"minItems":1,"maxItems":3,"items":{"type":["number","string"]}}`, `[1,"1",1.0]`},
		{`{"exclusiveMinimum":1.5,"exclusiveMaximum":2e1}`, `1.50`},
		{`{"minProperties":1,"maxProperties":2,"properties":{"a":true,"b":false}}`, `{"b":1}`},
		{`{"allOf":[{"minLength":1},{"pattern":"a"}]}`, `"b"`},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, schemaText, valueText string) {
		var s, v tree
		if len(schemaText) > 2000 || len(valueText) > 2000 || s.parse([]byte(schemaText)) != nil || v.parse([]byte(valueText)) != nil {
			return
		}
		if s.sound(0, 0) != nil || hasLongExponent(&s) || hasLongExponent(&v) {
			return
		}
		c := check{schema: &s, value: &v}
		got := c.run()
		if c.tooMuch {
			return
		}
		theirs, ok := reference(schemaText)
		if !ok {
			return
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(valueText))
		if err != nil {
			t.Fatalf("they cannot read %s: %v", valueText, err)
		}
		if err := theirs.Validate(value); (err == nil) != (got == fits) || got == unknown {
			t.Errorf("%s of %s: got %s, they say %v", schemaText, valueText, outcomes[got], err)
		}
	})
}

// hasLongExponent finds numbers that a library of big rationals takes long for.
func hasLongExponent(t *tree) bool {
	for _, n := range t.nodes {
		if n.kind == isNumber {
			if d := decimalOf(t.text[n.start:n.end]); d.point > 100 || d.point < -100 {
				return true
			}
		}
	}
	return false
}

// reference compiles a schema with the library, as draft 2020-12.
func reference(text string) (*jsonschema.Schema, bool) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, false
	}
	if o, ok := doc.(map[string]any); ok && o["$schema"] != nil {
		return nil, false // another draft, or one to fetch
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("mem:///schema", doc); err != nil {
		return nil, false
	}
	s, err := c.Compile("mem:///schema")
	return s, err == nil
}
