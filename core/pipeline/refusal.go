package pipeline

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// A Kind groups refusals by what the caller can do about them; server turns it into an HTTP status.
type Kind uint8

const (
	Invalid         Kind = iota // 400
	Unauthenticated             // 401
	Forbidden                   // 403
	NotFound                    // 404
	TooLarge                    // 413
	Unsupported                 // 415
	Exhausted                   // 429
	Unavailable                 // 503
	BadGateway                  // 502: the backend's answer was unusable
	GatewayTimeout              // 504
	Internal                    // 500
)

// A Refusal is the gateway's own no, safe to show to the caller.
type Refusal struct {
	Kind   Kind
	Status int               // overrides Kind's status when not 0
	Stage  string            // "auth", "quota", …
	Code   string            // the OpenAI error code
	Param  string            // the request member at fault, if one is
	Reason string            // a whole sentence for the caller
	Retry  time.Duration     // when to try again; 0: do not retry
	Header map[string]string // further headers, such as x-ratelimit-*
	Err    error             // for the log, never for the caller
}

func (r *Refusal) Error() string {
	if r.Err != nil {
		return r.Stage + ": " + r.Reason + ": " + r.Err.Error()
	}
	return r.Stage + ": " + r.Reason
}

func (r *Refusal) Unwrap() error { return r.Err }

// statuses is indexed by Kind.
var statuses = [...]int{
	Invalid:         http.StatusBadRequest,
	Unauthenticated: http.StatusUnauthorized,
	Forbidden:       http.StatusForbidden,
	NotFound:        http.StatusNotFound,
	TooLarge:        http.StatusRequestEntityTooLarge,
	Unsupported:     http.StatusUnsupportedMediaType,
	Exhausted:       http.StatusTooManyRequests,
	Unavailable:     http.StatusServiceUnavailable,
	BadGateway:      http.StatusBadGateway,
	GatewayTimeout:  http.StatusGatewayTimeout,
	Internal:        http.StatusInternalServerError,
}

// HTTPStatus is the status the caller is answered with: Status if it is set, else the one of Kind.
func (r *Refusal) HTTPStatus() int {
	if r.Status != 0 {
		return r.Status
	}
	if int(r.Kind) < len(statuses) {
		return statuses[r.Kind]
	}
	return http.StatusInternalServerError
}

// ClientGone is the status noted for a caller that left before its answer began. Nobody is sent it.
const ClientGone = 499

// Status is the status that err, not nil, is answered and counted with: a refusal's own, ClientGone when the
// call was cancelled, and 500 for everything that broke.
func Status(err error) int {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r.HTTPStatus()
	case errors.Is(err, context.Canceled):
		return ClientGone
	}
	return http.StatusInternalServerError
}
