package plugin

import (
	"slices"
	"strconv"

	"github.com/nexus-gateway/nexus/core/llm"
)

// A held is one tool call that is kept back: what is known of it so far, and an event to let it go in.
type held struct {
	choice, index  int
	id, name       []byte
	arguments      []byte
	custom, legacy bool
	loose          bool // it grew too long: its parts leave as they come
	begun          bool // something of it has left

	like likeness
	part []byte   // its first part as it came; empty: it cannot be used
	at   llm.Span // where in it the arguments stand
	ided bool     // it says the id
}

// A likeness is an event like the one in which a call began, with an empty call in it and none of what was said
// there besides.
type likeness struct {
	data              []byte
	slot, list, owner llm.Span // the call, the list that it stands in, the delta that has the list
}

// hold begins to hold the call of an event.
func hold(e llm.Endpoint, data []byte, call *llm.ToolCall) (*held, error) {
	like, err := like(e, data, call)
	h := of(data, call)
	h.like = like
	return h, err
}

// of is a call as it stands in data, without its texts.
func of(data []byte, call *llm.ToolCall) *held {
	h := &held{choice: call.Choice, index: call.Index, custom: call.Custom, legacy: call.Legacy}
	if call.Arguments.Start > 0 && call.Name.Len() > 0 && !call.Odd {
		h.part = slices.Clone(data[call.At.Start:call.At.End])
		h.at = llm.Span{Start: call.Arguments.Start - call.At.Start - 1, End: call.Arguments.End - call.At.Start + 1}
		h.ided = call.ID.Len() > 0
	}
	return h
}

// add adds what a part says.
func (h *held) add(data []byte, call *llm.ToolCall) {
	if len(h.id) == 0 {
		h.id = llm.AppendText(h.id, data, llm.Text{At: call.ID})
	}
	if len(h.name) == 0 {
		h.name = llm.AppendText(h.name, data, llm.Text{At: call.Name})
	}
	h.arguments = llm.AppendText(h.arguments, data, llm.Text{At: call.Arguments})
}

// said once: what must not be said again in the likeness of an event.
var saidOnce = members{"logprobs", "token_ids", "role", "stop_reason", "matched_stop"}

func like(e llm.Endpoint, data []byte, call *llm.ToolCall) (l likeness, err error) {
	var v llm.View
	if err := v.Scan(e, true, data); err != nil {
		return l, err
	}
	var p llm.Patch
	emptied(&p, &v, call)
	bare, err := p.Apply(nil, data)
	if err != nil {
		return l, err
	}
	p.Reset()
	blank(&p, bare, saidOnce)
	if l.data, err = p.Apply(nil, bare); err != nil {
		return l, err
	}
	if err := v.Scan(e, true, l.data); err != nil {
		return l, err
	}
	for _, c := range v.Calls {
		if c.Choice == call.Choice {
			l.slot, l.list, l.owner = c.At, c.List, c.Owner
			return l, nil
		}
	}
	return l, errBack
}

// emptied takes out of an event what is said there once, but for the place of call.
func emptied(p *llm.Patch, v *llm.View, call *llm.ToolCall) {
	last := llm.Span{}
	for _, c := range v.Calls {
		if c.List == last {
			continue
		}
		last = c.List
		switch {
		case c.List != call.List:
			p.Replace(c.List, []byte("null"))
		case c.Legacy:
			p.Replace(c.List, []byte("{}"))
		default:
			p.Replace(c.List, []byte("[{}]"))
		}
	}
	for _, t := range v.Texts {
		if t.At.Len() > 0 && !inCall(v, t) {
			p.Replace(t.At, nil)
		}
	}
	for _, f := range v.Finishes {
		p.Replace(f.At, []byte("null"))
	}
	if v.UsageAt.Len() > 0 {
		p.Replace(v.UsageAt, nil)
	}
}

// inCall reports whether a text stands in a tool call.
func inCall(v *llm.View, t llm.Text) bool {
	return slices.ContainsFunc(v.Calls, func(c llm.ToolCall) bool { return c.List.Start <= t.At.Start && t.At.End <= c.List.End })
}

// lastContent returns the last text of a choice that is visible and not empty.
func lastContent(v *llm.View, choice int) (t llm.Text, ok bool) {
	const spoken = 1 << 10 // no part of a content
	if v == nil {
		return t, false
	}
	for i := len(v.Texts) - 1; i >= 0; i-- {
		t = v.Texts[i]
		if t.Choice == choice && t.Channel == llm.Content && t.Tool < spoken && t.At.Len() > 0 && !inCall(v, t) {
			return t, true
		}
	}
	return t, false
}

// payload is an event that carries the call, or of one that has begun to leave, its next arguments.
func (h *held) payload() []byte {
	out := h.element(slices.Clone(h.like.data[:h.like.slot.Start]))
	h.begun = true
	return append(out, h.like.data[h.like.slot.End:]...)
}

// said is an event that carries text in the call's place.
func (h *held) said(text string) []byte {
	var p llm.Patch
	p.Replace(h.like.list, []byte("null"))
	putContent(&p, h.like.data, h.like.owner, text)
	out, err := p.Apply(nil, h.like.data)
	if err != nil {
		return h.like.data // never: the two stand apart
	}
	return out
}

// putContent gives a message, or a delta of one, text for its content.
func putContent(p *llm.Patch, data []byte, message llm.Span, text string) {
	quoted := llm.AppendString(nil, text)
	if at, ok := member(data, message, "content"); ok {
		p.Replace(at, quoted)
		return
	}
	at := message.Start + 1
	p.Replace(llm.Span{Start: at, End: at}, append(append([]byte(`"content":`), quoted...), ','))
}

// member returns where in an object the value of a member stands.
func member(data []byte, object llm.Span, name string) (at llm.Span, ok bool) {
	for i := object.Start + 1; i < object.End; {
		if data[i] != '"' {
			i++
			continue
		}
		end := stringEnd(data, i)
		value := colon(data, end)
		if value < 0 {
			return at, false
		}
		found := string(data[i+1:end-1]) == name
		i = valueEnd(data, value)
		if found {
			return llm.Span{Start: value, End: i}, true
		}
	}
	return at, false
}

// element appends the call as JSON: its first part with all of the arguments, or one made anew where that lacks
// something.
func (h *held) element(dst []byte) []byte {
	if len(h.part) > 0 && !h.begun && (h.ided || len(h.id) == 0) {
		dst = append(dst, h.part[:h.at.Start]...)
		dst = appendQuoted(dst, h.arguments)
		return append(dst, h.part[h.at.End:]...)
	}
	kind, argument := "function", "arguments"
	if h.custom {
		kind, argument = "custom", "input"
	}
	if !h.legacy {
		dst = strconv.AppendInt(append(dst, `{"index":`...), int64(h.index), 10)
		if len(h.id) > 0 && !h.begun {
			dst = appendQuoted(append(dst, `,"id":`...), h.id)
		}
		dst = append(dst, `,"type":"`+kind+`","`+kind+`":`...)
	}
	dst = append(dst, '{')
	if !h.begun {
		dst = append(appendQuoted(append(dst, `"name":`...), h.name), ',')
	}
	dst = appendQuoted(append(dst, `"`+argument+`":`...), h.arguments)
	if !h.legacy {
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// silent are members of an event that say nothing to a reader of its text.
var silent = members{"id", "object", "created", "model", "index", "system_fingerprint", "service_tier", "provider", "obfuscation",
	"logprobs", "token_ids", "prompt_token_ids", "native_finish_reason"}

// saysMore reports whether an event whose tool calls were taken out says anything.
func saysMore(c llm.Chunk) bool {
	data := c.Data
	for i := 0; i < len(data); {
		if data[i] != '"' {
			i++
			continue
		}
		end := stringEnd(data, i)
		value := colon(data, end)
		if value < 0 {
			return true
		}
		name := data[i+1 : end-1]
		i = valueEnd(data, value)
		switch {
		case string(name) == "choices" || string(name) == "delta":
			i = value + 1
		case silent.has(name) || void(data[value:i]):
		default:
			return true
		}
	}
	return false
}

// void reports whether a JSON value is none: null, or nothing in it.
func void(value []byte) bool {
	switch string(value) {
	case "null", `""`, "[]", "{}":
		return true
	}
	return false
}
