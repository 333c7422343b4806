package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// An Inspection is what a module is, read without running it.
type Inspection struct {
	Kind         string   `json:"kind"`                // nexus_abi_1, Proxy-Wasm, http-wasm, Extism; several with commas; "none"
	Fault        string   `json:"fault,omitempty"`     // why this gateway would not run it, whatever it is granted; empty: it would
	Hooks        []string `json:"hooks"`               // it subscribes to, as in on_text
	Configures   bool     `json:"takes_configuration"` // it takes a configuration
	Imports      []string `json:"imports"`             // module.name, sorted
	Capabilities []string `json:"capabilities"`        // that its imports need; those of records do not show
	Exports      []string `json:"exports"`             // functions, sorted
	Pages        uint32   `json:"pages"`               // of 64 KiB that its memory begins with
	MaxPages     uint32   `json:"max_pages,omitempty"` // 0: no bound of its own
	Size         int      `json:"size"`                // bytes of the module
	SHA256       string   `json:"sha256"`
}

// Inspect reads what a module is. What is no core module is an error.
func Inspect(wasm []byte) (Inspection, error) {
	s, err := sandbox.Inspect(wasm)
	if err != nil {
		return Inspection{}, fmt.Errorf("%w; build or copy it anew: a core WebAssembly module is wanted", err)
	}
	digest := sha256.Sum256(wasm)
	in := Inspection{Kind: strings.Join(contracts(s), ", "), Size: len(wasm), SHA256: hex.EncodeToString(digest[:]), Pages: s.Memory.Min}
	if in.Kind == "" {
		in.Kind = "none"
	}
	if s.Memory.HasMax {
		in.MaxPages = s.Memory.Max
	}
	in.read(s)
	if err := inspect(wasm, in.granted(), 0); err != nil {
		in.Fault = err.Error()
	}
	return in, nil
}

func (in *Inspection) read(s *sandbox.Shape) {
	for name, x := range s.Exports {
		if x.Kind == sandbox.ExternFunc {
			in.Exports = append(in.Exports, name)
		}
	}
	slices.Sort(in.Exports)
	for _, name := range in.Exports {
		if hook := strings.TrimPrefix(name, "nexus_"); slices.Contains(hooks, hook) {
			in.Hooks = append(in.Hooks, hook)
		}
	}
	in.Configures = slices.Contains(in.Exports, abi.Configure)
	for _, i := range s.Imports {
		in.Imports = append(in.Imports, i.Module+"."+i.Name)
		if i.Module == abi.Module {
			in.need(i.Name)
		}
	}
	slices.Sort(in.Imports)
	slices.Sort(in.Capabilities)
}

func (in *Inspection) need(function string) {
	f := hostNamed(function)
	if f != nil && !slices.Contains(in.Capabilities, f.capability) {
		in.Capabilities = append(in.Capabilities, f.capability)
	}
}

func (in *Inspection) granted() map[string]bool {
	all := map[string]bool{}
	for _, c := range in.Capabilities {
		all[c] = true
	}
	return all
}
