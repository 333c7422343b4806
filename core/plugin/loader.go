// Package plugin runs Wasm plugins as a stage of every call: it loads modules, asks them about requests and
// texts, keeps their windows over streams, and applies their edits.
package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A Decode reads YAML strictly into the struct that into points to; name stands in its errors.
type Decode func(name string, data []byte, into any) error

// Options are what a Loader is made with.
type Options struct {
	Shipped  fs.FS  // the plugins taken when no folder is configured
	Decode   Decode // reads manifests
	Register prometheus.Registerer
	Counters Counters     // what plugins count in; nil: those that count fail
	Log      *slog.Logger // gets what plugins log; nil: the default one
}

// A Loader turns configurations into sets of plugins. It outlives reloads: what did not change between two
// configurations is shared. Close the sets before it.
type Loader struct {
	options Options
	metrics *metrics

	loading sync.Mutex                 // one load at a time; guards engines and shipped
	engines map[string]*sandbox.Engine // by cache directory
	shipped map[string]source          // what the shipped folder holds cannot change

	mu      sync.Mutex                              // guards what follows, and plugins' refs
	live    map[string]*plugin                      // by key
	closing map[*plugin]bool                        // nobody's any more, not yet closed
	gone    map[string]map[string]sandbox.FuncStats // what those that are closed have counted, by name and export
}

// NewLoader makes a loader that has loaded nothing.
func NewLoader(o Options) (*Loader, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	l := &Loader{options: o, engines: map[string]*sandbox.Engine{}, live: map[string]*plugin{}, shipped: map[string]source{},
		closing: map[*plugin]bool{}, gone: map[string]map[string]sandbox.FuncStats{}}
	l.metrics = newMetrics(l)
	if o.Register != nil {
		if err := o.Register.Register(l.metrics); err != nil {
			return nil, fmt.Errorf("plugin: register metrics: %w", err)
		}
	}
	return l, nil
}

// An EntryError says why one plugin of the chain cannot be had.
type EntryError struct {
	Index int // in the chain
	Name  string
	Path  string // of the setting below the entry, as in "config.words[2]"; empty: the entry as a whole
	Err   error
}

func (e *EntryError) Error() string { return fmt.Sprintf("plugin: load %q: %v", e.Name, e.Err) }
func (e *EntryError) Unwrap() error { return e.Err }

// entryErrors makes an EntryError of each thing that is wrong with an entry.
func entryErrors(i int, name string, err error) []error {
	settings, ok := err.(settingErrors)
	if !ok {
		return []error{&EntryError{Index: i, Name: name, Err: err}}
	}
	var errs []error
	for _, at := range settings {
		errs = append(errs, &EntryError{Index: i, Name: name, Path: at.path, Err: at})
	}
	return errs
}

// Load makes the set of plugins that c asks for, or returns an EntryError for each that cannot be had. It takes what is
// already loaded with the same module, manifest and settings; the caller closes the set.
func (l *Loader) Load(ctx context.Context, c *Config) (*Set, error) {
	l.loading.Lock()
	defer l.loading.Unlock()
	s := &Set{loader: l}
	var errs []error
	for i := range c.Chain {
		p, err := l.take(ctx, c, c.Chain[i])
		if err != nil {
			errs = append(errs, entryErrors(i, c.Chain[i].Name, err)...)
			continue
		}
		s.plugins = append(s.plugins, p)
	}
	if errs != nil {
		return nil, errors.Join(append(errs, l.release(s.plugins))...)
	}
	s.stage = newStage(s.plugins)
	return s, nil
}

// take finds or loads one plugin and counts the use.
func (l *Loader) take(ctx context.Context, c *Config, e Entry) (*plugin, error) {
	from, err := l.find(c, &e)
	if err != nil {
		return nil, err
	}
	key, err := from.key(&e, c.Breaker)
	if err != nil {
		return nil, err
	}
	if p := l.share(key); p != nil {
		return p, nil
	}
	p, err := l.load(ctx, c, e, from)
	if err != nil {
		return nil, err
	}
	p.key, p.refs = key, 1
	l.mu.Lock()
	l.live[key] = p
	l.mu.Unlock()
	return p, nil
}

// share counts one more use of a plugin that is loaded, nil if it is not.
func (l *Loader) share(key string) *plugin {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.live[key]
	if p != nil {
		p.refs++
	}
	return p
}

// load makes a plugin and its first instance.
func (l *Loader) load(ctx context.Context, c *Config, e Entry, from source) (*plugin, error) {
	p, wasm, err := l.prepare(c, e, from)
	if err != nil {
		return nil, err
	}
	engine, err := l.engine(c.CacheDir)
	if err != nil {
		return nil, err
	}
	if err := inspect(wasm, p.granted, int64(p.pages())*page); err != nil {
		return nil, err
	}
	if p.pool, err = engine.Load(ctx, wasm, p.sandbox()); err != nil {
		return nil, unrunnable(err)
	}
	return p, nil
}

// prepare reads the manifest and settles what the plugin may do.
func (l *Loader) prepare(c *Config, e Entry, from source) (*plugin, []byte, error) {
	p := &plugin{name: e.Name, log: l.options.Log, digest: from.digest}
	if err := l.options.Decode(from.module+"'s manifest", from.manifest, &p.manifest); err != nil {
		return nil, nil, err
	}
	if p.manifest.Name != e.Name && e.Path == "" {
		return nil, nil, fmt.Errorf("its manifest is that of %q: name the plugin so in the chain and its files, or take its own manifest", p.manifest.Name)
	}
	if err := p.manifest.checkDigest(from.digest); err != nil {
		return nil, nil, err
	}
	var err error
	if p.granted, err = p.manifest.grant(&e); err != nil {
		return nil, nil, err
	}
	if err := p.manifest.checkConfig(e.Config); err != nil {
		return nil, nil, err
	}
	if p.config, err = json.Marshal(e.Config); err != nil || e.Config == nil {
		p.config = []byte("{}")
	}
	p.manifest.fill(&e)
	p.entry, p.allowed = e, e.OnError == onAllow
	l.equip(c, p)
	wasm, err := from.read()
	if err == nil && sha256.Sum256(wasm) != from.digest {
		err = errors.New("its module changed while it was read: reload once it is whole")
	}
	return p, wasm, err
}

// equip gives a plugin what it works with beside its module.
func (l *Loader) equip(c *Config, p *plugin) {
	e := &p.entry
	p.meter = l.metrics.of(e.Name)
	p.own = l.metrics.own(e.Name, p.manifest.Metrics)
	p.breaker = newBreaker(c.Breaker, e.Name, l.options.Log)
	p.reach = newReach(e)
	p.counters = l.options.Counters
	if p.granted[abi.HTTPCall] {
		p.http = newCaller(e.HTTP, e.Instances)
	}
}

// sandbox says how the module is run.
func (p *plugin) sandbox() sandbox.Options {
	return sandbox.Options{
		Name: p.name, Hosts: p.hosts(), WASI: true, Instances: p.entry.Instances, Start: p.start,
		Wait: max(time.Second, 4*p.entry.Deadline), Isolate: p.entry.Isolation != byNobody,
		Clock: p.granted[abi.NowMS], Random: p.granted[abi.Random],
		Limits: sandbox.Limits{
			Deadline: p.entry.Deadline, Fuel: uint64(p.manifest.Fuel), Memory: p.pages(),
		},
	}
}

// pages is how many pages of memory an instance may have.
func (p *plugin) pages() uint32 { return uint32((int64(p.entry.Memory) + page - 1) / page) }

// engine returns the engine of a cache directory.
func (l *Loader) engine(dir string) (*sandbox.Engine, error) {
	if e := l.engines[dir]; e != nil {
		return e, nil
	}
	e, err := l.newEngine(dir)
	if err == nil {
		l.engines[dir] = e
	}
	return e, err
}

// newEngine makes an engine. Where nobody named a directory and there is none to be had, as in a container
// whose files are read-only, code is kept in memory and compiled afresh at every start.
func (l *Loader) newEngine(dir string) (*sandbox.Engine, error) {
	if dir != autoDir {
		return sandbox.NewEngine(dir)
	}
	base, err := os.UserCacheDir()
	if err == nil {
		var e *sandbox.Engine
		if e, err = sandbox.NewEngine(filepath.Join(base, "nexus", "plugins")); err == nil {
			return e, nil
		}
	}
	l.options.Log.Warn("compiled plugins are kept in memory alone; set plugins.cache_dir to start faster", "err", err)
	return sandbox.NewEngine("")
}

// release takes uses away and closes the plugins that nobody uses any more.
func (l *Loader) release(plugins []*plugin) error {
	var errs []error
	for _, p := range plugins {
		if l.drop(p) {
			errs = append(errs, p.close())
			l.bury(p)
		}
	}
	return errors.Join(errs...)
}

// drop takes one use away and reports whether it was the last.
func (l *Loader) drop(p *plugin) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.refs--
	if p.refs == 0 {
		delete(l.live, p.key)
		l.closing[p] = true
	}
	return p.refs == 0
}

// Close frees the compiled code and takes the metrics off the register. Every set must be closed before.
func (l *Loader) Close() error {
	l.loading.Lock()
	defer l.loading.Unlock()
	var errs []error
	for dir, e := range l.engines {
		errs = append(errs, e.Close())
		delete(l.engines, dir)
	}
	if l.options.Register != nil {
		l.options.Register.Unregister(l.metrics)
	}
	return errors.Join(errs...)
}

// A Set is the plugins of one configuration.
type Set struct {
	loader  *Loader
	plugins []*plugin
	stage   *Stage
	once    sync.Once
	err     error
}

// A Status is what is to be known of one plugin of a chain while it runs.
type Status struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	SHA256    string `json:"sha256"` // of its module
	Out       bool   `json:"out"`    // the breaker has it out
	Instances int    `json:"instances"`
	Memory    int64  `json:"memory"` // bytes
}

// Status tells of the plugins in the order of the chain.
func (s *Set) Status() []Status {
	all := make([]Status, 0, len(s.plugins))
	for _, p := range s.plugins {
		now := p.pool.Stats()
		all = append(all, Status{
			Name: p.name, Version: p.manifest.Version, SHA256: hex.EncodeToString(p.digest[:]),
			Out: p.breaker.until.Load() != 0, Instances: now.Instances, Memory: now.Memory,
		})
	}
	return all
}

// Stage returns the stage that asks the set's plugins, nil if it has none. It is good until Close.
func (s *Set) Stage() *Stage { return s.stage }

// Close gives the plugins back; the last set to hold one closes it. It waits for calls that are running.
func (s *Set) Close() error {
	s.once.Do(func() {
		if s.stage != nil {
			s.stage.last.wait()
		}
		s.err = s.loader.release(s.plugins)
	})
	return s.err
}
