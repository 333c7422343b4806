package policy

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A fact is one member of input: where it stands and what it is.
type fact struct {
	group, name string // name is empty when the group itself is the value
	give        func(*facts) given
}

// table lists all of input, in the order of input.schema.json; a test compares the two.
var table = []fact{
	{"v", "", func(*facts) given { return integer(1) }},
	{"time_ms", "", func(f *facts) given { return integer(f.at.UnixMilli()) }},

	{"request", "id", func(f *facts) given { return text(f.call.ID) }},
	{"request", "method", func(f *facts) given { return text(f.call.Method) }},
	{"request", "path", func(f *facts) given { return text(f.call.Path) }},
	{"request", "route", func(f *facts) given { return text(string(f.call.Route)) }},
	{"request", "model", func(f *facts) given { return lent(f.model()) }},
	{"request", "stream", func(f *facts) given { return boolean(f.call.Request.Stream) }},
	{"request", "n", func(f *facts) given { return integer(f.call.Request.N) }},
	{"request", "max_tokens", (*facts).maxTokens},
	{"request", "temperature", (*facts).temperature},
	{"request", "tools", func(f *facts) given { return list(f.call.Request.Tools) }},
	{"request", "headers", func(*facts) given { return object((*facts).headers) }},

	{"principal", "id", func(f *facts) given { return text(f.who.ID) }},
	{"principal", "kind", func(f *facts) given { return text(f.who.Kind) }},
	{"principal", "key_id", (*facts).keyID},
	{"principal", "tenant", func(f *facts) given { return text(f.who.Tenant) }},
	{"principal", "team", func(f *facts) given { return text(f.who.Team) }},
	{"principal", "roles", func(f *facts) given { return list(f.who.Roles) }},
	{"principal", "tier", func(f *facts) given { return text(f.who.Tier) }},
	{"principal", "labels", func(f *facts) given { return pairs(f.who.Labels) }},

	{"labels", "", func(f *facts) given { return pairs(f.call.Labels) }},

	{"prompt", "tokens_est", func(f *facts) given { return integer(f.prompt().tokens()) }},
	{"prompt", "turns", func(f *facts) given { return integer(int64(f.call.Request.Turns)) }},
	{"prompt", "bytes", func(f *facts) given { return integer(int64(len(f.call.Request.Body))) }},
	{"prompt", "last_user", func(f *facts) given { return whole(f.prompt().lastUser()) }},
	{"prompt", "last_user_truncated", func(f *facts) given { return boolean(f.prompt().truncated()) }},
	{"prompt", "lang", func(f *facts) given { return text(language(f.prompt().lastUser())) }},
	{"prompt", "has_code", func(f *facts) given { return boolean(f.prompt().hasCode()) }},
	{"prompt", "has_image", func(f *facts) given { return boolean(f.call.Request.Images > 0) }},
	{"prompt", "keywords", func(f *facts) given { return list(f.prompt().found(f.stage.keywords)) }},

	{"pii", "count", func(f *facts) given { return integer(int64(f.call.PII.Count)) }},
	{"pii", "kinds", func(f *facts) given { return list(f.call.PII.Kinds) }},

	{"budget", "used_ratio", func(f *facts) given { return number(f.budget().UsedRatio) }},
	{"budget", "remaining", func(f *facts) given { return number(f.budget().Remaining) }},

	{"quota", "requests_left", func(f *facts) given { return integer(f.call.Quota.RequestsLeft) }},
	{"quota", "tokens_left", func(f *facts) given { return integer(f.call.Quota.TokensLeft) }},

	{"backends", "", func(*facts) given { return object((*facts).backends) }},
	{"attempt", "", func(*facts) given { return integer(1) }},
}

// maxString bounds each string of the input but the prompt's, in bytes: what a policy does with a string
// cannot be interrupted.
const maxString = 1 << 10

// facts is one call as its input is built.
type facts struct {
	call  *pipeline.Call
	who   *pipeline.Principal // never nil
	at    time.Time
	stage *Stage
	text  *prompt // nil until it is asked for
	spent *Budget // nil until it is asked for

	began time.Time // when Wasm began with it, after whatever it waited for an instance; zero: it has not
}

var nobody = &pipeline.Principal{}

func (s *Stage) facts(c *pipeline.Call) *facts {
	f := &facts{call: c, who: c.Principal, at: c.Start, stage: s}
	if f.who == nil {
		f.who = nobody
	}
	if f.at.IsZero() {
		f.at = time.Now()
	}
	return f
}

// A plan makes the part of input that a policy reads.
type plan []section

type section struct {
	key    *ast.Term
	name   string
	give   func(*facts) given // nil: an object of fields
	fields []field
}

type field struct {
	key  *ast.Term
	name string
	give func(*facts) given
}

// planOf keeps of the table what is read.
func planOf(r reads) plan {
	var p plan
	last := ""
	for _, f := range table {
		path := "input." + f.group
		if f.name != "" {
			path += "." + f.name
		}
		if !r.covers(path) {
			continue
		}
		if f.name == "" {
			p = append(p, section{key: ast.StringTerm(f.group), name: f.group, give: f.give})
			continue
		}
		if f.group != last {
			p = append(p, section{key: ast.StringTerm(f.group), name: f.group})
			last = f.group
		}
		s := &p[len(p)-1]
		s.fields = append(s.fields, field{ast.StringTerm(f.name), f.name, f.give})
	}
	return p
}

// build makes the input for f. Nothing of it points into the request's body, which may be used again
// while an evaluation that was given up still runs.
func (p plan) build(f *facts) ast.Object {
	root := ast.NewObjectWithCapacity(len(p))
	groups := make([]ast.Term, len(p))
	for i := range p {
		s := &p[i]
		if s.give != nil {
			root.Insert(s.key, s.give(f).term(f))
			continue
		}
		object := ast.NewObjectWithCapacity(len(s.fields))
		for j := range s.fields {
			if value := s.fields[j].give(f).term(f); value != nil {
				object.Insert(s.fields[j].key, value)
			}
		}
		groups[i].Value = object
		root.Insert(s.key, &groups[i])
	}
	return root
}

func (f *facts) model() string {
	if f.call.Request.Model != "" {
		return f.call.Request.Model
	}
	return f.call.Model
}

func (f *facts) maxTokens() given {
	if f.call.Request.MaxTokens < 0 {
		return given{}
	}
	return integer(f.call.Request.MaxTokens)
}

func (f *facts) temperature() given {
	if !f.call.Request.HasTemp {
		return given{}
	}
	return number(f.call.Request.Temperature)
}

func (f *facts) keyID() given {
	if f.who.Kind != "key" {
		return text("")
	}
	return text(f.who.ID)
}

// headers holds those that are let through and present; several lines of one are joined as HTTP joins them.
func (f *facts) headers(w writer) {
	for _, h := range f.stage.headers {
		if lines := f.call.Header[h.canonical]; len(lines) > 0 {
			w.member(h.name, text(strings.Join(lines, ", ")))
		}
	}
}

func (f *facts) prompt() *prompt {
	if f.text == nil {
		f.text = &prompt{request: f.call.Request}
	}
	return f.text
}

func (f *facts) budget() Budget {
	if f.spent == nil {
		b := minute(f.call.Quota)
		if f.stage.env.Budget != nil {
			b = f.stage.env.Budget(f.call)
		}
		f.spent = &b
	}
	return *f.spent
}

// minute is the budget where there is no other: the tokens that the caller may use in a minute.
func minute(q pipeline.QuotaView) Budget {
	if q.TokensLimit <= 0 || q.TokensLeft < 0 {
		return Budget{Remaining: -1}
	}
	spent := q.TokensLimit - q.TokensLeft
	return Budget{UsedRatio: float64(spent) / float64(q.TokensLimit), Remaining: float64(q.TokensLeft)}
}

func (f *facts) backends(w writer) {
	if f.stage.env.Fleet == nil {
		return
	}
	f.stage.env.Fleet.Backends(func(id string, b BackendState) bool {
		w.object(id)
		b.write(w)
		w.end()
		return true
	})
}

// write gives b as a policy sees it: what is not known is not there, so that no rule takes it for nothing.
func (b *BackendState) write(w writer) {
	w.member("pool", text(b.Pool))
	w.member("healthy", boolean(b.Healthy))
	w.member("inflight", integer(int64(b.Inflight)))
	if b.LoadKnown {
		w.member("running", integer(int64(b.Running)))
		w.member("waiting", integer(int64(b.Waiting)))
		w.member("kv_used", number(b.KVUsed))
	}
	if b.TTFT > 0 {
		w.member("ttft_ms_p50", number(float64(b.TTFT)/float64(time.Millisecond)))
	}
	if b.Price > 0 {
		w.member("price", number(b.Price))
	}
}

// cut shortens s to at most limit bytes, between two characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
