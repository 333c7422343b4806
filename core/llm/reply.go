package llm

import (
	"io"
	"net/http"
)

// A Reply is a backend's or the gateway's answer to a call. Whoever holds it closes its Stream.
type Reply struct {
	Status int         // HTTP status
	Header http.Header // end-to-end headers for the client, Content-Type among them; hop-by-hop ones are gone
	Stream Stream      // never nil
}

// A Stream yields the chunks of one reply. Next returns io.EOF after the last one, and the same error
// again when called after an error. A chunk and all it points to stay valid until the next Next or Close.
// Next is called by one goroutine at a time; Close may come from another, makes a waiting Next return,
// is safe to call twice and must be called once, as with a body.
//
// A stage that wraps a stream never swallows a chunk: it returns it with Raw emptied, so that the flush
// that Chunk.More decides still happens. It may add chunks of its own.
type Stream interface {
	Next() (Chunk, error)
	Close() error
}

// A Kind says what a chunk is.
type Kind uint8

const (
	Body      Kind = iota // the whole body of a reply that is not streamed
	Event                 // one SSE event with a JSON payload
	Done                  // the event `data: [DONE]`
	Comment               // an SSE comment or an event without data
	Malformed             // an SSE event whose data is not JSON; clients throw on it, so it is dropped or replaced
)

// A Chunk is one piece of a reply.
type Chunk struct {
	Raw  []byte // what goes to the client, framing included; empty: nothing is sent
	Data []byte // the JSON payload; inside Raw unless the event had several data lines
	Kind Kind
	More bool  // another chunk can be had without waiting, so flushing may wait for it
	View *View // what Data says; nil for Done, Comment and Malformed
}

// A Usage is what a backend said it used, in tokens.
type Usage struct {
	Prompt     int64
	Completion int64
	Cached     int64 // of Prompt, read from the backend's prefix cache
	Reasoning  int64 // of Completion
}

// A Finish is the end of one choice.
type Finish struct {
	Choice int
	Reason string // stop, length, tool_calls, content_filter, abort, …
	At     Span   // the reason, quotes and all; zero where the API says it in other words
}

// A ToolCall is where a payload carries one call of a function, or a part of one. Its spans are zero where the
// member is absent, and the insides of strings where it is not.
type ToolCall struct {
	Choice, Index int
	At            Span // the whole of it
	List          Span // the value of the member it stands in: the array tool_calls, or function_call, which is it
	Owner         Span // the message, or the delta of one, that has this member
	ID, Name      Span
	Arguments     Span // JSON text; of a custom tool its input, which need not be
	Custom        bool // {"custom":{"input":…}}
	Legacy        bool // function_call
	Odd           bool // a member stands there twice, or the arguments are no text: readers may disagree on what it says
}

// A Member is where a payload has a member of an object: At begins with the name's quote, Value is the value alone. Both
// are zero where there is none.
type Member struct{ At, Value Span }

// A View is what the gateway reads of one chunk's payload. Its slices are reused by the next scan.
type View struct {
	Texts    []Text     // text the payload carries, in order of place
	Finishes []Finish   // choices that end with this chunk
	Calls    []ToolCall // calls of functions and parts of them, but for the Responses API's, in order of place
	Usage    Usage
	HasUsage bool   // Usage was present and not null
	UsageAt  Span   // the member `"usage":…`, null or not, with one adjoining comma, so that cutting it leaves valid JSON; zero if absent
	Tokens   Member // `token_ids` of the last choice: the numbers of the tokens that the chunk's text is made of
	Prompt   Member // `prompt_token_ids`, of the payload or of a choice
	Model    string // the model that answered, if named
	Choices  int    // length of `choices`, or -1 when there is no such member
	Error    bool   // the payload carries an error in place of an answer
	ErrorAt  Span   // the error: the member's value, or the whole payload when that is the error
	Type     string // Responses API: the event's type, such as response.output_text.delta
}

// One returns a stream of the single chunk c.
func One(c Chunk) Stream { return &one{chunk: c} }

type one struct {
	chunk Chunk
	done  bool
}

func (o *one) Next() (Chunk, error) {
	if o.done {
		return Chunk{}, io.EOF
	}
	o.done = true
	return o.chunk, nil
}

func (o *one) Close() error {
	o.done = true
	return nil
}
