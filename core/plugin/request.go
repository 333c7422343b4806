package plugin

import (
	"context"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// request asks on_request and does what it says. A reply, if there is one, is the call's: no backend is asked.
func (p *plugin) request(ctx context.Context, c *pipeline.Call, w *work) (*llm.Reply, error) {
	w.meta = appendMetadata(w.meta[:0], c)
	if p.granted["headers"] {
		w.meta = appendHeaders(w.meta, c.Header)
	}
	s := said{route: c.Route}
	v, err := p.put(ctx, &w.turn, question{hook: requestHook, call: p.onRequest, meta: w.meta}, &s)
	switch {
	case err != nil:
		return nil, p.failed(ctx, err)
	case v == abi.Refuse:
		return nil, p.refuse(&s.refusal)
	}
	s.tell(c)
	if v == abi.Answer {
		a := llm.Answer{ID: c.ID, Model: c.Request.Model, Text: s.text, At: time.Now(), Stream: c.Request.Stream, Usage: c.Request.IncludeUsage}
		return a.Reply(c.Route)
	}
	return nil, nil
}

// tell puts what was said of a request where the call's other stages read it.
func (s *said) tell(c *pipeline.Call) {
	for _, l := range s.labels {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[l[0]] = l[1]
	}
	c.Headers = applyChanges(c.Headers, s.headers)
	c.Forward = applyChanges(c.Forward, s.forward)
	if s.model != "" {
		c.Request.Model = s.model
	}
	if s.pool != "" {
		c.Pool = s.pool
	}
	for _, p := range s.system {
		p.tell(&c.System)
	}
}

// A prompt is text round the first system message.
type prompt struct{ where, text string }

// tell says the prompt round what earlier ones have made of the message, as one plugin's edits apply to what the
// one before it made of a text.
func (p prompt) tell(s *pipeline.System) {
	switch p.where {
	case abi.SystemBefore:
		s.Before = p.text + s.Before
	case abi.SystemAfter:
		s.After += p.text
	default:
		*s = pipeline.System{Replace: p.text}
	}
}
