package policy

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/lines"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A Log writes one JSON line for each decision, off the request path. It outlives reloads, and each of them
// may send it elsewhere. A nil Log writes nothing.
type Log struct {
	stdout  func() (*os.File, error)
	sink    atomic.Pointer[sink] // nil: nothing is logged
	dropped atomic.Int64
}

// NewLog returns a Log that writes nothing until Use. The file that stdout opens is closed by the log; nil
// is os.Stdout, which never is.
func NewLog(stdout func() (*os.File, error)) *Log { return &Log{stdout: stdout} }

// Register adds the count of dropped decisions to reg.
func (l *Log) Register(reg prometheus.Registerer) {
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "gateway_policy_log_dropped_total",
		Help: "Decisions that the log had no room for, or could not write.",
	}, func() float64 { return float64(l.dropped.Load()) }))
}

// An Outlet is where a log may write next. It is given to Use or closed.
type Outlet struct {
	sink *sink
	mine bool // the sink was made for this outlet and is in nobody else's hands
}

// Open opens what cfg names, beside what the log writes to now. A file that was renamed since, or removed,
// is made anew; where nothing changed the log goes on as it is.
func (l *Log) Open(cfg LogConfig) (*Outlet, error) {
	if cfg.To == "" {
		return &Outlet{}, nil
	}
	if old := l.sink.Load(); old != nil && reflect.DeepEqual(old.cfg, cfg) && old.inPlace() {
		return &Outlet{sink: old}, nil
	}
	f, err := l.open(cfg.To)
	if err != nil {
		return nil, fmt.Errorf("policy: open the decision log: %w", err)
	}
	return &Outlet{sink: newSink(f, f, cfg, &l.dropped), mine: true}, nil
}

func (l *Log) open(to string) (*os.File, error) {
	switch {
	case to != toStdout:
		return lines.Open(to)
	case l.stdout != nil:
		return l.stdout()
	}
	return os.Stdout, nil
}

const toStdout = "stdout"

// Close closes an outlet that is not used.
func (o *Outlet) Close() error {
	if o == nil || !o.mine {
		return nil
	}
	o.mine = false
	return o.sink.stop(context.Background())
}

// Use makes the log write to o from now on. What was logged before is still written where it was to go.
func (l *Log) Use(o *Outlet) {
	o.mine = false
	if old := l.sink.Swap(o.sink); old != nil && old != o.sink {
		old.end()
	}
}

// stopTime is how long Close waits for a write that is stuck.
const stopTime = 5 * time.Second

// Close writes what is left. A write that is stuck is left behind with what follows it.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	old := l.sink.Swap(nil)
	if old == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return old.stop(ctx)
}

// An entry is a decision as it waits to be written.
type entry struct {
	call     identity
	at       time.Time
	revision string
	outcome  outcome
	verdict  *verdict
	input    ast.Object // nil: not logged; nobody else reads it any more
	err      error
	took     time.Duration
	shadow   *difference // nil: this is the decision itself
}

// An identity is what the log keeps of a call. The call itself may be over before its line is written.
type identity struct {
	decision, trace, route, remote string
	tenant, principal              string
}

func identityOf(c *pipeline.Call) identity {
	id := identity{decision: c.ID, trace: c.Trace.ID, route: string(c.Route), remote: c.Remote}
	if c.Principal != nil {
		id.tenant, id.principal = c.Principal.Tenant, c.Principal.ID
	}
	return id
}

// wantsInput reports whether lines carry the input.
func (l *Log) wantsInput() bool {
	if l == nil {
		return false
	}
	s := l.sink.Load()
	return s != nil && s.cfg.Input
}

// add queues e, or drops and counts it when there is no room. It reports whether there is a log at all.
func (l *Log) add(e *entry) bool {
	if l == nil {
		return false
	}
	for {
		s := l.sink.Load()
		if s == nil {
			return false
		}
		switch s.add(e) {
		case queued:
			return true
		case full:
			l.dropped.Add(1)
			return true
		}
		// The sink ended since: there is another one now.
	}
}
