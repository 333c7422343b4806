// Package pipeline holds what a call on its way consists of: the Call, its Principal and Decision, and
// the Handler, Stage, Chain and Refusal that every stage of the gateway is made of.
package pipeline

import (
	"context"

	"github.com/nexus-gateway/nexus/core/llm"
)

// A Handler answers a call. A *Refusal says the gateway declined; any other error says something broke.
// The reply, when there is one, belongs to the caller, who closes its Stream.
type Handler interface {
	Handle(ctx context.Context, c *Call) (*llm.Reply, error)
}

// A Stage stands between a call and what comes next. It may change the call, answer it itself, call
// next more than once, or wrap the reply's stream.
type Stage interface {
	Handle(ctx context.Context, c *Call, next Handler) (*llm.Reply, error)
}

// A HandlerFunc is a function that answers calls.
type HandlerFunc func(ctx context.Context, c *Call) (*llm.Reply, error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, c *Call) (*llm.Reply, error) { return f(ctx, c) }

// Chain returns the handler that passes a call through stages, the first outermost, to last.
// A nil stage is left out.
func Chain(last Handler, stages ...Stage) Handler {
	for i := len(stages) - 1; i >= 0; i-- {
		if stages[i] != nil {
			last = link{stages[i], last}
		}
	}
	return last
}

type link struct {
	stage Stage
	next  Handler
}

func (l link) Handle(ctx context.Context, c *Call) (*llm.Reply, error) {
	return l.stage.Handle(ctx, c, l.next)
}
