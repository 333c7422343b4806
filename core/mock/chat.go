package mock

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	x, ok := s.begin(w, r)
	if !ok || x.invalidChat() {
		return
	}
	x.answer(chatDialect)
}

func (s *Server) completions(w http.ResponseWriter, r *http.Request) {
	x, ok := s.begin(w, r)
	if !ok || x.invalid() {
		return
	}
	if len(x.req.Prompt) == 0 {
		x.refuse(400, "prompt", "Field required")
		return
	}
	x.answer(textDialect)
}

func (s *Server) responses(w http.ResponseWriter, r *http.Request) {
	x, ok := s.begin(w, r)
	if !ok {
		return
	}
	x.nested = true
	if len(x.req.Input) == 0 {
		x.refuse(400, "input", "Field required")
		return
	}
	x.req.Messages = x.req.conversation()
	x.answer(responsesDialect)
}

func (x *exchange) invalidChat() bool {
	q := &x.req
	switch {
	case len(q.Messages) == 0:
		return !x.refuse(400, "messages", "List should have at least 1 item after validation, not 0")
	case q.Tools != nil && len(q.Tools) == 0:
		return !x.refuse(400, "tools", "tools must not be an empty list")
	case q.ContinueFinalMessage && q.AddGenerationPrompt != nil && *q.AddGenerationPrompt && x.s.opts.Kind == VLLM:
		return !x.refuse(400, "", "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
	}
	return x.invalid()
}

const maxChoices = 128

func (x *exchange) invalid() bool {
	q := &x.req
	switch {
	case q.StreamOptions != nil && !q.Stream:
		return !x.refuse(400, "stream_options", "Stream options can only be defined when `stream=True`.")
	case q.choices() < 1 || q.choices() > maxChoices:
		return !x.refuse(400, "n", "n must be at least 1 and at most "+strconv.Itoa(maxChoices))
	case q.limit() < 0 || q.MaxTokens != nil && *q.MaxTokens == 0:
		return !x.refuse(400, "max_tokens", "max_tokens must be at least 1")
	}
	return false
}

// A choice is one answer with what its shape needs.
type choice struct {
	answer
	call *call
}

// A call makes the answer's text the argument of a tool.
type call struct{ id, name, open string }

// A plan is the whole reply, decided before its first byte.
type plan struct {
	choices []choice
	prompt  []int32 // ids, when asked for
	tokens  int     // prompt ids
	cached  int     // of them in the prefix cache
	resumed bool    // the answer goes on from one that was begun
}

// answer plans the reply and sends it.
func (x *exchange) answer(d dialect) {
	leave := x.enter()
	if leave == nil {
		return
	}
	defer leave()
	start := time.Now()
	p := x.plan(d)
	if p.tokens > x.s.opts.MaxContext {
		x.overflow(p.tokens)
		return
	}
	if x.misbehave(p) {
		return
	}
	start = start.Add(x.script.ttft + time.Duration(p.tokens-p.cached)*x.s.opts.Prefill)
	if x.req.Stream {
		x.stream(d, p, start)
		return
	}
	x.whole(d, p, start)
}

func (x *exchange) overflow(n int) {
	limit := strconv.Itoa(x.s.opts.MaxContext)
	x.refuse(400, "", "This model's maximum context length is "+limit+" tokens. However, you requested "+strconv.Itoa(n)+" tokens.")
}

func (x *exchange) plan(d dialect) *plan {
	p := &plan{resumed: x.req.continues() || x.req.given(x.s.opts.Kind) != nil}
	var blocks []uint64
	for _, prompt := range x.prompts(d) {
		r := reading{keep: x.wantsPromptIDs()}
		if x.s.opts.Prefill > 0 {
			r.blocks = &blocks
		}
		prompt(&r)
		p.prompt, p.tokens = append(p.prompt, r.ids...), p.tokens+r.count
		p.resumed = p.resumed || d == textDialect && r.run > 0
		x.choose(p, r, d)
	}
	p.cached = x.s.cached(blocks) * block
	x.s.counts.prompt(p.tokens, p.cached)
	return p
}

func (x *exchange) wantsPromptIDs() bool {
	return x.req.ReturnTokenIDs && x.s.opts.Kind == VLLM || x.req.ReturnPromptIDs
}

// choose adds the choices that follow r.
func (x *exchange) choose(p *plan, r reading, d dialect) {
	n, call := x.length(d), x.toolCall(d)
	stops := x.req.stops()
	for range x.req.choices() {
		each := r
		if i := len(p.choices); i > 0 {
			each.hash = mix(each.hash, int32(-i))
		}
		c := choice{answer: each.say(n), call: call}
		if len(stops) > 0 {
			c.until(stops)
		}
		p.choices = append(p.choices, c)
	}
}

const defaultCompletion = 16 // ids, where the legacy API is given no max_tokens

func (x *exchange) length(d dialect) length {
	n := length{words: x.script.tokens, limit: x.req.limit()}
	if d == textDialect {
		if n.limit == 0 {
			n.limit = defaultCompletion
		}
		return n
	}
	if x.script.echo || strings.HasSuffix(x.req.Model, "echo") {
		n.script = []int32{}
		tokens(x.req.lastUser(), func(id int32) { n.script = append(n.script, id) })
		return n
	}
	asked := x.req.ChatTemplateKwargs.EnableThinking
	if strings.HasSuffix(x.req.Model, "think") && asked == nil || asked != nil && *asked {
		n.think = x.script.think
	}
	return n
}

// prompts are the readings that the reply's choices follow.
func (x *exchange) prompts(d dialect) []func(*reading) {
	if d != textDialect {
		return []func(*reading){func(r *reading) { x.req.template(r, x.s.opts.Kind) }}
	}
	return legacyPrompts(x.req.Prompt)
}

// toolCall is the call the answer is to be, if it is one.
func (x *exchange) toolCall(d dialect) *call {
	if d != chatDialect || len(x.req.Tools) == 0 {
		return nil
	}
	name, asked := chosen(x.req.ToolChoice)
	if name == "" {
		name = x.script.call
	}
	last := x.req.Messages[len(x.req.Messages)-1].Role
	if !asked && (name == "" || last == "tool") {
		return nil
	}
	t := &x.req.Tools[0]
	for i := range x.req.Tools {
		if x.req.Tools[i].name() == name {
			t = &x.req.Tools[i]
		}
	}
	prefix := "chatcmpl-tool-"
	if x.s.opts.Kind == SGLang {
		prefix = "call_"
	}
	return &call{id: prefix + x.id, name: escape(t.name()), open: escape(`{"` + escape(t.argument()) + `": "`)}
}
