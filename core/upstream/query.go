package upstream

import (
	"sync"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// A query is what choosing a backend of one pool may read of a call. What of the prompt is read is read once, and
// only if there is a choice.
type query struct {
	model string // as the pool asks for it
	pool  string
	call  *pipeline.Call
	salt  []byte // the tenant's
	work  *workspace
	read  bool
	fresh int64 // prompt tokens that the backend chosen last has yet to read
}

// A workspace is the memory that choosing takes.
type workspace struct {
	balance.Query
	chain balance.Chain
	patch llm.Patch
	set   []balance.Candidate
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

func (u *Upstream) query(c *pipeline.Call, p *pool) query {
	return query{model: p.sent(c), pool: p.name, call: c, salt: u.salt.of(tenant(c))}
}

// release gives the query's memory back.
func (q *query) release() {
	if q.work != nil {
		workspaces.Put(q.work)
		q.work = nil
	}
}

// prepare reads of the call what the pool's balancing decides by.
func (q *query) prepare(now time.Time, p *pool) *workspace {
	if q.work == nil {
		q.work = workspaces.Get().(*workspace)
	}
	w := q.work
	if !q.read {
		q.read = true
		w.Query = balance.Query{}
		if q.call != nil {
			w.Tokens = promptTokens(q.call.Request)
			w.read(q, p)
		}
	}
	w.Now = now
	return w
}

func (w *workspace) read(q *query, p *pool) {
	switch {
	case p.balance.session:
		w.Session = p.balance.key.of(q)
	case p.balance.prefix && generates(q.call.Route):
		w.hash(q)
		w.Blocks = w.chain.Blocks
	}
}

// promptTokens estimates a prompt. Images are not counted: their bytes say nothing of their tokens.
func promptTokens(r *llm.Request) int64 {
	n := 0
	for _, t := range r.Texts {
		n += t.At.Len()
	}
	return int64(n) / bytesPerToken
}

// hash makes the chain of the prompt as it will be sent: tools first, since templates put them there, then all
// messages, edited as the plugins would have them. Model and tenant are its seed: tenants share no cache, and must
// not find out by the routing of their calls what others asked.
func (w *workspace) hash(q *query) {
	c := q.call
	w.chain.Reset(balance.Hash(q.salt, balance.Hash([]byte(q.model), 0)))
	w.patch.Reset()
	if patchTexts(&w.patch, c, q.pool) != nil {
		return // rendering will say what is wrong
	}
	if c.Route == llm.Responses { // there it becomes a member of its own
		for _, s := range [...]string{c.System.Before, c.System.Replace, c.System.After} {
			w.chain.Write([]byte(s))
		}
	}
	for _, name := range promptMembers(c.Route) {
		at, ok := c.Request.FieldAt(name)
		switch {
		case !ok:
		case w.patch.Empty():
			w.chain.Write(c.Request.Body[at.Start:at.End])
		default:
			w.patch.Within(c.Request.Body, at, w.chain.Write)
		}
	}
}

// promptMembers are the members of a body that make the prompt, in the order in which engines lay it out.
func promptMembers(route llm.Endpoint) []string {
	switch route {
	case llm.Chat:
		return chatMembers
	case llm.Responses:
		return responsesMembers
	default:
		return completionsMembers
	}
}

var (
	chatMembers        = []string{"tools", "messages"}
	responsesMembers   = []string{"tools", "instructions", "input"}
	completionsMembers = []string{"prompt"}
)

// A sessionKey is what a session is known by.
type sessionKey struct {
	header string // canonical; empty: none
	user   bool   // else the conversation
}

// of hashes what q's session is known by; 0: there is nothing.
func (k sessionKey) of(q *query) uint64 {
	c, seed := q.call, balance.Hash(q.salt, 0)
	switch {
	case k.header != "":
		return hashOf(c.Header.Get(k.header), seed)
	case k.user && c.Request.User != "":
		return hashOf(c.Request.User, seed)
	case k.user && c.Principal != nil:
		return hashOf(c.Principal.ID, seed)
	case k.user:
		return 0
	}
	key := uint64(0)
	for _, t := range c.Request.Texts {
		key = balance.Hash(c.Request.Body[t.At.Start:t.At.End], key^seed)
		if t.Role == llm.User || t.Channel == llm.Prompt || t.Channel == llm.Input {
			break
		}
	}
	return key
}

func hashOf(s string, seed uint64) uint64 {
	if s == "" {
		return 0
	}
	return max(balance.Hash([]byte(s), seed), 1)
}
