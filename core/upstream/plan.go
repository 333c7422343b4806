package upstream

import (
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A plan says how a call's answer may go on at another backend, should it break off.
type plan struct {
	armed bool // at all
	ids   bool // from the numbers of its tokens
	text  bool // from its text
}

// planOf reads from the request what its answer may go on from. It may not where the engine's own state cannot be
// brought along: a grammar or a forced tool call would begin anew, several choices run side by side, and a beam or
// probabilities are not of one text.
func planOf(c *pipeline.Call, s ContinuationConfig) plan {
	r := c.Request
	if s.Most <= 0 || !r.Stream || r.N != 1 || r.TokenPrompt || c.Route != llm.Chat && c.Route != llm.Completions {
		return plan{}
	}
	p := plan{armed: true, ids: s.TokenIDs, text: true}
	r.EachField(func(name string, value []byte) bool {
		p.read(c.Route, name, value)
		return p.armed
	})
	if r.Images > 0 || len(r.Body) > mostNumbered {
		p.ids = false // the engines render media anew; a long prompt's numbers would be as long
	}
	return p
}

// mostNumbered is the longest request whose tokens' numbers are asked for, in bytes: the event that lists them must stay
// within maxEvent, and a token may be one byte.
const mostNumbered = maxEvent / 8

func (p *plan) read(route llm.Endpoint, name string, value []byte) {
	if void(value) && !(string(value) == "0" && strings.HasSuffix(name, "logprobs")) { // of which 0 asks for the tokens' own
		return
	}
	switch name {
	case "logprobs", "top_logprobs", "prompt_logprobs", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
		"guided_grammar", "structural_tag", "json_schema", "regex", "ebnf", "use_beam_search", "echo", "suffix", "modalities", "audio",
		"continue_final_message", "add_generation_prompt", "kv_transfer_params", "input_ids", "prompt_embeds", "input_embeds":
		p.armed = false
	case "best_of":
		p.armed = string(value) == "1"
	case "response_format":
		p.armed = isText(value)
	case "tool_choice":
		p.armed = string(value) == `"auto"` || string(value) == `"none"`
	case "prompt":
		p.armed = route != llm.Completions || value[0] == '"'
	case "tools":
		p.text = false // from its text alone a model goes on in prose where it was about to call
	case "stop":
		p.ids = false // engines hold text back that may begin a stop string, but not its numbers
	}
}

// isText reports whether a response_format is of type text.
func isText(format []byte) (text bool) {
	_ = llm.EachMember(format, func(name []byte, m llm.Member) bool {
		text = string(name) == "type" && string(format[m.Value.Start:m.Value.End]) == `"text"`
		return string(name) != "type"
	})
	return text
}

// void reports whether a member asks for nothing.
func void(value []byte) bool {
	switch string(value) {
	case "null", "false", "0", "[]", "{}", `""`:
		return true
	}
	return false
}
