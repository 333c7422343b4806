package plugin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A Stage asks plugins about every call: about the request and its texts on the way in, about the texts of
// the reply on the way out.
type Stage struct {
	requests []*plugin // that subscribe to on_request
	inward   []*plugin // that see the texts of requests
	outward  []*plugin // that see the texts of replies
	calls    []*plugin // that subscribe to on_tool_call
	usages   []*plugin // that subscribe to on_usage
	ends     []*plugin // that subscribe to on_end
	work     sync.Pool // of *work
	last     last
}

var _ pipeline.Stage = (*Stage)(nil)

func newStage(plugins []*plugin) *Stage {
	if len(plugins) == 0 {
		return nil
	}
	s := &Stage{}
	for _, p := range plugins {
		for _, x := range [...]struct {
			list *[]*plugin
			sees bool
		}{
			{&s.requests, p.seesRequests}, {&s.inward, p.textsOfRequest}, {&s.outward, p.textsOfReply},
			{&s.calls, p.seesToolCalls && p.entry.sees(reply)}, {&s.usages, p.seesUsages}, {&s.ends, p.seesEnds},
		} {
			if x.sees {
				*x.list = append(*x.list, p)
			}
		}
	}
	s.last.init()
	s.work.New = func() any { return new(work) }
	return s
}

// A work is the memory that looking at one text, or one request, takes. It is reused.
type work struct {
	turn    turn
	text    []byte
	between [2][]byte // texts between plugins
	window  window
	pass    pass
	meta    []byte
}

// Handle gathers facts and edits from the request, puts the reply's texts, tool calls and usage through the plugins,
// and tells them of the end.
func (s *Stage) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	r, err := s.handle(ctx, c, next)
	ends := fitting(s.ends, c)
	if len(ends) == 0 {
		return r, err
	}
	e := &ending{ctx: ctx, call: c, plugins: ends, last: &s.last}
	if err != nil {
		e.failed(err)
		return nil, err
	}
	e.inner, e.status = r.Stream, r.Status
	r.Stream = e
	return r, nil
}

func (s *Stage) handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	r, err := s.in(ctx, c)
	if r == nil && err == nil {
		c.Metered = c.Metered || len(fitting(s.usages, c)) > 0
		r, err = next.Handle(ctx, c)
	}
	if err != nil || r.Status >= http.StatusBadRequest {
		return r, err // what an error reply says is the backend's or the gateway's word, not a model's text
	}
	s.out(ctx, c, r)
	return r, nil
}

// out is the way out. Usage is read as the backend tells it, texts before the tool calls that they are part of.
func (s *Stage) out(ctx context.Context, c *pipeline.Call, r *llm.Reply) {
	stream := r.Stream
	if plugins := fitting(s.usages, c); len(plugins) > 0 {
		stream = newGauge(ctx, c, plugins, stream)
	}
	tokens := newRestorer(c)
	if plugins := fitting(s.outward, c); len(plugins) > 0 || tokens != nil {
		stream = newStream(ctx, c, plugins, tokens, stream)
	}
	if plugins := fitting(s.calls, c); len(plugins) > 0 {
		stream = newGate(ctx, c, plugins, stream)
	}
	if stream != r.Stream {
		r.Header.Del("Content-Length") // of a body that may change
		r.Stream = stream
	}
}

// fitting returns the plugins that are asked about c, the same list where all are.
func fitting(plugins []*plugin, c *pipeline.Call) []*plugin {
	for i, p := range plugins {
		if p.applies(c) {
			continue
		}
		fit := slices.Clone(plugins[:i])
		for _, p := range plugins[i+1:] {
			if p.applies(c) {
				fit = append(fit, p)
			}
		}
		return fit
	}
	return plugins
}

// in is the way in. A reply is a plugin's: no backend is asked.
func (s *Stage) in(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
	requests, inward := fitting(s.requests, c), fitting(s.inward, c)
	if len(requests)+len(inward) == 0 {
		return nil, nil
	}
	w := s.work.Get().(*work)
	w.turn = turn{call: c}
	w.pass.turn = &w.turn
	defer func() {
		w.turn = turn{}
		s.work.Put(w)
	}()
	for _, p := range requests {
		if r, err := p.request(ctx, c, w); err != nil || r != nil {
			return r, err
		}
	}
	if len(inward) == 0 {
		return nil, nil
	}
	return nil, w.texts(ctx, c, inward)
}

// texts puts the texts of a request through the plugins.
func (w *work) texts(ctx context.Context, c *pipeline.Call, plugins []*plugin) error {
	w.pass.found = findings{}
	last := lastUser(c.Request)
	for i, t := range c.Request.Texts {
		w.text = llm.AppendText(w.text[:0], c.Request.Body, t)
		edits, err := chain(ctx, plugins, w, flagsIn(t, last))
		if err != nil {
			return err
		}
		if len(edits) > 0 {
			c.Edits = append(c.Edits, pipeline.TextEdits{Text: i, Edits: edits})
		}
	}
	note(c, &w.pass.found)
	return nil
}

// lastUser is the index of the last message of role user that has a text, -1 if there is none.
func lastUser(r *llm.Request) int {
	for i := len(r.Texts) - 1; i >= 0; i-- {
		if r.Texts[i].Role == llm.User {
			return r.Texts[i].Message
		}
	}
	return -1
}

// note tells policy and log what was found.
func note(c *pipeline.Call, f *findings) {
	if f.count == 0 {
		return
	}
	c.PII.Count += f.count
	c.PII.Kinds = slices.Compact(slices.Sorted(slices.Values(append(c.PII.Kinds, f.kinds...))))
}

// flagsOf says what a text is, in the ABI's words.
func flagsOf(t llm.Text) uint32 {
	return uint32(t.Role&abi.RoleMask)<<abi.RoleShift | uint32(t.Channel)<<abi.ChannelShift
}

// flagsIn are flagsOf a text of a request whose last message of the user's is last.
func flagsIn(t llm.Text, last int) uint32 {
	if t.Role == llm.User && t.Message == last {
		return flagsOf(t) | abi.FlagLastUser
	}
	return flagsOf(t)
}

// chain puts the whole text in w.text through the plugins and returns their edits together, on that text.
// The edits own their memory.
func chain(ctx context.Context, plugins []*plugin, w *work, flags uint32) ([]llm.Edit, error) {
	var all []llm.Edit
	text, turn := w.text, 0 // which of between text does not stand in
	for i, p := range plugins {
		if len(text) == 0 {
			break
		}
		w.window.reset()
		err := p.run(ctx, &w.window, text, flags|abi.FlagFinal, &w.pass)
		if err = p.judge(ctx, err, &w.pass); err != nil {
			return nil, err
		}
		if len(w.pass.edits) == 0 {
			continue
		}
		if i < len(plugins)-1 {
			b := &w.between[turn]
			*b = apply((*b)[:0], text, w.pass.edits)
			text, turn = *b, 1-turn
		}
		all = compose(all, owned(w.pass.edits))
	}
	return all, nil
}

// owned copies edits out of memory that will be reused.
func owned(edits []llm.Edit) []llm.Edit {
	edits = slices.Clone(edits)
	for i := range edits {
		edits[i].With = slices.Clone(edits[i].With)
	}
	return edits
}

// judge turns what came of a run into what comes of the call: nil, after which the pass holds the edits to
// make, or the error that ends it.
func (p *plugin) judge(ctx context.Context, err error, r *pass) error {
	if err == nil {
		if no := r.answer.refused; no != nil {
			return p.refuse(no)
		}
		return nil
	}
	r.edits, r.hold = r.edits[:0], 0
	return p.failed(ctx, err)
}

// failed applies the plugin's failure rule. A caller who has left is not the plugin's failure.
func (p *plugin) failed(ctx context.Context, err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	p.meter.fault(f.cause)
	if p.allowed {
		p.warn(ctx, f)
		return nil
	}
	return &pipeline.Refusal{
		Kind: pipeline.Unavailable, Stage: "plugin", Code: "plugin_failed", Reason: "plugin " + p.name + " failed", Err: err,
	}
}

// warn logs a failure that was let pass, at most one a second: each is counted.
func (p *plugin) warn(ctx context.Context, f *failure) {
	now, last := time.Now().UnixNano(), p.warned.Load()
	if now-last > int64(time.Second) && p.warned.CompareAndSwap(last, now) {
		p.log.WarnContext(ctx, "plugin failed and was passed over", "plugin", p.name, "cause", f.cause, "err", f.err)
	}
}

// refuse turns a guest's no into the gateway's.
func (p *plugin) refuse(no *refusal) error {
	r := &pipeline.Refusal{Kind: pipeline.Forbidden, Status: no.status, Stage: "plugin", Code: no.code, Reason: no.message, Retry: no.retry}
	if r.Code == "" {
		r.Code = "plugin_refused"
	}
	if r.Reason == "" {
		r.Reason = "The request was refused by the plugin " + p.name + "."
	}
	return r
}
