package upstream

import (
	"context"
	"io"
	"math/rand/v2"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A mirror copies a share of a pool's calls to another pool, whose answers nobody sees.
type mirror struct {
	to      *pool
	share   float64
	longest time.Duration
	seats   chan struct{} // taken by copies under way
}

func newMirror(c MirrorConfig, to *pool) *mirror {
	return &mirror{to: to, share: c.Share, longest: c.Longest, seats: make(chan struct{}, c.Concurrent)}
}

// copy sends a copy of the call to the mirror of its first target, if its turn has come and a seat is free. The call does
// not wait for it, and is not changed by it.
func (u *Upstream) copy(c *pipeline.Call, p *pool) {
	m := p.mirror
	if m == nil || m.share <= 0 || rand.Float64() >= m.share {
		return
	}
	select {
	case m.seats <- struct{}{}:
	default:
		u.count.mirror(m.to.name, "left_out")
		return
	}
	own := *c
	own.ID, own.Outcome, own.Trace, own.Waiter, own.Metered = c.ID+"-mirror", pipeline.Outcome{}, pipeline.Trace{}, nil, false
	own.Decision.Mask.Profile = "" // no decision was asked whether a mirror may see what the caller wrote
	u.extra.Go(func() {
		defer func() { <-m.seats }()
		u.count.mirror(m.to.name, u.reflect(&own, m))
	})
}

// reflect makes the copied call and says what came of it.
func (u *Upstream) reflect(c *pipeline.Call, m *mirror) string {
	ctx := u.life
	if m.longest > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.longest)
		defer cancel()
	}
	q := u.query(c, m.to)
	defer q.release()
	b, _ := m.to.pick(time.Now(), &q)
	if b == nil {
		return "no_backend"
	}
	reply, f := u.attempt(ctx, c, try{pool: m.to, backend: b, fresh: q.fresh, last: true})
	if f != nil {
		f.drop()
		return "failed"
	}
	defer reply.Stream.Close()
	for {
		if _, err := reply.Stream.Next(); err == io.EOF {
			return "answered"
		} else if err != nil {
			return "failed"
		}
	}
}
