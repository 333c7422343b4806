package policy

import (
	"maps"
	"testing"
	"testing/fstest"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"github.com/nexus-gateway/nexus/core/setting"
)

func testConfig() Config {
	return Config{Deadline: time.Second, OnError: "deny", OnUndefined: "deny", OnTimeout: "deny", OnConflict: "deny", OnSchema: "deny", Log: LogConfig{Size: 16}}
}

// rego is a folder of one or more files, given as name, text, name, text…
func rego(files ...string) Sources {
	fsys := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return Sources{Files: fsys, Name: "p"}
}

func TestShippedPoliciesPassTheirTests(t *testing.T) {
	r, err := Test(t.Context(), Shipped())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range r.Results {
		if !one.Passed {
			t.Errorf("%s:%d: %s: %s", one.File, one.Line, one.Name, one.Reason)
		}
	}
	if r.Passed < 20 {
		t.Errorf("passed %d tests, want all of them", r.Passed)
	}
}

func TestShippedPoliciesAreFormatted(t *testing.T) { areFormatted(t, Shipped()) }

func areFormatted(t *testing.T, src Sources) {
	t.Helper()
	f, err := src.read()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(f.rego, f.tests)
	for name, text := range f.rego {
		want, err := format.SourceWithOpts(name, []byte(text), format.Opts{RegoVersion: ast.RegoV1})
		if err != nil || string(want) != text {
			t.Errorf("%s is not as `opa fmt` writes it: %v\n%s", name, err, want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	good := testConfig()
	good.Headers = []string{"x-canary"}
	p := setting.NewProblems()
	if good.Validate(p); len(p.All()) != 0 {
		t.Errorf("got %v", p.All())
	}
	bad := Config{Deadline: 2 * time.Second, Headers: []string{"X-Canary", "a b", "authorization", ""}, Keywords: []string{""}}
	bad.Validate(p)
	if got := len(p.All()); got != 7 {
		t.Errorf("%d problems, want 7: %v", got, p.All())
	}
}
