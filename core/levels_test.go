package core

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/nexus-gateway/nexus/"

// levels is the drawing of core/README.md: a package may import what stands on a lower level and its own
// subpackages, never upward and never sideways. core/setting stands below everything, since each package
// declares its Config with it.
var levels = map[string]int{
	"core/setting": 0, "core/lines": 0,
	"core/llm": 1, "core/sandbox": 1,
	"core/pipeline": 2,
	"core/auth":     3, "core/plugin": 3, "core/policy": 3, "core/quota": 3, "core/cache": 3, "core/upstream": 3,
	"core/telemetry": 3, "core/server": 3, "core/admin": 3, "core/mock": 3,
	"core/config":  4,
	"core/gateway": 5,
	"cmd":          6, "examples": 6, "k8s": 6, "e2e": 6,
}

// leaves may be imported by anyone and import nothing of core, so that guests and authors of policies need
// none of the gateway.
var leaves = []string{"plugins", "policies", "sdk"}

// suites are leaves that run guests and so need what core offers.
var suites = []string{"sdk/conformance"}

// kits may be imported by the tests of any package in core.
var kits = []string{"core/mock"}

// doors names, for each library, the packages it may be used in. A library without a door is used nowhere: give
// it one here, knowingly.
var doors = map[string][]string{
	"github.com/tetratelabs/wazero":                  {"core/sandbox"},
	"golang.org/x/sys/unix":                          {"core/sandbox"},
	"github.com/open-policy-agent/opa":               {"core/policy"},
	"github.com/santhosh-tekuri/jsonschema":          {"core/plugin"},
	"github.com/redis/go-redis":                      {"core/quota", "core/cache"},
	"go.opentelemetry.io":                            {"core/telemetry"},
	"github.com/gorilla/mux":                         {"core/server", "core/admin"},
	"golang.org/x/net/http/httpguts":                 {"core/plugin"},
	"go.yaml.in/yaml":                                {"core/config"},
	"github.com/prometheus/client_golang/prometheus": {"core", "cmd"},
}

// A source is one parsed Go file.
type source struct {
	path string // from the module's root, with slashes
	fset *token.FileSet
	file *ast.File
}

func (s source) pkg() string   { return path.Dir(s.path) }
func (s source) test() bool    { return strings.HasSuffix(s.path, "_test.go") }
func (s source) outside() bool { return strings.HasSuffix(s.file.Name.Name, "_test") }

func (s source) at(p token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(p).Line)
}

func TestLevelsAndDoors(t *testing.T) {
	for _, s := range tree(t) {
		for _, fault := range importFaults(s) {
			t.Error(fault)
		}
	}
}

// importFaults says what is wrong with a file's imports. A test file is free of the doors, since it may drive a
// package with the real library. A black-box test (package x_test) is free of the levels too, since nothing
// can import it; a test inside its package is bound by them, but for the kits.
func importFaults(s source) []string {
	var faults []string
	for _, spec := range s.file.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		fault := ""
		if inner, ours := strings.CutPrefix(name, module); ours {
			if !s.test() || !s.outside() && !isUnder(inner, kits) {
				fault = levelFault(s.pkg(), inner)
			}
		} else if !s.test() {
			fault = doorFault(s.pkg(), name)
		}
		if fault != "" {
			faults = append(faults, s.at(spec.Pos())+": "+fault)
		}
	}
	return faults
}

func levelFault(from, to string) string {
	if family(from) == family(to) || isUnder(from, suites) {
		return ""
	}
	if isUnder(from, leaves) {
		if isUnder(to, leaves) {
			return ""
		}
		return from + " is a leaf and imports " + to
	}
	low, known := levels[family(from)]
	if !known {
		return from + " has no level: give it one in core/levels_test.go"
	}
	if isUnder(to, leaves) {
		return ""
	}
	switch high, known := levels[family(to)]; {
	case !known:
		return to + " has no level: give it one in core/levels_test.go"
	case high > low:
		return fmt.Sprintf("upward import: %s (level %d) imports %s (level %d)", from, low, to, high)
	case high == low:
		return fmt.Sprintf("sideways import: %s imports %s, both of level %d", from, to, low)
	}
	return ""
}

// doorFault tells standard packages by their first element, which has no dot.
func doorFault(from, library string) string {
	if first, _, _ := strings.Cut(library, "/"); !strings.Contains(first, ".") {
		return ""
	}
	for name, users := range doors {
		if isUnder(library, []string{name}) {
			if isUnder(from, users) {
				return ""
			}
			return fmt.Sprintf("%s imports %s, whose door is %s", from, library, strings.Join(users, ", "))
		}
	}
	return fmt.Sprintf("%s imports %s, which has no door: give it one in core/levels_test.go or do without", from, library)
}

// family is the package of the drawing that name belongs to: core/quota for core/quota/storetest, cmd for
// cmd/nexus.
func family(name string) string {
	parts := strings.Split(name, "/")
	if parts[0] == "core" && len(parts) > 1 {
		return "core/" + parts[1]
	}
	return parts[0]
}

func isUnder(name string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return name == root || strings.HasPrefix(name, root+"/")
	})
}

// tree parses every Go file of the module, for all platforms.
func tree(t *testing.T) []source {
	t.Helper()
	var sources []source
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && name != ".." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") {
			return nil
		}
		rel, err := filepath.Rel("..", name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		sources = append(sources, source{filepath.ToSlash(rel), fset, file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 10 {
		t.Fatalf("found %d Go files: this test must run in the module's tree", len(sources))
	}
	return sources
}

func parse(t *testing.T, name, text string) source {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return source{name, fset, file}
}

func TestImportFaults(t *testing.T) {
	tests := []struct {
		name, path, pkg, imports, want string
	}{
		{"down", "core/auth/a.go", "auth", module + "core/pipeline", ""},
		{"down two", "core/gateway/a.go", "gateway", module + "core/llm", ""},
		{"setting from below", "core/sandbox/a.go", "sandbox", module + "core/setting", ""},
		{"upward", "core/llm/a.go", "llm", module + "core/pipeline", "upward import: core/llm (level 1) imports core/pipeline (level 2)"},
		{"sideways", "core/auth/a.go", "auth", module + "core/quota", "sideways import: core/auth imports core/quota, both of level 3"},
		{"sideways below", "core/llm/a.go", "llm", module + "core/sandbox", "sideways import"},
		{"its own subpackage", "core/quota/a.go", "quota", module + "core/quota/storetest", ""},
		{"another's subpackage", "core/auth/a.go", "auth", module + "core/quota/storetest", "sideways import"},
		{"from a subpackage", "core/quota/storetest/a.go", "storetest", module + "core/quota", ""},
		{"not in the drawing", "core/extra/a.go", "extra", module + "core/llm", "core/extra has no level"},
		{"of what is not in the drawing", "core/gateway/a.go", "gateway", module + "core/extra", "core/extra has no level"},
		{"cmd", "cmd/nexus/a.go", "main", module + "core/gateway", ""},
		{"core imports cmd", "core/gateway/a.go", "gateway", module + "cmd/nexus", "upward import"},
		{"core imports a leaf", "core/llm/a.go", "llm", module + "sdk/abi", ""},
		{"leaf imports leaf", "plugins/pii-mask/a.go", "main", module + "sdk/go", ""},
		{"leaf imports core", "plugins/pii-mask/a.go", "main", module + "core/llm", "plugins/pii-mask is a leaf and imports core/llm"},
		{"the suite imports core", "sdk/conformance/a.go", "conformance", module + "core/plugin", ""},
		{"the suite's neighbour", "sdk/conformances/a.go", "conformances", module + "core/plugin", "is a leaf"},
		{"inner test upward", "core/llm/a_test.go", "llm", module + "core/pipeline", "upward import"},
		{"black-box test upward", "core/llm/a_test.go", "llm_test", module + "core/gateway", ""},
		{"inner test with a kit", "core/upstream/a_test.go", "upstream", module + "core/mock", ""},
		{"kit outside a test", "core/upstream/a.go", "upstream", module + "core/mock", "sideways import"},
		{"not a test, named like one", "core/llm/a.go", "llm_test", module + "core/gateway", "upward import"},
		{"standard library", "core/llm/a.go", "llm", "net/http", ""},
		{"inside the door", "core/sandbox/a.go", "sandbox", "github.com/tetratelabs/wazero/api", ""},
		{"outside the door", "core/plugin/a.go", "plugin", "github.com/tetratelabs/wazero", "whose door is core/sandbox"},
		{"door with a version", "core/auth/a.go", "auth", "github.com/redis/go-redis/v9", "whose door is core/quota, core/cache"},
		{"second door", "core/admin/a.go", "admin", "github.com/gorilla/mux", ""},
		{"otel by any path", "core/gateway/a.go", "gateway", "go.opentelemetry.io/otel/trace", "whose door is core/telemetry"},
		{"prometheus anywhere in core", "core/quota/a.go", "quota", "github.com/prometheus/client_golang/prometheus", ""},
		{"prometheus in a leaf", "sdk/go/a.go", "nexus", "github.com/prometheus/client_golang/prometheus", "whose door is core, cmd"},
		{"no door at all", "core/quota/a.go", "quota", "golang.org/x/sync/errgroup", "has no door"},
		{"a test is free of doors", "core/plugin/a_test.go", "plugin", "github.com/tetratelabs/wazero", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(importFaults(parse(t, tt.path, "package "+tt.pkg+"\nimport _ \""+tt.imports+"\"\n")), "; ")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
