package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A fault is why one attempt gave no usable answer.
type fault struct {
	refusal  *pipeline.Refusal
	reply    *llm.Reply    // the backend's own error reply, given to the caller when nobody else answers
	after    time.Duration // how long the backend asked to be left alone; 0: it did not say
	late     *lateness     // the phase that took too long; nil: none did
	movable  bool          // another backend may do better
	lives    bool          // the backend is well: it answered, if not as wished
	settled  bool          // the same backend would say the same again
	filtered bool          // refused for its content: nobody else is asked
	overflow bool          // the prompt is too long: only another model may do better
	unasked  bool          // there was nobody to ask
	unsent   bool          // no connection: the backend knows nothing of the call
	died     bool          // the connection was cut while the backend had the call: no work is left there
}

func (f *fault) answer(ctx context.Context) (*llm.Reply, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if f.reply != nil {
		return f.reply, nil
	}
	return nil, f.refusal
}

// drop lets go of a fault that is not the call's answer.
func (f *fault) drop() {
	if f != nil && f.reply != nil {
		_ = f.reply.Stream.Close()
	}
}

// A lateness is a phase of an attempt that took too long.
type lateness struct{ phase, code, reason string }

func (l *lateness) Error() string { return "the phase " + l.phase + " took too long" }

// The phases of an attempt, each with the code and sentence that callers are told. Phases are a metric's label.
var (
	errConnect    = &lateness{"connect", "backend_connect_timeout", "The backend accepted no connection in time."}
	errHeaders    = &lateness{"headers", "backend_headers_timeout", "The backend did not begin to answer in time."}
	errFirstToken = &lateness{"first_token", "first_token_timeout", "The backend sent no first token in time."}
	errAnswer     = &lateness{"answer", "answer_timeout", "The backend did not finish its answer in time."}
	errBetween    = &lateness{"between_tokens", "between_tokens_timeout", "The backend sent no further token in time."}
	errSlow       = &lateness{"min_rate", "throughput_timeout", "The backend answered too slowly."}
	errTotal      = &lateness{"total", "total_timeout", "The call took longer than a call may."}
)

func timeoutFault(late *lateness, err error) *fault {
	return &fault{movable: true, settled: true, late: late, unsent: late == errConnect, refusal: &pipeline.Refusal{
		Kind: pipeline.GatewayTimeout, Stage: "upstream", Code: late.code, Reason: late.reason, Err: err,
	}}
}

func unavailable(p *pool, wait time.Duration) *fault {
	return &fault{movable: true, unasked: true, refusal: &pipeline.Refusal{
		Kind: pipeline.Unavailable, Stage: "upstream", Code: "no_backend_available", Retry: wait,
		Reason: "No backend is able to answer right now.",
		Err:    fmt.Errorf("every backend of pool %q is out", p.name),
	}}
}

// connectionFault says what to tell when no response came; raw is the connection's own error.
func connectionFault(err, raw error) *fault {
	var late *lateness
	var op *net.OpError
	var silent silence
	var again *resent
	dial := errors.As(raw, &op) && op.Op == "dial"
	switch {
	case errors.As(err, &late):
		return timeoutFault(late, err)
	case errors.Is(err, context.Canceled):
		return &fault{refusal: broken("The call was cancelled.", err)}
	case dial && op.Timeout():
		return timeoutFault(errConnect, err)
	case !dial && !errors.As(raw, &silent):
		return answerFault("could not be read", err)
	}
	return &fault{movable: true, unsent: dial, died: !dial && hungUp(raw), settled: errors.As(raw, &again), refusal: &pipeline.Refusal{
		Kind: pipeline.Unavailable, Stage: "upstream", Code: "backend_unreachable", Retry: time.Second,
		Reason: "The backend could not be reached.", Err: err,
	}}
}

// A resent is what came of sending a request a second time.
type resent struct{ error }

func (r *resent) Unwrap() error { return r.error }

// hungUp reports whether err says that the other side closed the connection without a byte of answer.
func hungUp(err error) bool {
	var silent silence
	return errors.As(err, &silent) && dead(err)
}

// dead reports whether err says that the other side has closed the connection.
func dead(err error) bool {
	for _, sign := range [...]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return false
}

// An SDK that reads events finds none in JSON and takes the answer for empty; the other way round it throws.
var errForm = errors.New("an event stream for a body, or a body for an event stream")

// answerFault says that the backend answered something that is no answer.
func answerFault(what string, err error) *fault {
	var late *lateness
	if errors.As(err, &late) {
		return timeoutFault(late, err)
	}
	return &fault{movable: true, died: dead(err), refusal: broken("The backend's answer "+what+".", err)}
}

func broken(reason string, err error) *pipeline.Refusal {
	return &pipeline.Refusal{Kind: pipeline.BadGateway, Stage: "upstream", Code: "bad_backend_answer", Reason: reason, Err: err}
}

// transient reports whether a backend's status says that another backend, or the same one later, may do better.
func transient(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
