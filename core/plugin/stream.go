package plugin

import (
	"context"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A stream puts the texts of a reply through the plugins. What does not change passes by reference; what
// they hold back leaves before any later event of its choice.
type stream struct {
	ctx      context.Context // of the call that this is the reply of
	inner    llm.Stream
	endpoint llm.Endpoint
	plugins  []*plugin
	lanes    []*lane

	// What came last from inner, while held tails leave before it.
	waiting bool
	chunk   llm.Chunk
	end     error
	err     error // of every Next from now on

	work    work
	turns   [2][]byte // texts between plugins
	tokens  *restorer // nil: nothing is put back
	values  []byte    // what it makes of a text
	editor  editor
	scratch []byte
}

// A key tells streams of text apart.
type key struct {
	choice  int
	channel llm.Channel
	tool    int
}

func keyOf(t llm.Text) key { return key{t.Choice, t.Channel, t.Tool} }

// A lane is one stream of text on its way through the plugins: a window for each of them.
type lane struct {
	key      key
	windows  []window
	kept     []byte // the start of what may be a token that stands for a value
	flags    uint32
	open     bool   // text has come and its end has not
	due      bool   // its end has come; what it holds leaves next
	template []byte // an event of the lane, to send what is held in
}

func (l *lane) holds() bool {
	for i := range l.windows {
		if len(l.windows[i].held) > 0 {
			return true
		}
	}
	return len(l.kept) > 0
}

func (l *lane) close() {
	l.open, l.due, l.kept = false, false, l.kept[:0]
	for i := range l.windows {
		l.windows[i].reset()
	}
}

func newStream(ctx context.Context, c *pipeline.Call, plugins []*plugin, tokens *restorer, inner llm.Stream) *stream {
	s := &stream{
		ctx: ctx, inner: inner, endpoint: c.Route, plugins: plugins, tokens: tokens, editor: editor{endpoint: c.Route},
		work: work{turn: turn{call: c, reply: true}},
	}
	s.work.pass.turn = &s.work.turn
	return s
}

// Close closes the reply. What is still held is dropped: nobody is there to read it.
func (s *stream) Close() error { return s.inner.Close() }

// Next returns the next chunk, or a held tail that must leave before it.
func (s *stream) Next() (llm.Chunk, error) {
	if s.err != nil {
		return llm.Chunk{}, s.err
	}
	if !s.waiting {
		s.chunk, s.end = s.inner.Next()
		s.waiting = true
		s.mark()
	}
	for _, l := range s.lanes {
		if !l.due {
			continue
		}
		c, ok, err := s.flush(l)
		if err != nil {
			return s.stop(err)
		}
		if ok {
			return c, nil
		}
	}
	s.waiting = false
	if s.end != nil {
		return s.stop(s.end)
	}
	c, err := s.through(s.chunk)
	if err != nil {
		return s.stop(err)
	}
	return c, nil
}

func (s *stream) stop(err error) (llm.Chunk, error) {
	s.err = err
	return llm.Chunk{}, err
}

// mark finds the lanes whose text ends before the chunk at hand.
func (s *stream) mark() {
	v := s.chunk.View
	all := s.end != nil || s.chunk.Kind == llm.Done || v != nil && v.Error
	if !all && v == nil {
		return
	}
	for _, l := range s.lanes {
		l.due = l.open && (all || s.ends(l, v))
	}
}

// ends reports whether l's text ended before v: the choice goes on elsewhere, or is finished without it. An
// empty text is nothing going on, but for the arguments of a tool call that begins.
func (s *stream) ends(l *lane, v *llm.View) bool {
	elsewhere := false
	for _, t := range v.Texts {
		idle := t.At.Len() == 0 && t.Channel != llm.ToolArguments && keyOf(t) != l.key
		switch {
		case t.Choice != l.key.choice || idle:
		case !t.Whole && keyOf(t) == l.key:
			return false
		default:
			elsewhere = true
		}
	}
	return elsewhere || s.finished(v, l.key.choice)
}

// finished reports whether the choice ends with v. A response of the Responses API ends as a whole.
func (s *stream) finished(v *llm.View, choice int) bool {
	for _, f := range v.Finishes {
		if f.Choice == choice || s.endpoint == llm.Responses {
			return true
		}
	}
	return false
}

// flush ends l and returns the event its held tail leaves in; ok is false when nothing was held.
func (s *stream) flush(l *lane) (c llm.Chunk, ok bool, err error) {
	l.due = false
	if !l.holds() {
		l.close()
		return llm.Chunk{}, false, nil
	}
	tail, _, err := s.push(l, nil, true)
	l.close()
	if err != nil || len(tail) == 0 {
		return llm.Chunk{}, false, err
	}
	c, err = s.editor.tail(l.template, l.key, tail)
	return c, err == nil, err
}

// push feeds a delta to the lane's windows, one plugin's released text being the next one's delta, and
// returns what the last lets go. changed is false when that is the delta itself.
func (s *stream) push(l *lane, delta []byte, final bool) (text []byte, changed bool, err error) {
	flags := l.flags
	if final {
		flags |= abi.FlagFinal
	}
	text = delta
	turn := 0 // which of turns text does not stand in
	for i, p := range s.plugins {
		out, edited, err := s.step(p, &l.windows[i], text, flags, &s.turns[turn])
		if err != nil {
			return nil, false, err
		}
		if edited {
			text, changed, turn = out, true, 1-turn
		}
	}
	if s.tokens != nil {
		return s.restore(l, text, changed, final)
	}
	return text, changed, nil
}

// step feeds a delta to one window. What is let go is the delta itself, or stands in out.
func (s *stream) step(p *plugin, w *window, delta []byte, flags uint32, out *[]byte) (text []byte, changed bool, err error) {
	input, fresh := delta, len(w.held) == 0
	if !fresh {
		w.held = append(w.held, delta...)
		input = w.held
	}
	if len(input) == 0 {
		return delta, false, nil
	}
	r := &s.work.pass
	if err := p.run(s.ctx, w, input, flags, r); err != nil || r.answer.refused != nil {
		w.remember(input, p.manifest.Context)
		if err = p.judge(s.ctx, err, r); err != nil {
			return nil, false, err
		}
	}
	if fresh && r.hold == 0 && len(r.edits) == 0 {
		return delta, false, nil
	}
	gone := len(input) - r.hold
	if flags>>abi.ChannelShift&abi.ChannelMask == abi.ToolArguments {
		s.quote(r)
	}
	*out = apply((*out)[:0], input[:gone], r.edits)
	if fresh {
		w.held = append(w.held[:0], input[gone:]...)
	} else {
		w.held = w.held[:copy(w.held, input[gone:])]
	}
	return *out, true, nil
}

// quote escapes what edits put into tool arguments, which are JSON themselves: text to be masked stands
// inside a string there.
func (s *stream) quote(r *pass) {
	for i := range r.edits {
		q := llm.AppendString(nil, string(r.edits[i].With))
		r.edits[i].With = q[1 : len(q)-1]
	}
}

// through puts a chunk's texts through the plugins.
func (s *stream) through(c llm.Chunk) (llm.Chunk, error) {
	if c.Kind == llm.Malformed {
		c.Raw = nil // nobody could look into it
		return c, nil
	}
	if c.View == nil {
		return c, nil
	}
	s.editor.begin()
	for i, t := range c.View.Texts {
		var err error
		if t.Whole || c.Kind == llm.Body {
			err = s.whole(c, t)
		} else {
			err = s.delta(c, t, s.last(c.View, i))
		}
		if err != nil {
			return llm.Chunk{}, err
		}
	}
	return s.editor.finish(c)
}

// last reports whether the i-th text is the end of its lane.
func (s *stream) last(v *llm.View, i int) bool {
	t := v.Texts[i]
	if !s.finished(v, t.Choice) {
		return false
	}
	for _, later := range v.Texts[i+1:] {
		if keyOf(later) == keyOf(t) {
			return false
		}
	}
	return true
}

// whole edits a text that is complete by itself.
func (s *stream) whole(c llm.Chunk, t llm.Text) error {
	w := &s.work
	w.text = llm.AppendText(w.text[:0], c.Data, t)
	edits, err := chain(s.ctx, s.plugins, w, flagsOf(t)|abi.FlagReply)
	if s.tokens != nil && err == nil {
		s.values = apply(s.values[:0], w.text, edits)
		edits = compose(edits, s.tokens.edits(s.values))
	}
	if err != nil || len(edits) == 0 {
		return err
	}
	return s.editor.edit(c.Data, t, edits)
}

// delta edits one delta of a text that goes on.
func (s *stream) delta(c llm.Chunk, t llm.Text, final bool) error {
	l := s.lane(t)
	if t.At.Len() == 0 && !(final && l.holds()) {
		if final {
			l.close()
		}
		return nil
	}
	l.open = true
	s.scratch = llm.AppendText(s.scratch[:0], c.Data, t)
	text, changed, err := s.push(l, s.scratch, final)
	if err != nil {
		return err
	}
	if changed {
		s.editor.put(t, text)
	}
	switch {
	case final:
		l.close()
	case (len(l.template) == 0 || s.endpoint == llm.Responses) && l.holds():
		l.template = append(l.template[:0], c.Data...)
	}
	return nil
}

// lane returns the lane of a text.
func (s *stream) lane(t llm.Text) *lane {
	k := keyOf(t)
	for _, l := range s.lanes {
		if l.key == k {
			return l
		}
	}
	l := s.idle()
	l.key, l.flags, l.template = k, flagsOf(t)|abi.FlagReply, l.template[:0]
	return l
}

// idle returns a lane whose text has ended, or a new one: an answer of a thousand tool calls needs no more
// lanes than are open at a time.
func (s *stream) idle() *lane {
	for _, l := range s.lanes {
		if !l.open {
			return l
		}
	}
	l := &lane{windows: make([]window, len(s.plugins))}
	s.lanes = append(s.lanes, l)
	return l
}
