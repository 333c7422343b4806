package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A Replay decides recorded inputs again, by another policy, and counts what becomes different. It serves one goroutine.
type Replay struct {
	Trial  *Trial           // the policy that decides
	Prices map[string]Price // of pools; nil: not known
	Shown  int              // examples of each move that are kept
	report ReplayReport
	moves  map[[2]string]*Move
	pools  map[[2]string]int
	who    map[string]*TenantFlips
	lacks  map[string]int
}

// A Price is what a million tokens cost in a pool, in the operator's unit.
type Price struct{ Input, Output float64 }

// A ReplayReport is what a replay came to.
type ReplayReport struct {
	Tally
	Engine    string        `json:"engine"`                // that decided: wasm, which leaves single ones to topdown, or topdown
	NoWasm    string        `json:"why_topdown,omitempty"` // why not wasm, if that might have been
	Decided   int           `json:"decided"`
	Flips     int           `json:"flips"`    // what becomes of the call differs
	Renamed   int           `json:"renamed"`  // another rule decides the same
	NoInput   int           `json:"no_input"` // were logged without input
	Lacking   []Lack        `json:"lacking"`  // could not be decided: the policy reads what was not recorded
	Rules     []Move        `json:"rules"`
	Pools     []Move        `json:"pools"`
	Tenants   []TenantFlips `json:"tenants"`
	Before    Spending      `json:"before"`
	After     Spending      `json:"after"`
	Estimated int           `json:"estimated"` // decisions whose tokens are an estimate
	Untold    int           `json:"untold"`    // decisions of whose tokens nothing is known
	Unpriced  []string      `json:"unpriced"`  // pools without a price; nil without a configuration
}

// A Lack is a path of the input that the policy reads and records do not have.
type Lack struct {
	Path  string `json:"path"`
	Count int    `json:"count"`
}

// A Move is how many decisions went from one to another.
type Move struct {
	From     string    `json:"from"`
	To       string    `json:"to"`
	Count    int       `json:"count"`
	Examples []Example `json:"examples,omitempty"`
}

// An Example is one decision that flips.
type Example struct {
	DecisionID string   `json:"decision_id"`
	Tenant     string   `json:"tenant,omitempty"`
	Changed    []string `json:"changed"` // members of the decision that differ
	Error      string   `json:"error,omitempty"`
}

// TenantFlips are the flips of one tenant.
type TenantFlips struct {
	Tenant  string `json:"tenant"`
	Decided int    `json:"decided"`
	Flips   int    `json:"flips"`
}

// Spending is what calls used and cost, or would.
type Spending struct {
	Calls  int     `json:"calls"` // that were allowed
	Prompt int64   `json:"tokens_in"`
	Answer int64   `json:"tokens_out"`
	Cost   float64 `json:"cost"` // in the operator's unit; of pools that have a price
}

// Decide decides r again.
func (p *Replay) Decide(ctx context.Context, r *Recorded) error {
	if p.moves == nil {
		p.moves, p.pools, p.who, p.lacks = map[[2]string]*Move{}, map[[2]string]int{}, map[string]*TenantFlips{}, map[string]int{}
	}
	if r.Input == nil {
		p.report.NoInput++
		return nil
	}
	if path := p.Trial.lacks(r); path != "" {
		p.lacks[path]++
		return nil
	}
	in, err := r.input()
	if err != nil {
		return err
	}
	now, result, err := p.Trial.result(ctx, in)
	if err != nil {
		return err
	}
	p.count(r, now, result)
	return nil
}

// result is what is decided on in, as the decision log would tell it.
func (t *Trial) result(ctx context.Context, in Input) (*Result, *result, error) {
	r, v, err := t.ask(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	if r.Outcome != string(decided) {
		return r, &result{Action: pipeline.Action(r.Action), Rule: r.Rule()}, nil
	}
	return r, resultOf(v), nil
}

func (p *Replay) count(r *Recorded, now *Result, new *result) {
	p.report.Decided++
	who := p.who[r.Tenant]
	if who == nil {
		who = &TenantFlips{Tenant: r.Tenant}
		p.who[r.Tenant] = who
	}
	who.Decided++
	p.spend(r, new)
	changed := changes(r.Result, new)
	if len(changed) == 0 {
		if r.Result.Rule != new.Rule {
			p.report.Renamed++
		}
		return
	}
	who.Flips++
	p.report.Flips++
	key := [2]string{ruleOf(r.Result), ruleOf(new)}
	move := p.moves[key]
	if move == nil {
		move = &Move{From: key[0], To: key[1]}
		p.moves[key] = move
	}
	move.Count++
	if len(move.Examples) < p.Shown {
		move.Examples = append(move.Examples, Example{r.DecisionID, r.Tenant, changed, now.Error})
	}
	p.pools[[2]string{placeOf(r.Result), placeOf(new)}]++
}

// changes are the members that say what becomes of a call, and differ.
func changes(a, b *result) (list []string) {
	for _, m := range []struct {
		name string
		same bool
	}{
		{"action", a.Action == b.Action},
		{"targets", slices.Equal(a.Targets, b.Targets)},
		{"set", reflect.DeepEqual(a.Set, b.Set)},
		{"mask", reflect.DeepEqual(a.Mask, b.Mask) && maps.Equal(a.Masks, b.Masks)},
		{"limits", slices.Equal(a.Limits, b.Limits)},
		{"deny", reflect.DeepEqual(a.Deny, b.Deny)},
	} {
		if !m.same {
			list = append(list, m.name)
		}
	}
	return list
}

func ruleOf(r *result) string { return cmp.Or(r.Rule, "no rule") }

// placeOf is where a decision sends its call: its first pool, or what else becomes of it.
func placeOf(r *result) string {
	switch {
	case r.Action != "allow":
		return "(" + string(r.Action) + ")"
	case len(r.Targets) == 0:
		return "(the model's)"
	}
	return r.Targets[0]
}

// spend adds what the call used, and what it would use. A call that was denied used nothing; what it would use, were it
// allowed now, is estimated by its prompt.
func (p *Replay) spend(r *Recorded, new *result) {
	prompt, answer, told := int64(0), int64(0), false
	if u := r.Used; u != nil && r.Result.Action == "allow" {
		prompt, answer, told = u.Prompt, u.Answer, true
	} else if n, ok := number64At(r.Input, "prompt", "tokens_est"); ok {
		prompt, told = int64(n), true
		p.report.Estimated++
		if n, ok := number64At(r.Input, "request", "max_tokens"); ok {
			answer = int64(n)
		}
	}
	if !told {
		p.report.Untold++
	}
	was := ""
	if r.Used != nil {
		was = r.Used.Pool
	}
	p.add(&p.report.Before, r.Result, was, prompt, answer)
	p.add(&p.report.After, new, was, prompt, answer)
}

// add counts one call that is allowed. used is the pool that answered it, which stands for the pools of its model.
func (p *Replay) add(s *Spending, r *result, used string, prompt, answer int64) {
	if r.Action != "allow" {
		return
	}
	if r.Set != nil && r.Set.MaxTokens > 0 {
		answer = min(answer, r.Set.MaxTokens)
	}
	s.Calls, s.Prompt, s.Answer = s.Calls+1, s.Prompt+prompt, s.Answer+answer
	if p.Prices == nil {
		return
	}
	pool := used
	if len(r.Targets) > 0 && !slices.Contains(r.Targets, used) {
		pool = r.Targets[0]
	}
	price, ok := p.Prices[pool]
	if !ok {
		if name := cmp.Or(pool, "(the model's)"); !slices.Contains(p.report.Unpriced, name) {
			p.report.Unpriced = append(p.report.Unpriced, name)
		}
		return
	}
	s.Cost += (price.Input*float64(prompt) + price.Output*float64(answer)) / 1e6
}

func number64At(document map[string]any, group, name string) (float64, bool) {
	members, _ := document[group].(map[string]any)
	n, ok := members[name].(json.Number)
	if !ok {
		return 0, false
	}
	x, err := n.Float64()
	return x, err == nil
}

// Report is what came of it so far; t is what the records' reader counted.
func (p *Replay) Report(t Tally) *ReplayReport {
	r := p.report
	r.Tally, r.Lacking, r.Rules, r.Pools, r.Tenants = t, []Lack{}, []Move{}, []Move{}, []TenantFlips{}
	for _, path := range slices.Sorted(maps.Keys(p.lacks)) {
		r.Lacking = append(r.Lacking, Lack{path, p.lacks[path]})
	}
	for _, m := range p.moves {
		r.Rules = append(r.Rules, *m)
	}
	for key, n := range p.pools {
		r.Pools = append(r.Pools, Move{From: key[0], To: key[1], Count: n})
	}
	for _, who := range p.who {
		r.Tenants = append(r.Tenants, *who)
	}
	r.Engine, r.NoWasm = p.Trial.engine.Engine()
	slices.Sort(r.Unpriced)
	most := func(a, b Move) int {
		return cmp.Or(b.Count-a.Count, strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	}
	slices.SortFunc(r.Rules, most)
	slices.SortFunc(r.Pools, most)
	slices.SortFunc(r.Tenants, func(a, b TenantFlips) int { return cmp.Or(b.Flips-a.Flips, strings.Compare(a.Tenant, b.Tenant)) })
	return &r
}
