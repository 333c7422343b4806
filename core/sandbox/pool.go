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

	tokens chan struct{} // one for each guest that may be out
	done   chan struct{} // closed when the pool closes
	once   sync.Once

	mu   sync.Mutex
	idle []*Guest // last in, first out: the warmest is taken first

	made, alive, recycled, calls, fuel, pages atomic.Int64
	faults                                    [kinds]atomic.Int64
}

type export struct {
	name            string
	params, results int
}

// A Func is the handle of an exported function, good for every guest of the pool it comes from.
type Func struct{ index int }

// Stats are a pool's counts since it was loaded, and what it holds now. Calls and fuel are counted when a
// guest is put back.
type Stats struct {
	Calls     int64
	Fuel      int64          // units used by all calls
	Faults    map[Kind]int64 // calls that did not return, by cause
	Made      int64          // instances made
	Recycled  int64          // instances discarded because their memory had grown
	Instances int            // instances that exist now
	Idle      int            // of these, not in use
	Memory    int64          // bytes of the instances' memories, as of their last Put
}

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
		tokens: make(chan struct{}, o.Instances), done: make(chan struct{}),
	}
	for _, x := range p.exports {
		p.slots = max(p.slots, x.params, x.results)
	}
	for range o.Instances {
		p.tokens <- struct{}{}
	}
	if err := p.compile(ctx, e, wasm); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	g, err := p.Get(ctx)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
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
	wasm, err := metered(wasm)
	if err != nil {
		return err
	}
	p.compiled, err = e.compile(ctx, p.runtime, wasm)
	return err
}

// Get waits until a guest is free, at most as long as ctx lasts. The caller gives it back with Put.
func (p *Pool) Get(ctx context.Context) (*Guest, error) {
	select {
	case <-p.done:
		return nil, p.closed()
	default:
	}
	select {
	case <-p.tokens:
	default:
		if err := p.wait(ctx); err != nil {
			return nil, err
		}
	}
	if g := p.take(); g != nil {
		return g, nil
	}
	g, err := p.make(ctx)
	if err != nil {
		p.tokens <- struct{}{}
		return nil, err
	}
	return g, nil
}

func (p *Pool) wait(ctx context.Context) error {
	select {
	case <-p.tokens:
		return nil
	case <-p.done:
		return p.closed()
	case <-ctx.Done():
		return &Fault{Kind: Canceled, Func: p.name, Err: fmt.Errorf("no instance became free: %w", context.Cause(ctx))}
	}
}

func (p *Pool) closed() error { return &Fault{Kind: Closed, Func: p.name, Err: ErrClosed} }

func (p *Pool) take() *Guest {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle) - 1
	if n < 0 {
		return nil
	}
	g := p.idle[n]
	p.idle[n] = nil
	p.idle = p.idle[:n]
	g.out = true
	return g
}

// Put gives a guest back. One that is broken, or whose memory has grown to where it would soon be refused
// more, is closed instead, and the next Get makes a new one. A second Put of the same guest does nothing.
func (p *Pool) Put(g *Guest) {
	if g == nil || !g.out {
		return
	}
	g.out = false
	g.Data = nil
	g.settle()
	if g.broken != "" || p.outgrown(g) {
		p.discard(g)
	} else {
		p.mu.Lock()
		p.idle = append(p.idle, g)
		p.mu.Unlock()
	}
	p.tokens <- struct{}{}
}

// outgrown reports whether less than a quarter is left between the memory that the guest began with and its
// limit: a guest that leaks is replaced before it fails.
func (p *Pool) outgrown(g *Guest) bool {
	limit := p.options.Limits.Memory
	now := g.MemorySize() / pageSize
	if now <= g.pages || limit <= g.pages || now-g.pages < (limit-g.pages)/4*3 {
		return false
	}
	p.recycled.Add(1)
	return true
}

func (p *Pool) discard(g *Guest) {
	_ = g.module.Close(context.Background())
	p.alive.Add(-1)
	p.pages.Add(-g.counted)
}

// Func returns the handle of an exported function; false if there is no such export.
func (p *Pool) Func(name string) (Func, bool) {
	i, ok := slices.BinarySearchFunc(p.exports, name, func(x export, name string) int { return compareStrings(x.name, name) })
	return Func{i + 1}, ok
}

// Shape returns what the module said of itself when it was loaded.
func (p *Pool) Shape() *Shape { return p.shape }

// Stats returns the counts as they stand.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	idle := len(p.idle)
	p.mu.Unlock()
	s := Stats{
		Calls: p.calls.Load(), Fuel: p.fuel.Load(), Faults: map[Kind]int64{}, Made: p.made.Load(), Recycled: p.recycled.Load(),
		Instances: int(p.alive.Load()), Idle: idle, Memory: p.pages.Load() * pageSize,
	}
	for k := range p.faults {
		if n := p.faults[k].Load(); n > 0 {
			s.Faults[Kind(k)] = n
		}
	}
	return s
}

// Close refuses further Gets, waits for the guests that are out, and closes everything. It may be called
// twice.
func (p *Pool) Close() error {
	var err error
	p.once.Do(func() {
		close(p.done)
		for range cap(p.tokens) {
			<-p.tokens
		}
		for _, g := range p.idle {
			p.discard(g)
		}
		p.idle = nil
		if p.compiled != nil {
			err = p.compiled.Close(context.Background())
		}
		if p.runtime != nil {
			err = errors.Join(err, p.runtime.Close(context.Background()))
		}
	})
	return err
}
