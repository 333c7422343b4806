package server

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// guarded refuses requests whose path or header names two readers could read differently, bounds what
// net/http does by itself, and answers a panic with 500 for its own request alone.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recover(w)
		w.Header()["X-Request-Id"] = []string{newID()}
		s.bound(w, r)
		if refusal := s.oddity(r); refusal != nil {
			closeAfter(w, r)
			s.refuse(w, r, refusal)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bound sees to what net/http would do without a bound.
func (s *Server) bound(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// A body that nobody reads is thrown away by net/http, for as long as it takes to come.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.config.Load().Timeouts.BodyGap))
	}
	if r.ProtoMajor > 1 {
		// WriteTimeout counts from the request's header here, and a first token may take longer.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	}
	if len(r.TransferEncoding) > 0 {
		// There may have been a Content-Length too, which net/http drops without a word. Whoever went by it
		// takes what follows for another request (RFC 9112, section 6.1: close).
		closeAfter(w, r)
	}
}

// closeAfter makes this reply the connection's last. On HTTP/2 it would end everybody else's calls on it.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

func (s *Server) recover(w http.ResponseWriter) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v) // net/http's own way to break a connection off
	}
	s.panicked(w, v)
	_, e := apiError(broke)
	s.writeError(w, http.StatusInternalServerError, e)
}

func (s *Server) panicked(w http.ResponseWriter, v any) {
	s.log.Error("panic while answering", "request_id", w.Header().Get("X-Request-Id"), "panic", v, "stack", stack())
}

// oddity says what makes a request ambiguous or too large, or nil.
func (s *Server) oddity(r *http.Request) *pipeline.Refusal {
	p := r.URL.Path
	limit := s.config.Load().MaxHeader
	switch {
	case headerSize(r) > int(limit):
		return &pipeline.Refusal{Kind: pipeline.Invalid, Status: http.StatusRequestHeaderFieldsTooLarge, Stage: "server", Code: "header_too_large",
			Reason: fmt.Sprintf("The request header is larger than the limit of %v.", limit)}
	case r.URL.Host != "" || !strings.HasPrefix(p, "/"):
		return odd("The request target must be a path, not an address.")
	case path.Clean(p) != p || strings.ContainsAny(p, ";\\\x00\r\n"):
		return odd("The path is not in its plain form.")
	case r.URL.RawPath != "" && !strings.HasPrefix(p, "/v1/models/"):
		return odd("The path has needless escapes.")
	}
	for name := range r.Header {
		if strings.IndexByte(name, '_') >= 0 {
			return odd("Header names with an underscore are refused: other servers read them as hyphens.")
		}
	}
	return nil
}

// headerSize counts a request's head as it is written in HTTP/1.
func headerSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(" HTTP/1.1\r\nHost: \r\n\r\n") + len(r.Host) + 1
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}

func odd(reason string) *pipeline.Refusal {
	return &pipeline.Refusal{Kind: pipeline.Invalid, Stage: "server", Code: "bad_request", Reason: reason}
}
