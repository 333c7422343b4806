package policy

import (
	"fmt"
	"io"
	"strings"
)

// A Use is what a call came to at the backends.
type Use struct {
	Backend  string `json:"backend"`
	Pool     string `json:"pool,omitempty"`
	Model    string `json:"model,omitempty"`
	Status   int    `json:"status,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
	Prompt   int64  `json:"tokens_in,omitempty"`
	Answer   int64  `json:"tokens_out,omitempty"`
}

// Print writes e for people: the decision, then every rule, then the way the call went.
func (e *Explanation) Print(w io.Writer) error {
	p := &printer{w: w}
	for _, n := range e.Notes {
		p.linef("note: %s", n)
	}
	e.Result.print(p)
	last := ""
	for _, r := range e.Rules {
		kind, name, _ := strings.Cut(r.Rule, ".")
		if kind != last {
			p.linef("\nnexus.%s", kind)
			last = kind
		}
		r.print(p, name)
	}
	p.linef("\nchain: %s", e.chain())
	return p.err
}

// print writes the outcome and what was decided.
func (r *Result) print(p *printer) {
	if r.Outcome != string(decided) {
		p.linef("no decision: %s: %s", r.Outcome, r.Error)
		p.linef("  %s by on_%s", r.Action, r.Outcome)
		return
	}
	p.linef("%s by %s", r.Action, r.Rule())
	for _, name := range decisionOrder {
		if value, ok := r.Decision[name]; ok {
			p.linef("  %s: %s", name, shown(value))
		}
	}
}

// Print writes the decision for people.
func (r *Result) Print(w io.Writer) error {
	p := &printer{w: w}
	r.print(p)
	return p.err
}

// decisionOrder lists a decision's members but action and rule, as they are printed.
var decisionOrder = []string{"reason", "targets", "weights", "set", "headers", "mask", "limits", "deny", "respond", "tags", "matched", "cache"}

func shown(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	list, ok := v.([]any)
	if !ok {
		return written(v)
	}
	words := make([]string, len(list))
	for i, one := range list {
		if words[i], ok = one.(string); !ok {
			words[i] = written(one)
		}
	}
	return strings.Join(words, ", ")
}

func (r *RuleStory) print(p *printer, name string) {
	switch {
	case r.Error != "":
		p.linef("  %s failed: %s", name, r.Error)
	case r.Matched:
		p.linef("  %s matched at %s:%d: %s", name, r.File, r.Line, claimed(r.Claim))
	case len(r.Misses) == 0:
		p.linef("  %s did not match (%s:%d)", name, r.File, r.Line)
	default:
		p.linef("  %s did not match", name)
	}
	for _, m := range r.Misses {
		m.print(p, "    ")
	}
}

func claimed(b []byte) string {
	if len(b) > maxWritten {
		return cut(string(b), maxWritten) + "…"
	}
	return string(b)
}

func (m *Miss) print(p *printer, indent string) {
	p.linef("%s%s:%d: %s", indent, m.File, m.Line, m.Text)
	for _, v := range m.Values {
		if v.Value == nil {
			p.linef("%s  %s is undefined", indent, v.Name)
		} else if v.Name != m.Text {
			p.linef("%s  %s is %s", indent, v.Name, claimed(v.Value))
		}
	}
	for _, b := range m.Because {
		b.print(p, indent+"  ")
	}
}

// chain is the way from the rule to the backend that answered.
func (e *Explanation) chain() string {
	links := []string{e.Rule()}
	if e.Action != "allow" {
		return links[0] + " → " + e.Action
	}
	if targets := e.Targets(); len(targets) > 0 {
		links = append(links, "targets "+strings.Join(targets, ", "))
	} else {
		links = append(links, "the pools of the model asked for")
	}
	if u := e.Used; u != nil {
		links = append(links, u.String())
	}
	return strings.Join(links, " → ")
}

func (u *Use) String() string {
	if u.Backend == "" {
		return "no backend answered"
	}
	text := "backend " + u.Backend
	for _, part := range []struct{ name, value string }{{"pool", u.Pool}, {"model", u.Model}} {
		if part.value != "" {
			text += ", " + part.name + " " + part.value
		}
	}
	if u.Status > 0 {
		text += fmt.Sprintf(", status %d", u.Status)
	}
	if u.Attempts > 1 {
		text += fmt.Sprintf(", %d attempts", u.Attempts)
	}
	return text
}

// A printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) linef(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
