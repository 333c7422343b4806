package sandbox

import (
	"errors"
	"fmt"
)

// A Kind is why a call into a guest did not return.
type Kind uint8

// The kinds of Fault. Closed and Misuse leave the guest usable; Busy is of a pool that gave none.
const (
	Trap     Kind = iota // the guest did what WebAssembly forbids: unreachable, out of bounds, division by zero …
	Deadline             // the call's time is up
	Fuel                 // the call's fuel is used up
	Depth                // too many nested calls
	Memory               // the guest stopped after it was refused memory
	Exit                 // the guest left by WASI's proc_exit
	Host                 // a host function stopped the call, or panicked
	Canceled             // the caller's context ended
	Closed               // the pool is closed, or the guest was broken before
	Misuse               // the caller's mistake: wrong number of arguments, unknown function
	Busy                 // no instance became free in time
	kinds                // their number
)

var kindNames = [kinds]string{"trap", "deadline", "fuel", "depth", "memory", "exit", "host", "canceled", "closed", "misuse", "busy"}

// String is the kind's name in metrics and logs.
func (k Kind) String() string { return kindNames[k] }

// Kinds lists every kind, for those who count by it.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// A Fault is why a call into a guest did not return.
type Fault struct {
	Kind Kind
	Func string // the export that was called
	Err  error  // the cause
}

func (f *Fault) Error() string {
	return fmt.Sprintf("sandbox: call %s: %s: %v", f.Func, f.Kind, f.Err)
}

func (f *Fault) Unwrap() error { return f.Err }

// ErrClosed is the cause of faults of kind Closed.
var ErrClosed = errors.New("closed")

// An exitError is the guest's own end by proc_exit.
type exitError uint32

func (e exitError) Error() string { return fmt.Sprintf("the guest exited with status %d", uint32(e)) }

// faultOf says why a call of g ended with err.
func (g *Guest) faultOf(err error) *Fault {
	switch {
	case g.stopped != nil:
		return g.stopped
	case err.Error() == stackOverflow:
		return &Fault{Kind: Depth, Err: fmt.Errorf("%w: the stack is full", errDepth)}
	case g.host != "":
		return &Fault{Kind: Host, Err: fmt.Errorf("host function %s: %w", g.host, err)}
	}
	return &Fault{Kind: Trap, Err: err}
}

// stackOverflow is the text of wazero's error, the only one that is not wrapped; its value is not exported.
const stackOverflow = "stack overflow"
