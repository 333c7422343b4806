package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/sdk/conformance"
)

// pluginTest holds a plugin to every law of the contract, and to the cases its author wrote beside it.
func pluginTest(ctx context.Context, t terminal, args []string) error {
	settings, beside := "", ""
	m, err := pluginArg(t, "plugin test", args, func(f *flag.FlagSet) {
		f.StringVar(&settings, "config", "", "YAML `file` with the plugin's configuration")
		f.StringVar(&beside, "cases", "", "`folder` with cases.yaml and testdata/texts.txt (default: the plugin's)")
	})
	if err != nil {
		return err
	}
	if m.manifest == nil {
		return fmt.Errorf("nexus plugin test: there is no %s, the manifest that must lie beside the module", m.name)
	}
	if beside == "" {
		beside = m.sources
	}
	var o conformance.Options
	if beside != "" {
		o, err = conformance.Beside(beside)
	}
	if err == nil && settings != "" {
		o.Config, err = readSettings(settings)
	}
	if err != nil {
		return fmt.Errorf("nexus plugin test: %w", err)
	}
	report := conformance.Check(ctx, m.wasm, m.manifest, o)
	if _, err := fmt.Fprint(t.out, report.String()); err != nil {
		return err
	}
	if n := report.Failed(); n > 0 {
		return fmt.Errorf("nexus plugin test: %d of %d laws do not hold", n, len(report.Laws))
	}
	return nil
}

// sourcesOf is the folder of a plugin's sources: nexus plugin build leaves modules in dist below it.
func sourcesOf(path string) string {
	dir := filepath.Dir(path)
	if _, err := os.Stat(filepath.Join(dir, "..", "manifest.yaml")); err == nil && filepath.Base(dir) == "dist" {
		return filepath.Dir(dir)
	}
	return dir
}

// readSettings reads a plugin's own configuration.
func readSettings(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c struct {
		Config map[string]any `yaml:"config" doc:"What the plugin is told."`
	}
	_, err = config.Decode(path, nest(text), &c)
	return c.Config, err
}
