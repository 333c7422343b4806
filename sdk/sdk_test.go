package sdk

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unpack writes a new plugin as `nexus plugin new` does.
func unpack(t *testing.T, lang, name string) string {
	t.Helper()
	files, err := Files(lang)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		to := filepath.Join(dir, filepath.FromSlash(path))
		if err != nil || d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if bytes.HasPrefix(text, []byte("#!")) {
			mode = 0o755
		}
		return os.WriteFile(to, bytes.ReplaceAll(text, []byte(Name), []byte(name)), mode)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFiles: each language's new plugin has what it takes, and nothing of what is only the SDK's own.
func TestFiles(t *testing.T) {
	for _, lang := range Languages {
		dir := unpack(t, lang, "my-plugin")
		for _, name := range []string{"build", "manifest.yaml", "README.md"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("%s: %v", lang, err)
			}
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			rel, _ := filepath.Rel(dir, path)
			if strings.Contains(string(text), Name) || bytes.HasPrefix(text, []byte("\x00asm")) || strings.HasPrefix(rel, "probe") || strings.Contains(rel, "node_modules") {
				t.Errorf("%s: %s does not belong into a new plugin, or is not given its name", lang, rel)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := Files("cobol"); err == nil || !strings.Contains(err.Error(), `no SDK for "cobol"`) {
		t.Errorf("got %v", err)
	}
}

// TestProjects: what is written builds by itself, away from here, with the SDK beside it alone.
func TestProjects(t *testing.T) {
	for _, lang := range Languages {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, lang, "my-plugin")
			for _, script := range [][]string{{"./build", ".", "plugin.wasm"}, {"./test", "."}} {
				if _, err := os.Stat(filepath.Join(dir, script[0])); err != nil {
					continue // Go and Node have testing of their own
				}
				cmd := exec.Command(script[0], script[1:]...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOPROXY=off")
				ran(t, cmd)
			}
			if wasm, err := os.ReadFile(filepath.Join(dir, "plugin.wasm")); err != nil || !bytes.HasPrefix(wasm, []byte("\x00asm")) {
				t.Errorf("no module was built: %v", err)
			}
		})
	}
}

// TestGoReadme runs every command of the Go SDK's README, away from this module. What `nexus plugin new` does, unpack does.
func TestGoReadme(t *testing.T) {
	text, err := os.ReadFile("go/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```sh\n")
	commands, _, _ := strings.Cut(rest, "```")
	dir, ran := unpack(t, "go", "masks"), 0
	for line := range strings.Lines(commands) {
		if strings.HasPrefix(line, "mkdir") || strings.HasPrefix(line, "nexus plugin new --lang go --dir . masks") {
			continue
		}
		ran++
		run(t, dir, "sh", "-c", line)
	}
	if ran < 2 {
		t.Fatalf("the README has %d commands:\n%s", ran, commands)
	}
	run(t, dir, "go", "vet", "./...")
	if wasm, err := os.ReadFile(filepath.Join(dir, "masks.wasm")); err != nil || !bytes.HasPrefix(wasm, []byte("\x00asm")) {
		t.Errorf("no module was built: %v", err)
	}
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
