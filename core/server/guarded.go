package server

import (
	"net/http"
	"path"
	"strings"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// guarded refuses requests whose path or header names two readers could read differently, and answers a
// panic with 500 for its own request alone.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recover(w)
		w.Header()["X-Request-Id"] = []string{newID()}
		if refusal := oddity(r); refusal != nil {
			w.Header().Set("Connection", "close")
			s.refuse(w, refusal)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) recover(w http.ResponseWriter) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v) // net/http's own way to break a connection off
	}
	s.log.Error("panic while answering", "request_id", w.Header().Get("X-Request-Id"), "panic", v, "stack", stack())
	s.refuse(w, &pipeline.Refusal{Kind: pipeline.Internal, Stage: "server", Code: "internal_error", Reason: "Something broke in the gateway. The request id names it in the log."})
}

// oddity says what makes a request ambiguous, or nil.
func oddity(r *http.Request) *pipeline.Refusal {
	p := r.URL.Path
	switch {
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

func odd(reason string) *pipeline.Refusal {
	return &pipeline.Refusal{Kind: pipeline.Invalid, Stage: "server", Code: "bad_request", Reason: reason}
}
