package llm

// A Request is the view of one request body. Spans point into Body, which is never changed; strings are
// copies. A Request may be parsed into again; its slices are then reused.
type Request struct {
	Endpoint Endpoint
	Body     []byte

	Model        string
	Stream       bool
	IncludeUsage bool  // the caller asked for stream_options.include_usage
	N            int64 // choices asked for; 1 when absent
	MaxTokens    int64 // max_completion_tokens, else max_tokens, else max_output_tokens; -1 when absent
	Temperature  float64
	HasTemp      bool
	User         string
	TokenPrompt  bool     // a prompt or input holds token ids in place of text, which no plugin or policy can read
	Texts        []Text   // every text the body carries, in order
	Tools        []string // names of the functions offered
	Turns        int      // messages
	Images       int      // image parts
	fields       []field  // top-level members, in order
}

type field struct {
	name  string // decoded
	key   Span   // from the opening to the closing quote, inclusive
	value Span
}

// A BodyError says why a body is refused, in words fit for the caller. Param names the offending
// member in OpenAI's notation ("messages[0].content"), empty when the body as a whole is meant.
type BodyError struct {
	Offset int
	Param  string
	Reason string
}

func (e *BodyError) Error() string { return e.Reason }

// Field returns the raw JSON value of the top-level member name.
func (r *Request) Field(name string) (value []byte, ok bool) {
	if i := r.field(name); i >= 0 {
		at := r.fields[i].value
		return r.Body[at.Start:at.End], true
	}
	return nil, false
}

// EachField calls f for every top-level member in order, until f returns false.
func (r *Request) EachField(f func(name string, value []byte) bool) {
	for _, m := range r.fields {
		if !f(m.name, r.Body[m.value.Start:m.value.End]) {
			return
		}
	}
}

// field returns the index of the top-level member name, or -1.
func (r *Request) field(name string) int {
	for i := range r.fields {
		if r.fields[i].name == name {
			return i
		}
	}
	return -1
}

// reset makes r the empty view of body, keeping its slices.
func (r *Request) reset(e Endpoint, body []byte) {
	*r = Request{Endpoint: e, Body: body, N: 1, MaxTokens: -1,
		Texts: r.Texts[:0], Tools: r.Tools[:0], fields: r.fields[:0]}
}
