package policy

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// ShadowConfig names a second policy, which is asked what it would decide, and decides nothing.
type ShadowConfig struct {
	Dir      string        `yaml:"dir" default:"" doc:"Folder of the shadow policy."`
	Data     string        `yaml:"data" default:"" doc:"JSON file that it reads as data; empty: data.json in its folder, if there is one."`
	Bundle   BundleConfig  `yaml:"bundle" doc:"An OPA bundle on a server, in place of the folder."`
	Share    float64       `yaml:"share" default:"1" doc:"Share of calls it is asked about, more than 0 and at most 1."`
	Deadline time.Duration `yaml:"deadline" default:"100ms" doc:"Processor time one of its decisions may take."`
}

func (c *ShadowConfig) on() bool { return c.Dir != "" || c.Bundle.URL != "" }

func (c *ShadowConfig) validate(p setting.Problems) {
	if !c.on() {
		if c.Data != "" {
			p.Addf("data", "is given without dir")
		}
		return
	}
	if !(c.Share > 0 && c.Share <= 1) { // NaN too
		p.Addf("share", "is %v: must be more than 0 and at most 1", c.Share)
	}
	if c.Deadline <= 0 || c.Deadline > maxDeadline {
		p.Addf("deadline", "is %v: must be more than 0 and at most %v", c.Deadline, maxDeadline)
	}
	if c.Bundle.URL != "" && (c.Dir != "" || c.Data != "") {
		p.Addf("bundle.url", "is given beside dir or data: a bundle takes the place of both")
	}
	c.Bundle.validate(p.In("bundle"))
}

// ForShadow is the configuration of the shadow policy: its own sources and deadline, topdown, whose turns can be
// kept apart from those of calls, and else what the policy has beside which it stands. It reports false when there
// is none.
func (c *Config) ForShadow() (*Config, bool) {
	s := *c
	s.Dir, s.Data, s.Bundle, s.Deadline = c.Shadow.Dir, c.Shadow.Data, c.Shadow.Bundle, c.Shadow.Deadline
	s.Shadow, s.Engine = ShadowConfig{}, engineTopdown
	return &s, c.Enabled && c.Shadow.on()
}

// A Shadow asks a second policy about calls that are decided already, one at a time and never while more than a few
// hundred wait, and counts and logs where it differs. It outlives reloads. A nil Shadow asks nobody.
type Shadow struct {
	log     *Log
	program *slog.Logger
	metrics *shadowMetrics
	queue   chan *question
	current atomic.Pointer[cast]
	calls   atomic.Uint64
	told    time.Time // when the last difference was told to the program's log; Run's own
	untold  int       // differences since
}

// A cast is a shadow policy beside the policy that it is compared with.
type cast struct {
	stage   *Stage
	share   float64
	pairing *pairing
}

// maxQuestions is how many calls may wait to be asked about.
const maxQuestions = 256

// NewShadow returns a Shadow that asks nobody until Put. Differences go to log, or to program where log writes
// nothing.
func NewShadow(log *Log, program *slog.Logger, reg prometheus.Registerer) *Shadow {
	return &Shadow{log: log, program: program, metrics: newShadowMetrics(reg), queue: make(chan *question, maxQuestions)}
}

// Put has e asked about a share of calls from now on, beside main, which decides; nil asks nobody. e is the
// Shadow's from here on.
func (s *Shadow) Put(e, main *Engine, share float64) {
	if e == nil || main == nil {
		s.current.Store(nil)
		return
	}
	e.queue = shadows
	s.cast(e.Stage(Env{Limits: true, Restore: true}), main, share)
}

// cast has stage asked beside main. The differences of two other policies are another count.
func (s *Shadow) cast(stage *Stage, main *Engine, share float64) {
	next := &cast{stage, share, newPairing(main, stage.engine)}
	if old := s.current.Load(); old != nil && old.pairing.names == next.pairing.names {
		next.pairing = old.pairing
	} else {
		s.metrics.differences.Reset()
	}
	s.current.Store(next)
}

// Beside notes that main decides from now on.
func (s *Shadow) Beside(main *Engine) {
	if now := s.current.Load(); now != nil {
		s.cast(now.stage, main, now.share)
	}
}

// A question is a call that the shadow policy is asked about.
type question struct {
	cast  *cast
	call  identity
	input ast.Object
	main  judgement
	said  string // the revision of what decided
}

// chosen reports whether this call is one of the share.
func (s *Shadow) chosen(share float64) bool {
	n := float64(s.calls.Add(1))
	return math.Floor(n*share) != math.Floor((n-1)*share)
}

// offer asks about c, if it is one of the share and there is room. All that the call waits for is that the part of
// its input is copied that the shadow policy reads.
func (s *Shadow) offer(c *pipeline.Call, a *answer, revision string) {
	if s == nil {
		return
	}
	now := s.current.Load()
	if now == nil || !s.chosen(now.share) {
		return
	}
	if len(s.queue) == cap(s.queue) {
		s.metrics.dropped.Inc()
		return
	}
	q := &question{cast: now, call: identityOf(c), input: now.stage.plan.build(a.facts), main: judgement{outcome: a.outcome, verdict: a.verdict}, said: revision}
	select {
	case s.queue <- q:
	default:
		s.metrics.dropped.Inc()
	}
}

// Run asks until ctx ends. It works at most half of the time, so that no more than half a processor is ever taken
// from calls.
func (s *Shadow) Run(ctx context.Context) error {
	owed := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-s.queue:
			start := time.Now()
			s.ask(ctx, q)
			owed += time.Since(start)
		}
		if owed > minRest {
			if pause(ctx, owed, nil) != nil {
				return nil
			}
			owed = 0
		}
	}
}

// minRest is what a rest is saved up to; timers are no finer.
const minRest = 2 * time.Millisecond

// ask evaluates the shadow policy and compares.
func (s *Shadow) ask(ctx context.Context, q *question) {
	start, stage := time.Now(), q.cast.stage
	a := &answer{outcome: decided}
	v, err := stage.judge(ctx, &pipeline.Call{Route: llm.Endpoint(q.call.route)}, q.input)
	if ctx.Err() != nil {
		return
	}
	if a.verdict = v; err != nil {
		v = stage.without(a, err)
	}
	to := &judgement{outcome: a.outcome, verdict: v}
	if a.failure != nil {
		to.err = a.failure.err
	}
	took := time.Since(start)
	s.metrics.asked(to.outcome, took)
	list := changed(&q.main, to)
	if len(list) == 0 {
		return
	}
	labels := q.cast.pairing.labels(&q.main, to)
	s.metrics.differences.WithLabelValues(labels[:]...).Inc()
	s.tell(q, to, list, took)
}

// tell logs one difference: the decision as it was made, and beside it the shadow's.
func (s *Shadow) tell(q *question, to *judgement, changed []string, took time.Duration) {
	d := &difference{Revision: q.cast.stage.engine.Revision(), Outcome: to.outcome, Result: resultOf(to.verdict), Changed: changed}
	if to.err != nil {
		d.Error = cut(to.err.Error(), maxString)
	}
	e := &entry{call: q.call, at: time.Now(), revision: q.said, outcome: q.main.outcome, verdict: q.main.verdict, took: took, shadow: d}
	if s.log.add(e) {
		return
	}
	if s.untold++; time.Since(s.told) < time.Second {
		return
	}
	s.program.Info("the shadow policy differs", "decision_id", q.call.decision, "changed", changed, "from", q.main.sort(), "to", to.sort(),
		"rule", q.main.verdict.Rule, "shadow_rule", to.verdict.Rule, "differences", s.untold)
	s.told, s.untold = time.Now(), 0
}
