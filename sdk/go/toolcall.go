package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// A ToolCall is one call that a model makes, complete, before the caller has seen any of it. It is valid until the
// handler returns, and so is every []byte it gives.
type ToolCall struct {
	facts
	verdict
}

var toolCall ToolCall

// HandleToolCall runs f on the tool call of n bytes that the host has left in the in buffer.
func HandleToolCall(n uint32, f func(*ToolCall)) uint64 {
	known, ok := factsOf(n)
	if !ok {
		return failed(badFacts)
	}
	toolCall = ToolCall{facts: known}
	f(&toolCall)
	return toolCall.result()
}

func (t *ToolCall) Stream() bool { return t.number(abi.CallFlags)&abi.HeadStream != 0 }
func (t *ToolCall) Choice() int  { return t.number(abi.CallChoice) }
func (t *ToolCall) Index() int   { return t.number(abi.CallIndex) } // which of the choice's calls it is

func (t *ToolCall) CallID() []byte    { return t.value(abi.InToolCallID, "") }
func (t *ToolCall) Name() []byte      { return t.value(abi.InToolName, "") }
func (t *ToolCall) Arguments() []byte { return t.value(abi.InArguments, "") } // JSON text, as the model wrote it

// Schema is the JSON Schema that the request offered the function's arguments with; nil: it did not offer it.
func (t *ToolCall) Schema() []byte { return t.value(abi.InSchema, "") }

// SetArguments puts other arguments, a JSON text, in place of the model's.
func (t *ToolCall) SetArguments(json string) { t.out.add(abi.OutArguments, "", json) }

// Drop takes the call out of the reply and puts text, which may be empty, in its place.
func (t *ToolCall) Drop(text string) {
	t.verdict.verdict = abi.Drop
	t.out.add(abi.OutText, "", text)
}
