package sandbox

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

const pageSize = 64 << 10 // bytes

// A Guest is one instance of a module. It belongs to one goroutine between Pool.Get and Pool.Put.
type Guest struct {
	Data any // whoever holds the guest keeps the state of its call here, for the host functions; Put clears it

	pool   *Pool
	module api.Module
	memory api.Memory // nil if the module has none
	linear resettable // what lies under it, if the pool isolates owners
	funcs  []api.Function
	stack  []uint64
	call   callContext
	out    bool

	owner  string // whom the guest serves, or served last
	served bool   // it has, since it started or was put back
	origin origin

	host    string // the host function that is running
	nested  int    // calls of this guest that are running
	stopped *Fault // why the running call must end, set inside it
	broken  string // why the guest may not be used again
	pages   uint32 // memory when it was new
	counted int64  // pages that Stats knows of
	calls   int64  // since the last settle
	fuel    int64  // likewise

	records  [maxRecords]record // likewise
	recorded int
	started  bool // calls are recorded
	console  console
	wasi     wasiState
	gauge    gauge
}

// A callContext carries the guest to its host functions without an allocation. It hides the values of the
// caller's context: wazero looks for its own switches there, and a guest is to get none by accident.
type callContext struct {
	context.Context
	guest *Guest
}

func (*callContext) Value(any) any { return nil }

func (p *Pool) make(ctx context.Context) (*Guest, error) {
	g := &Guest{pool: p, funcs: make([]api.Function, len(p.exports)), stack: make([]uint64, p.slots), out: true}
	g.call = callContext{ctx, g}
	if err := g.instantiate(); err != nil {
		return nil, fmt.Errorf("instantiate: %w", err)
	}
	p.mu.Lock()
	p.made++
	p.alive++
	p.mu.Unlock()
	err := g.start(ctx)
	if err == nil {
		err = g.remember()
	}
	if err != nil {
		p.mu.Lock()
		p.settle(g)
		p.mu.Unlock()
		p.discard(g)
		return nil, err
	}
	g.gauge.ready(&p.options.Limits)
	g.pages = g.MemorySize() / pageSize
	g.started = true
	return g, nil
}

func (g *Guest) instantiate() (err error) {
	p := g.pool
	ctx := context.Context(&g.call)
	defer func() { // wazero cannot do with less memory than a module begins with
		if cause := recover(); cause != nil {
			err = fmt.Errorf("no memory: %v", cause)
		}
		if err != nil && g.linear != nil {
			g.linear.Free() // wazero forgets it
		}
	}()
	ctx = experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, most uint64) experimental.LinearMemory {
		g.linear = newMemory(most)
		return g.linear
	}))

	g.module, err = p.runtime.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return err
	}
	if p.shape.remembers { // otherwise wazero's answer is a nil that does not compare equal to nil
		g.memory = g.module.Memory()
	}
	return nil
}

// start does what must be done once before a guest is called: the module's start function, which the meter has
// made an export, a reactor's _initialize, then the embedder's own.
func (g *Guest) start(ctx context.Context) error {
	if err := g.gauge.attach(g.module, &g.pool.options.Limits); err != nil {
		return err
	}
	for _, name := range []string{startExport, "_initialize"} {
		f, ok := g.pool.Func(name)
		if !ok {
			continue
		}
		if _, err := g.Call(ctx, f); err != nil {
			return err
		}
	}
	if g.pool.options.Start == nil {
		return nil
	}
	if err := g.pool.options.Start(ctx, g); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// Call calls an exported function with args, one word for each parameter, and returns its first result, or 0
// if it has none. A *Fault is the only kind of error; after one, other than of kind Closed or Misuse, the guest
// is broken and will be discarded. A host function may call its guest; such a call shares the outer one's limits.
func (g *Guest) Call(ctx context.Context, f Func, args ...uint64) (uint64, error) {
	if fault := g.check(f, len(args)); fault != nil {
		return 0, fault
	}
	host := g.host
	g.host = ""
	fn, stack := g.enter(ctx, f)
	clear(stack[copy(stack, args):])
	err := fn.CallWithStack(&g.call, stack)
	g.leave(f)
	if err != nil {
		return 0, g.fail(f, err)
	}
	g.host = host
	if len(stack) == 0 {
		return 0, nil
	}
	return stack[0], nil
}

const maxNested = 8 // calls of one guest inside each other through host functions

func (g *Guest) check(f Func, args int) *Fault {
	switch {
	case f.index <= 0 || f.index > len(g.funcs):
		return &Fault{Kind: Misuse, Func: "?", Err: fmt.Errorf("no such function in %s", g.pool.name)}
	case args != g.pool.exports[f.index-1].params:
		x := g.pool.exports[f.index-1]
		return &Fault{Kind: Misuse, Func: x.name, Err: fmt.Errorf("%d arguments given, %d wanted", args, x.params)}
	case g.broken != "":
		return &Fault{Kind: Closed, Func: g.pool.exports[f.index-1].name, Err: fmt.Errorf("%w: the guest is broken: %s", ErrClosed, g.broken)}
	case g.nested >= maxNested:
		return &Fault{Kind: Misuse, Func: g.pool.exports[f.index-1].name, Err: fmt.Errorf("%d calls inside each other", maxNested)}
	}
	return nil
}

// enter gives the function and the stack of a call. A nested one gets its own of both: wazero's handles are
// not re-entrant.
func (g *Guest) enter(ctx context.Context, f Func) (api.Function, []uint64) {
	g.nested++
	g.calls++
	if g.nested > 1 {
		return g.module.ExportedFunction(g.pool.exports[f.index-1].name), make([]uint64, len(g.stack))
	}
	g.call.Context = ctx
	g.gauge.begin()
	if g.funcs[f.index-1] == nil {
		g.funcs[f.index-1] = g.module.ExportedFunction(g.pool.exports[f.index-1].name)
	}
	return g.funcs[f.index-1], g.stack
}

func (g *Guest) leave(f Func) {
	g.nested--
	if g.nested > 0 {
		return
	}
	used := g.gauge.used()
	g.fuel += used
	if g.started {
		g.record(record{f.index - 1, used, now() - g.gauge.began})
	}
	g.call.Context = context.Background()
	g.console.flush(g.pool.options.Log)
}

// fail says why a call has ended with err.
func (g *Guest) fail(f Func, err error) *Fault {
	fault := g.faultOf(err)
	if g.gauge.refused && (fault.Kind == Trap || fault.Kind == Exit) {
		fault = &Fault{Kind: Memory, Err: fmt.Errorf("%w: the limit is %d pages: %w", errMemory, g.pool.options.Limits.Memory, fault.Err)}
	}
	if fault.Func == "" {
		fault.Func = g.pool.exports[f.index-1].name
	}
	if g.nested == 0 {
		g.pool.faults[fault.Kind].Add(1)
	}
	g.stopped = fault // a call that this one is inside of ends with it
	g.Break(fault.Kind.String())
	return fault
}

// Read returns a view of n bytes of memory at ptr, good until the next Call; false if they are not all inside.
func (g *Guest) Read(ptr, n uint32) ([]byte, bool) {
	if g.memory == nil {
		return nil, n == 0
	}
	return g.memory.Read(ptr, n)
}

// Write copies b into memory at ptr; false, and nothing written, if it does not fit.
func (g *Guest) Write(ptr uint32, b []byte) bool {
	if g.memory == nil {
		return len(b) == 0
	}
	return g.memory.Write(ptr, b)
}

// MemorySize is the size of the guest's memory in bytes; one of 4 GiB is given as a byte less.
func (g *Guest) MemorySize() uint32 {
	if g.memory == nil {
		return 0
	}
	return g.memory.Size()
}

// Func returns the handle of an exported function, as Pool.Func does: Options.Start needs it before there is a pool.
func (g *Guest) Func(name string) (Func, bool) { return g.pool.Func(name) }

// Context is the context of the running call, for host functions that wait.
func (g *Guest) Context() context.Context { return g.call.Context }

// Break marks the guest as not to be used again: Put will discard it.
func (g *Guest) Break(reason string) {
	if g.broken == "" {
		g.broken = reason
	}
}

// Stop, called by a host function, ends the running call with a Fault of kind Host when that function returns.
func (g *Guest) Stop(err error) { g.stop(Host, err) }

func (g *Guest) stop(k Kind, err error) {
	if g.stopped == nil {
		g.stopped = &Fault{Kind: k, Err: err}
	}
}
