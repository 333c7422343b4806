package policy

import (
	"context"
	"sync/atomic"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A Live is a stage whose policy can be replaced beside the calls that run: each call is decided by one policy,
// the one that was in place when it came to this stage. All else of a snapshot stays as it is, so that a
// rollback works however broken the rest of the configuration has become on disk meanwhile.
type Live struct {
	env   Env
	stage atomic.Pointer[Stage]
}

var _ pipeline.Stage = (*Live)(nil)

// NewLive returns a stage that decides by e.
func NewLive(e *Engine, env Env) *Live {
	l := &Live{env: env}
	l.Put(e)
	return l
}

// Put makes l decide by e from now on.
func (l *Live) Put(e *Engine) { l.stage.Store(e.Stage(l.env)) }

// Engine returns what decides now.
func (l *Live) Engine() *Engine { return l.stage.Load().engine }

// Handle decides as Stage does.
func (l *Live) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	return l.stage.Load().Handle(ctx, c, next)
}
