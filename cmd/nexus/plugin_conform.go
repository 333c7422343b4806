package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/sdk/conformance"
)

// pluginTest holds a plugin to every law of the contract, and to the cases its author wrote beside it.
func pluginTest(ctx context.Context, t terminal, args []string) error {
	file, beside, machine := "", "", false
	m, err := pluginArg(t, "plugin test", args, func(f *flag.FlagSet) {
		f.StringVar(&file, "config", "", "YAML `file` with the plugin's configuration")
		f.StringVar(&beside, "cases", "", "`folder` with cases.yaml and testdata/texts.txt (default: the plugin's)")
		asJSON(f, &machine)
	})
	if err != nil {
		return err
	}
	if m.manifest == nil {
		return fmt.Errorf("nexus plugin test: there is no %s: %w", m.name, errNoManifest)
	}
	o, err := m.options(ctx, t, file, beside)
	if err != nil {
		return fmt.Errorf("nexus plugin test: %w", err)
	}
	report := conformance.Check(ctx, m.wasm, m.manifest, o)
	if machine {
		err = writeJSON(t.out, report)
	} else {
		_, err = fmt.Fprint(t.out, report.String())
	}
	if err != nil {
		return err
	}
	if n := report.Failed(); n > 0 {
		return fmt.Errorf("nexus plugin test: %d of %d laws do not hold", n, len(report.Laws))
	}
	return nil
}

// options are the author's cases, and a configuration that the plugin takes.
func (m *module) options(ctx context.Context, t terminal, file, beside string) (o conformance.Options, err error) {
	if info, err := os.Stat(beside); beside != "" && (err != nil || !info.IsDir()) {
		return o, fmt.Errorf("there is no folder %s", beside)
	} else if beside == "" {
		beside = m.sources
	}
	if o, err = conformance.Beside(beside); err != nil || file == "" {
		return o, err
	}
	s, err := readSettings(file)
	if err != nil {
		return o, err
	}
	trial, err := m.open(ctx, plugin.TrialOptions{Log: logTo(t)}, s)
	if err != nil {
		return o, err
	}
	o.Config = s.values
	return o, trial.Close()
}

// sourcesOf is the folder of a plugin's sources: nexus plugin build leaves modules in dist below it.
func sourcesOf(path string) string {
	dir := filepath.Dir(path)
	if _, err := os.Stat(filepath.Join(dir, "..", "manifest.yaml")); err == nil && filepath.Base(dir) == "dist" {
		return filepath.Dir(dir)
	}
	return dir
}
