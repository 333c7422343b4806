package plugin

import (
	"context"
	"encoding/binary"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A judge asks plugins about the tool calls of one reply.
type judge struct {
	plugins []*plugin
	turn    turn
	meta    []byte
}

// ask asks about a call in the order of the chain; each plugin sees the arguments that the one before it left. A call
// that is dropped leaves text in its place.
func (j *judge) ask(ctx context.Context, h *held) (text string, dropped bool, err error) {
	schema := j.turn.call.Request.Parameters(string(h.name))
	for _, p := range j.plugins {
		j.meta = j.appendCall(j.meta[:0], h, schema)
		s := said{route: j.turn.call.Route}
		v, err := p.put(ctx, &j.turn, question{hook: toolCallHook, call: p.onToolCall, meta: j.meta}, &s)
		switch {
		case err != nil:
			if err = p.failed(ctx, err); err != nil {
				return "", false, err
			}
		case v == abi.Refuse:
			return "", false, p.refuse(&s.refusal)
		case v == abi.Drop:
			return s.text, true, nil
		case s.hasArguments:
			h.arguments = append(h.arguments[:0], s.arguments...)
		}
	}
	return "", false, nil
}

func (j *judge) appendCall(dst []byte, h *held, schema []byte) []byte {
	le := binary.LittleEndian
	c := j.turn.call
	var flags uint32
	if c.Request.Stream {
		flags |= abi.HeadStream
	}
	for _, n := range [...]uint32{abi.CallLength, flags, uint32(h.choice), uint32(h.index)} {
		dst = le.AppendUint32(dst, n)
	}
	dst = appendFacts(dst, c)
	dst = appendRaw(dst, abi.InToolCallID, h.id)
	dst = appendRaw(dst, abi.InToolName, h.name)
	dst = appendRaw(dst, abi.InArguments, h.arguments)
	if schema != nil {
		dst = appendRaw(dst, abi.InSchema, schema)
	}
	return dst
}

// whole judges the calls of a whole body, choice by choice.
func (g *gate) whole(c llm.Chunk) error {
	v := c.View
	for i := 0; i < len(v.Calls); {
		n := i + 1
		for n < len(v.Calls) && v.Calls[n].List == v.Calls[i].List {
			n++
		}
		if err := g.list(c, v.Calls[i:n]); err != nil {
			return err
		}
		i = n
	}
	for _, f := range v.Finishes {
		for _, ch := range g.choices {
			if ch.index == f.Choice {
				g.settle(ch, f)
			}
		}
	}
	for _, ch := range g.choices {
		g.replace(c, ch)
	}
	return nil
}

// list judges the calls that stand together, and writes the list anew if that changed any.
func (g *gate) list(c llm.Chunk, calls []llm.ToolCall) error {
	ch := g.choice(calls[0].Choice)
	changed := false
	var left []byte
	for i := range calls {
		h := of(c.Data, &calls[i])
		h.add(c.Data, &calls[i])
		before := string(h.arguments)
		text, dropped, err := g.body(h)
		if err != nil {
			return err
		}
		if dropped {
			ch.dropped++
			ch.late = append(ch.late, text...)
			changed = true
			continue
		}
		ch.released++
		changed = changed || string(h.arguments) != before || calls[i].Odd
		if len(left) > 0 {
			left = append(left, ',')
		}
		if string(h.arguments) != before || calls[i].Odd {
			left = h.element(left)
			continue
		}
		left = append(left, c.Data[calls[i].At.Start:calls[i].At.End]...)
	}
	if !changed {
		return nil
	}
	g.rewrite(calls[0], left)
	return nil
}

// body judges a call of a whole body, if it is not too long.
func (g *gate) body(h *held) (text string, dropped bool, err error) {
	if len(h.arguments) > maxArguments {
		return "", false, g.fail(fail(badResult, "arguments of more than %d bytes", maxArguments))
	}
	return g.judge.ask(g.ctx, h)
}

// rewrite puts the calls that are left in place of a list.
func (g *gate) rewrite(call llm.ToolCall, left []byte) {
	g.editor.dirty, g.editor.rescan = true, true
	switch {
	case !call.Legacy:
		left = append(append([]byte{'['}, left...), ']')
	case len(left) == 0:
		left = []byte("null")
	}
	g.editor.patch.Replace(call.List, left)
}

// replace puts what dropped calls left behind the content of a choice's message.
func (g *gate) replace(c llm.Chunk, ch *choice) {
	if len(ch.late) == 0 {
		return
	}
	g.editor.dirty, g.editor.rescan = true, true
	if t, ok := lastContent(c.View, ch.index); ok {
		g.editor.put(t, append(llm.AppendText(nil, c.Data, t), ch.late...))
		return
	}
	for _, call := range c.View.Calls {
		if call.Choice == ch.index {
			putContent(&g.editor.patch, c.Data, call.Owner, string(ch.late))
			return
		}
	}
}
