package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// types are OpenAI's error types by status; any other below 500 is an invalid request, the rest a
// server's error.
var types = map[int]string{
	http.StatusBadRequest: "invalid_request_error", http.StatusUnauthorized: "invalid_request_error",
	http.StatusForbidden: "permission_error", http.StatusNotFound: "invalid_request_error",
	http.StatusMethodNotAllowed: "invalid_request_error", http.StatusRequestTimeout: "invalid_request_error",
	http.StatusRequestEntityTooLarge: "invalid_request_error", http.StatusUnsupportedMediaType: "invalid_request_error",
	http.StatusTooManyRequests: "rate_limit_error", http.StatusServiceUnavailable: "service_unavailable_error",
}

// broke is all that a caller is told of a fault.
var broke = &pipeline.Refusal{Kind: pipeline.Internal, Stage: "server", Code: "internal_error", Reason: "Something broke in the gateway. The request id names it in the log."}

var errPanicked = errors.New("panic")

// describe turns an error into a status and what the caller may know. A fault that is no refusal is
// logged here and shows the caller nothing but the request id's header.
func (s *Server) describe(w http.ResponseWriter, r *http.Request, err error) (int, llm.APIError) {
	var refusal *pipeline.Refusal
	switch {
	case errors.As(err, &refusal):
	case err == errPanicked: // logged where it was caught
		refusal = broke
	case errors.Is(context.Cause(r.Context()), errStopping):
		refusal = errStopping
	default:
		s.log.Error("call failed", "request_id", w.Header().Get("X-Request-Id"), "err", err)
		refusal = broke
	}
	return apiError(refusal)
}

// apiError is a refusal in OpenAI's words.
func apiError(r *pipeline.Refusal) (int, llm.APIError) {
	status := r.HTTPStatus()
	kind, ok := types[status]
	switch {
	case ok:
	case status < http.StatusInternalServerError:
		kind = "invalid_request_error"
	default:
		kind = "server_error"
	}
	return status, llm.APIError{Message: r.Reason, Type: kind, Param: r.Param, Code: r.Code}
}

// fail answers a call that has no reply.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *pipeline.Refusal
	refused := errors.As(err, &refusal)
	if !refused && gone(r.Context()) {
		// Nobody is there to read it, and who only stopped sending must not get an empty 200.
		panic(http.ErrAbortHandler)
	}
	if refused {
		refusalHeaders(w.Header(), refusal)
	}
	status, e := s.describe(w, r, err)
	s.writeError(w, status, e)
}

// refuse answers a request that becomes no call.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, refusal *pipeline.Refusal) {
	snapshot := s.snapshot()
	defer snapshot.Release()
	x := &exchange{w: w, r: r}
	snapshot.Refused(r.Context(), x.begin(llm.Other), refusal)
	refusalHeaders(w.Header(), refusal)
	status, e := apiError(refusal)
	s.writeError(w, status, e)
}

// decline is the handler that always refuses.
func (s *Server) decline(refusal *pipeline.Refusal) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.refuse(w, r, refusal) })
}

func refusalHeaders(h http.Header, r *pipeline.Refusal) {
	for name, value := range r.Header {
		h.Set(name, value)
	}
	if r.Retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.Retry.Seconds()))))
		h.Set("Retry-After-Ms", strconv.FormatInt(int64(r.Retry/time.Millisecond), 10))
	}
	if r.HTTPStatus() == http.StatusUnauthorized {
		h.Set("Www-Authenticate", "Bearer")
	}
}

func (s *Server) writeError(w http.ResponseWriter, status int, e llm.APIError) {
	t := &s.config.Load().Timeouts // net/http may first wait for the rest of the body
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(t.BodyGap + t.Write))
	body := llm.AppendError(nil, e)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
