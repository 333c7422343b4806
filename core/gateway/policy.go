package gateway

import (
	"context"
	"maps"
	"slices"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/policy"
	"github.com/nexus-gateway/nexus/core/upstream"
)

// choosePolicy finds and compiles what is to decide under f; nil when no policy does.
func (g *Gateway) choosePolicy(ctx context.Context, f *config.File) (*policy.Choice, error) {
	if !f.Policy.Enabled {
		return nil, nil
	}
	return g.feed.Prepare(ctx, &f.Policy, poolNames(f))
}

// policySetting names where the policies come from.
func policySetting(f *config.File) string {
	if f.Policy.Bundle.URL != "" {
		return "policy.bundle.url"
	}
	return "policy"
}

func poolNames(f *config.File) []string { return slices.Sorted(maps.Keys(f.Upstream.Pools)) }

func (g *Gateway) policyEnv(u *upstream.Upstream) policy.Env {
	return policy.Env{Fleet: fleet{u}, Limits: true, Restore: true, Metrics: g.decisions, Log: g.decisionLog, Shadow: g.shadow}
}

// fleet shows the backends' state to policies.
type fleet struct{ upstream *upstream.Upstream }

func (f fleet) Backends(yield func(id string, b policy.BackendState) bool) {
	f.upstream.States(func(s upstream.State) bool {
		return yield(s.ID, policy.BackendState{
			Pool: s.Pool, Healthy: s.Healthy, Inflight: int(s.InFlight), TTFT: s.FirstToken, Price: s.Price,
			LoadKnown: s.LoadKnown, Running: int(s.Running), Waiting: int(s.Waiting), KVUsed: s.KVUsed,
		})
	})
}

// rules returns the policy stage; nil when no policy decides.
func (s *snapshot) rules() pipeline.Stage {
	if s.policy == nil {
		return nil
	}
	return s.policy
}

// committed tells the feed what the snapshot, which is current now, decides by.
func (g *Gateway) committed(s *snapshot) {
	if s.choice == nil {
		g.feed.Off()
	} else {
		g.feed.Commit(s.choice)
	}
	g.castShadow(s, s.shadow)
	s.choice, s.shadow = nil, nil
}

// A choosing is how the feed finds the policy that is to decide.
type choosing func(ctx context.Context, cfg *policy.Config, pools []string) (*policy.Choice, error)

// replacePolicy puts another policy in place in the current snapshot, beside the calls that run: the snapshot
// stays, and so does the configuration that it was made of.
func (g *Gateway) replacePolicy(ctx context.Context, choose choosing) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	s := g.current.Load()
	if s.policy == nil {
		return policy.ErrNoPrevious
	}
	choice, err := choose(ctx, s.facts.rules, s.facts.pools)
	if err != nil {
		return err
	}
	s.policy.Put(choice.Engine)
	g.feed.Commit(choice)
	g.shadow.Beside(choice.Engine)
	return nil
}

// bundleChanged takes what the feed has fetched.
func (g *Gateway) bundleChanged(ctx context.Context) error {
	return g.replacePolicy(ctx, g.feed.Prepare)
}

// rollback goes back to the policy before the one in force; by is who asked for it.
func (g *Gateway) rollback(ctx context.Context, by string) (any, error) {
	return g.turn(ctx, "roll back the policy", by, g.feed.Back)
}

// resume takes what the policy's source holds, after a rollback.
func (g *Gateway) resume(ctx context.Context, by string) (any, error) {
	return g.turn(ctx, "resume the policy", by, g.feed.Forward)
}

func (g *Gateway) turn(ctx context.Context, what, by string, choose choosing) (any, error) {
	was := g.feed.Status().Revision
	err := g.replacePolicy(ctx, choose)
	now := g.feed.Status()
	g.options.Log.Info("asked to "+what, "by", by, "was", was, "now", now.Revision, "err", err)
	return now, err
}

// chooseShadow finds what is to be asked beside the policy of f; nil when nothing is, or when its server is away:
// no configuration is refused for a policy that decides nothing.
func (g *Gateway) chooseShadow(ctx context.Context, f *config.File) (*policy.Choice, error) {
	cfg, on := f.Policy.ForShadow()
	if !on {
		return nil, nil
	}
	choice, err := g.shadowFeed.Prepare(ctx, cfg, poolNames(f))
	if err != nil && cfg.Bundle.URL != "" {
		g.options.Log.Warn("no shadow policy yet", "err", err)
		return nil, nil
	}
	return choice, err
}

// castShadow has choice asked beside what s decides by.
func (g *Gateway) castShadow(s *snapshot, choice *policy.Choice) {
	cfg, on := s.facts.rules.ForShadow()
	switch {
	case !on:
		g.shadow.Put(nil, nil, 0)
		g.shadowFeed.Off()
	case choice == nil:
		g.shadow.Put(nil, nil, 0)
		g.shadowFeed.Await(cfg, s.facts.pools)
	default:
		g.shadow.Put(choice.Engine, s.policy.Engine(), s.facts.rules.Shadow.Share)
		g.shadowFeed.Commit(choice)
	}
}

// shadowChanged takes what the shadow's feed has fetched.
func (g *Gateway) shadowChanged(ctx context.Context) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	s := g.current.Load()
	cfg, on := s.facts.rules.ForShadow()
	if !on || s.policy == nil {
		return nil
	}
	choice, err := g.shadowFeed.Prepare(ctx, cfg, s.facts.pools)
	if err == nil {
		g.castShadow(s, choice)
	}
	return err
}
