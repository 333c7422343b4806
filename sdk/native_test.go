package sdk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/sdk/conformance"
)

// ran runs a script of an SDK. Where its toolchain is missing the test is skipped by the script's own sentence, or fails where
// everything must be there.
func ran(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 3 {
		if os.Getenv("NEXUS_E2E") != "" {
			t.Fatalf("NEXUS_E2E wants every toolchain: %s", out)
		}
		t.Skipf("SKIPPED: %s", out)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// TestNative runs the native tests of the SDKs that Go's tool does not find. AssemblyScript's are beside it.
func TestNative(t *testing.T) {
	for _, lang := range []string{"rust", "c"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			ran(t, exec.Command(filepath.Join(lang, "test")))
		})
	}
}

// TestReadmes runs what the READMEs of the SDKs for Rust and C have a reader type in an empty folder.
func TestReadmes(t *testing.T) {
	for _, lang := range []string{"rust", "c"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			sdk, err := filepath.Abs(lang)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(lang, "README.md"))
			if err != nil {
				t.Fatal(err)
			}
			_, rest, ok := strings.Cut(string(text), "```sh\nmkdir ")
			commands, _, _ := strings.Cut(rest, "```")
			if !ok || !strings.Contains(commands, "./build . secret.wasm") {
				t.Fatalf("the README begins a plugin no longer:\n%s", text)
			}
			cmd := exec.Command("sh", "-euc", "mkdir "+commands)
			cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "SDK="+sdk)
			ran(t, cmd)
			if wasm, err := os.ReadFile(filepath.Join(cmd.Dir, "secret", "secret.wasm")); err != nil || !strings.HasPrefix(string(wasm), "\x00asm") {
				t.Errorf("no module was built: %v", err)
			}
		})
	}
}

// TestAssemblyScriptReadme does all that the README has a reader do in an empty folder: its commands, and the files that it
// shows. npm gets the compiler, so that it is done with NEXUS_E2E alone.
func TestAssemblyScriptReadme(t *testing.T) {
	if os.Getenv("NEXUS_E2E") == "" {
		t.Skip("SKIPPED: npm downloads the compiler: set NEXUS_E2E=1")
	}
	sdk, err := filepath.Abs("assemblyscript")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("assemblyscript/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## From an empty folder\n")
	section, _, _ = strings.Cut(section, "\n## ")
	dir := t.TempDir()
	plugin := filepath.Join(dir, "secret")
	var did []string
	for i, block := range strings.Split(section, "```") {
		language, body, _ := strings.Cut(block, "\n")
		first, _, _ := strings.Cut(body, "\n")
		switch {
		case i%2 == 0: // prose
		case language == "sh":
			cmd := exec.Command("sh", "-euc", body)
			if cmd.Dir = plugin; len(did) == 0 {
				cmd.Dir = dir
			}
			cmd.Env = append(os.Environ(), "SDK="+sdk)
			ran(t, cmd)
			did = append(did, "sh")
		default:
			name := strings.TrimLeft(first, "/# ")
			if err := os.WriteFile(filepath.Join(plugin, name), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			did = append(did, name)
		}
	}
	if got := strings.Join(did, " "); got != "sh plugin.ts manifest.yaml plugin.test.mjs sh" {
		t.Errorf("the README has a reader do %s", got)
	}
	wasm, err := os.ReadFile(filepath.Join(plugin, "secret.wasm"))
	if err != nil || !strings.HasPrefix(string(wasm), "\x00asm") {
		t.Fatalf("no module was built: %v", err)
	}
	manifest, err := os.ReadFile(filepath.Join(plugin, "manifest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	conformance.Run(t, wasm, manifest, conformance.Options{Brief: true, CacheDir: t.TempDir()})
}
