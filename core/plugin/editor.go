package plugin

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/nexus-gateway/nexus/core/llm"
)

// An editor writes chunks anew: those whose texts changed, and those that carry a held tail. What it
// returns is good until it is used again.
type editor struct {
	endpoint llm.Endpoint
	patch    llm.Patch
	dirty    bool
	puts     int      // texts put
	at       llm.Span // where the last one stood
	rescan   bool     // more changed than texts that were put
	raw      []byte
	data     []byte
	quoted   []byte
	view     llm.View
}

// begin starts a chunk.
func (e *editor) begin() {
	if e.dirty {
		e.patch.Reset()
		e.dirty, e.rescan, e.puts = false, false, 0
	}
}

// edit notes edits of a text.
func (e *editor) edit(data []byte, t llm.Text, edits []llm.Edit) error {
	e.dirty, e.rescan = true, true
	if err := e.patch.EditText(data, t, edits); err != nil {
		return fmt.Errorf("plugin: edit a reply: %w", err)
	}
	return nil
}

// put notes that t's text is now text.
func (e *editor) put(t llm.Text, text []byte) {
	e.dirty, e.at = true, t.At
	e.puts++
	e.quoted = appendQuoted(e.quoted[:0], text)
	e.patch.Replace(llm.Span{Start: t.At.Start - 1, End: t.At.End + 1}, e.quoted)
}

// finish returns the chunk with what was noted, the same when nothing was. An event's tokens go even then:
// engines send them ahead of the text they stand for, while that waits for a stop string or a parser.
func (e *editor) finish(c llm.Chunk) (llm.Chunk, error) {
	if c.Raw == nil { // hidden: nobody gets it
		return c, nil
	}
	if (e.dirty || c.Kind != llm.Body) && hasTokens(c.Data) {
		blank(&e.patch, c.Data, tokens)
		e.dirty, e.rescan = true, true
	}
	if !e.dirty {
		return c, nil
	}
	at := frame(c)
	if at < 0 {
		return e.event(c, c.Data, c.View.Type)
	}
	before := len(c.Data)
	e.raw = append(e.raw[:0], c.Raw[:at]...)
	raw, err := e.patch.Apply(e.raw, c.Data)
	if err != nil {
		return llm.Chunk{}, fmt.Errorf("plugin: rewrite a reply: %w", err)
	}
	end := len(raw)
	e.raw = append(raw, c.Raw[at+len(c.Data):]...)
	c.Raw, c.Data = e.raw, e.raw[at:end:end]
	if e.rescan || e.puts > 1 || len(c.View.Calls) > 0 {
		return e.see(c)
	}
	e.shift(c.View, len(c.Data)-before)
	c.View = &e.view
	return c, nil
}

// shift makes e's view what v is once the one text that was put has grown by n bytes. Reading the payload
// again would say the same, and cost as much as all the rest.
func (e *editor) shift(v *llm.View, n int) {
	texts, finishes, calls := append(e.view.Texts[:0], v.Texts...), append(e.view.Finishes[:0], v.Finishes...), e.view.Calls[:0]
	e.view = *v
	e.view.Calls = calls
	e.view.Texts, e.view.Finishes = texts, finishes
	for i := range texts {
		texts[i].At = e.moved(texts[i].At, n)
	}
	for i := range finishes {
		finishes[i].At = e.moved(finishes[i].At, n)
	}
	e.view.UsageAt, e.view.ErrorAt = e.moved(v.UsageAt, n), e.moved(v.ErrorAt, n)
}

// moved returns where a span stands then.
func (e *editor) moved(s llm.Span, n int) llm.Span {
	if s.Start > e.at.End {
		s.Start += n
	}
	if s.End >= e.at.End {
		s.End += n
	}
	return s
}

// frame returns where in c.Raw its payload stands, -1 when it had several data lines and does not.
func frame(c llm.Chunk) int {
	at := cap(c.Raw) - cap(c.Data)
	if len(c.Data) > 0 && at >= 0 && at+len(c.Data) <= len(c.Raw) && &c.Raw[at] == &c.Data[0] {
		return at
	}
	return bytes.Index(c.Raw, c.Data)
}

// event makes c an event of data with what was noted.
func (e *editor) event(c llm.Chunk, data []byte, name string) (llm.Chunk, error) {
	out, err := e.patch.Apply(e.data[:0], data)
	if err != nil {
		return llm.Chunk{}, fmt.Errorf("plugin: rewrite a reply: %w", err)
	}
	e.data = out
	e.raw = llm.AppendEvent(e.raw[:0], name, out)
	c.Raw, c.Data = e.raw, e.data
	return e.see(c)
}

// see gives c a view of what it says now.
func (e *editor) see(c llm.Chunk) (llm.Chunk, error) {
	if err := e.view.Scan(e.endpoint, c.Kind != llm.Body, c.Data); err != nil {
		return llm.Chunk{}, fmt.Errorf("plugin: read a rewritten reply: %w", err)
	}
	c.View = &e.view
	return c, nil
}

// tail makes an event that carries text on k, in the likeness of an earlier one of that lane: same id,
// model and time, and none of what was said there once.
func (e *editor) tail(template []byte, k key, text []byte) (llm.Chunk, error) {
	if err := e.view.Scan(e.endpoint, true, template); err != nil {
		return llm.Chunk{}, fmt.Errorf("plugin: read an earlier event: %w", err)
	}
	e.begin()
	e.dirty = true
	for _, t := range e.view.Texts {
		switch {
		case keyOf(t) == k:
			e.put(t, text)
			text = nil
		case t.At.Len() > 0:
			e.put(t, nil)
		}
	}
	if e.view.UsageAt.Len() > 0 {
		e.patch.Replace(e.view.UsageAt, nil)
	}
	name, keys := e.view.Type, tokens
	if e.endpoint != llm.Responses {
		name, keys = "", once
	}
	blank(&e.patch, template, keys)
	return e.event(llm.Chunk{Kind: llm.Event, More: true}, template, name)
}

// appendQuoted appends text as a JSON string. The string it is taken for lives no longer than the call, so
// that text need not be copied.
func appendQuoted(dst, text []byte) []byte {
	return llm.AppendString(dst, unsafe.String(unsafe.SliceData(text), len(text)))
}
