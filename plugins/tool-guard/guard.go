package main

import (
	"strconv"

	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// A guard says which tool calls a model may make for whom, and with which arguments. It is set at load and never
// changes after.
type guard struct {
	rules         []rule
	schemas       []schema
	needOffer     bool // the request must have offered the function
	useOffered    bool // and its arguments must fit the schema that was offered
	refuseOffers  bool // a request that offers what its caller may not call is refused
	end           bool // a refused call ends the answer
	message       string
	largest, most int // bytes of arguments; calls of a choice, 0: any number
}

// A rule says what callers may have called. The first that names the caller counts.
type rule struct {
	callers.Rule
	allow, deny []string // patterns; an empty allow is every tool
}

// A schema is what the arguments of the tools that a pattern names must fit.
type schema struct {
	tools string
	tree  tree
}

// A reason is why a call is refused.
type reason uint8

const (
	allowed reason = iota
	byRule
	byOffer
	byArguments
	bySize
	byCount
)

// words name a reason in labels and metrics.
var words = [...]struct{ label, metric string }{
	{"", ""}, {"rule", "refused_rule"}, {"offered", "refused_offered"}, {"arguments", "refused_arguments"},
	{"size", "refused_size"}, {"count", "refused_count"},
}

// The texts that are held against each other and the check that does it, kept for their memory alone.
var (
	arguments, offered tree
	checking           check
)

// A call is one tool call to judge.
type call struct {
	caller                   callers.Call
	name, arguments, offered []byte // offered is nil when the request did not offer the function
	index                    int
}

// A judgement is what became of a call: why it is refused, and of arguments what is wrong with them.
type judgement struct {
	why     reason
	err     error  // the arguments cannot be read
	keyword string // that they do not fit
	at      int32
}

// judge looks at a call in the order of what it costs.
func (g *guard) judge(c *call) judgement {
	switch {
	case !g.may(&c.caller, c.name):
		return judgement{why: byRule}
	case g.needOffer && c.offered == nil:
		return judgement{why: byOffer}
	case g.most > 0 && c.index >= g.most:
		return judgement{why: byCount}
	case len(c.arguments) > g.largest:
		return judgement{why: bySize}
	}
	if err := arguments.parse(orEmpty(c.arguments)); err != nil {
		return judgement{why: byArguments, err: err}
	}
	if s := g.schemaOf(c.name); s != nil {
		if j := fit(&s.tree); j.why != allowed {
			return j
		}
	}
	if !g.useOffered || isBlank(c.offered) {
		return judgement{}
	}
	if offered.parse(c.offered) != nil {
		return judgement{why: byArguments, err: errOffered}
	}
	return fit(&offered)
}

const (
	errOffered = nexus.Error("the schema that the request offered cannot be read")
	errTooMuch = nexus.Error("there is too much to check against the schema")
)

// orEmpty stands in for what models write when a function takes nothing.
func orEmpty(arguments []byte) []byte {
	if isBlank(arguments) {
		return empty
	}
	return arguments
}

var empty = []byte("{}")

func isBlank(b []byte) bool {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return true
}

// fit holds the arguments against a schema.
func fit(s *tree) judgement {
	c := &checking
	*c = check{schema: s, value: &arguments}
	switch got := c.run(); {
	case c.tooMuch:
		return judgement{why: byArguments, err: errTooMuch}
	case got == misfits:
		return judgement{why: byArguments, keyword: c.keyword, at: c.at}
	}
	return judgement{}
}

// may reports whether a caller may have a tool called. Without rules everyone may have everything; with rules, one
// whom none of them names may have nothing.
func (g *guard) may(c *callers.Call, tool []byte) bool {
	for i := range g.rules {
		if r := &g.rules[i]; r.Names(c) {
			return !callers.AnyMatches(r.deny, tool) && (len(r.allow) == 0 || callers.AnyMatches(r.allow, tool))
		}
	}
	return len(g.rules) == 0
}

// schemaOf finds the schema of a tool: the one of its own name, or of the longest pattern.
func (g *guard) schemaOf(tool []byte) (found *schema) {
	for i := range g.schemas {
		s := &g.schemas[i]
		if callers.Matches(s.tools, tool) && (found == nil || string(tool) == s.tools || len(s.tools) > len(found.tools)) {
			found = s
			if string(tool) == s.tools {
				return s
			}
		}
	}
	return found
}

// explain writes the message about a refused call.
func (g *guard) explain(c *call, j judgement) string {
	var b []byte
	for m := g.message; m != ""; {
		switch {
		case hasPrefix(m, "{tool}"):
			b = callers.AppendPlain(b, c.name, 64)
			m = m[len("{tool}"):]
		case hasPrefix(m, "{reason}"):
			b = g.appendReason(b, j)
			m = m[len("{reason}"):]
		default:
			b = append(b, m[0])
			m = m[1:]
		}
	}
	return string(b)
}

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

func (g *guard) appendReason(b []byte, j judgement) []byte {
	switch j.why {
	case byRule:
		return append(b, "the caller may not have it called"...)
	case byOffer:
		return append(b, "the request did not offer it"...)
	case byCount:
		b = append(b, "the answer makes more than "...)
		return append(strconv.AppendInt(b, int64(g.most), 10), " calls"...)
	case bySize:
		b = append(b, "its arguments are longer than "...)
		return append(strconv.AppendInt(b, int64(g.largest), 10), " bytes"...)
	}
	b = append(b, "its arguments are not accepted: "...)
	if j.err != nil {
		return append(b, j.err.Error()...)
	}
	b = append(b, j.keyword...)
	b = append(b, " does not fit at "...)
	return arguments.appendPath(b, j.at)
}

// appendPath writes where in the tree a node stands, as a JSON pointer.
func (t *tree) appendPath(b []byte, at int32) []byte {
	from := len(b)
	for n := int32(0); n != at && len(b)-from < 128; {
		child, i := n+1, 0
		for t.nodes[child].next <= at {
			child, i = t.nodes[child].next, i+1
		}
		b = append(b, '/')
		if t.nodes[n].kind == isObject {
			b = callers.AppendPlain(b, t.name(child), 64)
		} else {
			b = strconv.AppendInt(b, int64(i), 10)
		}
		n = child
	}
	if len(b) == from {
		b = append(b, "the top"...)
	}
	return b
}
