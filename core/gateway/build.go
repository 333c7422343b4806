package gateway

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/auth"
	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/core/policy"
	"github.com/nexus-gateway/nexus/core/server"
	"github.com/nexus-gateway/nexus/core/telemetry"
	"github.com/nexus-gateway/nexus/core/upstream"
)

// facts are what status, drain and the watch need to know of a snapshot.
type facts struct {
	upstream *upstream.Upstream
	known    telemetry.Known
	drain    server.DrainConfig
	files    []string
	pools    []string
	plugins  *plugin.Set
	rules    *policy.Config
}

// build makes the snapshot of one configuration aside. All that can fail happens here; on failure what was
// made is closed again, and the errors of all parts come together.
func (g *Gateway) build(ctx context.Context, l loaded) (_ *snapshot, err error) {
	f := l.file
	s := &snapshot{generation: g.next(), built: time.Now(), log: g.options.Log}
	s.users.Store(1)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.made.close(), s.decisions.Close())
		}
	}()
	wrong := newFaults()
	keys, err := auth.New(f.Auth, decode)
	wrong.add("auth", err)
	plugins, err := g.loadPlugins(ctx, s, f)
	wrong.add("plugins.chain", err)
	s.choice, err = g.choosePolicy(ctx, f)
	wrong.add(policySetting(f), err)
	s.shadow, err = g.chooseShadow(ctx, f)
	wrong.add("policy.shadow", err)
	backends, err := g.reach(s, f)
	wrong.add("backends", err)
	s.decisions, err = g.decisionLog.Open(f.Policy.Log)
	wrong.add("policy.decision_log.to", err)
	wrong.add("quota.store", g.quotaMoved(f))
	wrong.add("server.tls", readable(f.Server.TLS))
	if err := wrong.err(l.source); err != nil {
		return nil, err
	}
	admit, reserve := g.quota.Stages(f.Quota)
	if s.choice != nil {
		s.policy = policy.NewLive(s.choice.Engine, g.policyEnv(backends))
	}

	// A call's way in reads downward here, its reply's way out upward.
	s.calls = pipeline.Chain(backends,
		g.telemetry,                          // one span, one log line, whatever happens
		keys,                                 // who calls; nothing is read for a stranger
		admit,                                // requests a minute: an exhausted caller costs no more than this
		server.ReadBody{},                    // the body, bounded, parsed once
		auth.Models{},                        // may this key use the model
		upstream.NewGuard(f.Upstream.Routes), // nothing that walks round what follows
		filters(plugins),                     // facts and edits on the way in, filters on the way out
		auth.Models{},                        // again: a plugin may have chosen another model
		s.rules(),                            // allowed? where to?
		reserve,                              // tokens, settled when the stream closes
	)
	s.models = pipeline.Chain(pipeline.HandlerFunc(backends.Models), g.telemetry, keys, admit)
	s.outermost = g.telemetry
	s.facts = g.gather(l, backends)
	s.facts.plugins = plugins
	return s, nil
}

func (g *Gateway) next() int64 {
	if s := g.current.Load(); s != nil {
		return s.generation + 1
	}
	return 1
}

// filters returns the plugins' stage; nil when there are none.
func filters(set *plugin.Set) pipeline.Stage {
	if s := set.Stage(); s != nil {
		return s
	}
	return nil
}

func (g *Gateway) loadPlugins(ctx context.Context, s *snapshot, f *config.File) (*plugin.Set, error) {
	set, err := g.plugins.Load(ctx, &f.Plugins)
	if err != nil {
		return nil, err
	}
	s.made.add("plugins", set.Close)
	return set, nil
}

func (g *Gateway) reach(s *snapshot, f *config.File) (*upstream.Upstream, error) {
	u, err := upstream.New(f.Upstream, g.fleet, g.attempts, g.telemetry.Tracer())
	if err == nil {
		s.made.add("backends", u.Close)
	}
	return u, err
}

// quotaMoved refuses what a reload cannot do: count in another store without losing the counts.
func (g *Gateway) quotaMoved(f *config.File) error {
	if g.quota.Fits(f.Quota) {
		return nil
	}
	return errors.New("quota: the store changed; counts cannot move from one store to another while calls run: restart the gateway")
}

func (g *Gateway) gather(l loaded, u *upstream.Upstream) facts {
	f := l.file
	out := facts{upstream: u, drain: f.Server.Drain, pools: poolNames(f), rules: &f.Policy}
	out.known = known(f)
	out.files = append(out.files, l.source.Files()...)
	for _, path := range []string{g.options.File, f.Auth.KeysFile, f.Policy.Dir, f.Policy.Data, f.Policy.Shadow.Dir, f.Policy.Shadow.Data, f.Plugins.Dir} {
		if path != "" {
			out.files = append(out.files, filepath.Clean(path))
		}
	}
	f.Upstream.Files(func(path string) string {
		out.files = append(out.files, path)
		return path
	})
	for _, e := range f.Plugins.Chain {
		if e.Path != "" {
			out.files = append(out.files, e.Path, strings.TrimSuffix(e.Path, filepath.Ext(e.Path))+".yaml")
		}
	}
	return out
}

func known(f *config.File) telemetry.Known {
	k := telemetry.Known{Backends: make(map[string]telemetry.Backend)}
	for name, pool := range f.Upstream.Pools {
		k.Pools = append(k.Pools, name)
		k.Models = append(k.Models, pool.Models...)
		if pool.Model != "" {
			k.Models = append(k.Models, pool.Model)
		}
	}
	for id, b := range f.Upstream.Backends {
		address := b.URL
		if u, err := url.Parse(b.URL); err == nil {
			address = u.Host
		}
		k.Backends[id] = telemetry.Backend{Provider: b.Kind, Address: address}
	}
	return k
}

// Check reads the configuration, builds everything it names and throws it away. An error is every problem.
func Check(ctx context.Context, o Options) error {
	o.check = true
	g, err := New(ctx, o)
	if err != nil {
		return err
	}
	g.Close()
	return nil
}
