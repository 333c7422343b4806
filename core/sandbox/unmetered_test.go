package sandbox

import (
	"context"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// A counter stands in for a metered module's globals where there are none.
type counter struct {
	api.MutableGlobal
	v uint64
}

func (c *counter) Get() uint64  { return c.v }
func (c *counter) Set(v uint64) { c.v = v }

// unmetered instantiates a module as it is, with the same host functions as a Pool gives but without the meter.
func unmetered(t testing.TB, wasm []byte, o Options) (*Guest, error) {
	t.Helper()
	ctx := context.Background()
	shape, err := Inspect(wasm)
	if err != nil {
		return nil, err
	}
	o.Limits = o.Limits.withDefaults()
	o.Limits.Deadline = time.Hour
	p := &Pool{name: "plain", options: o, shape: shape}
	for _, x := range exportsOf(shape) {
		if x.name == startExport {
			continue
		}
		p.exports = append(p.exports, x)
		p.slots = max(p.slots, x.params, x.results)
	}
	p.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(o.Limits.Memory).WithCompilationCache(sharedEngine().cache))
	t.Cleanup(func() { p.runtime.Close(ctx) })
	if err := p.linkHosts(ctx); err != nil {
		return nil, err
	}
	if p.compiled, err = p.runtime.CompileModule(ctx, wasm); err != nil {
		return nil, err
	}
	g := &Guest{pool: p, funcs: make([]api.Function, len(p.exports)), stack: make([]uint64, p.slots), out: true}
	g.call = callContext{ctx, g}
	g.gauge.fuel, g.gauge.depth = &counter{}, &counter{}
	g.module, err = p.runtime.InstantiateModule(&g.call, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, err
	}
	if shape.remembers {
		g.memory = g.module.Memory()
	}
	if f, ok := p.Func("_initialize"); ok {
		if _, err := g.Call(ctx, f); err != nil {
			return nil, err
		}
	}
	return g, nil
}
