package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// Bounds of what a backend may send.
const (
	maxEvent = 1 << 20   // bytes of one SSE event
	maxReply = 256 << 20 // bytes of a reply that is not streamed
	maxError = 64 << 10  // bytes read of an error reply
)

// A try is one attempt to be made.
type try struct {
	pool    *pool
	backend *backend
	fresh   int64   // prompt tokens that it has yet to read
	last    bool    // there is nobody else to ask
	plan    plan    // how the answer may go on elsewhere
	resume  *resume // takes up an answer that was begun; nil: from the start
}

// A live attempt is one that a backend has.
type live struct {
	u       *Upstream
	call    *pipeline.Call
	pool    *pool
	backend *backend
	sent    time.Time
	lease   balance.Lease // on the server's load
	end     func(error)   // of its span
}

// attempt sends the call to one backend and returns its reply once the first of it is there, or a fault.
func (u *Upstream) attempt(ctx context.Context, c *pipeline.Call, t try) (*llm.Reply, *fault) {
	o, err := u.render(c, t)
	if err != nil {
		t.backend.peer.health.abandon(time.Now())
		return nil, &fault{refusal: broken("the request could not be prepared", err)}
	}
	l := &live{u: u, call: c, pool: t.pool, backend: t.backend, sent: time.Now()}
	l.lease.Begin(t.backend.peer.replica, t.fresh)
	ctx = l.begin(ctx)
	w := newWatch(ctx, t.timeouts(c), t.backend.peer.wire)
	reply, f := l.exchange(o, w)
	l.lease.First()
	u.judge(ctx, c, t.backend, t.pool, f)
	if f != nil {
		l.done(f.refusal)
	}
	return reply, f
}

// begin notes that the call goes to the backend, and returns the context of the attempt.
func (l *live) begin(ctx context.Context) context.Context {
	o := &l.call.Outcome
	o.Backend, o.Server, o.Pool, o.Sent = l.backend.name, l.backend.peer.key.dial, l.pool.name, l.sent
	o.Attempts++
	if l.u.trace != nil {
		ctx, l.end = l.u.trace(ctx, l.call, l.backend.name)
	}
	return ctx
}

// done is called once, when the attempt is over.
func (l *live) done(err error) {
	l.lease.End()
	if l.end != nil {
		l.end(err)
	}
}

// timeouts are the pool's, with the time to the first token that this prompt may take, and more patience where nobody
// else is left to ask.
func (t *try) timeouts(c *pipeline.Call) TimeoutsConfig {
	out := t.pool.timeouts
	if out.FirstToken > 0 {
		out.FirstToken += out.FirstPer1K * time.Duration(len(c.Request.Body)/bytesPerToken) / 1000
	}
	if t.last && out.FirstToken > 0 {
		out.FirstToken = max(out.FirstToken, out.LastResort)
	}
	if t.last && out.Answer > 0 {
		out.Answer = max(out.Answer, out.LastAnswer)
	}
	return out
}

const bytesPerToken = 4 // of a request's body; an engine's own count comes too late

// exchange sends one request and reads the start of the answer. On success the attempt is done when
// the reply's stream is closed.
func (l *live) exchange(o order, w *watch) (*llm.Reply, *fault) {
	c := l.call
	response, err := send(c, l.backend, o.body, w)
	if err != nil {
		w.drop()
		return nil, connectionFault(w.cause(err), err)
	}
	c.Outcome.Status = response.StatusCode
	streamed := c.Request.Stream && generates(c.Route)
	w.begun(c.Outcome.Sent, streamed)
	switch {
	case response.StatusCode != http.StatusOK:
		return nil, statusFault(response, w)
	case isEncoded(response.Header):
		w.drop()
		return nil, answerFault("was compressed, which nobody asked for", errEncoded)
	case isEventStream(response.Header) != streamed:
		w.drop()
		return nil, answerFault("was not in the form that was asked for", errForm)
	case streamed:
		return newStream(l, o, w, response)
	}
	return l.whole(w, response)
}

// send writes the request and reads the response's head. A connection that served before and turns out
// dead without a byte of answer was closed while idle, so the request is sent again on a new one: once,
// and under an id of its own. If that one dies too it was the request, and nobody is sent it a third time.
func send(c *pipeline.Call, b *backend, body []byte, w *watch) (*http.Response, error) {
	for fresh := false; ; fresh = true {
		conn, err := b.peer.wire.take(w.ctx, fresh, w.timeouts.Connect)
		if err != nil {
			return nil, err
		}
		w.hold(conn)
		w.sent(c.Outcome.Sent, c.Request.Stream && generates(c.Route))
		response, err := exchangeHeads(c, b, body, conn)
		if fresh && err != nil {
			return nil, &resent{err}
		}
		if err == nil || !conn.reused || !hungUp(err) || w.ctx.Err() != nil {
			return response, err
		}
		w.drop()
		c.Outcome.Attempts++
	}
}

func exchangeHeads(c *pipeline.Call, b *backend, body []byte, conn *conn) (*http.Response, error) {
	head := heads.Get().(*[]byte)
	defer heads.Put(head)
	*head = appendHead((*head)[:0], c, b, len(body))
	return conn.exchange(head, body)
}

// heads are buffers for a request's head, with the body behind it when it is short.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

func appendHead(dst []byte, c *pipeline.Call, b *backend, length int) []byte {
	dst = append(dst, "POST "...)
	dst = append(dst, b.prefix...)
	dst = append(dst, c.Route.Path()...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	dst = append(dst, b.header...)
	// Unique for each attempt: engines take it as the id of the request in flight.
	dst = append(append(dst, "X-Request-Id: "...), c.ID...)
	dst = strconv.AppendInt(append(dst, '-'), int64(c.Outcome.Attempts), 10)
	if c.Trace.Parent != "" {
		dst = append(append(dst, "\r\nTraceparent: "...), c.Trace.Parent...)
	}
	if c.Trace.State != "" {
		dst = append(append(dst, "\r\nTracestate: "...), c.Trace.State...)
	}
	if len(c.Forward) > 0 {
		dst = appendForward(dst, c.Forward, b.header)
	}
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(length), 10)
	return append(dst, "\r\n\r\n"...)
}

// The types of replies, shared by all: a header's values are replaced, never written to.
var (
	jsonType  = []string{"application/json"}
	eventType = []string{"text/event-stream; charset=utf-8"}
)

func isEventStream(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/event-stream")
}

// whole reads a reply that is not streamed.
func (l *live) whole(w *watch, response *http.Response) (*llm.Reply, *fault) {
	c := l.call
	body, err := readAll(response, maxReply)
	if err != nil {
		w.drop()
		return nil, answerFault("was cut off", w.cause(err))
	}
	w.keep(response)
	view := new(llm.View)
	if err := view.Scan(c.Route, false, body); err != nil {
		return nil, answerFault("was not JSON", err)
	}
	if view.Error {
		return nil, inBandFault(body)
	}
	c.Outcome.FirstByte = time.Since(c.Outcome.Sent)
	note(c, view)
	switch {
	case aborted(view):
		return nil, answerFault("was aborted", nil)
	case !complete(c, view):
		return nil, answerFault("was not finished", errUnfinished)
	}
	settleWhole(c, view)
	l.done(nil)
	reply := &llm.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": jsonType}}
	reply.Stream = llm.One(llm.Chunk{Raw: body, Data: body, Kind: llm.Body, View: view})
	return reply, nil
}

// complete reports whether every choice of a whole answer has a finish reason; in the Responses API, the answer,
// unless it is to be fetched later.
func complete(c *pipeline.Call, view *llm.View) bool {
	if c.Route == llm.Responses {
		later, _ := c.Request.Field("background")
		return len(view.Finishes) > 0 || string(later) == "true"
	}
	var all choices
	all.note(view)
	return !generates(c.Route) || all.settled(c)
}

// settleWhole fills in an estimate when the backend named no usage.
func settleWhole(c *pipeline.Call, view *llm.View) {
	if c.Outcome.Counted {
		return
	}
	c.Outcome.Usage.Prompt = estimatePrompt(c)
	for _, t := range view.Texts {
		c.Outcome.Usage.Completion += int64(t.At.Len()+3) / 4
	}
}

func estimatePrompt(c *pipeline.Call) int64 {
	r, s := c.Request, &c.System
	n := llm.EstimateTokens([]byte(s.Before)) + llm.EstimateTokens([]byte(s.Replace)) + llm.EstimateTokens([]byte(s.After))
	for _, t := range r.Texts {
		n += llm.EstimateTokens(r.Body[t.At.Start:t.At.End])
	}
	return n
}

// readAll reads the body into one buffer sized from its declared length.
func readAll(response *http.Response, limit int64) ([]byte, error) {
	if response.ContentLength > limit {
		return nil, fmt.Errorf("%d bytes exceed the limit of %d", response.ContentLength, limit)
	}
	if n := response.ContentLength; n >= 0 {
		body := make([]byte, n)
		_, err := io.ReadFull(response.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, fmt.Errorf("the body exceeds the limit of %d bytes", limit)
	}
	return body, err
}
