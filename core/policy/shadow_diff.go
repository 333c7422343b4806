package policy

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A difference is what a shadow policy would have decided otherwise.
type difference struct {
	Revision string   `json:"revision"`
	Outcome  outcome  `json:"outcome"`
	Result   *result  `json:"result,omitempty"`
	Error    string   `json:"error,omitempty"`
	Changed  []string `json:"changed"` // members of the decision that differ
}

// changed lists what of the two decisions differs, as far as a call comes to feel it: not which rule it was, nor
// why, nor the tags for the log.
func changed(from, to *judgement) (list []string) {
	if from.outcome != to.outcome {
		return []string{"outcome"}
	}
	if from.outcome != decided {
		return nil
	}
	a, b := from.verdict, to.verdict
	for _, m := range []struct {
		name     string
		from, to any
	}{
		{"action", a.Action, b.Action},
		{"targets", unmasked(a.Targets), unmasked(b.Targets)},
		{"set", a.Set, b.Set},
		{"headers", a.Headers, b.Headers},
		{"mask", []any{a.Mask, masksOf(a)}, []any{b.Mask, masksOf(b)}},
		{"limits", a.Limits, b.Limits},
		{"deny", a.Deny, b.Deny},
		{"deny.retry_after", a.retry, b.retry},
		{"respond", a.text, b.text},
	} {
		if !equal(m.from, m.to) {
			list = append(list, m.name)
		}
	}
	return list
}

// unmasked are targets without their masks, which are told apart.
func unmasked(targets []pipeline.Target) []pipeline.Target {
	list := slices.Clone(targets)
	for i := range list {
		list[i].Mask = ""
	}
	return list
}

// equal is equality in which nothing and an empty list are one.
func equal(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	switch x.Kind() {
	case reflect.Slice, reflect.Map:
		if x.Len() == 0 && y.Len() == 0 {
			return true
		}
	}
	return reflect.DeepEqual(a, b)
}

// A judgement is one policy's answer, as it is compared.
type judgement struct {
	outcome outcome
	verdict *verdict
	err     error // why there is no decision
}

// sort puts a judgement among a few kinds, for counting: its action with the pool that comes first, or its outcome.
func (j *judgement) sort() string {
	switch {
	case j.outcome != decided:
		return string(j.outcome)
	case len(j.verdict.Targets) > 0:
		return string(j.verdict.Action) + " " + j.verdict.Targets[0].Pool
	}
	return string(j.verdict.Action)
}

// ruleNames are the names that decisions of e may give as their rule, as the library makes them.
func ruleNames(e *Engine) map[string]bool {
	names := map[string]bool{"default": true, "": true}
	for _, o := range []outcome{undefined, conflict, timeout, failed, misshapen} {
		names["on_"+string(o)] = true
	}
	for _, m := range e.compiler.Modules {
		path := m.Package.Path
		kind, _ := path[len(path)-1].Value.(ast.String)
		for _, r := range m.Rules {
			if name, ok := strings.CutPrefix(r.Ref().String(), path.String()+"."); ok {
				names[string(kind)+"."+name] = true
			}
		}
	}
	return names
}

// A pairing names differences by labels from closed sets, for two policies. Beyond a number of them, and for rules
// that neither policy has, it says "other": a policy may make up any name.
type pairing struct {
	names string // of the two policies
	rules map[string]bool
	mu    sync.Mutex
	seen  map[[3]string]bool
}

const (
	maxPairs = 100 // combinations of labels
	other    = "other"
)

func newPairing(a, b *Engine) *pairing {
	p := &pairing{names: a.hash + " " + b.hash, rules: ruleNames(a), seen: map[[3]string]bool{}}
	maps.Copy(p.rules, ruleNames(b))
	return p
}

// labels are those of one difference: from, to, and the rule that made it, which is the shadow's if it has one.
func (p *pairing) labels(from, to *judgement) [3]string {
	rule := from.verdict.Rule
	if to.outcome == decided && to.verdict.Rule != "" && to.verdict.Rule != "default" {
		rule = to.verdict.Rule
	}
	if !p.rules[rule] {
		rule = other
	}
	l := [3]string{from.sort(), to.sort(), rule}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.seen[l] {
		if len(p.seen) >= maxPairs {
			return [3]string{other, other, other}
		}
		p.seen[l] = true
	}
	return l
}
