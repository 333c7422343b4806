package upstream

import (
	"bytes"
	"strconv"
	"unicode"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A form is a way of asking a backend to go on with an answer. Forms are a metric's label.
type form string

const (
	byIDs  form = "ids"  // from the tokens so far: exactly where it stopped
	byText form = "text" // from the text so far, as the start of the assistant's turn
	anew   form = "anew" // from the start: what was delivered must come again, byte for byte
)

// A resume is how one attempt takes up an answer that was begun.
type resume struct {
	form   form
	keep   *transcript
	tokens int64 // generated so far, of those that count against max_tokens
}

// inPlaceOfPrompt reports whether the prompt's tokens stand in its place, edited as they were.
func (r *resume) inPlaceOfPrompt(c *pipeline.Call) bool {
	return r != nil && r.form == byIDs && c.Route == llm.Completions
}

// The ways in which a server is told to go on from a text; see BackendConfig.Prefill.
const (
	prefillNone  = "none"
	prefillFinal = "continue_final_message"
)

func prefillOf(c BackendConfig) string {
	switch {
	case c.Prefill != "" && c.Prefill != "auto":
		return c.Prefill
	case c.Kind == "vllm" || c.Kind == "sglang":
		return prefillFinal
	}
	return prefillNone
}

// formsAt lists the ways in which b may take up the answer, the most exact first.
func (p plan) formsAt(b *backend, t *transcript) []form {
	var forms []form
	engine := b.kind == "vllm" || b.kind == "sglang"
	if p.ids && engine && t.exact() && t.spoken > 0 && !b.peer.renders.Load() {
		forms = append(forms, byIDs)
	}
	// An engine that thinks would take a text without its thoughts for one of them.
	if p.text && b.prefill != prefillNone && !t.thinks() && len(t.trimmed()) > 0 {
		forms = append(forms, byText)
	}
	return append(forms, anew)
}

// patchResume makes of the request one that goes on.
func patchResume(patch *llm.Patch, c *pipeline.Call, b *backend, r *resume) {
	switch r.form {
	case byIDs:
		patchIDs(patch, c, b, r.keep)
	case byText:
		patchText(patch, c, b, r.keep)
	}
	if r.form != anew {
		patchRest(patch, c, r.tokens)
	}
}

func patchIDs(patch *llm.Patch, c *pipeline.Call, b *backend, t *transcript) {
	ids := t.appendIDs(nil)
	askIDs(patch, c, b)
	switch {
	case c.Route == llm.Completions:
		patch.SetField(c.Request, "prompt", ids)
	case b.kind == "sglang":
		patch.SetField(c.Request, "input_ids", ids)
	default:
		patch.SetField(c.Request, "kv_transfer_params", append(append([]byte(`{"prompt_token_ids":`), ids...), '}'))
	}
}

// askIDs asks for the numbers of the tokens.
func askIDs(patch *llm.Patch, c *pipeline.Call, b *backend) {
	patch.SetField(c.Request, "return_token_ids", []byte("true"))
	if b.kind == "sglang" {
		patch.SetField(c.Request, "return_prompt_token_ids", []byte("true"))
	}
}

// appendIDs appends the tokens of the prompt and of what was delivered as a JSON array.
func (t *transcript) appendIDs(dst []byte) []byte {
	dst = append(dst, '[')
	for i := range t.prompt.count() {
		dst = append(strconv.AppendInt(dst, int64(t.prompt.at(i)), 10), ',')
	}
	for i := range t.spoken {
		dst = append(strconv.AppendInt(dst, int64(t.tokens.at(i)), 10), ',')
	}
	dst[len(dst)-1] = ']'
	return dst
}

// resumes reports whether array lists the tokens that appendIDs does: the engine took them for its prompt.
func (t *transcript) resumes(array []byte) bool {
	got, ok := numbers(nil).scan(array)
	n := len(t.prompt)
	return ok && len(got) == n+t.spoken*numberSize && bytes.Equal(got[:n], t.prompt) && bytes.Equal(got[n:], t.tokens[:t.spoken*numberSize])
}

// patchText puts the text so far where the answer goes on from it. Templates trim an assistant's turn, so it is sent
// without the space at its end, which is then taken off what comes.
func patchText(patch *llm.Patch, c *pipeline.Call, b *backend, t *transcript) {
	said := llm.AppendString(nil, string(t.trimmed()))
	if c.Route == llm.Completions {
		if at, ok := c.Request.FieldAt("prompt"); ok {
			patch.Replace(llm.Span{Start: at.End - 1, End: at.End - 1}, said[1:len(said)-1])
		}
		return
	}
	turn := append([]byte(`,{"role":"assistant","content":`), said...)
	switch b.prefill {
	case "prefix", "partial":
		turn = append(turn, `,"`+b.prefill+`":true`...)
	case prefillFinal:
		patch.SetField(c.Request, "continue_final_message", []byte("true"))
		patch.SetField(c.Request, "add_generation_prompt", []byte("false")) // left out, the engine would begin a new turn
		patch.SetField(c.Request, "echo", []byte("false"))
	}
	if at, ok := c.Request.FieldAt("messages"); ok {
		patch.Replace(llm.Span{Start: at.End - 1, End: at.End - 1}, append(turn, '}'))
	}
}

// trimmed is the delivered text without the space at its end.
func (t *transcript) trimmed() []byte { return bytes.TrimRightFunc(t.text(content), unicode.IsSpace) }

// patchRest takes what has been generated off the caller's bounds.
func patchRest(patch *llm.Patch, c *pipeline.Call, generated int64) {
	if limit := bound(c); limit >= 0 {
		setMaxTokens(patch, c, max(limit-generated, 1))
	}
	raw, _ := c.Request.Field("min_tokens")
	if least, err := strconv.ParseInt(string(raw), 10, 64); err == nil && least > 0 {
		patch.SetField(c.Request, "min_tokens", strconv.AppendInt(nil, max(least-generated, 0), 10))
	}
}

// bound is the most tokens that the answer may have; below 0: there is none.
func bound(c *pipeline.Call) int64 {
	limit := c.Request.MaxTokens
	if limit < 0 && c.Route == llm.Completions {
		limit = completionTokens
	}
	if set := c.Decision.Set.MaxTokens; set > 0 && (limit < 0 || set < limit) {
		limit = set
	}
	return limit
}

const completionTokens = 16 // what the completions API writes unless told otherwise
