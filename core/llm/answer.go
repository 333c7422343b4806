package llm

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// An Answer is a completion that the gateway writes itself; no tokens are used for it.
type Answer struct {
	ID     string // the call's
	Model  string
	Text   string
	At     time.Time
	Stream bool // events are wanted
	Usage  bool // and one with the usage among them
}

// Answers reports whether an Answer can be had of e: whether a text can be what it answers.
func (e Endpoint) Answers() bool { return e == Chat || e == Completions }

// Reply puts the answer in the words of e, which Answers.
func (a Answer) Reply(e Endpoint) (*Reply, error) {
	w, ok := wordings[e]
	if !ok {
		return nil, fmt.Errorf("llm: a text is no answer of %s", e)
	}
	reply := &Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}}
	var chunks []Chunk
	if !a.Stream {
		body := w.whole(a)
		chunks = append(chunks, Chunk{Raw: body, Data: body, Kind: Body, View: new(View)})
	} else {
		reply.Header.Set("Content-Type", "text/event-stream; charset=utf-8")
		for _, payload := range w.events(a) {
			chunks = append(chunks, Chunk{Raw: AppendEvent(nil, "", payload), Data: payload, Kind: Event, More: true, View: new(View)})
		}
	}
	for _, c := range chunks {
		if err := c.View.Scan(e, c.Kind == Event, c.Data); err != nil {
			return nil, err
		}
	}
	if a.Stream {
		chunks = append(chunks, Chunk{Raw: []byte("data: [DONE]\n\n"), Kind: Done})
	}
	reply.Stream = &script{chunks: chunks}
	return reply, nil
}

// A wording is how an API says a completion: what stands round its text.
type wording struct {
	prefix, object, chunk  string // of ids; names of the payloads
	open, close            string // round the text of a whole one
	begin, middle, nothing string // round the text of an event; an event's text that is none
}

var wordings = map[Endpoint]wording{
	Chat: {
		prefix: "chatcmpl-", object: "chat.completion", chunk: "chat.completion.chunk",
		open: `"message":{"role":"assistant","content":`, close: `,"refusal":null}`,
		begin: `"delta":{"role":"assistant","content":`, middle: `}`, nothing: `"delta":{}`,
	},
	Completions: {
		prefix: "cmpl-", object: "text_completion", chunk: "text_completion",
		open: `"text":`, begin: `"text":`, nothing: `"text":""`,
	},
}

const noUsage = `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`

func (w wording) whole(a Answer) []byte {
	b := append(w.head(a, w.object), `[{"index":0,`+w.open...)
	b = append(AppendString(b, a.Text), w.close...)
	return append(b, `,"logprobs":null,"finish_reason":"stop"}],"usage":`+noUsage+`}`...)
}

func (w wording) events(a Answer) [][]byte {
	first := append(w.head(a, w.chunk), `[{"index":0,`+w.begin...)
	first = append(AppendString(first, a.Text), w.middle+`,"logprobs":null,"finish_reason":null}]}`...)
	last := append(w.head(a, w.chunk), `[{"index":0,`+w.nothing+`,"logprobs":null,"finish_reason":"stop"}]}`...)
	events := [][]byte{first, last}
	if a.Usage {
		events = append(events, append(w.head(a, w.chunk), `[],"usage":`+noUsage+`}`...))
	}
	return events
}

func (w wording) head(a Answer, object string) []byte {
	b := AppendString([]byte(`{"id":`), w.prefix+a.ID)
	b = append(b, `,"object":"`+object+`","created":`...)
	b = strconv.AppendInt(b, a.At.Unix(), 10)
	b = AppendString(append(b, `,"model":`...), a.Model)
	return append(b, `,"choices":`...)
}

// A script is a stream of chunks that are there already.
type script struct {
	chunks []Chunk
	at     int
	closed atomic.Bool
}

func (s *script) Next() (Chunk, error) {
	if s.closed.Load() || s.at == len(s.chunks) {
		return Chunk{}, io.EOF
	}
	s.at++
	return s.chunks[s.at-1], nil
}

func (s *script) Close() error {
	s.closed.Store(true)
	return nil
}
