package mock

import (
	"encoding/json"
)

// chosen reads tool_choice: the named tool, and whether a call is required.
func chosen(raw json.RawMessage) (name string, required bool) {
	var word string
	if json.Unmarshal(raw, &word) == nil {
		return "", word == "required"
	}
	var named struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if json.Unmarshal(raw, &named) != nil {
		return "", false
	}
	return named.Function.Name, named.Function.Name != ""
}

// named says that tool_choice names a tool, which makes vLLM finish with stop and not tool_calls.
func named(raw json.RawMessage) bool {
	name, _ := chosen(raw)
	return name != ""
}

// legacyPrompts reads prompt in its four forms: text, texts, ids, lists of ids.
func legacyPrompts(raw json.RawMessage) []func(*reading) {
	var out []func(*reading)
	for _, t := range texts(raw) {
		out = append(out, func(r *reading) { r.readText(t) })
	}
	if out != nil {
		return out
	}
	for _, ids := range idLists(raw) {
		out = append(out, func(r *reading) {
			for _, id := range ids {
				r.read(id)
			}
		})
	}
	if out == nil {
		out = append(out, func(*reading) {})
	}
	return out
}

func idLists(raw json.RawMessage) [][]int32 {
	var one []int32
	if json.Unmarshal(raw, &one) == nil {
		return [][]int32{one}
	}
	var many [][]int32
	_ = json.Unmarshal(raw, &many) // not ids: none
	return many
}

// conversation is the Responses API's instructions and input as messages.
func (q *request) conversation() []message {
	var out []message
	if q.Instructions != "" {
		text, _ := json.Marshal(q.Instructions)
		out = append(out, message{Role: "system", Content: text})
	}
	if q.Input[0] == '"' {
		return append(out, message{Role: "user", Content: q.Input})
	}
	var items []message
	_ = json.Unmarshal(q.Input, &items) // other shapes hold no messages
	return append(out, items...)
}
