package policy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSourcesFromFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	// As a ConfigMap is mounted: the files a second time, below a name that begins with dots.
	write("..2026/mine.rego", threeLines)
	write("..2026/data.json", `{"a": 1}`)
	if err := errors.Join(os.Symlink("..2026", filepath.Join(dir, "..data")), os.Symlink("..data/mine.rego", filepath.Join(dir, "mine.rego")),
		os.Symlink("..data/data.json", filepath.Join(dir, "data.json"))); err != nil {
		t.Skip(err)
	}
	write("eu/more.rego", "package nexus.limits\n\nx := {\"max_tokens\": data.a} if input.attempt == 1")
	cfg := testConfig()
	cfg.Dir = dir
	src, err := cfg.Sources([]string{"local", "small"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Compile(t.Context(), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := newCall(t, chatBody)
	if _, err := e.Stage(Env{}).Handle(t.Context(), c, passed); err != nil || c.Decision.Set.MaxTokens != 1 {
		t.Errorf("got %+v, %v", c.Decision, err)
	}
	write("other.json", `{"a": 2}`)
	cfg.Data = filepath.Join(dir, "other.json")
	if src, err = cfg.Sources(nil); err != nil || string(src.Data) != `{"a": 2}` {
		t.Errorf("got %s, %v", src.Data, err)
	}
	for _, missing := range []Config{{Dir: filepath.Join(dir, "none")}, {Dir: filepath.Join(dir, "mine.rego")}, {Data: filepath.Join(dir, "none")}} {
		if _, err := missing.Sources(nil); err == nil {
			t.Errorf("%+v: no error", missing)
		}
	}
}

func TestSourcesAreBounded(t *testing.T) {
	big := Sources{Files: rego("a.rego", threeLines).Files, Name: "p", Data: nil}
	if _, err := bounded(strings.NewReader("12345"), 4, "x"); err == nil {
		t.Error("5 bytes of 4 are read")
	}
	many := []string{}
	for i := range maxFiles + 1 {
		many = append(many, fmt.Sprintf("f%d.rego", i), "package a")
	}
	if _, err := rego(many...).read(); err == nil || !strings.Contains(err.Error(), "more than 1000 files") {
		t.Errorf("got %v", err)
	}
	if _, err := rego("a.rego", "package a\n"+strings.Repeat("# x\n", 3<<20)).read(); err == nil || !strings.Contains(err.Error(), "more than 8388608 bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := rego("a.rego", threeLines, "data.json", strings.Repeat(" ", maxData+1)).read(); err == nil || !strings.Contains(err.Error(), "data.json: more than 67108864 bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := big.read(); err != nil {
		t.Error(err)
	}
}

// A revision is the same wherever the folder lies, so that a decision of the log can be told from another policy's.
func TestRevisionIsThatOfTheContent(t *testing.T) {
	revision := func(name, text string) string {
		src := rego("a.rego", text)
		src.Name = name
		e, err := Compile(t.Context(), src, testConfig())
		if err != nil {
			t.Fatal(err)
		}
		return e.Revision()
	}
	if a, b := revision("/etc/nexus/policies", threeLines), revision("mine", threeLines); a != b {
		t.Errorf("got %s and %s", a, b)
	}
	if a, b := revision("mine", threeLines), revision("mine", threeLines+"\nz := {\"reason\": \"z\"} if input.attempt == 2\n"); a == b {
		t.Errorf("two policies have the revision %s", a)
	}
}
