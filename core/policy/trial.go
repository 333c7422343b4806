package policy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A Trial asks a policy by hand, by the code that the stage asks it with, for tests and command lines. It may be used by
// many at once and holds nothing that must be closed.
type Trial struct {
	engine *Engine
	stage  *Stage
}

// OpenTrial compiles src. Where cfg lists no headers, the policy may read any.
func OpenTrial(ctx context.Context, src Sources, cfg Config) (*Trial, error) {
	f, err := src.read()
	if err != nil {
		return nil, err
	}
	return openTrial(ctx, f, cfg)
}

// openTrial asks by topdown, which every policy can be evaluated by and which can be traced: both engines come to the same.
func openTrial(ctx context.Context, f *files, cfg Config) (*Trial, error) {
	return openTrialBy(ctx, f, cfg, engineTopdown)
}

// OpenTrialBy compiles src as OpenTrial does, for the engine that cfg names: topdown where it names none.
func OpenTrialBy(ctx context.Context, src Sources, cfg Config) (*Trial, error) {
	f, err := src.read()
	if err != nil {
		return nil, err
	}
	return openTrialBy(ctx, f, cfg, cfg.Engine)
}

func openTrialBy(ctx context.Context, f *files, cfg Config, engine string) (*Trial, error) {
	cfg.Engine = engine
	cfg.anyHeader = cfg.Headers == nil
	cfg.Deadline = maxDeadline // a command is no gateway: its machine may be busy with something else
	e, err := new(Compiler).compile(ctx, f, cfg)
	if err != nil {
		return nil, err
	}
	return &Trial{engine: e, stage: e.Stage(Env{Limits: true, Restore: true})}, nil
}

// Engine is what the trial asks.
func (t *Trial) Engine() *Engine { return t.engine }

// Input is what the gateway would build of c.
func (t *Trial) Input(c *pipeline.Call) Input {
	s := t.stage
	if t.engine.cfg.anyHeader {
		s = t.engine.Stage(s.env)
		s.headers = nil
		for name := range c.Header {
			if lower := strings.ToLower(name); !slices.Contains(secretHeaders, lower) {
				s.headers = append(s.headers, header{name, lower})
			}
		}
	}
	return Input{s.plan.build(s.facts(c)), c.Route}
}

// A Result is what came of one decision.
type Result struct {
	Outcome  string         `json:"outcome"`            // decision, undefined, conflict, timeout, error or schema
	Error    string         `json:"error,omitempty"`    // why there is no decision
	Action   string         `json:"action"`             // allow, deny or respond, by the failure rule where there is no decision
	Decision map[string]any `json:"decision,omitempty"` // as decision.schema.json words it
	Took     time.Duration  `json:"-"`
}

// Rule is the rule that decided; where none did, the failure rule.
func (r *Result) Rule() string {
	if rule, ok := r.Decision["rule"].(string); ok {
		return rule
	}
	if r.Outcome == string(decided) {
		return ""
	}
	return "on_" + r.Outcome
}

// Targets are the pools of the decision, in order.
func (r *Result) Targets() []string {
	list, _ := r.Decision["targets"].([]any)
	var pools []string
	for _, one := range list {
		if target, ok := one.(map[string]any); ok { // one with a mask of its own
			one = target["pool"]
		}
		pools = append(pools, one.(string))
	}
	return pools
}

// Decide asks for the decision. Its error is the context's.
func (t *Trial) Decide(ctx context.Context, in Input) (*Result, error) {
	r, _, err := t.ask(ctx, in)
	return r, err
}

// ask decides; the verdict is nil where there is no decision, unless that is for a conflict.
func (t *Trial) ask(ctx context.Context, in Input) (*Result, *verdict, error) {
	start := time.Now()
	v, err := t.judge(ctx, in)
	if err != nil && ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	r := &Result{Outcome: string(decided), Took: time.Since(start)}
	if v != nil {
		r.Decision = v.document()
	}
	if err == nil {
		r.Action = string(v.Action)
		return r, v, nil
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{failed, err}
	}
	r.Outcome, r.Error, r.Action = string(f.outcome), f.err.Error(), t.engine.cfg.rule(f.outcome)
	return r, v, nil
}

// judge decides as the stage does for a call: in Wasm, if the trial has it and the input is one that a call may have.
func (t *Trial) judge(ctx context.Context, in Input) (*verdict, error) {
	c := &pipeline.Call{Route: in.route}
	if p, ok := in.plan(); ok && t.engine.lane != nil {
		s := *t.stage
		s.plan = p
		return s.ask(ctx, c, &answer{facts: &facts{}})
	}
	return t.stage.judge(ctx, c, in.object)
}

// document is v as decision.schema.json words it, without what says nothing; a test compares the two.
func (v *verdict) document() map[string]any {
	d := map[string]any{}
	put := func(into map[string]any, name string, value any, given bool) {
		if given {
			into[name] = value
		}
	}
	section := func(name string, fill func(map[string]any)) {
		m := map[string]any{}
		fill(m)
		put(d, name, m, len(m) > 0)
	}
	put(d, "action", string(v.Action), v.Action != "")
	put(d, "rule", v.Rule, v.Rule != "")
	put(d, "reason", v.Reason, v.Reason != "")
	put(d, "matched", anys(slices.Sorted(slices.Values(v.matched))), v.matched != nil)
	put(d, "conflict", anys(v.conflict), v.conflict != nil)
	put(d, "headers", pairsOf(v.Headers), len(v.Headers) > 0)
	put(d, "tags", pairsOf(v.Tags), len(v.Tags) > 0)
	put(d, "limits", limitsOf(v.Limits), len(v.Limits) > 0)
	v.documentTargets(d)
	section("set", func(m map[string]any) {
		put(m, "model", v.Set.Model, v.Set.Model != "")
		put(m, "max_tokens", v.Set.MaxTokens, v.Set.MaxTokens != 0)
	})
	section("mask", func(m map[string]any) {
		put(m, "profile", v.Mask.Profile, v.Mask.Profile != "")
		put(m, "restore", true, v.Mask.Restore)
	})
	section("deny", func(m map[string]any) {
		put(m, "status", int64(v.Deny.Status), v.Deny.Status != 0)
		put(m, "code", v.Deny.Code, v.Deny.Code != "")
		put(m, "message", v.Deny.Message, v.Deny.Message != "")
		put(m, "retry_after", v.retry.Seconds(), v.retry != 0)
	})
	section("respond", func(m map[string]any) { put(m, "text", v.text, v.Action == pipeline.Respond) })
	return d
}

func (v *verdict) documentTargets(d map[string]any) {
	pools, weights := []any{}, map[string]any{}
	for _, t := range v.Targets {
		if t.Mask == "" {
			pools = append(pools, t.Pool)
		} else {
			pools = append(pools, map[string]any{"pool": t.Pool, "mask": t.Mask})
		}
		if t.Weight != 0 {
			weights[t.Pool] = int64(t.Weight)
		}
	}
	if len(pools) > 0 {
		d["targets"] = pools
	}
	if len(weights) > 0 {
		d["weights"] = weights
	}
}

func anys(words []string) []any {
	list := make([]any, len(words))
	for i, w := range words {
		list[i] = w
	}
	return list
}

func pairsOf(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func limitsOf(limits []pipeline.Limit) []any {
	var list []any
	for _, l := range limits {
		m := map[string]any{"key": l.Key}
		if l.Requests != 0 {
			m["requests"] = l.Requests
		}
		if l.Tokens != 0 {
			m["tokens"] = l.Tokens
		}
		list = append(list, m)
	}
	return list
}
