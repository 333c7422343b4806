package mock

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const maxBody = 64 << 20 // bytes

// An exchange is one request on its way to its reply.
type exchange struct {
	s      *Server
	w      http.ResponseWriter
	r      *http.Request
	req    request
	script script
	id     string // without the dialect's prefix
	body   []byte
	nested bool // errors in OpenAI's envelope even on SGLang
}

// begin reads and records a request; false means it has been answered.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) (*exchange, bool) {
	x := &exchange{s: s, w: w, r: r, nested: s.opts.Kind == VLLM}
	var err error
	if x.body, err = readBody(r); err != nil {
		return nil, x.refuse(400, "body", err.Error())
	}
	s.record(r, x.body)
	if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(t) != "application/json" {
		return nil, x.refuse(400, "", "Unsupported Media Type: Only 'application/json' is allowed")
	}
	if err := json.Unmarshal(x.body, &x.req); err != nil {
		return nil, x.refuse(400, "", "There was an error parsing the body: "+err.Error())
	}
	s.mu.Lock()
	x.script = s.script
	s.mu.Unlock()
	if err := errors.Join(x.script.direct(x.body), x.script.head(r.Header)); err != nil {
		return nil, x.refuse(400, "", err.Error())
	}
	x.id = r.Header.Get("X-Request-Id")
	if x.id == "" {
		x.id = "mock" + strconv.FormatUint(s.ids.Add(1), 10)
	} else if s.opts.RequestIDs {
		w.Header().Set("X-Request-Id", x.id)
	}
	return x, x.known()
}

// readBody reads the body into one buffer of its declared size.
func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBody {
		return nil, errors.New("body too large")
	}
	if r.ContentLength >= 0 {
		b := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if len(b) > maxBody {
		return nil, errors.New("body too large")
	}
	return b, err
}

// known refuses a model that vLLM would not know; SGLang answers for any name.
func (x *exchange) known() bool {
	if x.req.Model == "" {
		x.req.Model = x.s.opts.Models[0]
	}
	if x.s.opts.Kind == SGLang {
		return true
	}
	for _, m := range x.s.opts.Models {
		if m == x.req.Model {
			return true
		}
	}
	return x.refuse(404, "model", "The model `"+x.req.Model+"` does not exist.")
}

// refuse answers in the engine's envelope; it returns false for begin's callers.
func (x *exchange) refuse(status int, param, message string) bool {
	x.s.counts.refused.Add(1)
	reply(x.w, status, envelope(x.nested, status, param, message))
	return false
}

var errorTypes = map[int]string{
	400: "BadRequestError", 401: "Unauthorized", 404: "NotFoundError", 422: "UnprocessableEntityError",
	429: "RateLimitError", 500: "InternalServerError", 503: "ServiceUnavailableError",
}

func envelope(nested bool, status int, param, message string) string {
	kind, ok := errorTypes[status]
	if !ok {
		kind = "InternalServerError"
	}
	p := "null"
	if param != "" {
		p = `"` + escape(param) + `"`
	}
	inner := `"message":"` + escape(message) + `","type":"` + kind + `","param":` + p + `,"code":` + strconv.Itoa(status) + `}`
	if nested {
		return `{"error":{` + inner + `}`
	}
	return `{"object":"error",` + inner
}

// reply writes a whole JSON body.
func reply(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // a client that left is seen by the context
}

// errGone means the client left or the fault ended the reply: nothing more is to be written.
var errGone = errors.New("mock: gone")

// enter takes a slot; it returns how to leave, or nil when the request has been answered or is gone.
func (x *exchange) enter() func() {
	c := &x.s.counts
	if x.s.slots == nil {
		c.running.Add(1)
		return func() { c.running.Add(-1) }
	}
	if q := x.s.opts.Queue; c.waiting.Add(1) > int64(q) && q > 0 && len(x.s.slots) == cap(x.s.slots) {
		c.waiting.Add(-1)
		x.refuse(503, "", "The request queue is full.")
		return nil
	}
	defer c.waiting.Add(-1)
	select {
	case x.s.slots <- struct{}{}:
	case <-x.r.Context().Done():
		c.aborted.Add(1)
		return nil
	}
	c.running.Add(1)
	return func() { c.running.Add(-1); <-x.s.slots }
}

// wait sleeps until at; it is errGone when the client leaves first.
func wait(ctx context.Context, timer *time.Timer, at time.Time) error {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err()
	}
	timer.Reset(d)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		timer.Stop()
		return errGone
	}
}
