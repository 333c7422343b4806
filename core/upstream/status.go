package upstream

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// statusFault turns a response other than 200 into the reply that the caller gets if nobody else answers:
// the backend's own status and words in OpenAI's shape.
func statusFault(response *http.Response, w *watch) *fault {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxError+1))
	if err == nil && len(body) <= maxError {
		w.keep(response)
	} else {
		w.drop() // what is left of a long body is not worth reading, and a status says enough without one
	}
	f := errorFault(body[:min(len(body), maxError)], response.StatusCode)
	f.after = retryAfter(response.Header, time.Now())
	if f.reply != nil {
		copyRetryAfter(f.reply.Header, response.Header)
	}
	return f
}

// retryAfter is how long a backend asks to be left alone: Retry-After-Ms, or Retry-After in seconds or as a date.
// What cannot be read, or lies in the past, is 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		return seconds(ms / 1000)
	}
	text := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		return seconds(s)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// seconds is s as a duration, within what a duration holds; 0 where s is negative or no number.
func seconds(s float64) time.Duration {
	if !(s > 0) {
		return 0
	}
	return time.Duration(min(s, maxRetryAfter.Seconds()) * float64(time.Second))
}

const maxRetryAfter = 24 * time.Hour

func copyRetryAfter(to, from http.Header) {
	for _, name := range [...]string{"Retry-After", "Retry-After-Ms"} {
		if v := from.Get(name); v != "" {
			to.Set(name, v)
		}
	}
}

// inBandFault makes the fault for an error that came with status 200. Engines put the status in its code:
// a caller's mistake must not look like the backend's, or its SDK would send it again.
func inBandFault(body []byte) *fault {
	status := http.StatusBadGateway
	if e, ok := llm.ReadError(body); ok {
		if n := statusCode(e.Code); n >= 400 {
			status = n
		}
	}
	return errorFault(body, status)
}

// statusCode reads an engine's error code that is an HTTP status; 0 if it is none.
func statusCode(code string) int {
	n, err := strconv.Atoi(code)
	if err != nil || n < 100 || n > 599 {
		return 0
	}
	return n
}

// errorFault makes the reply for an error object that came with status. The backend lives if it is the
// caller's error, and a single 500 is a request's own misfortune.
func errorFault(body []byte, status int) *fault {
	lives := status <= http.StatusInternalServerError
	e, ok := llm.ReadError(body)
	filtered := status == http.StatusForbidden || ok && filters(&e) // a 403 may be a provider's moderation
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		// Ours, not the caller's: it must not look as if the caller's key were wrong.
		return &fault{movable: !filtered, filtered: filtered, settled: true, lives: lives,
			refusal: broken("The backend refused the gateway's own credential.", errors.New(http.StatusText(status)))}
	case status < 400:
		return &fault{movable: true, refusal: broken("The backend answered with an unexpected status.", errors.New(http.StatusText(status)))}
	}
	if !ok {
		e = llm.APIError{Message: "The backend answered with status " + strconv.Itoa(status) + "."}
	}
	normalise(&e, status)
	data := llm.AppendError(nil, e)
	reply := &llm.Reply{Status: status, Header: http.Header{"Content-Type": jsonType}}
	reply.Stream = llm.One(llm.Chunk{Raw: data, Data: data, Kind: llm.Body})
	overflow := e.Code == "context_length_exceeded" && status < http.StatusInternalServerError
	return &fault{
		movable: !filtered && (overflow || transient(status)), filtered: filtered, overflow: overflow, lives: lives, reply: reply,
		refusal: &pipeline.Refusal{Kind: pipeline.BadGateway, Stage: "upstream", Code: e.Code, Reason: e.Message},
	}
}

// filters reports whether e is a provider's refusal for the content's sake. Nobody is asked to get round one,
// whatever status it came with.
func filters(e *llm.APIError) bool {
	for _, word := range [...]string{"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"} {
		if e.Code == word || e.Type == word {
			return true
		}
	}
	return false
}

// normalise gives an engine's error the type and code that OpenAI's clients know.
func normalise(e *llm.APIError, status int) {
	if statusCode(e.Code) > 0 {
		e.Code = "" // the engines repeat the status here; OpenAI's code is a word
	}
	switch {
	case status == http.StatusNotFound && (e.Param == "model" || strings.Contains(e.Message, "does not exist")):
		e.Type, e.Param, e.Code = "invalid_request_error", "model", "model_not_found"
	case status == http.StatusTooManyRequests:
		e.Type, e.Code = "rate_limit_error", "rate_limit_exceeded"
	case status == http.StatusServiceUnavailable:
		e.Type = "service_unavailable_error"
	case status >= 500:
		e.Type = "server_error"
	case overflows(e.Message):
		e.Type, e.Code = "invalid_request_error", "context_length_exceeded"
	default:
		e.Type = "invalid_request_error"
	}
}

// overflows knows how vLLM and SGLang word a prompt that is longer than the model's context.
func overflows(message string) bool {
	return strings.Contains(message, "maximum context length") || strings.Contains(message, "context length")
}
