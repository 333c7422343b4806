package mock

import (
	"bytes"
	"compress/gzip"
	"strconv"
)

// chunks speaks chat completions and legacy completions.
type chunks struct {
	x     *exchange
	p     *plan
	text  bool
	top   []byte   // `{"id":…,"model":…,"choices":[`, the part every event begins with
	heads [][]byte // top and the choice's index
	said  int      // ids sent
	usage bool     // on every event
}

func newChunks(x *exchange, p *plan, text bool) *chunks {
	v := &chunks{x: x, p: p, text: text}
	o := x.req.StreamOptions
	v.usage = o != nil && o.IncludeUsage && o.ContinuousUsageStats && !x.script.fault.has(noUsage)
	prefix, object := "chatcmpl-", "chat.completion"
	if text {
		prefix, object = "cmpl-", "text_completion"
	}
	if !text && x.req.Stream {
		object += ".chunk"
	}
	v.top = append(v.top, `{"id":"`+prefix+escape(x.id)+`","object":"`+object+`","created":`...)
	v.top = strconv.AppendInt(v.top, x.s.created, 10)
	v.top = append(v.top, `,"model":"`+escape(x.req.Model)+`","choices":[`...)
	v.heads = make([][]byte, len(p.choices))
	for c := range p.choices {
		v.heads[c] = append(strconv.AppendInt(append(bytes.Clone(v.top), `{"index":`...), int64(c), 10), ',')
	}
	return v
}

// open sends the role of every choice, which the engines do with the first token and not before it.
func (v *chunks) open(o *out) error {
	if v.text {
		return nil
	}
	for c := range v.heads {
		b := append(append(o.begin(), v.heads[c]...), `"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]`...)
		if v.p.prompt != nil {
			b = appendIDs(append(b, `,"prompt_token_ids":`...), v.p.prompt)
		}
		if err := o.send(v.tail(b)); err != nil {
			return err
		}
	}
	return nil
}

// tail ends an event after its choices.
func (v *chunks) tail(b []byte) []byte {
	if v.usage {
		b = v.appendUsage(append(b, ','))
	}
	return append(b, '}')
}

func (v *chunks) piece(o *out, c, from, to int) error {
	choice := &v.p.choices[c]
	v.said += to - from
	if v.mute(choice, from, to) {
		return nil
	}
	if choice.call != nil && from == 0 {
		if err := v.callHead(o, c); err != nil {
			return err
		}
	}
	b := append(o.begin(), v.heads[c]...)
	b = v.appendDelta(b, choice, from, to)
	if to == len(choice.ids) && v.merged(choice) {
		b = v.appendStop(append(b, `,"logprobs":null,"finish_reason":"length",`...), choice)
	} else {
		b = append(b, `,"logprobs":null,"finish_reason":null`...)
	}
	if v.x.req.ReturnTokenIDs {
		b = appendIDs(append(b, `,"token_ids":`...), choice.ids[from:to])
	}
	if v.text && from == 0 && v.p.prompt != nil && v.x.s.opts.Kind == VLLM {
		b = appendIDs(append(b, `,"prompt_token_ids":`...), v.p.prompt) // of the choice there, in its first event
	}
	return o.send(v.tail(append(b, `}]`...)))
}

// merged says that a choice ends in the event of its last piece, as vLLM's do when they reach max_tokens.
// Where a fault cuts, the end has an event of its own to be cut off.
func (v *chunks) merged(c *choice) bool {
	return v.x.s.opts.Kind == VLLM && c.answer.finish == "length" && c.call == nil && v.x.script.fault.cut == cutNone && !v.mute(c, len(c.ids)-1, len(c.ids))
}

// mute says that a piece has nothing to show: the marks of thinking, unless ids were asked for.
func (v *chunks) mute(c *choice, from, to int) bool {
	if v.x.req.ReturnTokenIDs {
		return false
	}
	return to == from+1 && (c.ids[from] == idThink || c.ids[from] == idThought)
}

func (v *chunks) appendDelta(b []byte, c *choice, from, to int) []byte {
	end := `"`
	switch {
	case v.text:
		b = append(b, `"text":"`...)
	case c.call != nil:
		b, end = append(b, `"delta":{"tool_calls":[{"index":0,"function":{"arguments":"`...), `"}}]}`
		return append(appendTexts(b, c, from, to, escapedTwice), end...)
	case from < c.thoughts:
		b, end = append(b, `"delta":{"`+v.reasoning()+`":"`...), `"}`
	default:
		b, end = append(b, `"delta":{"content":"`...), `"}`
	}
	if v.x.script.fault.has(badUTF8) {
		b = append(b, "\xc3("...)
	}
	for i := from; i < to; i++ {
		b = append(b, c.piece(i)...)
	}
	return append(b, end...)
}

func appendTexts(b []byte, c *choice, from, to int, text func(int32) string) []byte {
	for _, id := range c.ids[from:to] {
		b = append(b, text(id)...)
	}
	return b
}

// reasoning is the field newer vLLM and SGLang put thoughts in.
func (v *chunks) reasoning() string {
	if v.x.s.opts.Kind == SGLang {
		return "reasoning_content"
	}
	return "reasoning"
}

func (v *chunks) callHead(o *out, c int) error {
	call := v.p.choices[c].call
	b := append(append(o.begin(), v.heads[c]...), `"delta":{"tool_calls":[{"id":"`...)
	b = append(append(b, escape(call.id)...), `","type":"function","index":0,"function":{"name":"`...)
	b = append(append(b, call.name...), `","arguments":""}}]},"logprobs":null,"finish_reason":null}]`...)
	if err := o.send(v.tail(b)); err != nil {
		return err
	}
	return v.callPart(o, c, call.open)
}

// callPart sends a piece of the call's arguments that is no token.
func (v *chunks) callPart(o *out, c int, text string) error {
	b := append(append(o.begin(), v.heads[c]...), `"delta":{"tool_calls":[{"index":0,"function":{"arguments":"`...)
	return o.send(v.tail(append(append(b, text...), `"}}]},"logprobs":null,"finish_reason":null}]`...)))
}

func (v *chunks) finish(o *out, c int, reason string) error {
	choice := &v.p.choices[c]
	if v.merged(choice) {
		return nil
	}
	if choice.call != nil && reason != "abort" && len(choice.ids) > 0 {
		if err := v.callPart(o, c, `\"}`); err != nil {
			return err
		}
	}
	b := append(o.begin(), v.heads[c]...)
	switch {
	case v.text:
		b = append(b, `"text":""`...)
	case v.x.s.opts.Kind == SGLang:
		b = append(b, `"delta":{}`...)
	default:
		b = append(b, `"delta":{"content":""}`...)
	}
	b = append(b, `,"logprobs":null,"finish_reason":"`+reason+`",`...)
	return o.send(v.tail(append(v.appendStop(b, choice), `}]`...)))
}

func (v *chunks) appendStop(b []byte, c *choice) []byte {
	name := `"stop_reason":`
	if v.x.s.opts.Kind == SGLang {
		name = `"matched_stop":`
	}
	b = append(b, name...)
	if c.stop == "" {
		return append(b, "null"...)
	}
	return append(append(append(b, '"'), escape(c.stop)...), '"')
}

func (v *chunks) close(o *out) (string, error) {
	if v.x.req.StreamOptions == nil || !v.x.req.StreamOptions.IncludeUsage || v.x.script.fault.has(noUsage) {
		return "[DONE]", nil
	}
	b := append(append(o.begin(), v.top...), `],`...)
	return "[DONE]", o.send(append(v.appendUsage(b), '}'))
}

// appendUsage appends the member usage as it stands now.
func (v *chunks) appendUsage(b []byte) []byte {
	b = strconv.AppendInt(append(b, `"usage":{"prompt_tokens":`...), int64(v.p.tokens), 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), int64(v.p.tokens+v.said), 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(v.said), 10)
	if v.p.cached > 0 {
		b = strconv.AppendInt(append(b, `,"prompt_tokens_details":{"cached_tokens":`...), int64(v.p.cached), 10)
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendIDs(b []byte, ids []int32) []byte {
	b = append(b, '[')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(id), 10)
	}
	return append(b, ']')
}

func zip(b []byte) []byte {
	var to bytes.Buffer
	w := gzip.NewWriter(&to)
	_, _ = w.Write(b) // a bytes.Buffer takes every write
	_ = w.Close()
	return to.Bytes()
}
