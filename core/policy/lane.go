package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/nexus-gateway/nexus/core/sandbox"
)

// A lane decides by a policy that OPA compiled to Wasm, which the sandbox runs: metered, within the deadline and a
// bound on memory, in one of a few instances. It decides as topdown does, or not at all: where it came upon
// something that the two need not do in the same way, such as a builtin that failed, the call is topdown's.
type lane struct {
	pool    *sandbox.Pool
	eval    sandbox.Func
	layout  layout
	data    *atomic.Uint64 // the address of the data, the same in every instance; 0 before the first has started
	served  *atomic.Pointer[[]topdown.BuiltinFunc]
	resting atomic.Int64  // calls that go to topdown without a try
	running *atomic.Int64 // evaluations
	runs    sync.Pool     // of *run
	answers answers
}

const (
	maxImage     = 256 << 10 // bytes of an input; a call with more is topdown's
	maxWasmData  = 1 << 20   // bytes of JSON; more is kept once, in topdown's store, rather than in every instance
	maxWasmHeap  = 32 << 20  // bytes, for one evaluation
	restCalls    = 64        // to topdown after one that Wasm did not decide
	fuelPerMicro = 10_000    // units in a microsecond, more than any processor does
)

// A layout is where a module finds what the host writes: the memory of its rules, and the input. They lie between
// the module's own data and its heap.
type layout struct{ table, root, heap uint32 }

func layoutOf(shape *sandbox.Shape) layout {
	l := layout{table: imageBase}
	l.root = l.table + 8*uint32((shape.Functions+1)/2)
	l.heap = l.root + maxImage
	return l
}

// A run is one evaluation in Wasm.
type run struct {
	image  imager
	asked  bool   // the decision was
	result uint32 // its address; 0: it is undefined
	doubt  bool   // topdown must decide
	copier copier
	served []topdown.BuiltinFunc // by the numbers that the module has for them
	guest  *sandbox.Guest

	idle   int           // times that its deadline passed before it had done anything to speak of
	late   time.Duration // the process's processor time when the deadline had passed; 0: it has not
	stalls int           // times that it was given longer since
}

// The engines, as policy.engine names them.
const (
	engineAuto    = "auto"
	engineTopdown = "topdown"
	engineWasm    = "wasm"
)

// addLane has p decided in Wasm, if it can be.
func (p *prepared) addLane(ctx context.Context, f *files, cfg Config) {
	modules, err := parse(f.rego)
	if err == nil {
		err = addLibrary(modules)
	}
	var l *reduced
	if err == nil {
		l, err = reduce(ctx, p, modules, cfg.Loose)
	}
	if err == nil && len(l.why) > 0 {
		err = errors.New("it uses " + strings.Join(l.why, ", "))
	}
	if err == nil {
		p.lane, err = newLane(ctx, l, cfg.Deadline)
	}
	if err != nil {
		p.why = err.Error()
	}
}

// Engine says what evaluates, topdown or wasm, and if wasm might but cannot, why.
func (e *Engine) Engine() (name, why string) {
	if e.lane != nil {
		return engineWasm, ""
	}
	return engineTopdown, e.why
}

// newLane compiles and loads l.
func newLane(ctx context.Context, l *reduced, deadline time.Duration) (*lane, error) {
	data, ok := appendValue(nil, l.data)
	switch {
	case !ok:
		return nil, errors.New("the data has keys that are not strings, or NUL characters")
	case len(data) > maxWasmData:
		return nil, fmt.Errorf("the data has more than %d bytes", maxWasmData)
	}
	wasm, err := l.wasm(ctx)
	if err != nil {
		return nil, err
	}
	shape, err := sandbox.Inspect(wasm)
	if err != nil {
		return nil, err
	}
	w := &lane{layout: layoutOf(shape), data: new(atomic.Uint64), running: new(atomic.Int64), served: new(atomic.Pointer[[]topdown.BuiltinFunc])}
	table := int(w.layout.root - w.layout.table)
	w.runs.New = func() any { return &run{image: imager{table: table}} }
	engine, err := sandbox.NewEngine("")
	if err != nil {
		return nil, err
	}
	w.pool, err = engine.Load(ctx, wasm, w.options(shape, data, deadline))
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	w.eval, _ = w.pool.Func("opa_eval")
	// Engines are shared by snapshots, compilers and commands; who knows when the last has let go is the collector.
	runtime.AddCleanup(w, func(p *sandbox.Pool) { _ = errors.Join(p.Close(), engine.Close()) }, w.pool)
	return w, nil
}

func (w *lane) options(shape *sandbox.Shape, data []byte, deadline time.Duration) sandbox.Options {
	return sandbox.Options{
		Name: "policy", Hosts: hosts, Splices: splices(shape, w.layout), Wait: maxWait * deadline,
		Adopt: w.layout.heap>>16 + 2,
		Limits: sandbox.Limits{
			Deadline: deadline, Fuel: uint64(deadline.Microseconds()) * fuelPerMicro,
			Memory: (w.layout.heap + maxWasmHeap + 16*uint32(len(data))) >> 16, Startup: 10 * time.Second,
		},
		Start: starter(data, w.data, w.served),
		Late:  lateness(deadline, w.running),
	}
}

// lateness gives an evaluation whose time is up more of it: a machine or a process that is busy must not deny calls.
func lateness(deadline time.Duration, running *atomic.Int64) func(*sandbox.Guest) time.Duration {
	return func(g *sandbox.Guest) time.Duration {
		r, ok := g.Data.(*run)
		if !ok {
			return 0
		}
		return r.more(deadline, g.Used(), running.Load())
	}
}

// leastPerMicro is the fuel that a processor burns in a microsecond even where each step misses its caches.
const leastPerMicro = 12

// more is how much longer an evaluation may take that has used so much fuel, where so many run. One that did less than
// any processor does in its time had none, and is given as much again. One that did more is given as much again once, and
// after that what it is owed: as stalled does for topdown, it counts the process's processor time. That is asked for
// only then, since to ask costs a tenth of an evaluation.
func (r *run) more(deadline time.Duration, used uint64, running int64) time.Duration {
	switch {
	case used < leastPerMicro*uint64(deadline.Microseconds()) && r.idle < maxWait:
		r.idle++
		return deadline
	case r.late == 0:
		r.late = processTime()
		return deadline
	}
	sharing := time.Duration(max(1, min(running, int64(runtime.GOMAXPROCS(0)))))
	owed := deadline - (processTime()-r.late)/sharing
	if r.stalls++; owed <= deadline/8 || r.stalls > maxStalls {
		return 0
	}
	return owed
}

// starter readies an instance: it reads the data, for all evaluations. It must not hold the lane, which is closed when
// nothing does.
func starter(data []byte, address *atomic.Uint64, served *atomic.Pointer[[]topdown.BuiltinFunc]) func(context.Context, *sandbox.Guest) error {
	return func(ctx context.Context, g *sandbox.Guest) error {
		s := start{ctx: ctx, guest: g}
		text := s.call("opa_malloc", uint64(len(data)))
		if s.err == nil && !g.Write(uint32(text), data) {
			return errors.New("no room for the data")
		}
		at := s.call("opa_value_parse", text, uint64(len(data)))
		heap := s.call("opa_heap_ptr_get")
		both := heap<<32 | at
		switch {
		case s.err != nil:
			return s.err
		case at == 0:
			return errors.New("the data cannot be parsed")
		case address.CompareAndSwap(0, both):
			list := s.needs()
			served.Store(&list)
			return s.err
		case address.Load() != both:
			return errors.New("an instance is not like the first")
		}
		return nil
	}
}

// A start is an instance being readied.
type start struct {
	ctx   context.Context
	guest *sandbox.Guest
	err   error
}

func (s *start) call(name string, args ...uint64) uint64 {
	f, ok := s.guest.Func(name)
	if !ok && s.err == nil {
		s.err = fmt.Errorf("the module has no function %s", name)
	}
	if s.err != nil {
		return 0
	}
	var v uint64
	v, s.err = s.guest.Call(s.ctx, f, args...)
	return v
}

// needs asks the module which builtins it wants of its host, by the numbers it has for them.
func (s *start) needs() []topdown.BuiltinFunc {
	b := terminated(s.guest, s.call("opa_json_dump", s.call("builtins")))
	var numbers map[string]int
	if s.err == nil {
		s.err = json.Unmarshal(b, &numbers)
	}
	var list []topdown.BuiltinFunc
	for name, i := range numbers {
		name, ok := strings.CutPrefix(name, hostPrefix)
		if !ok || !hosted(name) || i < 0 || i >= maxHosted {
			s.err = errors.Join(s.err, fmt.Errorf("%s is no builtin of the host", name))
			continue
		}
		list = append(list, make([]topdown.BuiltinFunc, max(0, i+1-len(list)))...)
		list[i] = topdown.GetBuiltin(name)
	}
	return list
}

// terminated is the text at an address, up to its NUL.
func terminated(g *sandbox.Guest, at uint64) []byte {
	b, _ := g.Read(uint32(at), g.MemorySize()-uint32(at))
	if n := bytes.IndexByte(b, 0); n >= 0 {
		return b[:n]
	}
	return nil
}

// errDoubt says that topdown must decide.
var errDoubt = errors.New("topdown must decide")

// decide decides for a call by the part of its input that p has. The verdict is shared: it must not be changed.
func (w *lane) decide(ctx context.Context, p plan, f *facts, pools map[string]bool) (*verdict, error) {
	if w.resting.Load() > 0 {
		w.resting.Add(-1)
		return nil, errDoubt
	}
	r := w.runs.Get().(*run)
	defer w.runs.Put(r)
	image := p.write(f, &r.image)
	r.image.facts = nil // they are the call's, and r is kept
	if !r.image.fits() {
		return nil, errDoubt // what one caller sends is no reason for others to go to topdown
	}
	g, err := w.pool.Get(ctx)
	if err != nil {
		return nil, failureOf(ctx, err)
	}
	defer w.pool.Put(g)
	f.began = time.Now()
	v, err := w.run(ctx, g, r, image, pools)
	if err == errDoubt {
		w.resting.Store(restCalls)
	}
	return v, err
}

// run has g evaluate.
func (w *lane) run(ctx context.Context, g *sandbox.Guest, r *run, image []byte, pools map[string]bool) (*verdict, error) {
	r.asked, r.result, r.doubt, r.idle, r.late, r.stalls = false, 0, false, 0, 0, 0
	w.running.Add(1)
	defer w.running.Add(-1)
	g.Data = r
	r.guest, r.served = g, *w.served.Load()
	defer func() { r.guest = nil }()
	g.Write(w.layout.table, image)
	data := w.data.Load()
	if _, err := g.Call(ctx, w.eval, 0, 0, data&0xffffffff, uint64(w.layout.root+rootSize), 1, data>>32, 1); err != nil {
		return nil, failureOf(ctx, err)
	}
	switch {
	case r.doubt, !r.asked:
		return nil, errDoubt
	case r.result == 0:
		return nil, fail(undefined, "%s is undefined", entrypoint)
	}
	memory, _ := g.Read(0, g.MemorySize())
	r.copier = copier{memory: memory, out: r.copier.out[:0]}
	r.copier.value(r.result)
	r.copier.memory = nil
	if r.copier.bad {
		return nil, errDoubt
	}
	return w.answers.read(r.copier.out, pools)
}

// failureOf says what a call that did not return means. One that used up its time has no decision; whatever else went
// wrong is for topdown to tell.
func failureOf(ctx context.Context, err error) error {
	fault, ok := errors.AsType[*sandbox.Fault](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errCancelled):
		return &failure{timeout, err}
	case ok && (fault.Kind == sandbox.Fuel || fault.Kind == sandbox.Busy || fault.Kind == sandbox.Deadline):
		return &failure{timeout, err}
	}
	return errDoubt
}

// hosts are what a compiled policy imports.
var hosts = func() []sandbox.HostFunc {
	var list []sandbox.HostFunc
	add := func(name string, params int, results []sandbox.Type, f func(*sandbox.Guest, []uint64)) {
		s := sandbox.Signature{Params: slices.Repeat([]sandbox.Type{sandbox.I32}, params), Results: results}
		list = append(list, sandbox.HostFunc{Module: "env", Name: name, Signature: s, Func: f})
	}
	add("opa_abort", 1, nil, abort)
	add("opa_println", 1, nil, func(*sandbox.Guest, []uint64) {})
	value := []sandbox.Type{sandbox.I32}
	add("opa_builtin0", 2, value, told)
	for i := 1; i < 5; i++ {
		add(fmt.Sprintf("opa_builtin%d", i), 2+i, value, func(g *sandbox.Guest, stack []uint64) { serve(g, stack, i) })
	}
	return list
}()

// abort is called by the module when it cannot go on, with what it has to say.
func abort(g *sandbox.Guest, stack []uint64) {
	g.Stop(fmt.Errorf("the policy's module gave up: %s", cut(string(terminated(g, stack[0])), maxLine)))
}

// told is called by what is spliced into the module (see splices): with the decision, or with a doubt.
func told(g *sandbox.Guest, stack []uint64) {
	r, ok := g.Data.(*run)
	switch {
	case !ok: // it is being readied
	case stack[1] == tellDecision:
		r.asked, r.result = true, uint32(stack[0])
	case stack[1] == tellNumber:
		if !r.exact(stack[0], exactOperand) {
			stack[0] = 1
			return
		}
	case stack[1] == tellResult:
		r.doubt = r.doubt || !r.gave(uint32(stack[0])) && !r.exact(stack[0], exactResult)
	default:
		r.doubt = true
	}
	stack[0] = 0
}
