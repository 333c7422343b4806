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
	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A Stage asks plugins about every call: about the request and its texts on the way in, about the texts of
// the reply on the way out.
type Stage struct {
	requests []*plugin // that subscribe to on_request
	inward   []*plugin // that see the texts of requests
	outward  []*plugin // that see the texts of replies
	work     sync.Pool // of *work
}

var _ pipeline.Stage = (*Stage)(nil)

func newStage(plugins []*plugin) *Stage {
	if len(plugins) == 0 {
		return nil
	}
	s := &Stage{}
	for _, p := range plugins {
		if p.seesRequests {
			s.requests = append(s.requests, p)
		}
		if p.textsOfRequest {
			s.inward = append(s.inward, p)
		}
		if p.textsOfReply {
			s.outward = append(s.outward, p)
		}
	}
	s.work.New = func() any { return new(work) }
	return s
}

// A work is the memory that looking at one text, or one request, takes. It is reused.
type work struct {
	turn       turn
	text, next []byte
	window     window
	pass       pass
	meta       []byte
}

// Handle gathers facts and edits from the request, and puts the reply's texts through the plugins.
func (s *Stage) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	if err := s.in(ctx, c); err != nil {
		return nil, err
	}
	r, err := next.Handle(ctx, c)
	if err != nil || len(s.outward) == 0 || r.Status >= http.StatusBadRequest {
		return r, err // what an error reply says is the backend's or the gateway's word, not a model's text
	}
	r.Header.Del("Content-Length") // of a body that may change
	r.Stream = newStream(ctx, c, s.outward, r.Stream)
	return r, nil
}

// in is the way in.
func (s *Stage) in(ctx context.Context, c *pipeline.Call) error {
	if len(s.requests)+len(s.inward) == 0 {
		return nil
	}
	w := s.work.Get().(*work)
	w.turn = turn{call: c}
	defer func() {
		w.turn = turn{}
		s.work.Put(w)
	}()
	for _, p := range s.requests {
		if err := p.request(ctx, c, w); err != nil {
			return err
		}
	}
	if len(s.inward) == 0 {
		return nil
	}
	w.pass.found = findings{}
	for i := range c.Request.Texts {
		t := c.Request.Texts[i]
		w.text = llm.AppendText(w.text[:0], c.Request.Body, t)
		edits, err := chain(ctx, s.inward, w, flagsOf(t))
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

// chain puts the whole text in w.text through the plugins and returns their edits together, on that text.
// The edits own their memory.
func chain(ctx context.Context, plugins []*plugin, w *work, flags uint32) ([]llm.Edit, error) {
	var all []llm.Edit
	text := w.text
	for i, p := range plugins {
		if len(text) == 0 {
			break
		}
		w.window.reset()
		err := p.run(ctx, &w.turn, &w.window, text, flags|abi.FlagFinal, &w.pass)
		if err = p.judge(ctx, err, &w.pass); err != nil {
			return nil, err
		}
		if len(w.pass.edits) == 0 {
			continue
		}
		if i < len(plugins)-1 {
			text, w.next = apply(w.next[:0], text, w.pass.edits), text
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
		p.log.WarnContext(ctx, "plugin failed, text passed as it was", "plugin", p.name, "cause", f.cause, "err", f.err)
	}
}

// refuse turns a guest's no into the gateway's.
func (p *plugin) refuse(no *refusal) error {
	r := &pipeline.Refusal{Kind: pipeline.Forbidden, Status: no.status, Stage: "plugin", Code: no.code, Reason: no.message}
	if r.Code == "" {
		r.Code = "plugin_refused"
	}
	if r.Reason == "" {
		r.Reason = "The request was refused by the plugin " + p.name + "."
	}
	return r
}

// request asks on_request and does what it says.
func (p *plugin) request(ctx context.Context, c *pipeline.Call, w *work) error {
	w.meta = appendMetadata(w.meta[:0], c)
	var s said
	refused, err := p.askRequest(ctx, &w.turn, w.meta, &s)
	switch {
	case err != nil:
		return p.failed(ctx, err)
	case refused:
		return p.refuse(&s.refusal)
	}
	for _, l := range s.labels {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[l[0]] = l[1]
	}
	for _, h := range s.headers {
		if c.Headers == nil {
			c.Headers = http.Header{}
		}
		c.Headers.Set(h[0], h[1])
	}
	if s.model != "" {
		c.Request.Model = s.model
	}
	return nil
}

// askRequest calls on_request and checks what it says.
func (p *plugin) askRequest(ctx context.Context, t *turn, meta []byte, s *said) (refused bool, err error) {
	start := time.Now()
	g, err := p.enter(ctx, t)
	if err != nil {
		return false, err
	}
	refused, err = p.callRequest(ctx, g, meta, s)
	p.leave(g, err)
	p.meter.request.done(start)
	return refused, err
}

func (p *plugin) callRequest(ctx context.Context, g *sandbox.Guest, meta []byte, s *said) (refused bool, err error) {
	if uint64(len(meta)) > uint64(p.buffers.inCap) || !g.Write(p.buffers.in, meta) {
		return false, fail(badResult, "%d bytes of metadata do not fit the in buffer of %d", len(meta), p.buffers.inCap)
	}
	word, err := g.Call(ctx, p.onRequest, uint64(len(meta)))
	if err != nil {
		return false, faultOf(ctx, err)
	}
	defer p.wipe(g, p.buffers.in, uint32(len(meta)))
	r := abi.Result(word)
	if r.Error() != 0 {
		return false, fail(declared, "%s", p.reason(g, r))
	}
	if r.Verdict() > abi.Refuse || r.Edits() != 0 {
		return false, fail(badResult, "%#x means nothing", word)
	}
	return r.Verdict() == abi.Refuse, p.readRecords(g, r, s)
}
