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
	files := plugins.Shipped()
	m := &module{path: name, name: name + ".yaml"}
	var err error
	if m.wasm, err = fs.ReadFile(files, name+".wasm"); err != nil {
		return nil, fmt.Errorf("%s is neither a file, nor a folder, nor a shipped plugin", name)
	}
	m.manifest, err = fs.ReadFile(files, m.name)
	return m, err
}

// open loads the plugin for a command; what it logs goes to standard error.
func (m *module) open(ctx context.Context, t terminal, settings string) (*plugin.Trial, error) {
	if m.manifest == nil {
		return nil, fmt.Errorf("there is no %s, the manifest that must lie beside the module", m.name)
	}
	o := plugin.TrialOptions{Decode: decodeYAML, Log: slog.New(slog.NewTextHandler(t.err, nil))}
	if settings != "" {
		var err error
		if o.Config, err = readSettings(settings); err != nil {
			return nil, err
		}
	}
	trial, err := plugin.OpenTrial(ctx, m.wasm, m.manifest, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	return trial, nil
}

// nest puts a plugin's own settings under the key that an entry of the chain has for them.
func nest(text []byte) []byte {
	out := []byte("config:\n")
	for line := range strings.Lines(string(text)) {
		out = append(out, "  "+line...)
	}
	return out
}

func decodeYAML(name string, data []byte, into any) error {
	_, err := config.Decode(name, data, into)
	return err
}

// pluginArg reads a command's flags and its one argument, the plugin.
func pluginArg(t terminal, name string, args []string, define func(*flag.FlagSet)) (*module, error) {
	rest, err := parse(t, name, args, 1, define)
	if err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		return nil, usage(t, name, "name a module, a plugin's folder, or a shipped plugin")
	}
	m, err := findModule(rest[0])
	if err != nil {
		return nil, fmt.Errorf("nexus %s: %w", name, err)
	}
	return m, nil
}

// usage explains a mistake that flags cannot see.
func usage(t terminal, name, text string) error {
	fmt.Fprintf(t.err, "nexus %s: %s\n", name, text)
	return errUsage
}

// pluginInspect says what a module is without running it.
func pluginInspect(_ context.Context, t terminal, args []string) error {
	m, err := pluginArg(t, "plugin inspect", args, none)
	if err != nil {
		return err
	}
	in, err := plugin.Inspect(m.wasm)
	if err != nil {
		return fmt.Errorf("nexus plugin inspect: %s: %w", m.path, err)
	}
	memory := fmt.Sprintf("%d KiB at first", in.Pages*64)
	if in.MaxPages > 0 {
		memory += fmt.Sprintf(", %d KiB at most by its own word", in.MaxPages*64)
	}
	for _, row := range [][2]string{
		{"module", fmt.Sprintf("%s, %d bytes", m.path, in.Size)},
		{"sha256", in.SHA256},
		{"kind", in.Kind},
		{"hooks", list(in.Hooks)},
		{"configuration", map[bool]string{true: "takes one", false: "takes none"}[in.Configures]},
		{"imports", list(in.Imports)},
		{"capabilities", list(in.Capabilities) + capabilityNote(m)},
		{"memory", memory},
		{"exports", list(in.Exports)},
	} {
		fmt.Fprintf(t.out, "%-14s %s\n", row[0], row[1])
	}
	if in.Fault != "" {
		return fmt.Errorf("nexus plugin inspect: this gateway would not run it: it %s", in.Fault)
	}
	return nil
}

// capabilityNote adds what the manifest asks for, since those of records show in no import.
func capabilityNote(m *module) string {
	var manifest plugin.Manifest
	if m.manifest == nil || decodeYAML(m.name, m.manifest, &manifest) != nil {
		return ""
	}
	return "; its manifest asks for " + list(manifest.Capabilities)
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
