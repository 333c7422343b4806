package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/plugins"
)

// A module is a plugin as the commands find it: its file, and the manifest beside it.
type module struct {
	path           string
	wasm, manifest []byte
	name           string // of the manifest's file
	sources        string // the folder of the plugin's sources, or the module's; empty: those of a shipped one are not here
}

// findModule reads what the user means: a .wasm file, a folder that nexus plugin build filled, or the name of a
// shipped plugin.
func findModule(arg string) (*module, error) {
	path := arg
	if info, err := os.Stat(arg); err == nil && info.IsDir() {
		if path, err = onlyModule(arg); err != nil {
			return nil, err
		}
	} else if err != nil {
		return shippedModule(arg)
	}
	m := &module{path: path, sources: sourcesOf(path)}
	var err error
	if m.wasm, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	m.name = strings.TrimSuffix(path, filepath.Ext(path)) + ".yaml"
	if m.manifest, err = os.ReadFile(m.name); errors.Is(err, os.ErrNotExist) {
		m.manifest, err = nil, nil // inspect needs none, the others say so
	}
	return m, err
}

func onlyModule(dir string) (string, error) {
	for _, pattern := range []string{filepath.Join(dir, "*.wasm"), filepath.Join(dir, "dist", "*.wasm")} {
		switch found, _ := filepath.Glob(pattern); {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return "", fmt.Errorf("%s holds %d modules; name one", filepath.Dir(found[0]), len(found))
		}
	}
	return "", fmt.Errorf("there is no .wasm in %s; nexus plugin build %s makes it", dir, dir)
}

func shippedModule(name string) (*module, error) {
	if filepath.Ext(name) == ".wasm" || filepath.Base(name) != name {
		return nil, fmt.Errorf("there is no file %s", name)
	}
	files := plugins.Shipped()
	m := &module{path: name, name: name + ".yaml", sources: os.DevNull}
	var err error
	if m.wasm, err = fs.ReadFile(files, name+".wasm"); err != nil {
		all, _ := fs.Glob(files, "*.wasm")
		shipped := strings.ReplaceAll(list(all), ".wasm", "")
		return nil, fmt.Errorf("%s is neither a file, nor a folder, nor a shipped plugin; shipped are: %s", name, shipped)
	}
	m.manifest, err = fs.ReadFile(files, m.name)
	return m, err
}

var errNoManifest = errors.New("the manifest must lie beside the module, under its name: nexus plugin build lays both there")

// open loads the plugin with settings.
func (m *module) open(ctx context.Context, o plugin.TrialOptions, s settings) (*plugin.Trial, error) {
	if m.manifest == nil {
		return nil, fmt.Errorf("there is no %s: %w", m.name, errNoManifest)
	}
	o.Decode, o.Config = m.decode, s.values
	trial, err := plugin.OpenTrial(ctx, m.wasm, m.manifest, o)
	if err == nil {
		return trial, nil
	}
	if text := (*config.Error)(nil); errors.As(err, &text) {
		return nil, err // it names its file and line
	}
	if located := s.locate(err); located != nil {
		return nil, located
	}
	return nil, fmt.Errorf("%s: %w", m.path, err)
}

// logTo is where what a plugin logs goes.
func logTo(t terminal) *slog.Logger { return slog.New(slog.NewTextHandler(t.err, nil)) }

// decode reads the manifest under the name of its file.
func (m *module) decode(_ string, data []byte, into any) error {
	_, err := config.Decode(m.name, data, into)
	return err
}

// pluginArg reads a command's flags and its one argument, the plugin; in a plugin's own folder there need be none.
func pluginArg(t terminal, name string, args []string, define func(*flag.FlagSet)) (*module, error) {
	rest, err := parse(t, name, args, 1, define)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat("manifest.yaml"); len(rest) == 0 && err == nil {
		rest = []string{"."}
	}
	if len(rest) == 0 {
		return nil, usage(t, name, "name a module, a plugin's folder, or a shipped plugin")
	}
	m, err := findModule(rest[0])
	if err != nil {
		return nil, fmt.Errorf("nexus %s: %w", name, err)
	}
	if newer := m.newerSource(); newer != "" {
		fmt.Fprintf(t.err, "nexus %s: note: %s is newer than %s; nexus plugin build makes that anew\n", name, newer, m.path)
	}
	return m, nil
}

// newerSource is a file of the plugin's sources that changed after the module was built, "" if none has.
func (m *module) newerSource() string {
	built, err := os.Stat(m.path)
	if err != nil || filepath.Dir(m.path) == m.sources {
		return ""
	}
	files, _ := filepath.Glob(filepath.Join(m.sources, "*"))
	for _, name := range files {
		info, err := os.Stat(name)
		switch filepath.Base(name) {
		case "README.md", "cases.yaml":
			continue
		}
		if err == nil && info.Mode().IsRegular() && info.ModTime().After(built.ModTime()) {
			return name
		}
	}
	return ""
}

// usage explains a mistake that flags cannot see.
func usage(t terminal, name, text string) error {
	fmt.Fprintf(t.err, "nexus %s: %s\n", name, text)
	return errUsage
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
