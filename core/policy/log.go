package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A Log writes one JSON line for each decision, off the request path. It outlives reloads. A nil Log
// writes nothing. It never holds text that the caller or the policy's answer carries.
type Log struct {
	w       io.Writer
	close   func() error
	queue   chan entry
	dropped atomic.Int64
	once    sync.Once
}

// OpenLog opens what cfg names; nil when it names nothing. Close it after Run has returned.
func OpenLog(cfg LogConfig) (*Log, error) {
	switch cfg.To {
	case "":
		return nil, nil
	case "stdout":
		return newLog(os.Stdout, func() error { return nil }, cfg.Size), nil
	}
	f, err := os.OpenFile(cfg.To, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("policy: open the decision log: %w", err)
	}
	return newLog(f, f.Close, cfg.Size), nil
}

func newLog(w io.Writer, close func() error, size int) *Log {
	return &Log{w: w, close: close, queue: make(chan entry, max(size, 1))}
}

// Register adds the count of dropped decisions to reg.
func (l *Log) Register(reg prometheus.Registerer) {
	if l == nil {
		return
	}
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "gateway_policy_log_dropped_total",
		Help: "Decisions that the log had no room for, or could not write.",
	}, func() float64 { return float64(l.dropped.Load()) }))
}

// Run writes until ctx ends, and then what is left.
func (l *Log) Run(ctx context.Context) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	for {
		select {
		case e := <-l.queue:
			l.write(e)
		case <-ctx.Done():
			for {
				select {
				case e := <-l.queue:
					l.write(e)
				default:
					return nil
				}
			}
		}
	}
}

// Close closes the file. It may be called twice.
func (l *Log) Close() (err error) {
	if l != nil {
		l.once.Do(func() { err = l.close() })
	}
	return err
}

// entry is one line; its first members are named as OPA names them.
type entry struct {
	DecisionID string            `json:"decision_id"`
	TraceID    string            `json:"trace_id,omitempty"`
	Path       string            `json:"path"`
	Timestamp  time.Time         `json:"timestamp"`
	Revision   string            `json:"revision,omitempty"`
	Outcome    outcome           `json:"outcome"`
	Error      string            `json:"error,omitempty"`
	Action     pipeline.Action   `json:"action"`
	Rule       string            `json:"rule,omitempty"`
	Matched    []string          `json:"matched,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Targets    []string          `json:"targets,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Tenant     string            `json:"tenant,omitempty"`
	Principal  string            `json:"principal,omitempty"`
	Route      string            `json:"route"`
	EvalNS     int64             `json:"eval_ns"`
}

// add queues e, or drops and counts it when the queue is full.
func (l *Log) add(e entry) {
	select {
	case l.queue <- e:
	default:
		l.dropped.Add(1)
	}
}

// record counts what came of an evaluation, and logs it.
func (s *Stage) record(c *pipeline.Call, o outcome, v *verdict, err error, took time.Duration) {
	s.env.Metrics.decided(o, v.Action, took)
	if s.env.Log == nil {
		return
	}
	e := entry{
		DecisionID: v.ID, TraceID: c.Trace.ID, Path: "nexus/decision", Timestamp: time.Now(), Revision: s.engine.Revision(),
		Outcome: o, Action: v.Action, Rule: v.Rule, Matched: v.matched, Reason: v.Reason, Tags: v.Tags,
		Route: string(c.Route), EvalNS: took.Nanoseconds(),
	}
	if err != nil {
		e.Error = cut(err.Error(), maxString)
	}
	if c.Principal != nil {
		e.Tenant, e.Principal = c.Principal.Tenant, c.Principal.ID
	}
	for _, t := range v.Targets {
		e.Targets = append(e.Targets, t.Pool)
	}
	s.env.Log.add(e)
}

func (l *Log) write(e entry) {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.w.Write(append(line, '\n'))
	}
	if err != nil {
		l.dropped.Add(1)
	}
}
