package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// statusFault turns a response other than 200 into the reply that the caller gets if nobody else answers:
// the backend's own status and words in OpenAI's shape.
func statusFault(response *http.Response, w *watch) *fault {
	defer w.drop() // rare, and what is left of a long body is not worth reading
	body, err := io.ReadAll(io.LimitReader(response.Body, maxError))
	if err != nil && len(body) == 0 {
		return answerFault("was cut off", w.cause(err))
	}
	f := errorFault(body, response.StatusCode)
	if f.reply != nil {
		copyRetryAfter(f.reply.Header, response.Header)
	}
	return f
}

func copyRetryAfter(to, from http.Header) {
	for _, name := range [...]string{"Retry-After", "Retry-After-Ms"} {
		if v := from.Get(name); v != "" {
			to.Set(name, v)
		}
	}
}

// errorFault makes the reply for an error object that came with status.
func errorFault(body []byte, status int) *fault {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		// Ours, not the caller's: it must not look as if the caller's key were wrong.
		return &fault{refusal: broken("The backend refused the gateway's own credential.", errors.New(http.StatusText(status)))}
	case status < 400:
		return &fault{movable: true, refusal: broken("The backend answered with an unexpected status.", errors.New(http.StatusText(status)))}
	}
	e, ok := llm.ReadError(body)
	if !ok {
		e = llm.APIError{Message: "The backend answered with status " + http.StatusText(status) + "."}
	}
	normalise(&e, status)
	data := llm.AppendError(nil, e)
	reply := &llm.Reply{Status: status, Header: http.Header{"Content-Type": {"application/json"}}}
	reply.Stream = llm.One(llm.Chunk{Raw: data, Data: data, Kind: llm.Body})
	return &fault{movable: transient(status), reply: reply, refusal: &pipeline.Refusal{
		Kind: pipeline.BadGateway, Stage: "upstream", Code: e.Code, Reason: e.Message,
	}}
}

// normalise gives an engine's error the type and code that OpenAI's clients know.
func normalise(e *llm.APIError, status int) {
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
