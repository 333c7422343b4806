package plugin

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const wordsSchema = `
type: object
additionalProperties: false
required: [mode]
properties:
  mode: {enum: [block, label]}
  words: {type: array, maxItems: 3, items: {type: string, minLength: 2}}
  limit: {type: integer, minimum: 1, maximum: 100}
  rules:
    type: object
    additionalProperties: {$ref: "#/$defs/rule"}
  either: {anyOf: [{type: string}, {type: integer}]}
$defs:
  rule: {type: object, additionalProperties: false, properties: {pattern: {type: string, pattern: "^[a-z]+$"}, weight: {type: number}}}
`

func yamlMap(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConfigAgainstSchema(t *testing.T) {
	m := Manifest{Config: yamlMap(t, wordsSchema)}
	for _, tt := range []struct{ name, config, want string }{
		{"good", `{mode: block, words: [ab, cd], limit: 5, rules: {a: {pattern: abc, weight: 0.5}}, either: 1}`, ""},
		{"nothing", `{}`, `config: lacks "mode"`},
		{"unknown key", `{mode: block, wrods: []}`, `config.wrods: unknown key; did you mean "words"?`},
		{"unknown key, like none", `{mode: block, zzzzzzzz: 1}`, `config.zzzzzzzz: unknown key; known here: either, limit, mode, rules, words`},
		{"unknown key inside", `{mode: block, rules: {a: {patern: x}}}`, `config.rules.a.patern: unknown key; did you mean "pattern"?`},
		{"none of the words", `{mode: blok}`, `config.mode: value must be one of 'block', 'label'`},
		{"another kind", `{mode: block, words: ab}`, `config.words: got string, want array`},
		{"in a list", `{mode: block, words: [ab, cd, 3]}`, `config.words[2]: got number, want string`},
		{"too short", `{mode: block, words: [ab, c]}`, `config.words[1]: minLength: got 1, want 2`},
		{"too many", `{mode: block, words: [aa, bb, cc, dd]}`, `config.words: maxItems: got 4, want 3`},
		{"too large", `{mode: block, limit: 101}`, `config.limit: maximum: got 101, want 100`},
		{"not whole", `{mode: block, limit: 1.5}`, `config.limit: got number, want integer`},
		{"a pattern", `{mode: block, rules: {a: {pattern: A}}}`, `config.rules.a.pattern: 'A' does not match pattern '^[a-z]+$'`},
		{"neither", `{mode: block, either: true}`, `config.either: has none of the forms that its manifest allows, or more than one of them`},
		{"all at once", `{limit: 0, words: 1}`, `config: lacks "mode"; config.limit: minimum: got 0, want 1; config.words: got number, want array`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := m.checkConfig(yamlMap(t, tt.config)); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	if err := (&Manifest{}).checkConfig(map[string]any{"anything": 1}); err != nil {
		t.Errorf("without a schema: %v", err)
	}
}

// TestSchemaRefused: a schema that is none, or that reaches outside the manifest, is refused with the manifest.
func TestSchemaRefused(t *testing.T) {
	for _, tt := range []struct{ name, schema, want string }{
		{"a type that is none", `{properties: {a: {type: strin}}}`, "config.properties.a.type"},
		{"a file", `{$ref: "file:///etc/passwd"}`, "file:///etc/passwd lies outside the manifest: what a schema refers to must stand in it"},
		{"a server", `{properties: {a: {$ref: "http://127.0.0.1:1/x"}}}`, "http://127.0.0.1:1/x lies outside the manifest"},
		{"a place that is not there", `{$ref: "#/$defs/none"}`, "none"},
		{"a pattern that is none", `{pattern: "("}`, "pattern"},
		{"another draft", `{$schema: "http://example.com/own"}`, "lies outside the manifest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			manifest, err := yaml.Marshal(map[string]any{"name": "p", "config": yamlMap(t, tt.schema)})
			if err != nil {
				t.Fatal(err)
			}
			err = decode("p's manifest", manifest, &Manifest{})
			if err == nil || !strings.Contains(err.Error(), "config is not a JSON Schema: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzSchema gives any schema and any configuration: nothing panics, and what is found wrong is a setting's.
func FuzzSchema(f *testing.F) {
	f.Add(wordsSchema, `{mode: blok, words: [1]}`)
	f.Add(`{oneOf: [{}, {}]}`, `{a: 1}`)
	f.Add(`{propertyNames: {maxLength: 1}, dependentRequired: {a: [b]}}`, `{abc: 1, a: 2}`)
	f.Add(`{$ref: "#"}`, `{}`)
	f.Fuzz(func(t *testing.T, schema, config string) {
		var m Manifest
		var c map[string]any
		if yaml.Unmarshal([]byte(schema), &m.Config) != nil || yaml.Unmarshal([]byte(config), &c) != nil {
			return
		}
		if _, err := plainJSON(c); err != nil {
			return
		}
		err := m.checkConfig(c)
		if all, ok := err.(settingErrors); ok {
			for _, e := range all {
				if !strings.HasPrefix(e.path, "config") || e.text == "" {
					t.Errorf("%q is wrong with %q", e.text, e.path)
				}
			}
		}
	})
}
