package mock

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A request is what the mock reads of a body; like the engines it passes over what it does not know.
type request struct {
	Model               string          `json:"model"`
	Messages            []message       `json:"messages"`
	Prompt              json.RawMessage `json:"prompt"`
	Input               json.RawMessage `json:"input"`
	Instructions        string          `json:"instructions"`
	Stream              bool            `json:"stream"`
	StreamOptions       *streamOptions  `json:"stream_options"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	MaxOutputTokens     *int            `json:"max_output_tokens"`
	N                   *int            `json:"n"`
	Stop                json.RawMessage `json:"stop"`
	Tools               []tool          `json:"tools"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	ReturnTokenIDs      bool            `json:"return_token_ids"`
	ReturnPromptIDs     bool            `json:"return_prompt_token_ids"`
	KVTransferParams    *struct {
		PromptTokenIDs []int32 `json:"prompt_token_ids"`
	} `json:"kv_transfer_params"`
	InputIDs             []int32 `json:"input_ids"`
	ContinueFinalMessage bool    `json:"continue_final_message"`
	AddGenerationPrompt  *bool   `json:"add_generation_prompt"`
	ChatTemplateKwargs   struct {
		EnableThinking *bool `json:"enable_thinking"`
	} `json:"chat_template_kwargs"`
	EncodingFormat string          `json:"encoding_format"`
	Dimensions     int             `json:"dimensions"`
	Query          string          `json:"query"`
	Documents      []string        `json:"documents"`
	TopN           int             `json:"top_n"`
	Text1          json.RawMessage `json:"text_1"`
	Text2          json.RawMessage `json:"text_2"`
}

type streamOptions struct {
	IncludeUsage         bool `json:"include_usage"`
	ContinuousUsageStats bool `json:"continuous_usage_stats"`
}

type message struct {
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

type tool struct {
	Function struct {
		Name       string          `json:"name"`
		Parameters json.RawMessage `json:"parameters"`
	} `json:"function"`
	Name       string          `json:"name"` // the Responses API has no function object
	Parameters json.RawMessage `json:"parameters"`
}

func (t *tool) name() string {
	if t.Function.Name != "" {
		return t.Function.Name
	}
	return t.Name
}

// argument is the name of the tool's first parameter in the order of the schema's text.
func (t *tool) argument() string {
	var schema struct {
		Properties json.RawMessage `json:"properties"`
	}
	raw := t.Function.Parameters
	if raw == nil {
		raw = t.Parameters
	}
	if json.Unmarshal(raw, &schema) != nil {
		return "text"
	}
	dec := json.NewDecoder(bytes.NewReader(schema.Properties))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return "text"
	}
	if key, err := dec.Token(); err == nil {
		if name, ok := key.(string); ok {
			return name
		}
	}
	return "text"
}

// limit is the most ids the request allows, or 0.
func (q *request) limit() int {
	for _, n := range []*int{q.MaxCompletionTokens, q.MaxTokens, q.MaxOutputTokens} {
		if n != nil {
			return *n
		}
	}
	return 0
}

func (q *request) choices() int {
	if q.N == nil {
		return 1
	}
	return *q.N
}

func (q *request) stops() []string { return texts(q.Stop) }

// texts reads a string or a list of strings; anything else is none.
func texts(raw json.RawMessage) []string {
	var one string
	if len(raw) == 0 || raw[0] == 'n' {
		return nil
	}
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var many []string
	if json.Unmarshal(raw, &many) != nil {
		return nil // and not the part of it that was text
	}
	return many
}

type part struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// content reads a message's content, a string or parts, and says whether it holds media.
func content(raw json.RawMessage) (text string, media bool) {
	if len(raw) == 0 || raw[0] == 'n' {
		return "", false
	}
	if raw[0] == '"' {
		_ = json.Unmarshal(raw, &text)
		return text, false
	}
	var parts []part
	if json.Unmarshal(raw, &parts) != nil {
		return "", false
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
		media = media || !strings.Contains(p.Type, "text")
	}
	return b.String(), media
}

// lastUser is the text of the last user message.
func (q *request) lastUser() string {
	for i := len(q.Messages) - 1; i >= 0; i-- {
		if q.Messages[i].Role == "user" {
			text, _ := content(q.Messages[i].Content)
			return text
		}
	}
	return ""
}

// template reads the whole conversation into r as the engine's chat template would, up to the place
// where the answer begins or goes on.
func (q *request) template(r *reading, kind Kind) {
	if ids := q.given(kind); ids != nil {
		for _, id := range ids {
			r.read(id)
		}
		return
	}
	for i := range q.Messages {
		q.turn(r, i)
	}
	generate := q.AddGenerationPrompt == nil || *q.AddGenerationPrompt || kind == SGLang
	if generate && !q.continues() {
		r.read(idAssistant)
	}
}

// given are the prompt's ids when the request brings them itself.
func (q *request) given(kind Kind) []int32 {
	if kind == SGLang {
		return q.InputIDs
	}
	if q.KVTransferParams == nil {
		return nil
	}
	for i := range q.Messages {
		if _, media := content(q.Messages[i].Content); media {
			return nil
		}
	}
	return q.KVTransferParams.PromptTokenIDs
}

func (q *request) continues() bool {
	n := len(q.Messages)
	return q.ContinueFinalMessage && n > 0 && q.Messages[n-1].Role == "assistant"
}

func (q *request) turn(r *reading, i int) {
	m := &q.Messages[i]
	r.read(role(m.Role))
	text, media := content(m.Content)
	if media {
		r.read(idMedia)
	}
	r.readText(text)
	if len(m.ToolCalls) > 0 {
		r.readText(string(m.ToolCalls))
	}
	if i < len(q.Messages)-1 || !q.continues() {
		r.read(idTurn)
	}
}

func role(name string) int32 {
	switch name {
	case "system", "developer":
		return idSystem
	case "assistant":
		return idAssistant
	case "tool", "function":
		return idTool
	}
	return idUser
}
