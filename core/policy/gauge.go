package policy

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A Figure is what one thing costs.
type Figure struct {
	What   string        `json:"what"`
	Engine string        `json:"engine,omitempty"` // that evaluates; empty: none does
	Each   time.Duration `json:"ns"`
	Allocs float64       `json:"allocations"`
	Bytes  float64       `json:"bytes"` // allocated
	Times  int           `json:"times"` // that it was done
	Note   string        `json:"note,omitempty"`
}

// Gauge measures what a decision on c costs, each figure for span: what it takes to build the input, and the decision
// whole, as the stage decides it, by each engine that can evaluate the policy. Where the machine does other work, figures
// are too high.
func Gauge(ctx context.Context, src Sources, cfg Config, c *pipeline.Call, span time.Duration) ([]Figure, error) {
	var all []Figure
	for _, engine := range gauged {
		cfg.Engine = engine
		t, err := OpenTrialBy(ctx, src, cfg)
		if err != nil && engine != gauged[0] {
			all = append(all, Figure{What: "decision", Engine: engine, Note: err.Error()})
			continue
		}
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = append(all, measure(span, func() { t.stage.plan.build(t.stage.facts(c)) }))
			all[0].What = "input"
			all[0].Note = fmt.Sprintf("%d of %d paths are read", len(t.engine.Reads()), len(schemaPaths()))
		}
		one, err := t.gauge(ctx, c, span)
		if err != nil {
			return nil, err
		}
		one.Engine = engine
		all = append(all, one)
	}
	return all, nil
}

// gauged are the engines, the one that can evaluate every policy first.
var gauged = []string{engineTopdown, engineWasm}

// gauge measures whole decisions.
func (t *Trial) gauge(ctx context.Context, c *pipeline.Call, span time.Duration) (Figure, error) {
	var failed error
	one := func() {
		if _, err := t.stage.decide(ctx, c); err != nil {
			failed = err
		}
	}
	if one(); ctx.Err() != nil {
		return Figure{}, ctx.Err()
	}
	f := measure(span, one)
	f.What = "decision"
	if failed != nil {
		f.Note = failed.Error()
	}
	return f, ctx.Err()
}

// measure does one again and again for span.
func measure(span time.Duration, one func()) Figure {
	one() // what is made once is made now
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, n := time.Now(), 0
	for took := time.Duration(0); took < span; took = time.Since(start) {
		for range 16 {
			one()
		}
		n += 16
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	return Figure{
		Each: took / time.Duration(n), Times: n,
		Allocs: float64(after.Mallocs-before.Mallocs) / float64(n), Bytes: float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
	}
}

// PrintFigures writes figures for people.
func PrintFigures(w io.Writer, all []Figure) error {
	p := &printer{w: w}
	for _, f := range all {
		name := f.What
		if f.Engine != "" {
			name += ", " + f.Engine
		}
		if f.Times == 0 {
			p.linef("%-20s %s", name, f.Note)
			continue
		}
		line := fmt.Sprintf("%-20s %9.2f µs  %6.0f allocations  %8.0f bytes", name, float64(f.Each.Nanoseconds())/1000, f.Allocs, f.Bytes)
		if f.Note != "" {
			line += "  " + f.Note
		}
		p.linef("%s", line)
	}
	return p.err
}
