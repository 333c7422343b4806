package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// write sends the reply, an event at a time, and flushes whenever the next one is not there yet.
func (s *Server) write(x *exchange, c *pipeline.Call, reply *llm.Reply) {
	p := &x.out
	chunk, err := reply.Stream.Next()
	for err == nil && chunk.Kind != llm.Body && len(chunk.Raw) == 0 { // for nobody: the reply has not begun, and may still fail with a status
		if p.mute() {
			p.header(c, reply, true, 0)
			err = p.comment()
		}
		if err != nil {
			return
		}
		chunk, err = reply.Stream.Next()
	}
	if err != nil {
		s.failFirst(x, err)
		return
	}
	if p.begun && chunk.Kind == llm.Body {
		p.breakOff(s, misfit(reply, chunk))
	}
	p.header(c, reply, chunk.Kind != llm.Body, len(chunk.Raw))
	for err == nil {
		if err := p.chunk(chunk); err != nil {
			return // the caller is gone; closing the stream cancels the backend
		}
		chunk, err = reply.Stream.Next()
	}
	switch {
	case err == io.EOF:
		p.renew() // for the end that net/http writes
	case gone(x.r.Context()):
		panic(http.ErrAbortHandler) // who only stopped sending must not take this for the end
	default:
		p.breakOff(s, err)
	}
}

// recover breaks off a reply that panicked after it began, be it with a comment: an error's status and body come too late.
func (p *printer) recover(s *Server) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler && p.begun {
		s.panicked(p.x.w, v)
		p.breakOff(s, errPanicked)
	}
	panic(v)
}

// failFirst answers a reply that failed before its first chunk, which can still be told with a status.
func (s *Server) failFirst(x *exchange, err error) {
	if err == io.EOF {
		err = &pipeline.Refusal{Kind: pipeline.BadGateway, Stage: "server", Code: "empty_answer", Reason: "The backend's answer was empty."}
	}
	s.failCall(x, err)
}

// failCall answers a call that failed: with a status, unless a comment has committed that to 200.
func (s *Server) failCall(x *exchange, err error) {
	switch {
	case !x.out.begun:
		s.fail(x.w, x.r, err)
	case gone(x.r.Context()):
		panic(http.ErrAbortHandler)
	default:
		x.out.breakOff(s, err)
	}
}

// misfit makes an error of a body that comes where a stream has begun.
func misfit(reply *llm.Reply, body llm.Chunk) error {
	e, ok := llm.ReadError(body.Data)
	if !ok || reply.Status < http.StatusBadRequest {
		return fmt.Errorf("server: a body with status %d in a stream", reply.Status)
	}
	return &pipeline.Refusal{Kind: pipeline.BadGateway, Status: reply.Status, Stage: "server", Code: e.Code, Reason: e.Message, Param: e.Param}
}

// gone reports whether the caller has left, as opposed to the gateway stopping.
func gone(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), errStopping)
}

// A printer writes one reply.
type printer struct {
	x       *exchange
	begun   bool      // the status and headers are sent
	stream  bool      // events, as opposed to one body
	dirty   bool      // written but not flushed
	renewed time.Time // when the write deadline was last set
	spoke   time.Time // when something was last sent
}

// deadlineStep is how stale a write deadline may grow before it is set again, as a share of the time that
// a write has: setting it for every event would cost more than the event.
const deadlineStep = 8

// Header values that are the same for every reply.
var (
	noCache    = []string{"no-cache"}
	unbuffered = []string{"no"}
	once       = []string{"1"}
)

// header begins the reply, unless it has begun; length is that of a body.
func (p *printer) header(c *pipeline.Call, reply *llm.Reply, stream bool, length int) {
	if p.begun {
		return
	}
	p.begun, p.stream = true, stream
	h := p.x.w.Header()
	for name, values := range reply.Header {
		h[name] = values
	}
	for name, value := range c.Decision.Headers {
		h.Set(name, value)
	}
	if stream {
		delete(h, "Content-Length")
		h["Cache-Control"] = noCache
		h["X-Accel-Buffering"] = unbuffered
	} else {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
	if reply != quiet { // who is going to answer is not known yet, and being found out
		answered(h, &c.Outcome)
	}
	for name, values := range c.Headers {
		if h[name] = values; len(values) == 0 {
			delete(h, name)
		}
	}
	p.renew()
	p.x.w.WriteHeader(reply.Status)
}

// answered says who answered, and what it took.
func answered(h http.Header, o *pipeline.Outcome) {
	if o.Backend == "" {
		return
	}
	h["X-Nexus-Backend"] = []string{o.Backend}
	h["X-Nexus-Attempts"] = once
	if o.Attempts != 1 {
		h["X-Nexus-Attempts"] = []string{strconv.Itoa(o.Attempts)}
	}
	if o.Fallback != "" {
		h["X-Fallback-Model"] = []string{o.Fallback}
	}
}

func (p *printer) renew() {
	write := p.x.config.Timeouts.Write
	now := time.Now()
	p.spoke = now
	if now.Sub(p.renewed) > write/deadlineStep {
		p.renewed = now
		_ = p.x.control.SetWriteDeadline(now.Add(write))
	}
}

func (p *printer) chunk(c llm.Chunk) error {
	if len(c.Raw) > 0 {
		p.renew()
		if _, err := p.x.w.Write(c.Raw); err != nil {
			return err
		}
		p.dirty = true
	} else if p.mute() {
		return p.comment()
	}
	if !p.stream || c.More || !p.dirty {
		return nil
	}
	p.dirty = false
	p.renew()
	err := p.x.control.Flush()
	p.rest()
	return err
}

// rest lifts the write deadline until the next write where it would end a stream that merely waits:
// HTTP/2 resets a stream at its deadline whether a write is under way or not.
func (p *printer) rest() {
	if p.x.r.ProtoMajor > 1 {
		p.renewed = time.Time{}
		_ = p.x.control.SetWriteDeadline(p.renewed)
	}
}

// breakOff ends a stream that cannot be finished: an error event, no [DONE], and a connection that ends
// without the chunked terminator, so that no client can take the answer for whole.
func (p *printer) breakOff(s *Server, err error) {
	if p.stream {
		_, e := s.describe(p.x.w, p.x.r, err)
		p.renewed = time.Time{}
		p.renew()
		_, _ = p.x.w.Write(llm.AppendEvent(nil, "", llm.AppendError(nil, e)))
		_ = p.x.control.Flush()
	}
	panic(http.ErrAbortHandler)
}
