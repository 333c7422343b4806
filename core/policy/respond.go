package policy

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// respond answers c with the text that the policy gave, whole or streamed as it was asked, without a
// backend. Only chat completions have an answer that a text can be.
func respond(c *pipeline.Call, v *verdict) (*llm.Reply, error) {
	a := answer{id: "chatcmpl-" + c.ID, at: time.Now().Unix(), model: c.Request.Model, text: v.text}
	reply := &llm.Reply{Status: http.StatusOK, Header: http.Header{}}
	var chunks []llm.Chunk
	if !c.Request.Stream {
		reply.Header.Set("Content-Type", "application/json")
		body := a.whole()
		chunks = append(chunks, llm.Chunk{Raw: body, Data: body, Kind: llm.Body})
	} else {
		reply.Header.Set("Content-Type", "text/event-stream")
		for _, payload := range a.events(c.Request.IncludeUsage) {
			raw := llm.AppendEvent(nil, "", payload)
			chunks = append(chunks, llm.Chunk{Raw: raw, Data: payload, Kind: llm.Event, More: true})
		}
		chunks = append(chunks, llm.Chunk{Raw: []byte("data: [DONE]\n\n"), Kind: llm.Done})
	}
	for i := range chunks {
		if chunks[i].Kind == llm.Done {
			continue
		}
		chunks[i].View = new(llm.View)
		if err := chunks[i].View.Scan(c.Route, chunks[i].Kind == llm.Event, chunks[i].Data); err != nil {
			return nil, err
		}
	}
	reply.Stream = &script{chunks: chunks}
	return reply, nil
}

// An answer is a chat completion that the gateway wrote itself; no tokens were used.
type answer struct {
	id, model, text string
	at              int64
}

func (a answer) whole() []byte {
	b := a.head("chat.completion")
	b = append(b, `[{"index":0,"message":{"role":"assistant","content":`...)
	b = llm.AppendString(b, a.text)
	b = append(b, `,"refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":`...)
	return append(append(b, noUsage...), '}')
}

func (a answer) events(usage bool) [][]byte {
	const object = "chat.completion.chunk"
	first := append(a.head(object), `[{"index":0,"delta":{"role":"assistant","content":`...)
	first = llm.AppendString(first, a.text)
	first = append(first, `},"logprobs":null,"finish_reason":null}]}`...)
	last := append(a.head(object), `[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}`...)
	events := [][]byte{first, last}
	if usage {
		events = append(events, append(append(append(a.head(object), `[],"usage":`...), noUsage...), '}'))
	}
	return events
}

const noUsage = `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`

func (a answer) head(object string) []byte {
	b := append([]byte(`{"id":`), llm.AppendString(nil, a.id)...)
	b = append(b, `,"object":"`+object+`","created":`...)
	b = strconv.AppendInt(b, a.at, 10)
	b = llm.AppendString(append(b, `,"model":`...), a.model)
	return append(b, `,"choices":`...)
}

// script is a stream of chunks that are there already.
type script struct {
	chunks []llm.Chunk
	at     int
	closed atomic.Bool
}

func (s *script) Next() (llm.Chunk, error) {
	if s.closed.Load() || s.at == len(s.chunks) {
		return llm.Chunk{}, io.EOF
	}
	s.at++
	return s.chunks[s.at-1], nil
}

func (s *script) Close() error {
	s.closed.Store(true)
	return nil
}
