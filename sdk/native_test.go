package sdk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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
