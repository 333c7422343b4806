package server

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// ReadInto reads the request's body within the configured size and time, and parses it into r.
func (x *exchange) ReadInto(r *llm.Request) error {
	if refusal := x.unreadable(); refusal != nil {
		return refusal
	}
	body, err := x.read()
	if err != nil {
		return x.readFault(err)
	}
	if err := llm.ParseRequest(x.call.Route, body, r); err != nil {
		return invalid(err)
	}
	return nil
}

// unreadable refuses a body that is not plain JSON of a bearable size, before any of it is read.
func (x *exchange) unreadable() *pipeline.Refusal {
	h := x.r.Header
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &pipeline.Refusal{Kind: pipeline.Unsupported, Stage: "server", Code: "unsupported_encoding",
			Reason: "Compressed request bodies are not accepted. Send the JSON as it is."}
	}
	if !isJSON(h.Get("Content-Type")) {
		return &pipeline.Refusal{Kind: pipeline.Unsupported, Stage: "server", Code: "unsupported_media_type",
			Reason: "The Content-Type must be application/json."}
	}
	if x.r.ContentLength > int64(x.config.MaxBody) {
		return x.tooLarge()
	}
	return nil
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	media, params, err := mime.ParseMediaType(contentType)
	charset := params["charset"]
	return err == nil && media == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

func (x *exchange) tooLarge() *pipeline.Refusal {
	closeAfter(x.w, x.r) // the rest of the body is not worth reading
	return &pipeline.Refusal{Kind: pipeline.TooLarge, Stage: "server", Code: "request_too_large",
		Reason: fmt.Sprintf("The request body is larger than the limit of %v.", x.config.MaxBody)}
}

var errTooLarge = errors.New("body over the limit")

// trusted is as many bytes as are made room for on a caller's word that they will come.
const trusted = 1 << 20

// read returns the whole body. Each read has its own deadline, so that a caller cannot hold a slot by
// sending a byte now and then. The deadline is lifted at the body's end, because a stream may last long;
// short of it, it stays for what net/http reads to find the end.
func (x *exchange) read() ([]byte, error) {
	t := x.config.Timeouts
	last := time.Now().Add(t.Body)
	limit := int(x.config.MaxBody)
	size := 4 << 10
	if x.r.ContentLength >= 0 {
		size = int(x.r.ContentLength) + 1 // one more than is expected, to see the end without growing
	}
	body := make([]byte, 0, min(size, trusted))
	for {
		if len(body) == cap(body) {
			body = slices.Grow(body, max(size-len(body), 1))
		}
		_ = x.control.SetReadDeadline(earlier(last, time.Now().Add(t.BodyGap)))
		n, err := x.r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if len(body) > limit {
			return nil, errTooLarge
		}
		if err == io.EOF {
			_ = x.control.SetReadDeadline(time.Time{})
			return body, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (x *exchange) readFault(err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return x.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		closeAfter(x.w, x.r)
		return &pipeline.Refusal{Kind: pipeline.Invalid, Status: http.StatusRequestTimeout, Stage: "server", Code: "request_timeout",
			Reason: "The request body did not arrive in time.", Err: err}
	}
	closeAfter(x.w, x.r)
	return &pipeline.Refusal{Kind: pipeline.Invalid, Stage: "server", Code: "bad_request", Reason: "The request body could not be read.", Err: err}
}

func invalid(err error) error {
	r := &pipeline.Refusal{Kind: pipeline.Invalid, Stage: "server", Code: "invalid_request", Reason: err.Error()}
	var b *llm.BodyError
	if errors.As(err, &b) {
		r.Param = b.Param
	}
	return r
}
