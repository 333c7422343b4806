package llm

import "bytes"

// What no dialect names may hold text all the same: a tool's description, a name, metadata, a member that an
// engine will read tomorrow. Every string of it is noted, so that nothing that leaves hides from plugins.

// machine are top-level members that hold no text but state and settings of the engine.
var machine = nameSet(`kv_transfer_params ec_transfer_params input_ids prompt_token_ids prompt_embeds input_embeds
	custom_logit_processor custom_params lora_path session_params session_id rid request_id bootstrap_host
	bootstrap_port bootstrap_room vllm_xargs cache_salt extra_key image_data audio_data video_data previous_response_id
	service_tier encoding_format tool_choice logit_bias`)

// opaque are members whose string is an address, an identifier or encoded data: to change it is to break it.
var opaque = nameSet(`id type role status format object call_id tool_call_id item_id file_id url image_url video_url
	audio_url file_url file_data data b64_json encrypted_content signature media_type mime_type $ref $schema`)

// other takes a top-level member that no dialect reads.
func (p *parser) other(key []byte) {
	if _, ok := machine[string(key)]; ok {
		p.skip()
		return
	}
	p.beside()
}

// aside takes the value of a member called key that is not read otherwise.
func (p *parser) aside(key []byte) {
	if _, ok := opaque[string(key)]; ok && p.peek() == '"' {
		p.skip()
		return
	}
	p.beside()
}

// beside takes any value and notes the strings in it.
func (p *parser) beside() {
	switch p.peek() {
	case '"':
		p.scrap()
	case '[':
		a := p.array()
		for p.elem(&a) {
			p.beside()
		}
	case '{':
		o := p.object(nil)
		for p.next(&o) {
			p.aside(o.key)
		}
	default:
		p.skip()
	}
}

// scrap notes the string at hand, unless it is data in a URL of its own.
func (p *parser) scrap() {
	if bytes.HasPrefix(p.b[p.i+1:], []byte("data:")) {
		p.skip()
		return
	}
	p.text(Aside, "a string")
}

// user takes the caller's name for its user, which is a text as well: it is often a mail address.
func (p *parser) user() {
	first := len(p.r.Texts)
	p.text(Aside, "a string")
	if p.err != nil || len(p.r.Texts) == first {
		return
	}
	at := p.r.Texts[first].At
	if raw := p.b[at.Start:at.End]; bytes.IndexByte(raw, '\\') < 0 {
		p.r.User = intern(raw)
	} else {
		p.r.User = string(appendDecoded(nil, raw))
	}
}
