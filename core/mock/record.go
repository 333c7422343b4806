package mock

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// A Request is one the server has received.
type Request struct {
	Method string      `json:"method"`
	Path   string      `json:"path"`
	Query  string      `json:"query"`
	Host   string      `json:"host"`
	Remote string      `json:"remote"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"` // its first 1 MiB
}

const (
	maxRecordBody = 1 << 20  // bytes of one body
	maxRecord     = 16 << 20 // bytes of all bodies
)

func (s *Server) record(r *http.Request, body []byte) {
	s.counts.requests.Add(1)
	if s.opts.Record < 0 {
		return
	}
	q := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Host: r.Host, Remote: r.RemoteAddr,
		Header: r.Header, Body: string(body[:min(len(body), maxRecordBody)])}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) >= s.opts.Record {
		s.requests = slices.Delete(s.requests, 0, 1)
	}
	s.requests = append(s.requests, q)
	total := 0
	for i := len(s.requests) - 1; i >= 0; i-- {
		if total += len(s.requests[i].Body); total > maxRecord {
			s.requests = slices.Delete(s.requests, 0, i+1)
			return
		}
	}
}

// Requests are the last calls received, the oldest first; health and metrics probes are not among them.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Forget drops the recorded requests.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Server) adminRequests(w http.ResponseWriter, _ *http.Request) {
	b, _ := json.Marshal(s.Requests()) // strings and maps of strings always marshal
	reply(w, 200, string(b))
}

func (s *Server) adminStats(w http.ResponseWriter, _ *http.Request) {
	b, _ := json.Marshal(s.Stats()) // numbers always marshal
	reply(w, 200, string(b))
}

// adminScript takes SetScript's text as its body.
func (s *Server) adminScript(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err == nil {
		err = s.SetScript(strings.TrimSpace(string(body)))
	}
	if err != nil {
		reply(w, 400, envelope(true, 400, "", err.Error()))
		return
	}
	reply(w, 200, `{}`)
}

// adminHealth takes the status of /health as ?status=.
func (s *Server) adminHealth(w http.ResponseWriter, r *http.Request) {
	var status int
	if err := setCount(&status, r.URL.Query().Get("status")); err != nil || status < 200 || status > 599 {
		reply(w, 400, envelope(true, 400, "status", "status is an HTTP status"))
		return
	}
	s.SetHealth(status)
	reply(w, 200, `{}`)
}
