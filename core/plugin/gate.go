package plugin

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A gate keeps every tool call of a reply back until it is complete and plugins have judged it; text goes on flowing
// meanwhile. A call is complete when the next one of its choice begins, when the choice finishes, and at the end. It
// stands further out than the windows, so that what is judged is what the caller would get.
type gate struct {
	ctx     context.Context // of the call that this is the reply of
	inner   llm.Stream
	plugins []*plugin
	judge   judge
	editor  editor

	choices []*choice
	size    int      // bytes of arguments that are held
	ready   [][]byte // payloads that leave next
	at      int      // how many of them have left
	view    llm.View // of the one that left last
	raw     []byte

	// What came last from inner, while judged calls leave before it.
	waiting bool
	chunk   llm.Chunk
	err     error // of every Next from now on, once what waits has left
}

// A choice is what the gate knows of one choice's calls.
type choice struct {
	index             int
	open              *held
	released, dropped int
	done              map[int]bool // calls that were judged
	late              []byte       // what dropped calls leave in the event at hand
}

// Bounds of the calls of a reply.
const (
	maxHeldArguments = 4 << 20 // bytes of all choices together
	maxCalls         = 1024    // of one choice
)

func newGate(ctx context.Context, c *pipeline.Call, plugins []*plugin, inner llm.Stream) *gate {
	return &gate{
		ctx: ctx, inner: inner, plugins: plugins, editor: editor{endpoint: c.Route},
		judge: judge{plugins: plugins, turn: turn{call: c, reply: true}},
	}
}

// Close closes the reply. What is still held is dropped: nobody is there to read it.
func (g *gate) Close() error { return g.inner.Close() }

// Next returns the next chunk, or a judged call that leaves before it.
func (g *gate) Next() (llm.Chunk, error) {
	if g.at == len(g.ready) && !g.waiting && g.err == nil {
		g.ready, g.at = g.ready[:0], 0
		g.take(g.inner.Next())
	}
	switch {
	case g.at < len(g.ready):
		return g.leave()
	case g.waiting:
		g.waiting = false
		return g.chunk, nil
	}
	return llm.Chunk{}, g.err
}

// leave returns the next payload that is ready.
func (g *gate) leave() (llm.Chunk, error) {
	data := g.ready[g.at]
	g.at++
	g.raw = llm.AppendEvent(g.raw[:0], "", data)
	if err := g.view.Scan(g.editor.endpoint, true, data); err != nil {
		g.waiting, g.at, g.err = false, len(g.ready), err
		return llm.Chunk{}, err
	}
	return llm.Chunk{Kind: llm.Event, Raw: g.raw, Data: data, View: &g.view, More: true}, nil
}

// take deals with what came from inner: the chunk waits until what was judged by it has left.
func (g *gate) take(c llm.Chunk, err error) {
	switch {
	case err == io.EOF || err == nil && c.Kind == llm.Done:
		if no := g.completeAll(); no != nil {
			err = no
		}
	case err == nil && c.View != nil && !c.View.Error:
		c, err = g.chunked(c)
	}
	g.chunk, g.waiting, g.err = c, err == nil, err
}

func (g *gate) chunked(c llm.Chunk) (llm.Chunk, error) {
	if g.editor.endpoint == llm.Responses {
		return c, g.unjudged(c)
	}
	g.editor.begin()
	if c.Kind == llm.Body {
		if err := g.whole(c); err != nil {
			return c, err
		}
		return g.editor.finish(c)
	}
	cut := len(c.View.Calls) > 0
	if err := g.event(c); err != nil {
		return c, err
	}
	c, err := g.editor.finish(c)
	if err == nil && cut && !saysMore(c) {
		c.Raw = nil
	}
	return c, err
}

// callerRuns are the types of a response's items that the caller is to run, as JSON.
var callerRuns = [...]string{`"function_call"`, `"custom_tool_call"`, `"local_shell_call"`, `"shell_call"`, `"computer_call"`, `"apply_patch_call"`}

// unjudged applies the failure rules where tool calls come in words that the gate does not know: the Responses API's.
func (g *gate) unjudged(c llm.Chunk) error {
	if !bytes.Contains(c.Data, []byte(`_call"`)) {
		return nil
	}
	for _, kind := range callerRuns {
		if bytes.Contains(c.Data, []byte(kind)) {
			return g.fail(fail(badResult, "tool calls of the Responses API are not judged yet"))
		}
	}
	return nil
}

// fail applies the failure rule of each plugin.
func (g *gate) fail(f *failure) error {
	for _, p := range g.plugins {
		if err := p.failed(g.ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// event takes the tool calls out of an event and judges those that are complete by it.
func (g *gate) event(c llm.Chunk) error {
	for i := range c.View.Calls {
		if err := g.part(c, &c.View.Calls[i]); err != nil {
			return err
		}
	}
	for _, f := range c.View.Finishes {
		if err := g.finish(c, f); err != nil {
			return err
		}
	}
	g.cut(c.View)
	for _, ch := range g.choices {
		if len(ch.late) == 0 {
			continue
		}
		if t, ok := lastContent(c.View, ch.index); ok {
			g.editor.rescan = true
			g.editor.put(t, append(llm.AppendText(nil, c.Data, t), ch.late...))
		}
		ch.late = ch.late[:0]
	}
	return nil
}

// cut takes every list of calls out of the event at hand.
func (g *gate) cut(v *llm.View) {
	last := llm.Span{}
	for _, call := range v.Calls {
		if call.List == last {
			continue
		}
		last = call.List
		g.editor.dirty, g.editor.rescan = true, true
		g.editor.patch.Replace(last, []byte("null"))
	}
}

// part adds what an event says of a call to what is held of it.
func (g *gate) part(c llm.Chunk, call *llm.ToolCall) error {
	ch := g.choice(call.Choice)
	if ch.open != nil && ch.open.index != call.Index {
		if err := g.complete(ch, c); err != nil {
			return err
		}
	}
	if ch.open == nil {
		if ch.done[call.Index] {
			return stray(call)
		}
		if len(ch.done) >= maxCalls {
			return errBack
		}
		h, err := hold(g.editor.endpoint, c.Data, call)
		if err != nil {
			return err
		}
		ch.open = h
	}
	return g.grow(ch, c.Data, call)
}

// grow adds a part's arguments. A call that grows too long is let go unjudged if the plugins' rules let it.
func (g *gate) grow(ch *choice, data []byte, call *llm.ToolCall) error {
	h := ch.open
	before := len(h.arguments)
	h.add(data, call)
	g.size += len(h.arguments) - before
	if h.loose || len(h.arguments) > maxArguments || g.size > maxHeldArguments {
		if !h.loose {
			if err := g.fail(fail(badResult, "arguments of more than %d bytes", maxArguments)); err != nil {
				return err
			}
			ch.released++
		}
		g.ready = append(g.ready, h.payload())
		g.size -= len(h.arguments)
		h.arguments, h.loose = h.arguments[:0], true
	}
	return nil
}

var errBack = &pipeline.Refusal{
	Kind: pipeline.BadGateway, Stage: "plugin", Code: "bad_backend_answer",
	Reason: "The backend's answer holds tool calls that cannot be judged.",
}

// stray passes over a part of a call that was judged, if it says nothing.
func stray(call *llm.ToolCall) error {
	if call.Arguments.Len()+call.ID.Len()+call.Name.Len() > 0 {
		return errBack
	}
	return nil
}

// choice returns what is known of a choice.
func (g *gate) choice(index int) *choice {
	if i := slices.IndexFunc(g.choices, func(c *choice) bool { return c.index == index }); i >= 0 {
		return g.choices[i]
	}
	c := &choice{index: index, done: map[int]bool{}}
	g.choices = append(g.choices, c)
	return c
}

// finish completes what is open of a choice that finishes. One that has no call left did not end for its calls.
func (g *gate) finish(c llm.Chunk, f llm.Finish) error {
	i := slices.IndexFunc(g.choices, func(c *choice) bool { return c.index == f.Choice })
	if i < 0 {
		return nil
	}
	ch := g.choices[i]
	if ch.open != nil {
		if err := g.complete(ch, c); err != nil {
			return err
		}
	}
	g.settle(ch, f)
	return nil
}

// settle changes the finish reason of a choice whose calls were all dropped.
func (g *gate) settle(ch *choice, f llm.Finish) {
	if ch.dropped > 0 && ch.released == 0 && (f.Reason == "tool_calls" || f.Reason == "function_call") {
		g.editor.dirty, g.editor.rescan = true, true
		g.editor.patch.Replace(f.At, []byte(`"stop"`))
	}
}

// complete asks about a call and lets it go, or what stands in its place. A text follows what the event at hand says
// of the choice: that came before the call's end.
func (g *gate) complete(ch *choice, c llm.Chunk) error {
	h := ch.open
	ch.open, ch.done[h.index] = nil, true
	g.size -= len(h.arguments)
	if h.loose {
		return nil
	}
	text, dropped, err := g.judge.ask(g.ctx, h)
	if err != nil {
		return err
	}
	if !dropped {
		ch.released++
		g.ready = append(g.ready, h.payload())
		return nil
	}
	ch.dropped++
	if text == "" {
		return nil
	}
	if _, ok := lastContent(c.View, ch.index); ok {
		ch.late = append(ch.late, text...)
		return nil
	}
	g.ready = append(g.ready, h.said(text))
	return nil
}

// completeAll completes what is open at the end.
func (g *gate) completeAll() error {
	for _, ch := range g.choices {
		if ch.open == nil {
			continue
		}
		if err := g.complete(ch, llm.Chunk{}); err != nil {
			return err
		}
	}
	return nil
}
