package policy

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A fact is one member of input: where it stands and how it is made. A nil term leaves it out.
type fact struct {
	group, name string // name is empty when the group itself is the value
	make        func(*facts) *ast.Term
}

// table lists all of input, in the order of input.schema.json; a test compares the two.
var table = []fact{
	{"v", "", func(*facts) *ast.Term { return one }},
	{"time_ms", "", func(f *facts) *ast.Term { return integer(f.at.UnixMilli()) }},

	{"request", "id", func(f *facts) *ast.Term { return text(f.call.ID) }},
	{"request", "method", func(f *facts) *ast.Term { return text(f.call.Method) }},
	{"request", "path", func(f *facts) *ast.Term { return text(f.call.Path) }},
	{"request", "route", func(f *facts) *ast.Term { return text(string(f.call.Route)) }},
	{"request", "model", func(f *facts) *ast.Term { return text(strings.Clone(f.model())) }},
	{"request", "stream", func(f *facts) *ast.Term { return ast.InternedTerm(f.call.Request.Stream) }},
	{"request", "n", func(f *facts) *ast.Term { return integer(f.call.Request.N) }},
	{"request", "max_tokens", (*facts).maxTokens},
	{"request", "temperature", (*facts).temperature},
	{"request", "tools", func(f *facts) *ast.Term { return list(f.call.Request.Tools) }},
	{"request", "headers", (*facts).headers},

	{"principal", "id", func(f *facts) *ast.Term { return text(f.who.ID) }},
	{"principal", "kind", func(f *facts) *ast.Term { return text(f.who.Kind) }},
	{"principal", "key_id", (*facts).keyID},
	{"principal", "tenant", func(f *facts) *ast.Term { return text(f.who.Tenant) }},
	{"principal", "team", func(f *facts) *ast.Term { return text(f.who.Team) }},
	{"principal", "roles", func(f *facts) *ast.Term { return list(f.who.Roles) }},
	{"principal", "tier", func(f *facts) *ast.Term { return text(f.who.Tier) }},
	{"principal", "labels", func(f *facts) *ast.Term { return pairs(f.who.Labels) }},

	{"labels", "", func(f *facts) *ast.Term { return pairs(f.call.Labels) }},

	{"prompt", "tokens_est", func(f *facts) *ast.Term { return integer(f.prompt().tokens()) }},
	{"prompt", "turns", func(f *facts) *ast.Term { return integer(int64(f.call.Request.Turns)) }},
	{"prompt", "bytes", func(f *facts) *ast.Term { return integer(int64(len(f.call.Request.Body))) }},
	{"prompt", "last_user", func(f *facts) *ast.Term { return ast.StringTerm(f.prompt().lastUser()) }},
	{"prompt", "last_user_truncated", func(f *facts) *ast.Term { return ast.InternedTerm(f.prompt().truncated()) }},
	{"prompt", "lang", func(f *facts) *ast.Term { return text(language(f.prompt().lastUser())) }},
	{"prompt", "has_code", func(f *facts) *ast.Term { return ast.InternedTerm(f.prompt().hasCode()) }},
	{"prompt", "has_image", func(f *facts) *ast.Term { return ast.InternedTerm(f.call.Request.Images > 0) }},
	{"prompt", "keywords", func(f *facts) *ast.Term { return list(f.prompt().found(f.stage.keywords)) }},

	{"pii", "count", func(f *facts) *ast.Term { return integer(int64(f.call.PII.Count)) }},
	{"pii", "kinds", func(f *facts) *ast.Term { return list(f.call.PII.Kinds) }},

	{"budget", "used_ratio", func(f *facts) *ast.Term { return number(f.budget().UsedRatio) }},
	{"budget", "remaining", func(f *facts) *ast.Term { return number(f.budget().Remaining) }},

	{"quota", "requests_left", func(f *facts) *ast.Term { return integer(f.call.Quota.RequestsLeft) }},
	{"quota", "tokens_left", func(f *facts) *ast.Term { return integer(f.call.Quota.TokensLeft) }},

	{"backends", "", (*facts).backends},
	{"attempt", "", func(*facts) *ast.Term { return one }},
}

var one = ast.InternedTerm(1)

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
	make   func(*facts) *ast.Term // nil: an object of fields
	fields []field
}

type field struct {
	key  *ast.Term
	make func(*facts) *ast.Term
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
			p = append(p, section{key: ast.StringTerm(f.group), make: f.make})
			continue
		}
		if f.group != last {
			p = append(p, section{key: ast.StringTerm(f.group)})
			last = f.group
		}
		s := &p[len(p)-1]
		s.fields = append(s.fields, field{ast.StringTerm(f.name), f.make})
	}
	return p
}

// build makes the input for f. Nothing of it points into the request's body, which may be used again
// while an evaluation that was given up still runs.
func (p plan) build(f *facts) ast.Object {
	root := ast.NewObjectWithCapacity(len(p))
	for i := range p {
		s := &p[i]
		if s.make != nil {
			root.Insert(s.key, s.make(f))
			continue
		}
		object := ast.NewObjectWithCapacity(len(s.fields))
		for j := range s.fields {
			if value := s.fields[j].make(f); value != nil {
				object.Insert(s.fields[j].key, value)
			}
		}
		root.Insert(s.key, ast.NewTerm(object))
	}
	return root
}

func (f *facts) model() string {
	if f.call.Request.Model != "" {
		return f.call.Request.Model
	}
	return f.call.Model
}

func (f *facts) maxTokens() *ast.Term {
	if f.call.Request.MaxTokens < 0 {
		return nil
	}
	return integer(f.call.Request.MaxTokens)
}

func (f *facts) temperature() *ast.Term {
	if !f.call.Request.HasTemp {
		return nil
	}
	return number(f.call.Request.Temperature)
}

func (f *facts) keyID() *ast.Term {
	if f.who.Kind != "key" {
		return text("")
	}
	return text(f.who.ID)
}

// headers holds those that are let through and present; several lines of one are joined as HTTP joins them.
func (f *facts) headers() *ast.Term {
	object := ast.NewObject()
	for _, h := range f.stage.headers {
		if lines := f.call.Header[h.canonical]; len(lines) > 0 {
			object.Insert(h.key, text(strings.Join(lines, ", ")))
		}
	}
	return ast.NewTerm(object)
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

func (f *facts) backends() *ast.Term {
	object := ast.NewObject()
	if f.stage.env.Fleet == nil {
		return ast.NewTerm(object)
	}
	f.stage.env.Fleet.Backends(func(id string, b BackendState) bool {
		object.Insert(ast.StringTerm(id), ast.NewTerm(b.object()))
		return true
	})
	return ast.NewTerm(object)
}

// object is b as a policy sees it: what is not known is not there, so that no rule takes it for nothing.
func (b *BackendState) object() ast.Object {
	o := ast.NewObjectWithCapacity(8)
	o.Insert(keyPool, text(b.Pool))
	o.Insert(keyHealthy, ast.InternedTerm(b.Healthy))
	o.Insert(keyInflight, integer(int64(b.Inflight)))
	if b.LoadKnown {
		o.Insert(keyRunning, integer(int64(b.Running)))
		o.Insert(keyWaiting, integer(int64(b.Waiting)))
		o.Insert(keyKVUsed, number(b.KVUsed))
	}
	if b.TTFT > 0 {
		o.Insert(keyTTFT, number(float64(b.TTFT)/float64(time.Millisecond)))
	}
	if b.Price > 0 {
		o.Insert(keyPrice, number(b.Price))
	}
	return o
}

var (
	keyPool     = ast.StringTerm("pool")
	keyHealthy  = ast.StringTerm("healthy")
	keyInflight = ast.StringTerm("inflight")
	keyRunning  = ast.StringTerm("running")
	keyWaiting  = ast.StringTerm("waiting")
	keyKVUsed   = ast.StringTerm("kv_used")
	keyTTFT     = ast.StringTerm("ttft_ms_p50")
	keyPrice    = ast.StringTerm("price")
)

// text is s as a term, cut to maxString.
func text(s string) *ast.Term {
	if s == "" {
		return ast.InternedTerm("")
	}
	return ast.StringTerm(cut(s, maxString))
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

func integer(n int64) *ast.Term {
	if n >= -1 && n < 512 {
		return ast.InternedTerm(int(n))
	}
	return ast.NumberTerm(json.Number(strconv.FormatInt(n, 10)))
}

// number is x as a term; one that JSON cannot write counts as 0.
func number(x float64) *ast.Term {
	if x == float64(int64(x)) {
		return integer(int64(x))
	}
	if x != x || x > 1e300 || x < -1e300 {
		return ast.InternedTerm(0)
	}
	return ast.NumberTerm(json.Number(strconv.FormatFloat(x, 'g', -1, 64)))
}

var empty = ast.ArrayTerm()

func list(items []string) *ast.Term {
	if len(items) == 0 {
		return empty
	}
	terms := make([]*ast.Term, len(items))
	for i, s := range items {
		terms[i] = text(strings.Clone(s))
	}
	return ast.ArrayTerm(terms...)
}

func pairs(m map[string]string) *ast.Term {
	object := ast.NewObjectWithCapacity(len(m))
	for k, v := range m {
		object.Insert(ast.StringTerm(k), text(v))
	}
	return ast.NewTerm(object)
}
