package policy

import (
	"context"
	"strings"
	"testing"
)

const explained = `package nexus.routes

import data.routing

compare := {"targets": ["x"]} if input.budget.used_ratio > 0.9

some_of := {"targets": ["x"]} if {
	some kind in input.pii.kinds
	kind in routing.kinds
}

label := _claim("x") if input.labels.conf == "true"

count_of := _claim("x") if {
	x := count(input.request.tools)
	x > 2 * 3
}

lookup := _tiers[input.principal.tier]

_tiers := {"a": {"targets": ["y"]}}

_claim(n) := {"targets": routing.pools[n]}

helper := {"targets": ["x"]} if _idle

_idle if {
	every b in input.backends {
		b.inflight > 3
	}
	not input.labels.x
}

negated := {"targets": ["x"]} if not input.request.stream

branches := {"reason": "a"} if input.attempt == 2

else := {"reason": "b"} if input.attempt == 3

twice := {"targets": ["x"]} if input.request.model == "a"

twice := {"targets": ["x"]} if input.request.model == "b"

function := _claim("none")

claims := {"targets": ["z"], "priority": 3} if input.principal.tenant == "acme"
`

const explainedAccess = `package nexus.access

broken := {"reason": "x"} if to_number(input.request.id) > 1
`

func TestExplain(t *testing.T) {
	tr := trial(t, "a.rego", explained, "data.json", `{"routing": {"kinds": ["A"], "pools": {"x": ["p"]}}}`)
	in := input(t, `{"pii": {"kinds": ["B", "C"]}, "backends": {"q": {"inflight": 1}}, "request": {"stream": true}, "principal": {"tenant": "acme"}}`)
	e, err := tr.Explain(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	e.Used = &Use{Backend: "gpu-1", Pool: "z", Model: "m", Status: 200, Attempts: 2}
	var b strings.Builder
	if err := e.Print(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "explain.txt", b.String())
}

func TestExplainWhereThereIsNoDecision(t *testing.T) {
	tr := trial(t, "a.rego", threeLines, "b.rego", explainedAccess)
	e, err := tr.Explain(t.Context(), input(t, `{"request": {"id": "x"}, "labels": {"confidential": "true"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.Outcome != "error" || e.Rules[0].Rule != "access.broken" || e.Rules[0].Error == "" || !e.Rules[1].Matched {
		t.Errorf("got %+v", e)
	}
	var b strings.Builder
	if err := e.Print(&b); err != nil || !strings.Contains(b.String(), "no decision: error: ") || !strings.Contains(b.String(), "chain: on_error → deny") {
		t.Errorf("got %s, %v", b.String(), err)
	}
}

// Where the library is replaced, the rules of the folder's own decision are explained.
func TestExplainAReplacedLibrary(t *testing.T) {
	tr := trial(t, "a.rego", nexusDecision+"default action := \"deny\"\n\naction := \"allow\" if input.attempt == 1\n\nreason := \"x\" if input.attempt == 2\n")
	e, err := tr.Explain(t.Context(), input(t, `{}`))
	if err != nil || len(e.Rules) != 2 || !e.Rules[0].Matched || e.Rules[1].Misses[0].Text != "input.attempt == 2" {
		t.Errorf("got %+v, %v", e, err)
	}
}

// Every candidate that matches is one that the decision names, and the other way round.
func TestExplainAgreesWithTheDecision(t *testing.T) {
	src := Shipped()
	tr, err := OpenTrial(t.Context(), src, closed)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{}`, `{"pii": {"kinds": ["KR_RRN"]}}`, `{"labels": {"confidential": "true"}, "prompt": {"tokens_est": 100000}}`,
		`{"principal": {"tier": "premium"}}`, `{"principal": {"tier": "none"}, "prompt": {"tokens_est": 100000}}`,
	} {
		e, err := tr.Explain(t.Context(), input(t, text))
		if err != nil {
			t.Fatal(err)
		}
		matched := []string{}
		for _, r := range e.Rules {
			if r.Matched {
				matched = append(matched, r.Rule)
			}
			if !r.Matched && len(r.Misses) == 0 {
				t.Errorf("%s: %s: no word why", text, r.Rule)
			}
		}
		if got := shown(e.Decision["matched"]); got != strings.Join(matched, ", ") && len(matched) > 0 {
			t.Errorf("%s: the decision names %s, explained are %v", text, got, matched)
		}
	}
}

func TestExplainEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := trial(t, "a.rego", threeLines).Explain(ctx, input(t, `{}`)); err == nil {
		t.Error("no error")
	}
}
