package policy

import (
	"fmt"
	"io"
	"strings"
)

// Print writes r for people.
func (r *ReplayReport) Print(w io.Writer) error {
	p := &printer{w: w}
	p.linef("%d decisions replayed, %d flip%s", r.Decided, r.Flips, onlyRenamed(r.Renamed))
	r.printLeftOut(p)
	printMoves(p, "rule", r.Rules)
	printMoves(p, "pool", r.Pools)
	r.printTenants(p)
	r.printSpending(p)
	for _, m := range r.Rules {
		for _, e := range m.Examples {
			p.linef("%s", e.line(m))
		}
	}
	return p.err
}

func onlyRenamed(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d are decided the same by another rule", n)
}

func (r *ReplayReport) printLeftOut(p *printer) {
	if r.NoInput > 0 {
		p.linef("not decided: %d without their input (policy.decision_log.input was off)", r.NoInput)
	}
	for _, l := range r.Lacking {
		p.linef("not decided: %d that lack %s, which the policy reads: it was not read, or hidden, when they were recorded", l.Count, l.Path)
	}
	if r.Others > 0 {
		p.linef("left out: %d lines that are no decisions", r.Others)
	}
	if r.Torn > 0 {
		p.linef("left out: %d lines that are cut off", r.Torn)
	}
}

// printMoves writes a matrix of what went where.
func printMoves(p *printer, what string, moves []Move) {
	if len(moves) == 0 {
		return
	}
	from, to := len("from "+what), len("to "+what)
	for _, m := range moves {
		from, to = max(from, width(m.From)), max(to, width(m.To))
	}
	p.linef("\n%s  %s  flips", pad("from "+what, from), pad("to "+what, to))
	for _, m := range moves {
		p.linef("%s  %s  %5d", pad(m.From, from), pad(m.To, to), m.Count)
	}
}

func width(s string) int { return len([]rune(s)) }

func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-width(s))) }

func (r *ReplayReport) printTenants(p *printer) {
	if r.Flips == 0 {
		return
	}
	n := len("tenant")
	for _, t := range r.Tenants {
		n = max(n, width(t.name()))
	}
	p.linef("\n%s  decided  flips", pad("tenant", n))
	for _, t := range r.Tenants {
		if t.Flips > 0 {
			p.linef("%s  %7d  %5d", pad(t.name(), n), t.Decided, t.Flips)
		}
	}
}

func (t *TenantFlips) name() string {
	if t.Tenant == "" {
		return "(none)"
	}
	return t.Tenant
}

func (r *ReplayReport) printSpending(p *printer) {
	if r.Decided == 0 {
		return
	}
	p.linef("\nallowed calls     %d, were %d (%+d)", r.After.Calls, r.Before.Calls, r.After.Calls-r.Before.Calls)
	now, was := r.After.Prompt+r.After.Answer, r.Before.Prompt+r.Before.Answer
	p.linef("estimated tokens  %d, were %d (%+d)", now, was, now-was)
	if r.Estimated > 0 || r.Untold > 0 {
		p.linef("                  %d by the estimate of their prompts, of %d nothing is known", r.Estimated, r.Untold)
	}
	if r.Before.Cost != 0 || r.After.Cost != 0 {
		p.linef("estimated cost    %.4f, was %.4f (%+.4f)", r.After.Cost, r.Before.Cost, r.After.Cost-r.Before.Cost)
	}
	if len(r.Unpriced) > 0 {
		p.linef("                  without a price: %s", strings.Join(r.Unpriced, ", "))
	}
}

func (e Example) line(m Move) string {
	text := fmt.Sprintf("\nexample %s", e.DecisionID)
	if e.Tenant != "" {
		text += " of " + e.Tenant
	}
	text += fmt.Sprintf(": %s → %s, differs in %s", m.From, m.To, strings.Join(e.Changed, ", "))
	if e.Error != "" {
		text += ": " + e.Error
	}
	return text
}

// JUnit writes r as a JUnit report: a test for each rule that decided, which fails when its decisions flip and more of
// them all do than most.
func (r *ReplayReport) JUnit(w io.Writer, most int) error {
	all := Report{}
	for _, m := range r.Rules {
		one := TestResult{Package: "replay", File: "replay", Name: m.From + " → " + m.To}
		if r.Flips > most {
			one.Reason = fmt.Sprintf("%d decisions flip", m.Count)
			for _, e := range m.Examples {
				one.Reason += e.line(m)
			}
		}
		all.count(one)
	}
	one := TestResult{Package: "replay", File: "replay", Name: fmt.Sprintf("at most %d of %d decisions flip", most, r.Decided)}
	if r.Flips > most {
		one.Reason = fmt.Sprintf("%d flip", r.Flips)
	}
	all.count(one)
	return all.JUnit(w)
}
