package server

import (
	"net/http"
	"sync"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A patience keeps a caller, and whatever lies between, from giving a stream up that has not begun: while a
// call waits for a backend it sends comments, which every reader of events ignores. What is tried again
// meanwhile stays unseen, but the status is 200 from the first comment on.
type patience struct {
	mu      sync.Mutex // held while something is written; guards what follows
	timer   *time.Timer
	waiting bool
}

var _ pipeline.Waiter = (*exchange)(nil)

// WaitBegins lets comments be sent from another goroutine until WaitEnds returns.
func (x *exchange) WaitBegins() {
	every := x.config.KeepAlive
	if every <= 0 {
		return
	}
	x.wait.mu.Lock()
	defer x.wait.mu.Unlock()
	x.wait.waiting = true
	if x.wait.timer == nil {
		x.wait.timer = time.AfterFunc(every, x.murmur)
	} else {
		x.wait.timer.Reset(every)
	}
}

// WaitEnds waits for a comment that is being written.
func (x *exchange) WaitEnds() {
	x.wait.mu.Lock()
	defer x.wait.mu.Unlock()
	x.wait.waiting = false
	if x.wait.timer != nil {
		x.wait.timer.Stop()
	}
}

// murmur sends one comment, as the reply's first bytes if there are none yet.
func (x *exchange) murmur() {
	x.wait.mu.Lock()
	defer x.wait.mu.Unlock()
	if !x.wait.waiting {
		return
	}
	x.out.header(&x.call, quiet, true, 0)
	if x.out.comment() == nil { // who does not take it has gone, which net/http tells the call
		x.wait.timer.Reset(x.config.KeepAlive)
	}
}

// quiet is the head of a reply that is not there yet.
var quiet = &llm.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}}}

var keepAlive = []byte(": keep-alive\n\n")

func (p *printer) comment() error {
	p.renew()
	if _, err := p.x.w.Write(keepAlive); err != nil {
		return err
	}
	p.dirty = false
	err := p.x.control.Flush()
	p.rest()
	return err
}

// mute reports whether the caller has heard nothing for long although chunks came: a plugin may keep a text or a
// tool call back for as long as it is being written.
func (p *printer) mute() bool {
	every := p.x.config.KeepAlive
	if every <= 0 || p.begun && !p.stream {
		return false
	}
	last := p.spoke
	if last.IsZero() {
		last = p.x.call.Start
	}
	return time.Since(last) >= every
}
