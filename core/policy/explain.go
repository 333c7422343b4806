package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// An Explanation says why a decision is what it is: what every rule that might have claimed the call came to.
type Explanation struct {
	Result
	Rules []RuleStory `json:"rules"`
	Used  *Use        `json:"used,omitempty"`  // what the call came to, where a log tells
	Notes []string    `json:"notes,omitempty"` // in which way the explanation may not be that of the decision
	told  *result     // the decision, as the log would tell it
}

// A RuleStory is what one rule came to.
type RuleStory struct {
	Rule    string          `json:"rule"` // as a decision names it: routes.local
	Matched bool            `json:"matched"`
	File    string          `json:"file"` // where it matched; else where its first definition stands
	Line    int             `json:"line"`
	Claim   json.RawMessage `json:"claim,omitempty"`  // its value
	Error   string          `json:"error,omitempty"`  // a builtin that failed
	Misses  []Miss          `json:"misses,omitempty"` // why each of its definitions did not match
}

// A Miss is the first expression that did not hold.
type Miss struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Text    string `json:"text"`   // as the policy writes it
	Values  []Fact `json:"values"` // of what stands in it
	Because []Miss `json:"because,omitempty"`
}

// A Fact is what something in an expression was.
type Fact struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"` // null: undefined
}

// Explain decides, and evaluates every candidate once more to see why. It costs several times a decision; nothing of it
// is paid where it is not called.
func (t *Trial) Explain(ctx context.Context, in Input) (*Explanation, error) {
	r, told, err := t.result(ctx, in)
	if err != nil {
		return nil, err
	}
	e := &Explanation{Result: *r, Rules: []RuleStory{}, told: told}
	for _, claim := range t.engine.claims {
		story, err := t.story(ctx, in, claim)
		if err != nil {
			return nil, err
		}
		e.Rules = append(e.Rules, story)
	}
	return e, nil
}

// why says on further lines why the rule that was expected did not match; empty when it did, or is none.
func (t *Trial) why(ctx context.Context, in Input, rule any) string {
	for _, claim := range t.engine.claims {
		if claim.path.String() != fmt.Sprintf("data.nexus.%v", rule) {
			continue
		}
		story, err := t.story(ctx, in, claim)
		if err != nil || story.Matched {
			return ""
		}
		var b strings.Builder
		p := &printer{w: &b}
		for _, m := range story.Misses {
			m.print(p, "  ")
		}
		return "\n" + strings.TrimRight(b.String(), "\n")
	}
	return ""
}

// A claim asks for the value of a rule that may claim a call, alone.
type claim struct {
	path  ast.Ref
	query ast.Body
}

// claimsOf compiles what asks for each candidate, once: whoever explains a call must not wait until what else is
// being compiled is done.
func claimsOf(c *ast.Compiler) (list []claim, err error) {
	for _, path := range candidates(c) {
		query, err := c.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.VarTerm("claim"), ast.NewTerm(path))))
		if err != nil {
			return nil, err
		}
		list = append(list, claim{path, query})
	}
	return list, nil
}

// candidates are the rules that may claim a call, in the order of the packages and then of names. Where a folder has
// replaced the library, they are its rules that stand alone.
func candidates(c *ast.Compiler) (paths []ast.Ref) {
	library := usesLibrary(c)
	for _, m := range c.Modules {
		path := m.Package.Path
		kind := ""
		if len(path) == 3 && path[1].Equal(ast.StringTerm("nexus")) {
			s, _ := path[2].Value.(ast.String)
			kind = string(s)
		}
		if library && !slices.Contains(claims, kind) || !library && !path.HasPrefix(nexusRef) {
			continue
		}
		for _, rule := range m.Rules {
			if ref := rule.Ref(); len(rule.Head.Args) == 0 && len(ref) == len(path)+1 && !isHelper(ref) {
				paths = append(paths, ref)
			}
		}
	}
	slices.SortFunc(paths, func(a, b ast.Ref) int {
		if c := slices.Index(claims, nameAt(a, 2)) - slices.Index(claims, nameAt(b, 2)); c != 0 {
			return c
		}
		return strings.Compare(a.String(), b.String())
	})
	return slices.CompactFunc(paths, func(a, b ast.Ref) bool { return a.Equal(b) })
}

var nexusRef = ast.MustParseRef("data.nexus")

func isHelper(ref ast.Ref) bool { return strings.HasPrefix(nameAt(ref, len(ref)-1), "_") }

func nameAt(ref ast.Ref, i int) string {
	s, _ := ref[i].Value.(ast.String)
	return string(s)
}

// story evaluates the rule of one claim alone.
func (t *Trial) story(ctx context.Context, in Input, claim claim) (RuleStory, error) {
	s := RuleStory{Rule: strings.TrimPrefix(claim.path.String(), "data.nexus.")}
	if rules := t.engine.compiler.GetRulesExact(claim.path); len(rules) > 0 {
		s.File, s.Line = rules[0].Location.File, rules[0].Location.Row
	}
	k := &tracker{input: in.object, frames: map[uint64]*frame{}}
	err := t.run(ctx, t.query(in, claim.query, k).WithIndexing(false), func(r topdown.QueryResult) (err error) {
		s.Matched = true
		s.Claim, err = jsonOf(r[ast.Var("claim")])
		return err
	})
	if ctx.Err() != nil {
		return s, ctx.Err()
	}
	if err != nil {
		s.Error = err.Error()
	}
	for _, f := range k.tops {
		switch {
		case f.held && s.Matched:
			s.File, s.Line = f.at.File, f.at.Row
		case !s.Matched:
			s.Misses = append(s.Misses, f.misses()...)
		}
	}
	return s, nil
}

// trace lets tracer see how the decision comes about.
func (t *Trial) trace(ctx context.Context, in Input, tracer topdown.QueryTracer) error {
	_ = t.run(ctx, t.query(in, t.engine.query, tracer), func(topdown.QueryResult) error { return nil })
	return ctx.Err()
}

// query asks body about in, past all that is remembered from call to call.
func (t *Trial) query(in Input, body ast.Body, tracer topdown.QueryTracer) *topdown.Query {
	p := t.engine.prepared
	return topdown.NewQuery(body).
		WithCompiler(p.compiler).
		WithStore(p.store).
		WithTransaction(p.txn).
		WithInput(ast.NewTerm(in.object)).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true).
		WithSeed(noSeed{}).
		WithQueryTracer(tracer)
}

// run evaluates q within explainTime.
func (t *Trial) run(ctx context.Context, q *topdown.Query, each func(topdown.QueryResult) error) error {
	cancel := topdown.NewCancel()
	defer time.AfterFunc(explainTime, cancel.Cancel).Stop()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	return q.WithCancel(cancel).Iter(ctx, each)
}

// explainTime bounds what a rule is looked at for: a tracer makes an evaluation many times slower.
const explainTime = 5 * time.Second

func jsonOf(t *ast.Term) (json.RawMessage, error) {
	v, err := ast.JSON(t.Value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// ErrNoInput is the error of a decision that was logged without its input.
var ErrNoInput = errors.New("policy: the decision was logged without its input")

// ExplainRecorded explains a decision of the log: by the policy of t, which need not be the one that decided.
func (t *Trial) ExplainRecorded(ctx context.Context, r *Recorded) (*Explanation, error) {
	if r.Input == nil {
		return nil, ErrNoInput
	}
	in, err := r.input()
	if err != nil {
		return nil, err
	}
	e, err := t.Explain(ctx, in)
	if err != nil {
		return nil, err
	}
	e.Used = r.Used
	if r.Revision != "" && r.Revision != t.engine.Revision() {
		e.Notes = append(e.Notes, fmt.Sprintf("the decision was made by revision %s; this is revision %s", r.Revision, t.engine.Revision()))
	}
	if changed := changes(r.Result, e.told); len(changed) > 0 || r.Result.Rule != e.told.Rule {
		e.Notes = append(e.Notes, fmt.Sprintf("the decision was %s by %s", r.Result.Action, ruleOf(r.Result)))
	}
	if path := t.lacks(r); path != "" {
		e.Notes = append(e.Notes, "the log does not have "+path+", which the policy reads: rules that do may look as if they had failed")
	}
	return e, nil
}
