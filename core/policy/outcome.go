package policy

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A verdict is a decision with what only this stage needs of it.
type verdict struct {
	pipeline.Decision
	matched  []string      // every rule that claimed the call
	conflict []string      // rules that claim it with equal priority; alone when set
	retry    time.Duration // for a denial
	text     string        // for a response
}

// decide evaluates the policy for c, counts and logs what came of it, and applies the failure rules.
// The error is a refusal, or the context's own.
func (s *Stage) decide(ctx context.Context, c *pipeline.Call) (*verdict, error) {
	start := time.Now()
	a := &answer{facts: s.facts(c), outcome: decided}
	v, err := s.ask(ctx, c, a)
	if err != nil && ctx.Err() != nil {
		return nil, err // the caller left: nothing was decided
	}
	a.verdict, a.took = v, time.Since(start)
	if err != nil {
		v = s.without(a, err)
	}
	v.ID, v.Revision = c.ID, s.engine.Revision()
	s.record(c, a)
	if a.failure == nil || v.Action == pipeline.Allow {
		return v, nil
	}
	c.Decision = v.Decision
	return nil, v.failed(a.failure)
}

// An answer is what came of asking the policy about one call.
type answer struct {
	facts   *facts
	input   ast.Object
	outcome outcome
	verdict *verdict
	failure *failure // nil: decided
	took    time.Duration
}

// without is the verdict of the failure rule, where there is no decision.
func (s *Stage) without(a *answer, err error) *verdict {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{failed, err}
	}
	v := &verdict{Decision: pipeline.Decision{Action: pipeline.Allow, Rule: "on_" + string(f.outcome)}}
	if s.engine.cfg.rule(f.outcome) != string(pipeline.Allow) {
		v.Action = pipeline.DenyIt
	}
	a.failure, a.outcome, a.verdict = f, f.outcome, v
	if f.outcome == timeout {
		a.input = nil // an evaluation that was given up may still read it
	}
	return v
}

// record counts what came of an evaluation, logs it, and has the shadow policy asked the same.
func (s *Stage) record(c *pipeline.Call, a *answer) {
	s.env.Metrics.decided(a.outcome, a.verdict.Action, a.took)
	s.env.Shadow.offer(c, a, s.engine.Revision())
	if s.env.Log == nil {
		return
	}
	e := &entry{
		call: identityOf(c), at: time.Now(), revision: s.engine.Revision(),
		outcome: a.outcome, verdict: a.verdict, took: a.took,
	}
	if a.failure != nil {
		e.err = a.failure.err
	}
	if s.env.Log.wantsInput() {
		if e.input = a.input; e.input == nil {
			e.input = s.plan.build(a.facts)
		}
	}
	s.env.Log.add(e)
}

// ask has the policy decide for c: in Wasm where it is compiled to that, else, or in doubt, in topdown, within what is
// left of the deadline.
func (s *Stage) ask(ctx context.Context, c *pipeline.Call, a *answer) (*verdict, error) {
	within := s.engine.cfg.Deadline
	if w := s.engine.lane; w != nil {
		v, err := w.decide(ctx, s.plan, a.facts, s.engine.pools)
		if err == nil {
			s.env.Metrics.evaluated(engineWasm)
			own := *v // others share it
			return s.fits(&own, c)
		}
		if err != errDoubt {
			s.env.Metrics.evaluated(engineWasm)
			return nil, err
		}
		within = a.facts.left(within)
	}
	s.env.Metrics.evaluated(engineTopdown)
	a.input = s.plan.build(a.facts)
	return s.judgeWithin(ctx, c, a.input, within)
}

// left is what Wasm has left of a deadline: what it spent on the call itself is off, a wait for an instance is not.
func (f *facts) left(deadline time.Duration) time.Duration {
	if f.began.IsZero() {
		return deadline
	}
	return max(deadline-time.Since(f.began), deadline/8)
}

// judge evaluates in topdown, and checks what came of it. Rules in conflict come with the failure.
func (s *Stage) judge(ctx context.Context, c *pipeline.Call, input ast.Object) (*verdict, error) {
	return s.judgeWithin(ctx, c, input, s.engine.cfg.Deadline)
}

func (s *Stage) judgeWithin(ctx context.Context, c *pipeline.Call, input ast.Object, deadline time.Duration) (*verdict, error) {
	value, err := s.engine.evaluateWithin(ctx, input, deadline)
	if err != nil {
		return nil, err
	}
	v, err := check(value, s.engine.pools)
	if err != nil {
		return nil, &failure{misshapen, err}
	}
	return s.fits(v, c)
}

// fits checks that v is a decision for c, and one that this gateway can carry out.
func (s *Stage) fits(v *verdict, c *pipeline.Call) (*verdict, error) {
	if v.conflict != nil {
		return v, fail(conflict, "rules %v claim the call with equal priority", v.conflict)
	}
	switch {
	case v.Action == pipeline.Respond && !c.Route.Answers():
		return nil, fail(misshapen, "action respond answers chat and text completions only, not %s", c.Route)
	case len(v.Limits) > 0 && !s.env.Limits:
		return nil, fail(misshapen, "limits: this gateway enforces no quota that a decision lays on a call")
	case v.Mask.Restore && !s.env.Restore:
		return nil, fail(misshapen, "mask.restore: this gateway restores nothing")
	}
	return v, nil
}

// rule is the failure rule for o.
func (c *Config) rule(o outcome) string {
	switch o {
	case undefined:
		return c.OnUndefined
	case conflict:
		return c.OnConflict
	case timeout:
		return c.OnTimeout
	case misshapen:
		return c.OnSchema
	}
	return c.OnError
}

// failed is the refusal where there is no decision. The caller learns that, and a number to ask about: whether
// the policy is silent, broken or slow is nobody's business outside, and no status of a broken server lets a
// caller make a load balancer believe that this one is.
func (v *verdict) failed(f *failure) *pipeline.Refusal {
	r := v.refused()
	r.Code = "policy_no_decision"
	r.Err = f
	r.Reason = "The gateway's policy gave no decision on this request" + v.number()
	return r
}

// refusal is the denial that v decides.
func (v *verdict) refusal() *pipeline.Refusal {
	r := v.refused()
	r.Status, r.Code, r.Reason, r.Retry = v.Deny.Status, v.Deny.Code, v.Deny.Message, v.retry
	if r.Code == "" {
		r.Code = "policy_denied"
	}
	if r.Reason == "" {
		r.Reason = "This request is not allowed by the gateway's policy" + v.number()
	}
	if v.retry > 0 {
		delete(r.Header, shouldRetry)
		r.Header["Retry-After"] = strconv.Itoa(int(math.Ceil(v.retry.Seconds())))
	}
	for name, value := range v.Headers {
		r.Header[name] = value
	}
	r.Err = errors.New("rule " + v.Rule + ": " + v.Reason)
	return r
}

// shouldRetry tells OpenAI's clients not to try again what will be decided the same way.
const shouldRetry = "X-Should-Retry"

func (v *verdict) refused() *pipeline.Refusal {
	header := map[string]string{shouldRetry: "false"}
	if v.ID != "" {
		header["X-Nexus-Decision-Id"] = v.ID
	}
	return &pipeline.Refusal{Kind: pipeline.Forbidden, Stage: "policy", Header: header}
}

func (v *verdict) number() string {
	if v.ID == "" {
		return "."
	}
	return " (decision " + v.ID + ")."
}
