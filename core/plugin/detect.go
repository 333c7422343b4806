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
// no plugin of this contract or does not fit the memory it may have, saying what was found and what to do. most is in
// bytes; 0: whatever it wants.
func inspect(wasm []byte, granted map[string]bool, most int64) error {
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
	if first := int64(shape.Memory.Min) * page; most > 0 && first > most {
		return fmt.Errorf("its memory begins with %d KiB, but it may have %d KiB: raise memory in its manifest or in its entry of the chain, or build it to begin with less", first>>10, most>>10)
	}
	return imports(shape, granted)
}

const page = 64 << 10 // bytes

// unrunnable says what to do about a module that the sandbox did not load or start. That comes first: what the sandbox
// found may end in a stack of several lines.
func unrunnable(err error) error {
	var why notReady
	if errors.As(err, &why) {
		err = why.error
	}
	var f *sandbox.Fault
	switch {
	case errors.As(err, &f) && advice[f.Kind] != "":
		return fmt.Errorf("%s: %w", advice[f.Kind], err)
	case f != nil || why.error != nil:
		return err
	}
	return fmt.Errorf("its module does not run here; correct it or build it anew, for WebAssembly 2.0 without later proposals: %w", err)
}

// advice is what to do about a module that fails while it starts or takes its configuration.
var advice = map[sandbox.Kind]string{
	sandbox.Trap:     "it fails before its first call; correct what it does when it starts and in nexus_configure",
	sandbox.Deadline: "it fails before its first call; let it do less when it starts and in nexus_configure",
	sandbox.Fuel:     "it fails before its first call; let it do less when it starts and in nexus_configure",
	sandbox.Depth:    "it fails before its first call; let it recurse less when it starts and in nexus_configure",
	sandbox.Memory:   "it fails before its first call; raise memory in its manifest or in its entry of the chain, or let it take less",
	sandbox.Exit:     "it ends before its first call; build it as a library, without a main that ends: in Go, -buildmode=c-shared",
}

// native refuses modules of other contracts by name.
func native(s *sandbox.Shape) error {
	found := contracts(s)
	switch {
	case len(found) == 0:
		return fmt.Errorf("exports no %s: not a plugin of any contract known here; it exports %s: build it with an SDK of %s", abi.Marker, someOf(s), abi.Marker)
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
			return fmt.Errorf("exports %s as %s %v, but it must be a function %v: correct its signature, or take the SDK's", name, x.Kind, x.Signature, want)
		}
	}
	if _, ok := s.Exports[abi.Buffers]; !ok {
		return fmt.Errorf("exports no %s, which says where its buffers stand: export it as a function %v, or build it with an SDK, which does", abi.Buffers, wanted[abi.Buffers])
	}
	if x, ok := s.Exports["memory"]; !ok || x.Kind != sandbox.ExternMemory {
		return errors.New("exports no memory, where its texts would be put: export it under the name memory")
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
			return fmt.Errorf("imports %s.%s, which no host function is; those of this gateway are in the module %s: build it without that import", i.Module, i.Name, abi.Module)
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
		return fmt.Errorf("imports %s.%s, which this gateway does not have%s; it has %s: import one of those, or take a newer gateway", i.Module, i.Name,
			meant(i.Name, hostNames()), strings.Join(hostNames(), ", "))
	case i.Kind != sandbox.ExternFunc:
		return fmt.Errorf("imports %s.%s as a %s, but it is a function: import it as one", i.Module, i.Name, i.Kind)
	case !granted[f.capability]:
		return fmt.Errorf("imports %s.%s without asking for the capability %q in its manifest: name it among the manifest's capabilities, or build it without that import", i.Module, i.Name, f.capability)
	case !same(i.Signature, f.Signature):
		return fmt.Errorf("imports %s.%s as a function %v, but it is a function %v: correct its signature, or take the SDK's", i.Module, i.Name, i.Signature, f.Signature)
	}
	return nil
}
