package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		write(t, file, string(got))
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -update and read the difference\n%s", file, got)
	}
}

func TestSchemaGolden(t *testing.T) {
	got, err := Schema(sample{})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/schema.golden.json", got)
	again, err := Schema(new(sample))
	if err != nil || !bytes.Equal(got, again) {
		t.Errorf("the schema is not the same twice: %v", err)
	}
}

func TestReferenceGolden(t *testing.T) {
	got, err := Reference(sample{})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/reference.golden.yaml", got)
	var s sample
	if _, err := Decode("reference", got, &s); err != nil {
		t.Fatal(err)
	}
	if want := defaults(); !reflect.DeepEqual(s, want) {
		t.Errorf("the reference does not decode to the defaults:\ngot  %+v\nwant %+v", s, want)
	}
}

func TestReferenceOfNothing(t *testing.T) {
	type optional struct {
		A string `yaml:"a" doc:"Text."`
	}
	got, err := Reference(optional{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode("reference", got, new(optional)); err != nil {
		t.Errorf("%v in\n%s", err, got)
	}
}

// Whoever takes off the # of every setting has a file whose keys are all known. The values that he has
// yet to write are missing, and no more than that.
func TestReferenceUncommented(t *testing.T) {
	for _, v := range []any{sample{}, File{}} {
		text, err := Reference(v)
		if err != nil {
			t.Fatal(err)
		}
		bare := regexp.MustCompile(`(?m)^( *)#([^ ])`).ReplaceAll(text, []byte("$1$2"))
		into := reflect.New(reflect.TypeOf(v)).Interface()
		_, err = Decode("f", bare, into)
		var all *Error
		if !errors.As(err, &all) {
			t.Fatalf("got %v for\n%s", err, bare)
		}
		for _, p := range all.Problems {
			if strings.Contains(p.Text, "unknown") || strings.Contains(p.Text, "wants") || strings.Contains(p.Text, "twice") || p.Path == "" {
				t.Errorf("%v", p)
			}
		}
	}
}

func TestSchemaOfWhatCannotBe(t *testing.T) {
	type unreadable struct {
		C chan int `yaml:"c"`
	}
	if _, err := Schema(unreadable{}); err == nil {
		t.Error("no error for a channel")
	}
	type badDefault struct {
		N int `yaml:"n" default:"many"`
	}
	if _, err := Schema(badDefault{}); err == nil {
		t.Error("no error for a default that does not parse")
	}
}

// compile returns the schema of v as an independent validator reads it; compiling checks it against
// the meta-schema of its dialect.
func compile(t testing.TB, v any) *jsonschema.Schema {
	t.Helper()
	text, err := Schema(v)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("nexus.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("nexus.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An editor that completes by the schema and the gateway that reads must agree. What only one of them
// can know is left out: variables, the ranges that Validate checks, and what YAML can say but JSON not.
func TestSchemaAgreesWithDecode(t *testing.T) {
	s := compile(t, sample{})
	tests := []struct {
		in   string
		want bool
	}{
		{"{}", true},
		{"server: {listen: x, max_body: 64KiB, drain: 1h30m, mode: open}", true},
		{"server: {max_body: 65536, drain: 0}", true},
		{"server: {max_body: -1}", false},
		{"server: {max_body: 64kb}", false},
		{"server: {drain: 5}", false},
		{"server: {drain: -5s}", false},
		{"server: {drain: .5s}", true},
		{"server: {drain: 1.5h30m}", true},
		{"server: {drain: 5 s}", false},
		{"server: {mode: half}", false},
		{"server: {lisen: x}", false},
		{"server: []", false},
		{"server: ", false},
		{"backends: {a: {url: x, weight: 2, timeout: 1s}}", true},
		{"backends: {a: {url: x, weight: 2.5}}", false},
		{"backends: {a: {url: x, wait: 2}}", false},
		{"backends: {'': {url: x}}", false},
		{"backends: [x]", false},
		{"plugins: [{path: x, config: {a: [1, {b: null}]}}]", true},
		{"plugins: [{path: [x]}]", false},
		{"plugins: {path: x}", false},
		{"tls: {cert: x, port: 1}", true},
		{"tls: {port: x}", false},
		{"ratio: 1", true}, {"ratio: 1e3", true}, {"ratio: x", false}, {"ratio: '1'", false}, {"ratio: true", false},
		{"small: 127", true}, {"small: 128", false}, {"small: -128", true}, {"small: -129", false},
		{"count: 65535", true}, {"count: 65536", false}, {"count: -1", false},
		{"debug: true", true}, {"debug: 'true'", false}, {"debug: 1", false}, {"debug: yes", false},
		{"kinds: [chat, rerank]", true}, {"kinds: [x]", false}, {"kinds: []", true}, {"kinds: chat", false},
		{"labels: {a: 1, b: x, c: true}", true}, {"labels: {a: [x]}", false},
		{"free: 1", true}, {"free: [{a: b}]", true},
		{"requests: 5", true}, {"requests: x", false},
		{"limits: {requests: 5}", false},
	}
	for _, tt := range tests {
		var document any
		if err := yaml.Unmarshal([]byte(tt.in), &document); err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			t.Fatal(err)
		}
		_, decoded := Decode("f", []byte(tt.in), new(sample))
		if got := decoded == nil; got != tt.want {
			t.Errorf("Decode %s: got %v", tt.in, decoded)
		}
		if err := s.Validate(instance); (err == nil) != tt.want {
			t.Errorf("schema %s: got %v", tt.in, err)
		}
	}
}
