package policy

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed starter
var starterFiles embed.FS

// Starter is the small policy that Init writes, with its tests.
func Starter() Sources {
	files, err := fs.Sub(starterFiles, "starter")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	return Sources{Files: files, Name: "starter"}
}

// Init writes a small policy with tests into dir, which must be empty or not there, and returns the files' names.
func Init(dir string) (names []string, err error) {
	switch entries, err := os.ReadDir(dir); {
	case err == nil && len(entries) > 0:
		return nil, fmt.Errorf("policy: %s is not empty", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("policy: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	files := Starter().Files
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	for _, e := range entries {
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return names, fmt.Errorf("policy: %w", err)
		}
		name := filepath.Join(dir, e.Name())
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return names, fmt.Errorf("policy: %w", err)
		}
		names = append(names, name)
	}
	return names, nil
}
