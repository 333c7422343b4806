package llm

// A Span is the half-open byte range [Start, End) of a body.
type Span struct{ Start, End int }

// Len is the number of bytes in the span.
func (s Span) Len() int { return s.End - s.Start }

// A Channel says which of a call's streams of text a piece belongs to. The numbers are part of the plugin ABI.
type Channel uint8

const (
	Content       Channel = iota // a message's or a choice's visible text
	Reasoning                    // reasoning_content (SGLang), reasoning (vLLM)
	Refused                      // the model's refusal text
	ToolArguments                // JSON text of a tool call's arguments
	Prompt                       // the completions API's prompt, a rerank query, a tokenize text
	Input                        // the embeddings or Responses API's input, rerank documents
	Aside                        // what stands beside the conversation in a request: names, tools' descriptions, metadata
)

// A Role says who wrote a text. The numbers are part of the plugin ABI.
type Role uint8

const (
	NoRole Role = iota
	System
	Developer
	User
	Assistant
	Tool
)

// A Text is where a body carries one string of text: one message content or part of it, one delta.
type Text struct {
	At      Span // the JSON string's inside, without its quotes, escapes as they stand
	Role    Role
	Channel Channel
	Choice  int  // choice (or Responses output item) the text belongs to; 0 in requests
	Tool    int  // tool-call index within the choice; of content in parts, the part's index; 1 for reasoning_content beside reasoning; 0 otherwise
	Message int  // index of the message in a request; 0 otherwise
	Whole   bool // the text is complete here, not one delta of it
}

// An Edit replaces the decoded bytes [Start, End) of a text by With. Edits of one text are in order
// and do not overlap; Start and End stand on UTF-8 boundaries.
type Edit struct {
	Start, End int
	With       []byte
	Kind       uint16 // the plugin's label for what was found; 0: none
}
