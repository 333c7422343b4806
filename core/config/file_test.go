package config

import (
	"encoding"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const smallest = `
auth: {anonymous: true}
backends: {gpu: {url: "http://127.0.0.1:8000"}}
pools: {small: {models: [m], backends: [gpu]}}
`

func TestLoad(t *testing.T) {
	f, source, err := Load("nexus.yaml", []byte(smallest))
	if err != nil {
		t.Fatal(err)
	}
	if f.Server.Listen != "127.0.0.1:8080" || f.Upstream.Backends["gpu"].Kind != "openai" || f.Upstream.Pools["small"].Models[0] != "m" {
		t.Errorf("got %+v", f)
	}
	if source.Name() != "nexus.yaml" {
		t.Errorf("got source %q", source.Name())
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"a section that is no section", smallest + "backnds: {}\n", `f:5:1: backnds: unknown key; did you mean "backends"?`},
		{"one listener for both", smallest + "admin: {listen: '127.0.0.1:8080'}\n", "f:5:17: admin.listen: is the address of server.listen; callers must not reach this listener"},
		{"nobody could call", strings.Replace(smallest, "true", "false", 1), "f:2:1: auth: nobody could call"},
		{"a backend that is not there", strings.Replace(smallest, "[gpu]", "[gpv]", 1), "f:4:30: pools.small.backends: entry 0 names "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, source, err := Load("f", []byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
			if f != nil || source == nil {
				t.Errorf("got file %v, source %v", f, source)
			}
		})
	}
}

func TestLoadRebasesPaths(t *testing.T) {
	text := smallest + "policy: {dir: policies, data: /abs/data.json}\nplugins: {dir: ../plugins, chain: [{name: a, path: a.wasm}, {name: b}]}\n" +
		"server: {tls: {cert: tls.crt, key: tls.key}}\n"
	text = strings.Replace(text, "{anonymous: true}", "{keys_file: keys.yaml}", 1)
	f, _, err := Load("/etc/nexus/nexus.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{f.Policy.Dir, f.Policy.Data, f.Plugins.Dir, f.Plugins.Chain[0].Path, f.Plugins.Chain[1].Path, f.Server.TLS.Cert, f.Server.TLS.Key, f.Auth.KeysFile}
	want := []string{"/etc/nexus/policies", "/abs/data.json", "/etc/plugins", "/etc/nexus/a.wasm", "", "/etc/nexus/tls.crt", "/etc/nexus/tls.key", "/etc/nexus/keys.yaml"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Every setting must explain itself, and every default be one that the file could hold.
func TestEverySettingIsDeclaredWhole(t *testing.T) {
	declared(t, reflect.TypeFor[File](), "")
}

func declared(t *testing.T, typ reflect.Type, path string) {
	t.Helper()
	if isScalar(typ) {
		return
	}
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		declared(t, typ.Elem(), path)
	case reflect.Struct:
		names := map[string]bool{}
		for _, f := range fields(typ) {
			at := join(path, f.name)
			if names[f.name] {
				t.Errorf("%s is declared twice", at)
			}
			names[f.name] = true
			checkDeclaration(t, f, at)
			declared(t, f.typ, at)
		}
		checkTags(t, typ, path)
	case reflect.Interface:
	default:
		t.Errorf("%s is a %s, which no file can hold", path, typ)
	}
}

func checkDeclaration(t *testing.T, f field, path string) {
	t.Helper()
	first, _, _ := strings.Cut(f.doc, " ")
	if !strings.HasSuffix(f.doc, ".") || strings.ToLower(first) == first && !strings.ContainsAny(first, "\":/0123456789") {
		t.Errorf("%s: its doc %q is no sentence", path, f.doc)
	}
	if f.name != strings.ToLower(f.name) || strings.ContainsAny(f.name, "-. ") {
		t.Errorf("%s: keys are written in lower case with underscores", path)
	}
	if !f.hasDefault {
		return
	}
	v := reflect.New(f.typ).Elem()
	if err := f.setDefault(v); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

// checkTags finds what is exported and looks like a setting, but has no key.
func checkTags(t *testing.T, typ reflect.Type, path string) {
	t.Helper()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.IsExported() && f.Tag.Get("yaml") == "" {
			t.Errorf("%s: %s.%s has no yaml tag; write \"-\" if it is no setting", path, typ, f.Name)
		}
	}
}

func TestFileSchema(t *testing.T) {
	compile(t, File{})
}

// The reference is a file that sets everything to its default. It is not a whole configuration: nobody
// could call.
func TestFileReference(t *testing.T) {
	text, err := Reference(File{})
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "\n"...)
	text = []byte(strings.Replace(string(text), "\n#backends:\n", "\nbackends: {gpu: {url: 'http://127.0.0.1:8000'}}\n#backends:\n", 1))
	text = []byte(strings.Replace(string(text), "\n#pools:\n", "\npools: {small: {models: [m], backends: [gpu]}}\n#pools:\n", 1))
	text = []byte(strings.Replace(string(text), "anonymous: false", "anonymous: true", 1))
	got, _, err := Load("nexus.yaml", text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	want, _, err := Load("nexus.yaml", []byte(smallest))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// Every configuration in the repository is read, but what stands in testdata. What a deployment brings,
// variables and the files of secrets, is made up.
func TestEveryConfigurationInTheRepository(t *testing.T) {
	var found int
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2) {
			return filepath.SkipDir
		}
		if d.Name() != "nexus.yaml" {
			return nil
		}
		found++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, _, err := Load(path, []byte(madeUp(string(text)))); err != nil {
			t.Error(err)
		}
		return nil
	})
	if err != nil || found < 3 {
		t.Fatalf("found %d configurations, %v", found, err)
	}
}

var (
	fromOutside = regexp.MustCompile(`\$\{(\w+)\}`)
	fromFile    = regexp.MustCompile(`file:[\w/.-]+`)
)

func madeUp(text string) string {
	value := func(name string) string {
		switch name = strings.ToLower(name); {
		case strings.Contains(name, "redis"):
			return "redis://127.0.0.1:6379/0"
		case strings.Contains(name, "url"):
			return "http://127.0.0.1:8000"
		case strings.Contains(name, "sha256"):
			return strings.Repeat("ab", 32)
		}
		return "x"
	}
	return fromFile.ReplaceAllStringFunc(fromOutside.ReplaceAllStringFunc(text, value), value)
}

var _ encoding.TextUnmarshaler = (*percent)(nil)

// percent is a setting that reads itself.
type percent int

func (p *percent) UnmarshalText(b []byte) error {
	var n int
	err := set(reflect.ValueOf(&n).Elem(), strings.TrimSuffix(string(b), "%"))
	*p = percent(n)
	return err
}

func TestSettingsThatReadThemselves(t *testing.T) {
	var s struct {
		Share percent   `yaml:"share" default:"5%"`
		More  []percent `yaml:"more" default:"1%,2%"`
	}
	if _, err := Decode("f", []byte("share: 50%"), &s); err != nil {
		t.Fatal(err)
	}
	if s.Share != 50 || !slices.Equal(s.More, []percent{1, 2}) {
		t.Errorf("got %+v", s)
	}
	_, err := Decode("f", []byte("share: half"), &s)
	if want := `f:1:8: share: "half" is not a whole number`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
