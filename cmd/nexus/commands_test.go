package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMistakes holds what a slip on the command line costs: an exit code, and a word about what was wrong.
func TestMistakes(t *testing.T) {
	t.Setenv("NEXUS_DEV_KEY", "two words")
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"", exitUsage, "Usage:"},
		{"sreve", exitUsage, `no command "sreve"`},
		{"config shema", exitUsage, `no command "config shema"`},
		{"serve nexus.yaml", exitUsage, `"nexus.yaml" is one argument too many`},
		{"serve -x", exitUsage, "not defined: -x"},
		{"serve -c nowhere.yaml", exitFailed, "nowhere.yaml"},
		{"serve", exitFailed, "NEXUS_DEV_KEY"},
		{"check", exitUsage, "-c FILE"},
		{"check -c " + empty, exitFailed, "is empty"},
		{"check -c a.yaml b.yaml", exitUsage, `"b.yaml" is one argument too many`},
		{"config schema x", exitUsage, `"x" is one argument too many`},
		{"key new -id a/b", exitFailed, "id: write"},
		{"key new -models a*b", exitFailed, "models[0]"},
		{"policy test nowhere", exitFailed, "nowhere"},
		{"policy test a b", exitUsage, `"b" is one argument too many`},
		{"mock -kind gpu", exitFailed, "gpu"},
		{"mock -listen nowhere", exitFailed, "nowhere"},
		{"version x", exitUsage, `"x" is one argument too many`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var out, err bytes.Buffer
			if code := run(context.Background(), terminal{&out, &err}, strings.Fields(tt.args)); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(err.String(), tt.want) || out.Len() > 0 {
				t.Errorf("want %q on standard error alone, got\n%s%s", tt.want, err.String(), out.String())
			}
		})
	}
}

func TestKeyNewModels(t *testing.T) {
	var out, err bytes.Buffer
	if code := run(context.Background(), terminal{&out, &err}, []string{"key", "new", "-models", "a, b*"}); code != 0 {
		t.Fatal(code, err.String())
	}
	if !strings.Contains(out.String(), `models: ["a", "b*"]`) {
		t.Error(out.String())
	}
}
