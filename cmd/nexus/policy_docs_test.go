package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the documents' outputs anew")

var docBlock = regexp.MustCompile("(?ms)(?:^`([^`\n]+)`:\n\n)?^```(\\w+)\n(.*?)^```$")

// TestPolicyDocs runs every line of policies/COMMANDS.md: files are written, commands run, and their output is the one
// that is shown. With -update the output is written anew.
func TestPolicyDocs(t *testing.T) {
	const name = "../../policies/COMMANDS.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	ran := 0
	got := docBlock.ReplaceAllStringFunc(string(text), func(block string) string {
		m := docBlock.FindStringSubmatch(block)
		if m[2] != "console" {
			if m[1] == "" {
				t.Errorf("a block without a file's name above it:\n%s", block)
			} else if err := errors.Join(os.MkdirAll(filepath.Dir(m[1]), 0o755), os.WriteFile(m[1], []byte(m[3]), 0o644)); err != nil {
				t.Fatal(err)
			}
			return block
		}
		var b strings.Builder
		b.WriteString("```console\n")
		for line := range strings.Lines(m[3]) {
			if command, ok := strings.CutPrefix(line, "$ nexus "); ok {
				ran++
				var out bytes.Buffer
				run(t.Context(), terminal{&out, &out}, strings.Fields(command))
				b.WriteString(line + durations.ReplaceAllString(out.String(), "…"))
			}
		}
		return b.String() + "```"
	})
	if ran < 6 {
		t.Errorf("ran %d commands", ran)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != string(text) {
		t.Errorf("the output is not the one shown; go test ./cmd/nexus -run PolicyDocs -update writes:\n%s", got)
	}
}

// durations are what differs from machine to machine.
var durations = regexp.MustCompile(`[0-9.]+ µs|[0-9.]+ allocations`)
