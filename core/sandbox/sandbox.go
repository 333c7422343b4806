// Package sandbox runs untrusted WebAssembly within fuel, time, stack and memory, so that a guest that is
// wrong, slow or hostile hurts its own call alone.
//
// An Engine keeps what outlives a module (the compilation cache). Engine.Load turns a module into a Pool of
// instances; a Guest is one instance, held by one goroutine between Pool.Get and Pool.Put. The module is
// rewritten when it is loaded (see meter.go): it counts its own fuel and call depth, and asks the host every
// few thousand instructions whether it may go on.
//
// A pool has a fixed number of instances. Who finds them all in use waits, as long as its context and
// Options.Wait allow; who comes later may be served first, but not for long (see wait.go). With Options.Isolate a guest that served one owner is put back to what it was when it had
// started before Pool.GetFor hands it to another (see isolate.go), so that nothing which one tenant's text left in
// its memory can reach another tenant. Pool.Stats tells what the calls of each function cost (see profile.go).
//
// Close guests (Put) before their Pool, and every Pool before its Engine.
package sandbox

import (
	"context"
	"time"
)

// A Type is a WebAssembly value type of a function's signature, in its binary encoding.
type Type byte

// The number types, and the others that a signature may name.
const (
	I32       Type = 0x7f
	I64       Type = 0x7e
	F32       Type = 0x7d
	F64       Type = 0x7c
	V128      Type = 0x7b
	FuncRef   Type = 0x70
	ExternRef Type = 0x6f
)

var typeNames = map[Type]string{I32: "i32", I64: "i64", F32: "f32", F64: "f64", V128: "v128", FuncRef: "funcref", ExternRef: "externref"}

func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return "unknown type"
}

// A Signature is what a function takes and gives.
type Signature struct{ Params, Results []Type }

// Limits bound what one guest may use. Zero fields take the defaults named here.
type Limits struct {
	Deadline time.Duration // wall time of one call, host functions included; 0: 10 ms
	Startup  time.Duration // wall time of each call that readies a new instance, in place of Deadline and Fuel; 0: 1 s
	Fuel     uint64        // units of one call, roughly instructions; 0: the deadline alone bounds a call
	Memory   uint32        // pages of 64 KiB of one instance; 0: 256 (16 MiB)
	Depth    uint32        // nested calls, large frames counting for several; 0: 4096
}

const (
	defaultDeadline = 10 * time.Millisecond
	defaultStartup  = time.Second
	defaultMemory   = 256  // pages
	defaultDepth    = 4096 // calls
	maxMemory       = 65536
)

func (l Limits) withDefaults() Limits {
	if l.Deadline <= 0 {
		l.Deadline = defaultDeadline
	}
	if l.Startup <= 0 {
		l.Startup = defaultStartup
	}
	if l.Memory == 0 {
		l.Memory = defaultMemory
	}
	l.Memory = min(l.Memory, maxMemory)
	if l.Depth == 0 {
		l.Depth = defaultDepth
	}
	return l
}

// A HostFunc is a function that the guest may import. Func gets the guest and the raw stack: parameters in,
// results out, each in its own slot, i32 and f32 in the lower half with the upper half zero. It must not keep
// the stack, and it runs on the guest's time: what it does for long it pays for with Guest.Charge.
type HostFunc struct {
	Module, Name string
	Signature
	Func func(g *Guest, stack []uint64)
}

// Options say how a module is run.
type Options struct {
	Name      string // in errors
	Limits    Limits
	Hosts     []HostFunc
	WASI      bool          // provide stub WASI: no files, no network, no arguments, no environment
	Clock     bool          // WASI's clocks are real; otherwise they only count readings
	Random    bool          // WASI's random is real; otherwise it is the same sequence in every instance
	Instances int           // most instances at a time; 0: GOMAXPROCS
	Wait      time.Duration // longest wait for one of them to become free; 0: as long as the context lasts
	// Isolate puts a guest that has served one owner back to what it was when it had started before it is handed
	// to another (see Pool.GetFor), so that nothing of the one can reach the other.
	Isolate bool
	// Adopt, if not 0, gives the module as its own the memory that it imports, with at least so many pages.
	Adopt uint32
	// Splices are put into the functions that the module's name section calls so; one that is not there is no error.
	Splices map[string]Splice
	// Start is run on each new instance after its start function and _initialize, each of its calls bounded by
	// Limits.Startup as theirs are; an error discards the instance. nil: nothing.
	Start func(context.Context, *Guest) error
	// Late is asked when a call's deadline has passed, on the call's own goroutine, and gives it more time: a machine
	// that is busy may have let the guest do nothing. 0 ends the call. nil: nothing is given.
	Late func(*Guest) time.Duration
	// Log gets what the guest writes to stdout and stderr, line by line and bounded per call; it may be called
	// by several guests at once and must not keep the line. nil: dropped.
	Log func(line []byte)
}
