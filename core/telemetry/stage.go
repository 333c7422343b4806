package telemetry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Handle passes the call on and reports it once: when it was refused or broke, else when the reply's stream
// is closed.
func (t *Telemetry) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	w := &watch{t: t, ctx: ctx, call: c, first: -1, err: errPanicked}
	ctx, w.span = t.join(ctx, c)
	defer w.answered()
	reply, err := next.Handle(ctx, c)
	w.err = err
	if err != nil {
		return nil, err
	}
	t.metrics.streams.Inc()
	w.status, w.inner = reply.Status, reply.Stream
	reply.Stream = w
	return reply, nil
}

var (
	errPanicked = errors.New("telemetry: the call panicked")
	errClosed   = errors.New("telemetry: the reply is closed")
)

// A watch follows one call. It is its reply's stream once there is one.
type watch struct {
	t     *Telemetry
	ctx   context.Context // the caller's; kept because a stream is given none and it alone tells who ended the reply
	call  *pipeline.Call
	span  trace.Span // nil: none
	inner llm.Stream // nil: there is no reply

	mu      sync.Mutex // guards the next three; what is below belongs to Next until reported
	reading bool       // Next is running
	closed  bool
	told    bool // the call is reported, or about to be

	status int
	err    error         // what ended the call or its stream early; nil: nothing yet
	begun  bool          // a chunk was handed out, and so the status with it
	ended  bool          // the stream came to its end
	first  time.Duration // from the call's start to the first chunk sent; below 0: none was
	bytes  int64
}

// answered reports the call if no reply came of it.
func (w *watch) answered() {
	if w.inner == nil {
		w.report()
	}
}

func (w *watch) Next() (llm.Chunk, error) {
	if !w.enter() {
		return llm.Chunk{}, errClosed
	}
	defer w.leave()
	w.err = errPanicked
	chunk, err := w.inner.Next()
	w.err = err
	switch {
	case err == io.EOF:
		w.ended, w.err = true, nil
	case err == nil:
		w.begun = true
		w.bytes += int64(len(chunk.Raw))
		if w.first < 0 && len(chunk.Raw) > 0 && chunk.Kind <= llm.Event {
			w.first = time.Since(w.call.Start)
		}
	}
	return chunk, err
}

// Close may come while Next waits in another goroutine; then that one reports, once it is done with the call.
func (w *watch) Close() error {
	err := w.inner.Close()
	w.mu.Lock()
	w.closed = true
	tell := !w.reading && !w.told
	w.told = w.told || tell
	w.mu.Unlock()
	if tell {
		w.report()
	}
	return err
}

func (w *watch) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.reading {
		return false
	}
	w.reading = true
	return true
}

func (w *watch) leave() {
	w.mu.Lock()
	w.reading = false
	tell := w.closed && !w.told
	w.told = w.told || tell
	w.mu.Unlock()
	if tell {
		w.report()
	}
}

// An entry is what is reported of a call beyond the Call itself.
type entry struct {
	call     *pipeline.Call
	model    string // as asked for
	status   int
	code     string        // why it was refused or broke; empty: it did not
	stage    string        // that refused it
	duration time.Duration // from arrival to the end
	upstream time.Duration // from the last attempt to the end; below 0: there was no attempt
	first    time.Duration // from arrival to the first chunk; below 0: there was none
	bytes    int64
	gone     bool // the caller left before the end
}

// report counts and logs the call. By now nobody else touches it.
func (w *watch) report() {
	e := w.entry(time.Now())
	k := w.t.known.Load()
	w.t.metrics.count(k, &e)
	w.t.log.write(&e)
	if w.span != nil {
		endCall(w.span, &e, k)
	}
	if w.inner != nil {
		w.t.metrics.streams.Dec()
	}
}

func (w *watch) entry(now time.Time) entry {
	c := w.call
	e := entry{
		call: c, model: c.Request.Model, status: w.status, bytes: w.bytes, gone: w.gone(),
		duration: now.Sub(c.Start), upstream: -1, first: w.first,
	}
	if e.model == "" {
		e.model = c.Model
	}
	if !c.Outcome.Sent.IsZero() {
		e.upstream = now.Sub(c.Outcome.Sent)
	}
	w.judge(&e)
	return e
}

// errEmpty is how server answers a reply that ends before its first chunk.
var errEmpty = &pipeline.Refusal{Kind: pipeline.BadGateway, Stage: "server", Code: "empty_answer"}

// judge fills in the status the caller got and what went wrong. Until a chunk is handed out an error still
// becomes the status.
func (w *watch) judge(e *entry) {
	err := w.err
	if w.ended && !w.begun {
		err = errEmpty
	}
	if err == nil {
		return
	}
	e.code, e.stage = blame(err)
	if w.begun {
		return
	}
	e.status = pipeline.Status(err)
	if e.status == pipeline.ClientGone && !e.gone {
		e.status = http.StatusServiceUnavailable // the gateway itself ended the call: it is stopping
	}
}

// gone says whether the caller left before the end: its context is cancelled for no other reason, or the
// reply was let go although nothing was wrong with it.
func (w *watch) gone() bool {
	if w.ended {
		return false
	}
	if w.ctx.Err() != nil {
		return errors.Is(context.Cause(w.ctx), context.Canceled)
	}
	return w.inner != nil && w.err == nil
}

// blame says which code and stage a call failed with. An error's text stays out of the report: it may quote
// what no log may hold.
func blame(err error) (code, stage string) {
	var r *pipeline.Refusal
	switch {
	case errors.As(err, &r):
		return r.Code, r.Stage
	case errors.Is(err, context.Canceled):
		return "canceled", ""
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout", ""
	case errors.Is(err, errPanicked):
		return "panic", ""
	}
	return "internal_error", ""
}
