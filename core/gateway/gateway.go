// Package gateway puts the parts together: it builds a snapshot from the configuration, swaps it under
// running calls, and starts and stops the listeners. It is the only place that knows all names.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-gateway/nexus/core/admin"
	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/core/policy"
	"github.com/nexus-gateway/nexus/core/quota"
	"github.com/nexus-gateway/nexus/core/server"
	"github.com/nexus-gateway/nexus/core/telemetry"
	"github.com/nexus-gateway/nexus/core/upstream"
	"github.com/nexus-gateway/nexus/plugins"
)

// Options are what the command line decides.
type Options struct {
	File    string // path of the configuration; empty: Text is it
	Text    []byte // the embedded defaults
	Version string
	Log     *slog.Logger
	Listen  string // overrides server.listen when not empty
	Admin   string // overrides admin.listen when not empty

	check bool // nothing is to be left behind, such as a log file
}

// A Gateway is the running program. What it holds beside the current snapshot outlives every reload.
type Gateway struct {
	options Options
	began   time.Time // before anything was read
	current atomic.Pointer[snapshot]
	report  reports

	telemetry   *telemetry.Telemetry
	fleet       *upstream.Fleet
	attempts    *upstream.Metrics
	quota       *quota.Quota
	feed        *policy.Feed
	shadowFeed  *policy.Feed
	shadow      *policy.Shadow
	decisions   *policy.Metrics
	decisionLog *policy.Log
	plugins     *plugin.Loader
	server      *server.Server
	admin       *admin.Admin
	made        closers
	snapshots   sync.WaitGroup // that are not closed yet

	reloading sync.Mutex
	listen    [2]string // as started: a reload cannot move a listener
	watched   atomic.Pointer[[]string]
	running   atomic.Bool // backends are looked up and asked how they are
	stopping  atomic.Bool
	hurried   context.Context // ends a drain early
	hurry     context.CancelFunc
}

// New reads the configuration, builds everything and its first snapshot; nothing listens yet. An error is
// every problem found.
func New(ctx context.Context, o Options) (*Gateway, error) {
	g := &Gateway{options: o, began: time.Now(), fleet: upstream.NewFleet()}
	g.hurried, g.hurry = context.WithCancel(context.Background())
	loaded, err := g.read()
	if err != nil {
		return nil, err
	}
	if err := g.make(loaded.file); err != nil {
		return nil, errors.Join(err, g.made.close())
	}
	if err := g.swap(ctx, loaded); err != nil {
		return nil, errors.Join(err, g.made.close())
	}
	return g, nil
}

// make makes what outlives reloads.
func (g *Gateway) make(f *config.File) error {
	var err error
	if g.telemetry, err = telemetry.New(f.Telemetry, g.options.Version); err != nil {
		return err
	}
	g.made.add("telemetry", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		return g.telemetry.Close(ctx)
	})
	registry := g.telemetry.Registry()
	g.attempts = upstream.NewMetrics(registry)
	g.fleet.Register(registry)
	g.decisions = policy.NewMetrics(registry)
	g.report.register(registry)
	if g.quota, err = quota.New(f.Quota, registry, g.options.Log); err != nil {
		return err
	}
	g.made.add("quota", g.quota.Close)
	g.feed = policy.NewFeed(policy.FeedOptions{Role: "policy", Log: g.options.Log, Register: registry, YAML: config.Lines, ReadOnly: g.options.check})
	g.shadowFeed = policy.NewFeed(policy.FeedOptions{Role: "shadow", Log: g.options.Log, Register: registry, YAML: config.Lines, ReadOnly: g.options.check})
	g.decisionLog = policy.NewLog(telemetry.Stdout)
	g.made.add("decision log", g.decisionLog.Close)
	g.decisionLog.Register(registry)
	g.shadow = policy.NewShadow(g.decisionLog, g.options.Log, registry)
	g.plugins, err = plugin.NewLoader(plugin.Options{
		Shipped: plugins.Shipped(), Decode: decode, Register: registry, Log: g.options.Log, Counters: g.quota.Counters(),
	})
	if err != nil {
		return err
	}
	g.made.add("plugins", g.plugins.Close)
	g.listen = [2]string{f.Server.Listen, f.Admin.Listen}
	g.server = server.New(f.Server, g.snapshot, g.options.Log)
	g.admin = admin.New(f.Admin, admin.Face{
		Ready: g.ready, Status: g.status, Reload: g.Reload, Rollback: g.rollback, Resume: g.resume, Metrics: g.telemetry.Metrics(),
	})
	return nil
}

const flushTime = 5 * time.Second

func decode(name string, data []byte, into any) error {
	_, err := config.Decode(name, data, into)
	return err
}

// snapshot takes the current snapshot for one call.
func (g *Gateway) snapshot() server.Snapshot {
	for {
		if s := g.current.Load(); s.take() {
			return s
		}
	}
}

// Reload reads the configuration again and swaps the snapshot, or changes nothing and says why.
func (g *Gateway) Reload(ctx context.Context) (int64, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	loaded, err := g.read()
	if err == nil {
		err = g.swap(ctx, loaded)
	}
	if err != nil {
		g.report.failed(err)
		g.options.Log.Error("reload refused; the running configuration stays", "err", err)
		return g.current.Load().generation, err
	}
	g.feed.Poke()
	g.shadowFeed.Poke()
	generation := g.current.Load().generation
	g.options.Log.Info("reloaded", "generation", generation)
	return generation, nil
}

// swap builds a snapshot aside and puts it in place of the current one.
func (g *Gateway) swap(ctx context.Context, l loaded) error {
	next, err := g.build(ctx, l)
	if err != nil {
		return err
	}
	if g.running.Load() {
		await(ctx, next)
	}
	g.snapshots.Add(1)
	next.closed = g.snapshots.Done
	g.server.Configure(l.file.Server)
	g.telemetry.SetKnown(next.facts.known)
	g.decisionLog.Use(next.decisions)
	g.committed(next)
	old := g.current.Swap(next)
	g.watched.Store(&next.facts.files)
	g.report.succeeded(next.generation)
	if old != nil {
		old.Release()
	}
	if now := [2]string{l.file.Server.Listen, l.file.Admin.Listen}; now != g.listen {
		g.options.Log.Warn("a listener's address changed; that takes a restart", "running", g.listen, "configured", now)
	}
	return nil
}

// lookupTime is how long a snapshot is kept back until its backends' names have been looked up; then it answers
// with those that are known.
const lookupTime = 2 * time.Second

func await(ctx context.Context, s *snapshot) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	s.facts.upstream.Await(ctx)
}

// Run listens and answers until ctx ends, then stops: readiness off, a moment for load balancers to notice,
// running streams to their end within the drain limit, and everything closed in reverse order.
func (g *Gateway) Run(ctx context.Context, ready func(listen, admin net.Addr)) error {
	defer g.close()
	data, err := net.Listen("tcp", g.listen[0])
	if err != nil {
		return fmt.Errorf("gateway: listen for calls: %w", err)
	}
	second, err := net.Listen("tcp", g.listen[1])
	if err != nil {
		_ = data.Close()
		return fmt.Errorf("gateway: listen for admin: %w", err)
	}
	rest, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { g.fleet.Run(rest, g.attempts) })
	g.running.Store(true)
	await(ctx, g.current.Load())
	failed := make(chan error, 6)
	running.Go(func() { failed <- g.server.Serve(data) })
	running.Go(func() { failed <- g.admin.Run(rest, second) })
	running.Go(func() { failed <- g.quota.Run(rest) })
	running.Go(func() { failed <- g.feed.Run(rest, g.bundleChanged) })
	running.Go(func() { failed <- g.shadowFeed.Run(rest, g.shadowChanged) })
	running.Go(func() { failed <- g.shadow.Run(rest) })
	running.Go(func() { config.WatchSince(rest, g.began, g.files, 0, g.changed) })
	debug.FreeOSMemory() // compiling plugins and policies takes several times what they keep
	g.options.Log.Info("listening", "calls", data.Addr().String(), "admin", second.Addr().String())
	if ready != nil {
		ready(data.Addr(), second.Addr())
	}
	select {
	case <-ctx.Done():
		err = g.drain()
	case err = <-failed:
	}
	end()
	running.Wait()
	return err
}

func (g *Gateway) drain() error {
	g.stopping.Store(true)
	d := g.current.Load().facts.drain
	g.options.Log.Info("stopping", "delay", d.Delay, "limit", d.Limit)
	select {
	case <-time.After(d.Delay):
	case <-g.hurried.Done():
	}
	ctx, cancel := context.WithTimeout(g.hurried, d.Limit)
	defer cancel()
	return g.server.Shutdown(ctx)
}

// Hurry ends the drain of a stopping gateway: running streams get an error event now.
func (g *Gateway) Hurry() { g.hurry() }

func (g *Gateway) close() {
	g.current.Load().Release()
	g.settle()
	if err := g.made.close(); err != nil {
		g.options.Log.Error("stop", "err", err)
	}
}

// settle waits until what calls used is closed, unless a call does not end.
func (g *Gateway) settle() {
	done := make(chan struct{})
	go func() {
		g.snapshots.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeTime):
		g.options.Log.Warn("stop: calls have not ended")
	}
}

// closeTime is longer than plugins are told of calls' ends for.
const closeTime = 15 * time.Second

// Close releases what New made, for a gateway that is never run.
func (g *Gateway) Close() { g.close() }

func (g *Gateway) files() []string { return *g.watched.Load() }

func (g *Gateway) changed() { _, _ = g.Reload(context.Background()) }

func (g *Gateway) ready() error {
	if g.stopping.Load() {
		return errors.New("the gateway is stopping")
	}
	return nil
}

// loaded is a configuration that has been read and checked.
type loaded struct {
	file   *config.File
	source *config.Source
}

func (g *Gateway) read() (loaded, error) { return read(g.options) }

func read(o Options) (loaded, error) {
	name, text := "embedded defaults", o.Text
	if o.File != "" {
		var err error
		if text, err = readFile(o.File); err != nil {
			return loaded{}, fmt.Errorf("gateway: read the configuration: %w", err)
		}
		name = o.File
	}
	file, source, err := config.Load(name, text)
	if err != nil {
		return loaded{}, err
	}
	if o.Listen != "" {
		file.Server.Listen = o.Listen
	}
	if o.Admin != "" {
		file.Admin.Listen = o.Admin
	}
	if o.check {
		file.Telemetry.AccessLog = "off"
		file.Policy.Log.To = ""
	}
	return loaded{file, source}, nil
}

// longestFile is a byte more than config.Load takes, so that it is config that refuses what is too large.
const longestFile = 1<<20 + 1

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, longestFile))
}
