package plugin

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// inspect reads what a module is from its exports and imports, before any of it runs, and refuses what is
// no plugin of this contract, saying what was found.
func inspect(wasm []byte, granted map[string]bool) error {
	shape, err := sandbox.Inspect(wasm)
	if err != nil {
		return fmt.Errorf("its module cannot be read: %w; build or copy it anew: a core WebAssembly module is wanted", err)
	}
	if err := native(shape); err != nil {
		return err
	}
	if err := signatures(shape); err != nil {
		return err
	}
	return imports(shape, granted)
}

// native refuses modules of other contracts by name.
func native(s *sandbox.Shape) error {
	found := contracts(s)
	switch {
	case len(found) == 0:
		return fmt.Errorf("exports no %s: not a plugin of any contract known here; it exports %s", abi.Marker, someOf(s))
	case len(found) > 1:
		return fmt.Errorf("speaks several contracts at once: %s; build it for one", strings.Join(found, ", "))
	case found[0] == abi.Marker:
		return nil
	case strings.HasPrefix(found[0], abi.MarkerPrefix):
		return fmt.Errorf("speaks %s; this gateway speaks %s: build it for that, or take a newer gateway", found[0], abi.Marker)
	}
	return fmt.Errorf("is a plugin for %s, which this gateway does not run; build it for %s", found[0], abi.Marker)
}

// contracts lists the contracts that a module's exports and imports speak of.
func contracts(s *sandbox.Shape) []string {
	var found []string
	add := func(name string) {
		if !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	for name := range s.Exports {
		switch {
		case strings.HasPrefix(name, abi.MarkerPrefix):
			add(name)
		case strings.HasPrefix(name, "proxy_abi_version_"):
			add("Proxy-Wasm")
		case name == "handle_request" || name == "handle_response":
			add("http-wasm")
		}
	}
	for _, i := range s.Imports {
		if strings.HasPrefix(i.Module, "extism:") {
			add("Extism")
		}
	}
	slices.Sort(found)
	return found
}

// someOf names a few exports, for a message.
func someOf(s *sandbox.Shape) string {
	var names []string
	for name := range s.Exports {
		names = append(names, name)
	}
	if len(names) == 0 {
		return "nothing"
	}
	slices.Sort(names)
	if len(names) > 6 {
		names = append(names[:6], "…")
	}
	return strings.Join(names, ", ")
}

func signature(results []sandbox.Type, params ...sandbox.Type) sandbox.Signature {
	return sandbox.Signature{Params: params, Results: results}
}

var (
	i32 = []sandbox.Type{sandbox.I32}
	i64 = []sandbox.Type{sandbox.I64}

	// wanted are the signatures of what a guest may export.
	wanted = map[string]sandbox.Signature{
		abi.Marker:     signature(nil),
		abi.Buffers:    signature(i32),
		abi.Configure:  signature(i64, sandbox.I32),
		abi.OnRequest:  signature(i64, sandbox.I32),
		abi.OnText:     signature(i64, sandbox.I32, sandbox.I32),
		abi.OnToolCall: signature(i64, sandbox.I32),
		abi.OnUsage:    signature(i64, sandbox.I32),
		abi.OnEnd:      signature(nil, sandbox.I32),
		"_initialize":  signature(nil),
	}
)

// signatures checks that the exports are what their names promise.
func signatures(s *sandbox.Shape) error {
	for name, want := range wanted {
		x, ok := s.Exports[name]
		if !ok {
			continue
		}
		if x.Kind != sandbox.ExternFunc || !same(x.Signature, want) {
			return fmt.Errorf("exports %s as %s %v, but it must be a function %v", name, x.Kind, x.Signature, want)
		}
	}
	if _, ok := s.Exports[abi.Buffers]; !ok {
		return fmt.Errorf("exports no %s", abi.Buffers)
	}
	if x, ok := s.Exports["memory"]; !ok || x.Kind != sandbox.ExternMemory {
		return errors.New("exports no memory")
	}
	return nil
}

func same(a, b sandbox.Signature) bool {
	return slices.Equal(a.Params, b.Params) && slices.Equal(a.Results, b.Results)
}

// imports refuses a module that asks for what the host has not, or has not granted it.
func imports(s *sandbox.Shape, granted map[string]bool) error {
	for _, i := range s.Imports {
		switch {
		case i.Module == "wasi_snapshot_preview1":
		case i.Module != abi.Module:
			return fmt.Errorf("imports %s.%s, which no host function is; those of this gateway are in the module %s", i.Module, i.Name, abi.Module)
		default:
			if err := imported(i, granted); err != nil {
				return err
			}
		}
	}
	return nil
}

// imported checks what is asked of the gateway's own module.
func imported(i sandbox.Import, granted map[string]bool) error {
	f := hostNamed(i.Name)
	switch {
	case f == nil:
		return fmt.Errorf("imports %s.%s, which this gateway does not have%s; it has %s", i.Module, i.Name,
			meant(i.Name, hostNames()), strings.Join(hostNames(), ", "))
	case i.Kind != sandbox.ExternFunc:
		return fmt.Errorf("imports %s.%s as a %s, but it is a function", i.Module, i.Name, i.Kind)
	case !granted[f.capability]:
		return fmt.Errorf("imports %s.%s without asking for the capability %q in its manifest", i.Module, i.Name, f.capability)
	case !same(i.Signature, f.Signature):
		return fmt.Errorf("imports %s.%s as a function %v, but it is a function %v", i.Module, i.Name, i.Signature, f.Signature)
	}
	return nil
}
