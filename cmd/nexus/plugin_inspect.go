package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"

	"github.com/nexus-gateway/nexus/core/plugin"
)

// asJSON is the flag of commands whose output programs read too.
func asJSON(f *flag.FlagSet, into *bool) { f.BoolVar(into, "json", false, "write one JSON object") }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// pluginInspect says what a module is without running it.
func pluginInspect(_ context.Context, t terminal, args []string) error {
	machine := false
	m, err := pluginArg(t, "plugin inspect", args, func(f *flag.FlagSet) { asJSON(f, &machine) })
	if err != nil {
		return err
	}
	in, err := plugin.Inspect(m.wasm)
	if err != nil {
		return fmt.Errorf("nexus plugin inspect: %s: %w", m.path, err)
	}
	if machine {
		err = writeJSON(t.out, in)
	} else {
		err = printInspection(t.out, m, &in)
	}
	if err == nil && in.Fault != "" {
		err = fmt.Errorf("nexus plugin inspect: this gateway would not run it: it %s", in.Fault)
	}
	return err
}

func printInspection(w io.Writer, m *module, in *plugin.Inspection) error {
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
		if _, err := fmt.Fprintf(w, "%-14s %s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	return nil
}

// capabilityNote adds what the manifest asks for, since those of records show in no import.
func capabilityNote(m *module) string {
	var manifest plugin.Manifest
	if m.manifest == nil || m.decode("", m.manifest, &manifest) != nil {
		return ""
	}
	return "; its manifest asks for " + list(manifest.Capabilities)
}
