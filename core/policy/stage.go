package policy

import (
	"context"
	"net/http"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Env is what a stage needs of the gateway round it; every member may be left out.
type Env struct {
	Fleet   Fleet                       // nil: input.backends is empty
	Budget  func(*pipeline.Call) Budget // nil: the budget is the caller's tokens a minute
	Metrics *Metrics                    // nil: nothing is counted
	Log     *Log                        // nil: no decision log
	Shadow  *Shadow                     // nil: no second policy is asked

	// What the stages below carry out of a decision. One that asks for more is no decision: what nobody
	// enforces must not look as if it were.
	Limits  bool // Decision.Limits
	Restore bool // Decision.Mask.Restore
}

// A Fleet tells the live state of the backends. It is asked only by policies that read it, by many calls
// at once, and must not block.
type Fleet interface {
	// Backends yields each backend until yield returns false.
	Backends(yield func(id string, b BackendState) bool)
}

// A BackendState is a backend as policies see it.
type BackendState struct {
	Pool     string
	Healthy  bool
	Inflight int // calls it works on for this gateway

	LoadKnown bool    // whether the three below are
	Running   int     // calls that the engine works on, whoever sent them
	Waiting   int     // calls in its own queue
	KVUsed    float64 // share of its KV cache in use

	TTFT  time.Duration // usual time to the first token; 0: not known
	Price float64       // of a million tokens; 0: none is configured
}

// A Budget is what the caller has spent of what it may spend.
type Budget struct {
	UsedRatio float64
	Remaining float64 // -1: no budget
}

// A Stage puts one decision on every call and refuses those that are denied.
type Stage struct {
	engine   *Engine
	env      Env
	plan     plan
	keywords []string // lower case
	headers  []header
}

type header struct {
	canonical, name string
}

var _ pipeline.Stage = (*Stage)(nil)

// Stage returns the stage that decides by e. It holds nothing that must be closed.
func (e *Engine) Stage(env Env) *Stage {
	s := &Stage{engine: e, env: env, plan: planOf(e.reads)}
	for _, word := range e.cfg.Keywords {
		s.keywords = append(s.keywords, lowerASCII(word))
	}
	for _, h := range e.cfg.Headers {
		s.headers = append(s.headers, header{http.CanonicalHeaderKey(h), h})
	}
	return s
}

// Handle decides, and passes on what is allowed.
func (s *Stage) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	v, err := s.decide(ctx, c)
	if s.asksWhy(c) {
		v = s.tellWhy(ctx, c, v, err)
	}
	if err != nil {
		return nil, err
	}
	c.Decision = v.Decision
	switch v.Action {
	case pipeline.DenyIt:
		return nil, v.refusal()
	case pipeline.Respond:
		return respond(c, v)
	}
	return next.Handle(ctx, c)
}
