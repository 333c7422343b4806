package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// judge tells the backend's health and the metrics what came of the attempt.
func (u *Upstream) judge(ctx context.Context, c *pipeline.Call, b *backend, p *pool, f *fault) {
	h, now, sent := &b.peer.health, time.Now(), c.Outcome.Sent
	switch {
	case f == nil:
		h.succeed(now, sent)
		if c.Request.Stream {
			h.firstToken(c.Outcome.FirstByte)
		}
		if slow := p.slowest(now); slow != nil {
			u.count.ejected(slow.name, causeSlow)
		}
		u.count.attempt(b.name, "ok")
	case ctx.Err() != nil:
		h.abandon(sent)
		u.count.attempt(b.name, "abandoned")
	case f.lives && f.reply != nil && f.reply.Status >= http.StatusInternalServerError:
		if h.stumble(now, sent) {
			u.count.ejected(b.name, causeErrorRate)
		}
		u.count.attempt(b.name, "status_5xx")
	case f.lives:
		h.succeed(now, sent)
		if f.reply != nil && f.reply.Status == http.StatusNotFound {
			b.peer.doubt(now)
		}
		u.count.attempt(b.name, "status_"+strconv.Itoa(c.Outcome.Status/100)+"xx")
	default:
		if f.late != nil {
			u.count.late(b.name, f.late)
		}
		u.blame(b, now, sent, f)
		u.count.attempt(b.name, "failed")
	}
}

// broke tells of an answer that broke off after it had begun well.
func (l *live) broke(f *fault) {
	u, b, now := l.u, l.backend, time.Now()
	u.count.attempt(b.name, "broken")
	if f.late != nil {
		u.count.late(b.name, f.late)
	}
	switch {
	case f.lives && f.movable:
		if b.peer.health.stumble(now, l.sent) {
			u.count.ejected(b.name, causeErrorRate)
		}
	case !f.lives:
		u.blame(b, now, l.sent, f)
	}
}

// blame counts a failure against the backend, unless it is the gateway's own: it lacked what a call needs, or
// was kept from its work while it waited.
func (u *Upstream) blame(b *backend, now, sent time.Time, f *fault) {
	h, err := &b.peer.health, error(f.refusal)
	why := causeOf(err)
	if why == causeConnect && b.site != nil {
		b.site.nudge()
	}
	switch {
	case ours(err), why == causeTimeout && u.fleet.pulse.starved(sent, now):
		h.abandon(sent)
	case h.fail(now, sent, why):
		u.count.ejected(b.name, why)
	}
}

// causeOf sorts a failure.
func causeOf(err error) cause {
	var op *net.OpError
	var late net.Error
	var phase *lateness
	switch {
	case errors.As(err, &phase):
		return causeTimeout
	case errors.As(err, &op) && op.Op == "dial":
		if errors.As(err, &late) && late.Timeout() {
			return causeTimeout
		}
		return causeConnect
	}
	return causeAnswer
}

// ours reports whether a failure is the gateway's own want of descriptors, ports or memory.
func ours(err error) bool {
	for _, want := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}
