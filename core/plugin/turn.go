package plugin

import (
	"context"
	"errors"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/sandbox"
)

// A turn is a call as the plugins are asked about it: what host functions read and write. It belongs to the one
// goroutine that asks.
type turn struct {
	call  *pipeline.Call
	reply bool // the reply is on its way; the request is settled

	probe  bool    // the plugin that is asked was taken out, and this question tries it
	wishes *wishes // what host functions were told in this question; nil: nothing
}

// enter takes an instance of p for one question. Give it back with leave.
func (p *plugin) enter(ctx context.Context, t *turn) (*sandbox.Guest, error) {
	probe, err := p.breaker.enter()
	if err != nil {
		return nil, err
	}
	t.probe, t.wishes = probe, nil
	g, err := p.pool.GetFor(ctx, p.owner(t))
	if err != nil {
		err = faultOf(ctx, err)
		p.breaker.leave(probe, blame(err))
		return nil, err
	}
	g.Data = t
	return g, nil
}

// leave gives an instance back. One that failed is not used again, and nothing that it told host functions happens.
func (p *plugin) leave(g *sandbox.Guest, err error) {
	if t, ok := g.Data.(*turn); ok {
		p.breaker.leave(t.probe, err)
		if t.wishes != nil && err == nil {
			t.wishes.grant(t.call)
		}
		t.wishes = nil
	}
	if err != nil {
		g.Break(err.Error())
	}
	p.pool.Put(g)
}

// owner is whose texts an instance holds while it answers: it is cleared before it serves another.
func (p *plugin) owner(t *turn) string {
	if t.call == nil || t.call.Principal == nil {
		return ""
	}
	return t.call.Principal.Tenant
}

// blame returns err unless it says more of the crowd than of the plugin: that all instances were busy.
func blame(err error) error {
	if isBusy(err) {
		return errCrowd
	}
	return err
}

// isBusy reports whether no instance became free.
func isBusy(err error) bool {
	f, ok := err.(*failure)
	return ok && f.cause == sandbox.Busy.String()
}

var errCrowd = errors.New("every instance is busy")
