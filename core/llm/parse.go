package llm

import (
	"strconv"
	"sync"
	"unsafe"
)

const (
	maxCount   = 1 << 53 // largest integer that every JSON parser reads exactly
	maxChoices = 1 << 14 // largest n
)

// A parser reads one request body into a Request.
type parser struct {
	scanner
	r    *Request
	caps [3]int64 // max_completion_tokens, max_tokens, max_output_tokens; 0: absent
}

var parsers = sync.Pool{New: func() any { return new(parser) }}

// ParseRequest reads body into r. An error is a *BodyError.
func ParseRequest(e Endpoint, body []byte, r *Request) error {
	r.reset(e, body)
	p := parsers.Get().(*parser)
	p.scanner = scanner{b: body, strict: true, keys: p.keys[:0], scratch: p.scratch[:0]}
	p.r, p.caps = r, [3]int64{}
	p.body()
	err := p.sentence()
	p.b, p.r, p.err = nil, nil, nil
	if cap(p.keys) <= 4096 && cap(p.scratch) <= 64<<10 { // an absurd body's buffers are not kept
		parsers.Put(p)
	}
	if err != nil {
		return err
	}
	return nil
}

// sentence turns the fault's predicate into a whole sentence.
func (p *parser) sentence() *BodyError {
	e := p.err
	if e == nil {
		return nil
	}
	subject := "The request body"
	if p.syntax {
		e.Param = ""
	}
	if e.Param != "" {
		subject = "'" + e.Param + "'"
	}
	e.Reason = subject + " " + e.Reason + "."
	return e
}

func (p *parser) body() {
	switch c := p.peek(); {
	case c == 0 && p.i == len(p.b):
		p.bad("it is empty")
		return
	case c != '{' && c < 0x80:
		p.fail("", "must be a JSON object")
		return
	case c != '{':
		p.unexpected()
		return
	}
	o := p.object(requestNames)
	for p.next(&o) {
		f := field{name: internHash(o.hash, o.key), key: Span{o.at.Start - 1, o.at.End + 1}}
		f.value.Start = p.i
		p.member(o.key)
		f.value.End = p.i
		p.r.fields = append(p.r.fields, f)
	}
	p.end()
	if p.err == nil {
		p.settle()
	}
}

// settle checks what only the whole body shows.
func (p *parser) settle() {
	for _, n := range p.caps {
		if n > 0 {
			p.r.MaxTokens = n
			break
		}
	}
	if p.r.Model == "" {
		p.fail("model", "is required: name the model to use")
		return
	}
	p.required()
}

// member takes the value of one top-level member: its dialect's, or one that all dialects share.
func (p *parser) member(key []byte) {
	known := false
	switch p.r.Endpoint {
	case Chat:
		known = p.chatMember(key)
	case Completions:
		known = p.completionsMember(key)
	case Responses:
		known = p.responsesMember(key)
	case Embeddings:
		known = p.embeddingsMember(key)
	case Rerank, Score:
		known = p.rankMember(key)
	case Tokenize:
		known = p.tokenizeMember(key)
	}
	if !known {
		p.sharedMember(key)
	}
}

func (p *parser) sharedMember(key []byte) {
	switch string(key) {
	case "model":
		p.r.Model = p.label()
	case "user":
		p.user()
	case "stream":
		p.r.Stream = p.boolean()
	case "stream_options":
		p.streamOptions()
	case "n":
		if n := p.count(maxChoices); n > 0 {
			p.r.N = n
		}
	case "max_completion_tokens":
		p.caps[0] = p.count(maxCount)
	case "max_tokens":
		p.caps[1] = p.count(maxCount)
	case "max_output_tokens":
		p.caps[2] = p.count(maxCount)
	case "temperature":
		p.temperature()
	case "tools":
		p.tools()
	case "functions":
		p.functions()
	default:
		p.other(key)
	}
}

// required checks that the member that carries the dialect's text is there.
func (p *parser) required() {
	has := func(name string) bool { return p.r.field(name) >= 0 }
	switch e := p.r.Endpoint; {
	case e == Chat && !has("messages"):
		p.fail("messages", "is required: give an array of messages")
	case e == Completions && !has("prompt") && !has("prompt_embeds"):
		p.fail("prompt", "is required: give a string or an array of strings")
	case e == Responses && !has("input") && !has("prompt"):
		p.fail("input", "is required: give a string or an array of items")
	case e == Embeddings && !has("input") && !has("messages"):
		p.fail("input", "is required: give a string or an array of strings")
	case e == Tokenize && !has("prompt") && !has("messages"):
		p.fail("prompt", "is required, or messages in its place")
	case e == Rerank && !has("query"):
		p.fail("query", "is required")
	case e == Rerank && !has("documents"):
		p.fail("documents", "is required")
	case e == Score && len(p.r.Texts) == 0 && !p.r.TokenPrompt:
		p.fail("", "must hold text_1 and text_2, or queries and documents, or query and items")
	}
}

// label takes a name: a string, or null for none.
func (p *parser) label() string {
	if p.null() {
		return ""
	}
	if p.peek() != '"' {
		p.wrong("a string")
		return ""
	}
	at, escaped := p.str()
	raw := p.b[at.Start:max(at.Start, at.End)]
	if !escaped {
		return intern(raw)
	}
	return string(appendDecoded(nil, raw))
}

// boolean takes true or false, or null for false.
func (p *parser) boolean() bool {
	switch p.peek() {
	case 't':
		p.word("true")
		return p.err == nil
	case 'f':
		p.word("false")
	case 'n':
		p.word("null")
	default:
		p.wrong("true or false")
	}
	return false
}

// count takes an integer from 1 to limit, or null for 0. Only plain digits will do: 5.0, 1e2 and -0
// are integers to some parsers and not to others, so they are refused.
func (p *parser) count(limit int64) int64 {
	if p.null() || p.err != nil {
		return 0
	}
	if c := p.peek(); c != '-' && c-'0' > 9 {
		p.wrong("an integer")
		return 0
	}
	at, plain := p.number()
	if p.err != nil {
		return 0
	}
	if !plain {
		p.fail("", "must be an integer written in plain digits, without fraction or exponent")
		return 0
	}
	n, err := strconv.ParseInt(p.alias(at), 10, 64)
	if err != nil || n < 1 || n > limit {
		p.fail("", "must be an integer from 1 to "+strconv.FormatInt(limit, 10))
		return 0
	}
	return n
}

func (p *parser) temperature() {
	if p.null() || p.err != nil {
		return
	}
	if c := p.peek(); c != '-' && c-'0' > 9 {
		p.wrong("a number")
		return
	}
	at, _ := p.number()
	if p.err != nil {
		return
	}
	t, err := strconv.ParseFloat(p.alias(at), 64)
	if err != nil {
		p.fail("", "is too large a number")
		return
	}
	p.r.Temperature, p.r.HasTemp = t, true
}

// alias returns the bytes at as a string that shares their memory; it must not outlive the call.
func (p *parser) alias(at Span) string {
	return unsafe.String(&p.b[at.Start], at.Len())
}

func (p *parser) streamOptions() {
	if p.null() {
		return
	}
	o := p.members(streamNames)
	for p.next(&o) {
		switch string(o.key) {
		case "include_usage":
			p.r.IncludeUsage = p.boolean()
		case "continuous_usage_stats":
			p.boolean()
		default:
			p.skip()
		}
	}
}

// members enters the object at hand; anything else is a fault and has no members.
func (p *parser) members(known names) object {
	if p.peek() != '{' {
		p.wrong("an object")
		return object{none: true}
	}
	return p.object(known)
}

// elements enters the array at hand, of what its plural says; anything else is a fault and has no elements.
func (p *parser) elements(of string) array {
	if p.peek() != '[' {
		p.wrong("an array of " + of)
		return array{none: true}
	}
	return p.array()
}

// text takes a string and notes it as a text; null is none.
func (p *parser) text(c Channel, want string) {
	if p.null() || p.err != nil {
		return
	}
	if p.peek() != '"' {
		p.wrong(want)
		return
	}
	at, _ := p.str()
	if len(p.r.Texts) >= maxTexts {
		p.fail("", "is one text too many: a body may hold "+strconv.Itoa(maxTexts))
		return
	}
	p.r.Texts = append(p.r.Texts, Text{At: at, Channel: c, Whole: true})
}
