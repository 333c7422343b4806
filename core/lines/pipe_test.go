//go:build unix

package lines_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nexus-gateway/nexus/core/lines"
)

// A named pipe is opened at once: with a reader it is written to, without one it is refused in words.
func TestNamedPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := lines.Open(name); err == nil || !strings.HasSuffix(err.Error(), "pipe is a named pipe that nobody reads: start its reader first") {
		t.Fatalf("without a reader: %v, %v", f, err)
	}
	reader, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	f, err := lines.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 10)
	if _, err := f.WriteString("a line\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := reader.Read(got); err != nil || string(got[:n]) != "a line\n" {
		t.Errorf("read %q, %v", got[:n], err)
	}
}

func TestOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	for _, line := range []string{"a\n", "b\n"} {
		f, err := lines.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if text, err := os.ReadFile(name); err != nil || string(text) != "a\nb\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := lines.Open(filepath.Join(name, "below")); err == nil {
		t.Error("a file was opened as a folder")
	}
}
