package mock

import (
	"net"
	"net/http"
	"time"
)

// misbehave does what the fault does before or in place of the reply; true means that was all.
func (x *exchange) misbehave(p *plan) bool {
	f := &x.script.fault
	if !x.s.due(f, p.resumed) {
		*f = Fault{}
		return false
	}
	x.s.counts.faults.Add(1)
	switch {
	case f.has(reset):
		x.hijack("", true)
	case f.has(garbageFirst):
		x.hijack("\x16\x03\x01 not http at all\r\n\r\n", false)
	case f.has(hang):
		x.idle(f.lasting)
		x.hijack("", false)
	case f.has(filtered):
		reply(x.w, 400, `{"error":{"message":"The response was filtered.","type":"invalid_request_error","param":"prompt","code":"content_filter"}}`)
	case f.has(noPrefill) && x.prefilled():
		x.refuse(400, "", "This model does not support assistant message prefill. The conversation must end with a user message.")
	case f.status != 0:
		x.status(f)
	case f.has(html):
		x.page(200)
	case f.has(empty200):
		x.headers(200)
	case f.has(headersOnly):
		x.headers(200)
		x.idle(f.lasting)
		panic(http.ErrAbortHandler)
	case f.cut == cutError && !x.req.Stream:
		x.refuse(f.errorCode(), "", errorText)
	default:
		return false
	}
	return true
}

func (x *exchange) prefilled() bool {
	n := len(x.req.Messages)
	return n > 0 && x.req.Messages[n-1].Role == "assistant"
}

// due says whether this reply is to go wrong.
func (s *Server) due(f *Fault, resumed bool) bool {
	if f.text == "" || f.fresh && resumed {
		return false
	}
	if !f.once {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.once[f.text] || len(s.once) >= maxOnce {
		return false
	}
	s.once[f.text] = true
	return true
}

const maxOnce = 1 << 16 // different faults marked once

const errorText = "Internal server error"

func (f *Fault) errorCode() int {
	if f.code != 0 {
		return f.code
	}
	return 500
}

func (x *exchange) status(f *Fault) {
	if f.retry != "" {
		x.w.Header().Set("Retry-After", f.retry)
	}
	switch {
	case f.has(html):
		x.page(f.status)
	case f.overflow:
		x.overflow(x.s.opts.MaxContext + 1)
	default:
		x.refuse(f.status, "", "mock: asked to answer "+http.StatusText(f.status))
	}
}

func (x *exchange) page(status int) {
	x.w.Header()["Content-Type"] = htmlType
	x.w.WriteHeader(status)
	_, _ = x.w.Write([]byte("<html><body><h1>Bad gateway</h1></body></html>\n")) // a client that left is no news
}

func (x *exchange) headers(status int) {
	x.w.Header()["Content-Type"] = streamType
	if !x.req.Stream {
		x.w.Header()["Content-Type"] = jsonType
	}
	x.w.WriteHeader(status)
	_ = http.NewResponseController(x.w).Flush() // a client that left is no news
}

// idle waits for d, or without d for as long as the client stays.
func (x *exchange) idle(d time.Duration) {
	if d == 0 {
		<-x.r.Context().Done()
		x.s.counts.aborted.Add(1)
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	if wait(x.r.Context(), timer, time.Now().Add(d)) != nil {
		x.s.counts.aborted.Add(1)
	}
}

// hijack ends the connection outside HTTP, by a TCP reset if asked.
func (x *exchange) hijack(last string, rst bool) {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 or a recorder: the nearest there is
	}
	_, _ = conn.Write([]byte(last)) // the connection ends anyway
	if tcp, ok := conn.(*net.TCPConn); ok && rst {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
