package plugin

import (
	"context"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/sandbox"
)

// A turn is a call as the plugins are asked about it: what host functions read and write. It belongs to the one
// goroutine that asks.
type turn struct {
	call  *pipeline.Call
	reply bool // the reply is on its way; the request is settled
}

// enter takes an instance of p for one question. Give it back with leave.
func (p *plugin) enter(ctx context.Context, t *turn) (*sandbox.Guest, error) {
	g, err := p.pool.Get(ctx)
	if err != nil {
		return nil, faultOf(ctx, err)
	}
	g.Data = t
	return g, nil
}

// leave gives an instance back. One that failed is not used again.
func (p *plugin) leave(g *sandbox.Guest, err error) {
	if err != nil {
		g.Break(err.Error())
	}
	p.pool.Put(g)
}
