package sandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// A Pool holds the instances of one module, none of which share anything but code. Its methods may be used
// by several goroutines at once.
type Pool struct {
	name    string
	options Options
	shape   *Shape
	exports []export // sorted by name; a Func is an index into it
	slots   int      // longest stack that a call of an export needs

	runtime  wazero.Runtime
	compiled wazero.CompiledModule

	fixed   bool     // an instance cannot be put back to its start
	mutable []uint32 // the globals that must be, for that
	image   *image   // the first instance's memory at its start

	done    chan struct{} // closed when the pool closes
	drained chan struct{} // closed when, after that, no guest is out
	once    sync.Once

	mu       sync.Mutex
	closing  bool
	free     int       // guests that may still be taken
	idle     []*Guest  // last in, first out: the warmest is taken first
	queue    []*waiter // the first come first
	waking   bool      // one of them is woken, and has not looked yet
	spare    []*waiter // of those who have waited
	profiles []profile // by export

	alive                                            int
	made, recycled, resets, calls, fuel, pages, peak int64

	faults [kinds]atomic.Int64
}

type export struct {
	name            string
	params, results int
}

// A Func is the handle of an exported function, good for every guest of the pool it comes from.
type Func struct{ index int }

// Load checks, meters and compiles wasm and makes its first instance, so that a module that cannot run fails
// here. The caller closes the pool.
func (e *Engine) Load(ctx context.Context, wasm []byte, o Options) (*Pool, error) {
	p, err := e.load(ctx, wasm, o)
	if err != nil {
		return nil, fmt.Errorf("sandbox: load %s: %w", o.Name, err)
	}
	return p, nil
}

func (e *Engine) load(ctx context.Context, wasm []byte, o Options) (*Pool, error) {
	if o.Adopt > 0 {
		var err error
		if wasm, err = adopted(wasm, o.Adopt); err != nil {
			return nil, err
		}
	}
	shape, err := Inspect(wasm)
	if err != nil {
		return nil, err
	}
	o.Limits = o.Limits.withDefaults()
	if o.Instances <= 0 {
		o.Instances = runtime.GOMAXPROCS(0)
	}
	p := &Pool{
		name: o.Name, options: o, shape: shape, exports: exportsOf(shape),
		done: make(chan struct{}), drained: make(chan struct{}), free: o.Instances,
	}
	p.profiles = make([]profile, len(p.exports))
	for _, x := range p.exports {
		p.slots = max(p.slots, x.params, x.results)
	}
	if err := p.compile(ctx, e, wasm); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	g, err := p.Get(ctx)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	g.served = false
	p.Put(g)
	return p, nil
}

func exportsOf(s *Shape) []export {
	var all []export
	for name, x := range s.Exports {
		if x.Kind == ExternFunc {
			all = append(all, export{name, slots(x.Params), slots(x.Results)})
		}
	}
	if s.starts {
		all = append(all, export{name: startExport})
	}
	slices.SortFunc(all, func(a, b export) int { return compareStrings(a.name, b.name) })
	return all
}

// slots is how many words of a call's stack these values take.
func slots(types []Type) int {
	n := len(types)
	for _, t := range types {
		if t == V128 {
			n++
		}
	}
	return n
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// compile makes the pool's own runtime, with nothing in it but the host functions that were granted.
func (p *Pool) compile(ctx context.Context, e *Engine, wasm []byte) error {
	config := wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(p.options.Limits.Memory).
		WithCompilationCache(e.cache).
		WithDebugInfoEnabled(false)
	p.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	if err := p.linkHosts(ctx); err != nil {
		return err
	}
	w, err := rewritten(wasm, p.options.Splices)
	if err != nil {
		return err
	}
	p.fixed, p.mutable = w.fixed, w.mutable
	p.compiled, err = e.compile(ctx, p.runtime, w.out)
	return err
}

// Func returns the handle of an exported function; false if there is no such export.
func (p *Pool) Func(name string) (Func, bool) {
	i, ok := slices.BinarySearchFunc(p.exports, name, func(x export, name string) int { return compareStrings(x.name, name) })
	return Func{i + 1}, ok
}

// Shape returns what the module said of itself when it was loaded.
func (p *Pool) Shape() *Shape { return p.shape }
