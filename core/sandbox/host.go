package sandbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero/api"
)

// linkHosts gives the pool's runtime a host module for each module that the guest imports from, with just the
// functions it imports. What was not granted is refused here, before anything is compiled.
func (p *Pool) linkHosts(ctx context.Context) error {
	modules := map[string][]HostFunc{meterModule: meterHosts}
	for _, i := range p.shape.Imports {
		h, err := p.hostFor(i)
		if err != nil {
			return err
		}
		same := func(o HostFunc) bool { return o.Name == h.Name }
		if !slices.ContainsFunc(modules[i.Module], same) {
			modules[i.Module] = append(modules[i.Module], h)
		}
	}
	for name, funcs := range modules {
		if err := p.linkModule(ctx, name, funcs); err != nil {
			return fmt.Errorf("host module %s: %w", name, err)
		}
	}
	return nil
}

func (p *Pool) linkModule(ctx context.Context, name string, funcs []HostFunc) error {
	b := p.runtime.NewHostModuleBuilder(name)
	for _, h := range funcs {
		b = b.NewFunctionBuilder().WithGoModuleFunction(newHostCall(h), valueTypes(h.Params), valueTypes(h.Results)).Export(h.Name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// hostFor finds the host function that an import asks for.
func (p *Pool) hostFor(i Import) (HostFunc, error) {
	full := i.Module + "." + i.Name
	if i.Module == meterModule {
		return HostFunc{}, fmt.Errorf("imports %s: the module is the sandbox's own: load the module as it was built, not a metered one", full)
	}
	if i.Kind != ExternFunc {
		return HostFunc{}, fmt.Errorf("imports the %s %s: only functions may be imported: build it without", i.Kind, full)
	}
	h, ok := p.granted(i)
	if !ok {
		return HostFunc{}, fmt.Errorf("imports %s, which is not granted: grant it, or build the module without it", full)
	}
	if !h.Signature.equal(i.Signature) {
		return HostFunc{}, fmt.Errorf("imports %s as %v, but it is %v: correct its signature", full, i.Signature, h.Signature)
	}
	return h, nil
}

func (p *Pool) granted(i Import) (HostFunc, bool) {
	at := slices.IndexFunc(p.options.Hosts, func(h HostFunc) bool { return h.Module == i.Module && h.Name == i.Name })
	if at >= 0 {
		return p.options.Hosts[at], true
	}
	if p.options.WASI && i.Module == wasiModule {
		return wasiFunc(i), true
	}
	return HostFunc{}, false
}

func (s Signature) equal(o Signature) bool {
	return slices.Equal(s.Params, o.Params) && slices.Equal(s.Results, o.Results)
}

// String writes the signature as in "(i32, i32) → i64".
func (s Signature) String() string {
	return list(s.Params) + " → " + list(s.Results)
}

func list(types []Type) string {
	text := "("
	for i, t := range types {
		if i > 0 {
			text += ", "
		}
		text += t.String()
	}
	return text + ")"
}

func valueTypes(types []Type) []api.ValueType {
	values := make([]api.ValueType, len(types))
	for i, t := range types {
		values[i] = api.ValueType(t)
	}
	return values
}

// A hostCall is a HostFunc as wazero calls it.
type hostCall struct {
	name   string
	f      func(*Guest, []uint64)
	narrow []int // the slots of 32-bit parameters: wazero leaves what was in the register's upper half there
}

func newHostCall(h HostFunc) hostCall {
	c := hostCall{name: h.Module + "." + h.Name, f: h.Func}
	slot := 0
	for _, t := range h.Params {
		if t == I32 || t == F32 {
			c.narrow = append(c.narrow, slot)
		}
		slot += slots([]Type{t})
	}
	return c
}

// Call runs the function for the guest whose call this is, and ends the call if the function asked for it.
func (c hostCall) Call(ctx context.Context, _ api.Module, stack []uint64) {
	g := ctx.(*callContext).guest
	for _, i := range c.narrow {
		stack[i] = uint64(uint32(stack[i]))
	}
	g.host = c.name
	c.f(g, stack)
	g.host = ""
	if g.stopped != nil {
		panic(g.stopped)
	}
}
