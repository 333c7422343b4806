package upstream

import (
	"bytes"
	"strconv"

	"github.com/nexus-gateway/nexus/core/llm"
)

// A graft is an event of a later attempt on its way into the answer.
type graft struct {
	*relay
	data  []byte
	view  *llm.View
	texts [3][]byte // decoded
	said  [3]bool   // the lane has a text
}

// fit makes an event of a later attempt one of the answer.
func (r *relay) fit(chunk llm.Chunk) (llm.Chunk, error) {
	v := chunk.View
	if v == nil {
		if chunk.Kind == llm.Done && r.seam.covering() {
			return r.diverge()
		}
		return chunk, nil
	}
	g := graft{relay: r, data: chunk.Data, view: v}
	ok := g.read()
	if ok && r.seam.stopped(g.texts[content]) {
		r.merge()
		_ = r.inner.Close()
		r.end("stop")
		return llm.Chunk{Kind: llm.Comment, More: true}, nil
	}
	if !ok || r.seam.covering() && len(v.Calls)+len(v.Finishes) > 0 {
		return r.diverge()
	}
	g.note()
	r.merge()
	if !g.worth() {
		return llm.Chunk{Kind: llm.Comment, More: chunk.More}, nil
	}
	r.buf = append(g.append(append(r.buf[:0], "data: "...)), "\n\n"...)
	unbreak(r.buf[:len(r.buf)-2])
	chunk.Raw, chunk.Data = r.buf, r.buf[len("data: "):len(r.buf)-2]
	if err := v.Scan(r.call.Route, true, chunk.Data); err != nil {
		return llm.Chunk{}, err
	}
	return chunk, nil
}

// diverge ends an answer that was written anew and became another one.
func (r *relay) diverge() (llm.Chunk, error) {
	r.merge()
	r.u.count.continued(r.inner.backend.name, r.seam.form, "diverged")
	r.call.Outcome.Finish = "error"
	_ = r.inner.Close()
	return llm.Chunk{}, r.first
}

// merge adds up what all attempts have used.
func (r *relay) merge() {
	o, own := &r.call.Outcome, &r.own.Outcome
	u := r.told.usage
	prompted := r.told.prompt
	if own.Counted && !prompted {
		prompted = true
		u.Prompt = own.Usage.Prompt
		if r.seam.form != anew {
			u.Prompt = max(u.Prompt-r.told.usage.Completion, 0)
		}
	}
	wrote, counted := own.Usage.Completion, own.Counted
	if !counted && r.keep.listed {
		wrote, counted = int64(r.keep.tokens.count()-r.from), true
	}
	u.Completion += wrote
	u.Reasoning += own.Usage.Reasoning
	o.Usage, o.Counted = u, prompted && r.told.answer && counted
	if own.Finish != "" {
		o.Finish = own.Finish
	}
}

// read puts the event's texts through the seam; false: it is another answer.
func (g *graft) read() bool {
	for _, t := range g.view.Texts {
		if t.At.Len() == 0 {
			continue
		}
		lane, ok := laneOf(t)
		if !ok && !g.seam.covering() {
			g.keep.room = -1 // a call or a refusal that begins here is this attempt's alone
			continue
		}
		if !ok || g.seam.form == byText && lane != content {
			return false // thoughts after a text are of another answer
		}
		fresh, ok := g.seam.take(lane, llm.AppendText(nil, g.data, t))
		if !ok {
			return false
		}
		g.texts[lane], g.said[lane] = append(g.texts[lane], fresh...), true
	}
	return true
}

// note takes down what is about to be delivered.
func (g *graft) note() {
	t := g.keep
	if t.closed {
		return
	}
	before := len(t.tokens)
	if array := g.data[g.view.Tokens.Value.Start:g.view.Tokens.Value.End]; t.listed && len(array) > 0 && array[0] == '[' {
		t.tokens, t.listed = t.tokens.scan(array)
	}
	t.room -= len(t.tokens) - before
	for lane, text := range g.texts {
		if len(text) > 0 {
			quoted := llm.AppendString(nil, string(text))
			t.lanes[lane].add(quoted[1 : len(quoted)-1])
			t.room -= len(quoted)
			t.spoken = t.tokens.count()
		}
	}
	if len(g.view.Calls) > 0 || !t.fits(0) {
		t.close()
	}
}

// worth reports whether anything of the event is for the caller.
func (g *graft) worth() bool {
	v := g.view
	return len(g.texts[0])+len(g.texts[1])+len(g.texts[2]) > 0 || len(v.Finishes)+len(v.Calls) > 0 || v.HasUsage && g.shows() ||
		v.Tokens.At.Len() > 0 && !g.order.hideTokens
}

// shows reports whether the caller asked for the usage of this event.
func (g *graft) shows() bool {
	if g.view.Choices == 0 {
		return !g.order.hideUsage
	}
	return !g.order.hideTicker && !g.hidden.hideTicker
}

// append appends the event with the answer's own id, model and usage, and with the texts that are new.
func (g *graft) append(dst []byte) []byte {
	return appendMembers(dst, g.data, g.member)
}

// member says what becomes of a member of the event: another value, or none.
func (g *graft) member(name string, value []byte) ([]byte, bool) {
	t := g.keep
	switch name {
	case "id":
		return own(t.id, value), true
	case "object":
		return own(t.object, value), true
	case "created":
		return own(t.made, value), true
	case "model":
		return own(t.model, value), true
	case "system_fingerprint", "prompt_token_ids":
		return nil, false
	case "usage":
		if string(value) == "null" {
			return value, !g.order.hideNull && !g.hidden.hideNull
		}
		return appendUsage(nil, g.call.Outcome.Usage), g.shows()
	case "choices":
		return g.choices(value), true
	}
	return value, true
}

// own is the answer's own value, where its first event had one.
func own(first, value []byte) []byte {
	if len(first) > 0 {
		return first
	}
	return value
}

func (g *graft) choices(value []byte) []byte {
	if len(value) < 2 || value[0] != '[' {
		return value
	}
	inner := bytes.TrimSpace(value[1 : len(value)-1])
	if len(inner) == 0 {
		return value
	}
	return append(appendMembers([]byte{'['}, inner, g.choice), ']')
}

func (g *graft) choice(name string, value []byte) ([]byte, bool) {
	switch name {
	case "delta":
		return appendMembers(nil, value, g.delta), true
	case "text":
		return g.text(content, value), true
	case "token_ids":
		return value, !g.order.hideTokens
	case "prompt_token_ids":
		return nil, false
	}
	return value, true
}

func (g *graft) delta(name string, value []byte) ([]byte, bool) {
	switch name {
	case "role":
		return nil, false // it was told
	case "content":
		return g.text(content, value), true
	case "reasoning":
		return g.text(thought, value), true
	case "reasoning_content":
		return g.text(reasoning, value), true
	}
	return value, true
}

func (g *graft) text(lane int, value []byte) []byte {
	if !g.said[lane] || len(value) == 0 || value[0] != '"' {
		return value
	}
	return llm.AppendString(nil, string(g.texts[lane]))
}

// appendMembers appends object with each of its members' values as change says; false takes the member out.
func appendMembers(dst, object []byte, change func(name string, value []byte) ([]byte, bool)) []byte {
	if len(object) == 0 || object[0] != '{' {
		return append(dst, object...)
	}
	dst = append(dst, '{')
	empty := true
	_ = llm.EachMember(object, func(name []byte, m llm.Member) bool { // it was scanned before
		value, ok := change(string(name), object[m.Value.Start:m.Value.End])
		if !ok {
			return true
		}
		if !empty {
			dst = append(dst, ',')
		}
		empty = false
		dst = append(append(dst, object[m.At.Start:m.Value.Start]...), value...)
		return true
	})
	return append(dst, '}')
}

func appendUsage(dst []byte, u llm.Usage) []byte {
	dst = strconv.AppendInt(append(dst, `{"prompt_tokens":`...), u.Prompt, 10)
	dst = strconv.AppendInt(append(dst, `,"total_tokens":`...), u.Prompt+u.Completion, 10)
	dst = strconv.AppendInt(append(dst, `,"completion_tokens":`...), u.Completion, 10)
	if u.Cached > 0 {
		dst = strconv.AppendInt(append(dst, `,"prompt_tokens_details":{"cached_tokens":`...), u.Cached, 10)
		dst = append(dst, '}')
	}
	if u.Reasoning > 0 {
		dst = strconv.AppendInt(append(dst, `,"completion_tokens_details":{"reasoning_tokens":`...), u.Reasoning, 10)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// full ends an answer whose last token was delivered before its end was told. It reports whether that is so.
func (r *relay) full() bool {
	t := r.keep
	limit := bound(r.call)
	if limit < 0 || !t.exact() || int64(t.spoken) < limit || t.spoken != t.tokens.count() {
		return false
	}
	r.end("length")
	return true
}

// end ends the answer with events of the gateway's own.
func (r *relay) end(reason string) {
	o := &r.call.Outcome
	o.Finish = reason
	choice := `"delta":{}`
	if r.call.Route == llm.Completions {
		choice = `"text":""`
	}
	r.push([]byte(`[{"index":0,`+choice+`,"logprobs":null,"finish_reason":"`+reason+`"}]`), nil)
	if !r.order.hideUsage {
		r.push([]byte("[]"), appendUsage(nil, o.Usage))
	}
	r.queue = append(r.queue, llm.Chunk{Raw: doneEvent, Kind: llm.Done})
	r.ended = true
}

// push puts an event of the gateway's own into the queue.
func (r *relay) push(choices, usage []byte) {
	t := r.keep
	data := []byte{'{'}
	for _, m := range []struct {
		name  string
		value []byte
	}{{"id", t.id}, {"object", t.object}, {"created", t.made}, {"model", t.model}, {"choices", choices}, {"usage", usage}} {
		if len(m.value) == 0 {
			continue
		}
		if len(data) > 1 {
			data = append(data, ',')
		}
		data = append(append(append(append(data, '"'), m.name...), '"', ':'), m.value...)
	}
	data = append(data, '}')
	v := new(llm.View)
	if v.Scan(r.call.Route, true, data) != nil {
		return // the first event's members were JSON
	}
	raw := llm.AppendEvent(nil, "", data)
	r.queue = append(r.queue, llm.Chunk{Raw: raw, Data: data, Kind: llm.Event, View: v, More: true})
}
