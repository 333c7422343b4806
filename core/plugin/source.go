package plugin

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A source is where a plugin comes from.
type source struct {
	files    fs.FS
	module   string // path in files
	manifest []byte
	digest   [sha256.Size]byte
}

// find reads the manifest and the module's digest.
func (l *Loader) find(c *Config, e *Entry) (source, error) {
	switch {
	case e.Path != "":
		return read(os.DirFS(filepath.Dir(e.Path)), strings.TrimSuffix(filepath.Base(e.Path), ".wasm"))
	case c.Dir != "":
		if dir := os.DirFS(c.Dir); has(dir, e.Name) || !l.ships(e.Name) {
			return read(dir, e.Name)
		}
	}
	if s, ok := l.shipped[e.Name]; ok {
		return s, nil
	}
	if l.options.Shipped == nil {
		return source{}, errors.New("no plugins are shipped in this binary: set plugins.dir")
	}
	s, err := read(l.options.Shipped, e.Name)
	if err == nil {
		l.shipped[e.Name] = s
	}
	return s, err
}

// ships reports whether a plugin comes with this binary; the operator's folder need not hold a copy of it.
func (l *Loader) ships(name string) bool {
	return l.options.Shipped != nil && has(l.options.Shipped, name)
}

func has(files fs.FS, name string) bool {
	_, err := fs.Stat(files, name+".wasm")
	return !errors.Is(err, fs.ErrNotExist)
}

// maxModule bounds a module's file.
const maxModule = 64 << 20 // bytes

func read(files fs.FS, name string) (source, error) {
	s := source{files: files, module: name + ".wasm"}
	wasm, err := s.read()
	if err != nil {
		return s, err
	}
	s.digest = sha256.Sum256(wasm)
	if s.manifest, err = fs.ReadFile(files, name+".yaml"); err != nil {
		return s, fmt.Errorf("read its manifest, which must lie beside the module: %w: put %s there", err, name+".yaml")
	}
	return s, nil
}

func (s *source) read() ([]byte, error) {
	info, err := fs.Stat(s.files, s.module)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s in the folder, which holds %s: name one of those, or put it there", s.module, modules(s.files))
	}
	if err != nil {
		return nil, fmt.Errorf("read its module: %w", err)
	}
	if info.Size() > maxModule {
		return nil, fmt.Errorf("its module is %d bytes long; the most is %d: build it smaller, without debug information", info.Size(), maxModule)
	}
	return fs.ReadFile(s.files, s.module)
}

// modules lists what a folder has, for a message.
func modules(files fs.FS) string {
	names, err := fs.Glob(files, "*.wasm")
	if err != nil || len(names) == 0 {
		return "no plugins (make plugins builds the shipped ones)"
	}
	return strings.Join(names[:min(len(names), 20)], ", ")
}

// key tells plugins apart: the same key is the same behaviour.
func (s *source) key(e *Entry, b Breaker) (string, error) {
	settings, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("its configuration cannot be written as JSON: %w", err)
	}
	h := sha256.New()
	h.Write(s.digest[:])
	fmt.Fprintf(h, "%d:%s%v%s", len(s.manifest), s.manifest, b, settings)
	return string(h.Sum(nil)), nil
}
