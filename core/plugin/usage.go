package plugin

import (
	"context"
	"encoding/binary"
	"io"
	"sync"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A gauge shows plugins what a reply has used: each time the backend says so, and once in the end, before the end is
// handed on, so that it can still be refused. It stands nearest to the backend: further out, what only the gateway
// asked for is hidden.
type gauge struct {
	ctx     context.Context // of the call that this is the reply of
	inner   llm.Stream
	plugins []*plugin
	err     error // of every Next from now on

	mu      sync.Mutex // held while plugins are asked; Close may come from elsewhere
	turn    turn
	meta    []byte
	usage   llm.Usage
	counted bool // the backend said it
	final   bool // the last has been said
}

func newGauge(ctx context.Context, c *pipeline.Call, plugins []*plugin, inner llm.Stream) *gauge {
	return &gauge{ctx: ctx, inner: inner, plugins: plugins, turn: turn{call: c, reply: true}}
}

// Next returns the next chunk, once what it says of usage was let pass.
func (g *gauge) Next() (llm.Chunk, error) {
	if g.err != nil {
		return llm.Chunk{}, g.err
	}
	c, err := g.inner.Next()
	if says, final := g.read(c, err); says {
		if no := g.ask(g.ctx, final); no != nil {
			g.err = no
			return llm.Chunk{}, no
		}
	}
	g.err = err
	return c, err
}

// read notes the usage that a chunk or the end of the stream tells; says is whether there is something to ask about.
func (g *gauge) read(c llm.Chunk, err error) (says, final bool) {
	v := c.View
	switch {
	case err != nil:
		return err == io.EOF, true
	case c.Kind == llm.Done:
		return true, true
	case v == nil || v.Error:
		return false, false
	}
	if v.HasUsage {
		g.mu.Lock()
		g.usage, g.counted = v.Usage, true
		g.mu.Unlock()
	}
	final = c.Kind == llm.Body || v.Type != "" && len(v.Finishes) > 0 // the Responses API has no [DONE]
	return v.HasUsage || final, final
}

// ask asks every plugin, and of the end only once: that each is told, whatever those before it say.
func (g *gauge) ask(ctx context.Context, final bool) (no error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.final {
		return nil
	}
	g.final = final
	for _, p := range g.plugins {
		if err := g.askOne(ctx, p); err != nil && no == nil {
			no = err
		}
		if no != nil && !final {
			return no
		}
	}
	return no
}

func (g *gauge) askOne(ctx context.Context, p *plugin) error {
	g.meta = g.appendUsage(g.meta[:0])
	var s said
	v, err := p.put(ctx, &g.turn, question{hook: usageHook, call: p.onUsage, meta: g.meta}, &s)
	switch {
	case err != nil:
		return p.failed(ctx, err)
	case v == abi.Refuse:
		return p.refuse(&s.refusal)
	}
	return nil
}

func (g *gauge) appendUsage(dst []byte) []byte {
	le := binary.LittleEndian
	c := g.turn.call
	u, flags := g.usage, uint32(0)
	if g.final {
		flags = abi.UsageFinal
	}
	if !g.counted {
		u = c.Outcome.Usage
		if !c.Outcome.Counted {
			flags |= abi.UsageEstimated
		}
	}
	dst = le.AppendUint32(dst, abi.UsageLength)
	dst = le.AppendUint32(dst, flags)
	dst = appendTokens(dst, u)
	dst = appendFacts(dst, c)
	return appendRecord(dst, abi.InBackend, "", c.Outcome.Backend)
}

func appendTokens(dst []byte, u llm.Usage) []byte {
	for _, n := range [...]int64{u.Prompt, u.Completion, u.Cached, u.Reasoning} {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(max(n, 0)))
	}
	return dst
}

// Close closes the reply. What was used of one that ended early is told all the same; nobody is there to refuse it to.
func (g *gauge) Close() error {
	err := g.inner.Close()
	_ = g.ask(context.WithoutCancel(g.ctx), true)
	return err
}
