package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/policy"
)

// A snapshot is all that one configuration decides. It is immutable, counts the calls that use it, and is
// closed when it has been replaced and the last of them has ended.
type snapshot struct {
	generation int64
	built      time.Time
	calls      pipeline.Handler // routes with a body
	models     pipeline.Handler // /v1/models
	outermost  pipeline.Stage   // stands round requests that become no call, too
	facts      facts
	users      atomic.Int64 // calls, and the gateway itself while the snapshot is current
	made       closers
	policy     *policy.Live   // nil: none decides
	choice     *policy.Choice // what policy was made of; until the snapshot is current
	shadow     *policy.Choice // that is asked beside policy once the snapshot is current; nil: none is
	decisions  *policy.Outlet // where decisions are logged once the snapshot is current
	closed     func()         // told when all is closed
	log        *slog.Logger
}

// Handle answers a call by its route's chain.
func (s *snapshot) Handle(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
	if c.Route == llm.Models {
		return s.models.Handle(ctx, c)
	}
	return s.calls.Handle(ctx, c)
}

// Refused counts and logs a request that became no call.
func (s *snapshot) Refused(ctx context.Context, c *pipeline.Call, why *pipeline.Refusal) {
	_, _ = pipeline.Chain(pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		return nil, why
	}), s.outermost).Handle(ctx, c)
}

// take adds a user, unless the last one has already gone.
func (s *snapshot) take() bool {
	for {
		n := s.users.Load()
		if n == 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release takes a user away. After the last one the snapshot is closed, beside the call that this was: plugins may
// still have to be told of other ends, and no caller waits for that.
func (s *snapshot) Release() {
	if s.users.Add(-1) == 0 {
		go s.close()
	}
}

func (s *snapshot) close() {
	defer s.closed()
	if err := s.made.close(); err != nil {
		s.log.Error("close snapshot", "generation", s.generation, "err", err)
	}
}

// closers are what has been made, closed in reverse.
type closers []closer

type closer struct {
	name  string
	close func() error
}

func (c *closers) add(name string, f func() error) { *c = append(*c, closer{name, f}) }

func (c *closers) close() error {
	var errs []error
	for _, one := range slices.Backward(*c) {
		if err := one.close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", one.name, err))
		}
	}
	*c = nil
	return errors.Join(errs...)
}
