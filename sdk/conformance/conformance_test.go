package conformance

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// noToolchain is the exit code by which a build script says that a toolchain is missing.
const noToolchain = 3

// built builds the plugin in a folder with its SDK's script, and returns the module and its manifest. Without the
// toolchain the test is skipped by the script's own sentence, or fails where everything must be there.
func built(t *testing.T, script, dir string) (wasm, manifest []byte) {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	text, err := exec.Command(script, dir, out).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == noToolchain {
		if os.Getenv("NEXUS_E2E") != "" {
			t.Fatalf("NEXUS_E2E wants every toolchain: %s", text)
		}
		t.Skipf("%s", text)
	}
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", script, dir, err, text)
	}
	if wasm, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	return wasm, manifest
}

// cacheDir is where compiled code lies for the whole run.
var cacheDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "nexus-conformance") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := cacheDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func beside(t *testing.T, dir string) Options {
	t.Helper()
	o, err := Beside(dir)
	if err != nil {
		t.Fatal(err)
	}
	o.Brief = testing.Short() || racing
	if o.CacheDir, err = cacheDir(); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestSDKs holds every SDK's sample to the laws, and its probe to PROBE.md besides.
func TestSDKs(t *testing.T) {
	for _, lang := range []string{"go", "assemblyscript", "rust", "c"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			sdk := filepath.Join("..", lang)
			script := filepath.Join(sdk, "build")
			t.Run("sample", func(t *testing.T) {
				dir := filepath.Join(sdk, "sample")
				wasm, manifest := built(t, script, dir)
				Run(t, wasm, manifest, beside(t, dir))
			})
			t.Run("probe", func(t *testing.T) {
				dir := filepath.Join(sdk, "probe")
				wasm, manifest := built(t, script, dir)
				RunProbe(t, wasm, manifest, beside(t, dir))
			})
		})
	}
}

// TestProbeManifests: all probes have one manifest, byte for byte.
func TestProbeManifests(t *testing.T) {
	want, err := os.ReadFile("../go/probe/manifest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../*/probe/manifest.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("there are %q, %v", files, err)
	}
	for _, name := range files {
		if got, err := os.ReadFile(name); err != nil || string(got) != string(want) {
			t.Errorf("%s is not that of the Go probe (%v)", name, err)
		}
	}
}

// TestShipped holds every plugin that is shipped to the laws.
func TestShipped(t *testing.T) {
	if racing {
		t.Skip("SKIPPED: compiling eight modules under the race detector takes minutes and finds no race; go test without -race runs it")
	}
	mains, err := filepath.Glob("../../plugins/*/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatalf("no plugins: %v", err)
	}
	for _, main := range mains {
		dir := filepath.Dir(main)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			wasm, manifest := built(t, "../go/build", dir)
			Run(t, wasm, manifest, beside(t, dir))
		})
	}
}

// TestReadCases: a case that means nothing, or several things, is refused with its line.
func TestReadCases(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"cases: [{name: a, text: x, want: y}]", ""},
		{"cases: [{name: a, rejected: x}]", ""},
		{"cases: [{name: a, usage: {completion: 5}, refused: x}]", ""},
		{"cases: [{name: a}]", "must have one of"},
		{"cases: [{name: a, text: x, request: '{}'}]", "must have one of"},
		{"cases: [{text: x}]", "name of its own"},
		{"cases: [{name: a, text: x}, {name: a, text: y}]", "name of its own"},
		{"cases: [{name: a, text: x, wants: y}]", "wants"},
		{"cases: [{name: a, text: x, role: nobody}]", "nobody"},
		{"cases: [{name: a, text: x, channel: none}]", "none"},
		{"cases: [{name: a, request: '{'}]", "not JSON"},
		{"cases: [{name: a, tool_call: {name: f, arguments: '{'}}]", "not JSON"},
	} {
		_, err := ReadCases("cases.yaml", []byte(tt.text))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.text, err, tt.want)
		}
	}
}

// FuzzRecords: records that are read are written again as they were, and none is read beyond its end.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{1, 0, 1, 0, 2, 0, 0, 0, 'a', 'b', 'c'})
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, ok := recordsOf(b)
		var again []byte
		for _, r := range all {
			again = appendRecord(again, r)
		}
		if ok && !bytes.Equal(again, b) || !bytes.HasPrefix(b, again) {
			t.Fatalf("%x is read as %v and written as %x", b, all, again)
		}
	})
}

// TestReadme: the cases that the README shows are cases.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	yaml, _, _ := strings.Cut(rest, "```")
	if cases, err := ReadCases("README.md", []byte(yaml)); err != nil || len(cases) != 3 {
		t.Errorf("got %d cases, %v", len(cases), err)
	}
	for _, l := range laws {
		if !strings.Contains(string(text), "| "+l.name+" |") {
			t.Errorf("the README does not name the law %q", l.name)
		}
	}
}
