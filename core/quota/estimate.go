package quota

import (
	"bytes"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Overheads that the texts do not show; backends that count put them right when the call is settled.
const (
	textTokens  = 4    // role and separators around each text
	imageTokens = 1024 // an image of about a megapixel
)

// promptTokens guesses what the call's prompt costs: its texts, its tool definitions, its images.
func promptTokens(r *llm.Request) int64 {
	n := int64(r.Images) * imageTokens
	for _, t := range r.Texts {
		if t.Channel == llm.Aside { // tools are counted as a whole below; the rest costs little
			continue
		}
		n += textTokens + llm.EstimateTokens(r.Body[t.At.Start:t.At.End])
	}
	if len(r.Tools) > 0 {
		tools, _ := r.Field("tools")
		n += llm.EstimateTokens(tools)
	}
	return min(n+tokenIDs(r), maxLimit)
}

// tokenIDs counts the tokens of a prompt that is given as token ids.
func tokenIDs(r *llm.Request) int64 {
	if !r.TokenPrompt {
		return 0
	}
	return int64(bytes.Count(promptValue(r), []byte(","))) + 1
}

func promptValue(r *llm.Request) []byte {
	value, ok := r.Field("prompt")
	if !ok {
		value, _ = r.Field("input")
	}
	return value
}

// completionTokens is the longest answer the call may get: choices × tokens for each.
func (k *keeper) completionTokens(c *pipeline.Call) int64 {
	switch c.Route {
	case llm.Chat, llm.Completions, llm.Responses:
		return times(choices(c.Request), k.answerTokens(c))
	}
	return 0
}

// answerTokens is the longest answer of one choice: the lower of what policy set and what the request says,
// else what the configuration supposes of the model.
func (k *keeper) answerTokens(c *pipeline.Call) int64 {
	model := c.Request.Model
	if c.Decision.Set.Model != "" {
		model = c.Decision.Set.Model
	}
	switch n, known := k.config.Completion.Models[model]; {
	case c.Decision.Set.MaxTokens > 0 && c.Request.MaxTokens >= 0: // upstream lowers, and never raises
		return min(c.Decision.Set.MaxTokens, c.Request.MaxTokens)
	case c.Decision.Set.MaxTokens > 0:
		return c.Decision.Set.MaxTokens
	case c.Request.MaxTokens >= 0:
		return c.Request.MaxTokens
	case known:
		return n
	}
	return k.config.Completion.Default
}

// choices is how many answers the backend will generate: n, or best_of where that is more, for each
// prompt of a list of prompts.
func choices(r *llm.Request) int64 {
	n := max(1, r.N)
	if r.Endpoint != llm.Completions {
		return n
	}
	if value, ok := r.Field("best_of"); ok {
		n = max(n, digits(value))
	}
	prompts := int64(0)
	if r.TokenPrompt { // [1,2] is one prompt, [[1,2],[3]] two
		prompts = int64(bytes.Count(promptValue(r), []byte("["))) - 1
	}
	for _, t := range r.Texts {
		if t.Channel == llm.Prompt {
			prompts++
		}
	}
	return times(n, max(1, prompts))
}

// digits reads a JSON number; one with a sign, a point or an exponent, which no backend takes for a
// count, reads as 0.
func digits(value []byte) (n int64) {
	for _, b := range value {
		if b < '0' || b > '9' {
			return 0
		}
		n = min(n*10+int64(b-'0'), maxLimit)
	}
	return n
}

// times multiplies without overflow: what is beyond maxLimit is maxLimit.
func times(a, b int64) int64 {
	a, b = min(max(a, 0), maxLimit), min(max(b, 0), maxLimit)
	if b > 0 && a > maxLimit/b {
		return maxLimit
	}
	return a * b
}
