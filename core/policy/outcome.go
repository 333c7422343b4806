package policy

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/llm"
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
	v, err := s.ask(ctx, c)
	if err != nil && ctx.Err() != nil {
		return nil, err // the caller left: nothing was decided
	}
	took := time.Since(start)
	if err == nil {
		s.record(c, decided, v, nil, took)
		return v, nil
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{failed, err}
	}
	v = &verdict{Decision: pipeline.Decision{ID: c.ID, Action: pipeline.Allow, Rule: "on_" + string(f.outcome)}}
	if s.engine.cfg.rule(f.outcome) != string(pipeline.Allow) {
		v.Action = pipeline.DenyIt
	}
	s.record(c, f.outcome, v, f.err, took)
	if v.Action == pipeline.Allow {
		return v, nil
	}
	c.Decision = v.Decision
	return nil, v.failed(f)
}

// ask builds the input, evaluates and checks.
func (s *Stage) ask(ctx context.Context, c *pipeline.Call) (*verdict, error) {
	v, err := s.judge(ctx, s.plan.build(s.facts(c)), c.Route)
	if err != nil {
		return nil, err
	}
	v.ID = c.ID
	return v, nil
}

// judge evaluates input and checks what comes of it. Stages and commands decide by it, so that they agree.
func (s *Stage) judge(ctx context.Context, input ast.Object, route llm.Endpoint) (*verdict, error) {
	value, err := s.engine.evaluate(ctx, input)
	if err != nil {
		return nil, err
	}
	v, err := check(value, s.engine.pools)
	if err != nil {
		return nil, &failure{misshapen, err}
	}
	if v.conflict != nil {
		return nil, fail(conflict, "rules %v claim the call with equal priority", v.conflict)
	}
	switch {
	case v.Action == pipeline.Respond && route != llm.Chat:
		return nil, fail(misshapen, "action respond answers chat completions only, not %s", route)
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

// failed is the refusal where there is no decision. The caller learns that, and a number to ask about.
func (v *verdict) failed(f *failure) *pipeline.Refusal {
	r := v.refused()
	r.Code = "policy_" + string(f.outcome)
	r.Err = f
	if f.outcome == timeout {
		r.Kind = pipeline.Unavailable
	}
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
