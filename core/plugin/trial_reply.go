package plugin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Reply is a handler that answers every call with body: a stream of events when it begins like one, a whole body
// otherwise. An empty body is an empty reply. It stands behind a Trial's stage.
func Reply(e llm.Endpoint, body []byte) pipeline.Handler {
	return pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		r := &llm.Reply{Status: http.StatusOK, Header: http.Header{}}
		if bytes.HasPrefix(body, []byte("data:")) || bytes.HasPrefix(body, []byte("event:")) {
			r.Header.Set("Content-Type", "text/event-stream")
			r.Stream = &trialEvents{llm.NewReader(bytes.NewReader(body), e, 0)}
			return r, nil
		}
		r.Header.Set("Content-Type", "application/json")
		if len(body) == 0 {
			body = []byte("{}")
		}
		v := &llm.View{}
		if err := v.Scan(e, false, body); err != nil {
			return nil, err
		}
		r.Stream = llm.One(llm.Chunk{Raw: body, Data: body, Kind: llm.Body, View: v})
		return r, nil
	})
}

type trialEvents struct{ *llm.Reader }

func (trialEvents) Close() error { return nil }

// Read reads a reply to its end as a caller does, closes it, and returns what the caller got.
func Read(r *llm.Reply) (string, error) {
	var b strings.Builder
	for {
		c, err := r.Stream.Next()
		if err == io.EOF {
			return b.String(), r.Stream.Close()
		}
		if err != nil {
			return b.String(), errors.Join(err, r.Stream.Close())
		}
		b.Write(c.Raw)
	}
}

// Reply lets a call with a body, and the backend's answer to it, through the plugin, and returns what the caller gets.
func (t *Trial) Reply(ctx context.Context, c *pipeline.Call, answer string) (string, error) {
	r, err := t.Stage().Handle(ctx, c, Reply(c.Route, []byte(answer)))
	if err != nil {
		return "", err
	}
	return Read(r)
}

// NewCall is a call of a body, as the server makes it.
func NewCall(e llm.Endpoint, body string) (*pipeline.Call, error) {
	r := &llm.Request{Endpoint: e}
	if err := llm.ParseRequest(e, []byte(body), r); err != nil {
		return nil, err
	}
	return &pipeline.Call{ID: "trial", Route: e, Method: http.MethodPost, Header: http.Header{}, Request: r}, nil
}
