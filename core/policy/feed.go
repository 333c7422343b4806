package policy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Feed brings the policies that decide: it reads the folder or fetches the bundle, checks what comes, and
// keeps the last good ones for a rollback. It outlives reloads. What it brings is put in force in two steps,
// so that whatever can fail comes before anything is seen: Prepare, Back or Forward, then Commit. Whoever calls
// these makes sure that only one such pair runs at a time.
type Feed struct {
	role     string // "policy" or "shadow": what its lines and metrics call it
	yaml     Decode
	keep     bool // bundles may be kept on disk
	log      *slog.Logger
	metrics  *feedMetrics
	compiler Compiler
	wait     func(context.Context, time.Duration, <-chan struct{}) error
	poke     chan struct{} // asks Run to look at once

	mu       sync.Mutex
	cfg      *Config    // in force; nil: nothing is yet
	source   *release   // what the source holds, as far as it is known; it need not be in force
	inForce  *release   // nil: no policy is
	previous []*release // that were in force before, oldest first
	declined string     // content that was rolled back: while the source holds it, inForce stays; empty: none
	pools    []string   // as in the last Commit
	refused  error      // why what the source holds is not in force
	last     Poll       // of the bundle
	failures int        // in a row
	stored   stored     // what Commit kept on disk last, if anything
	peak     peak       // of what was in force
}

// maxPrevious is how far back a rollback may go.
const maxPrevious = 3

// FeedOptions are what a feed needs of the gateway round it.
type FeedOptions struct {
	Role     string // "policy" or "shadow"
	Log      *slog.Logger
	Register prometheus.Registerer
	YAML     Decode // reads the tables of tests; nil: a bundle that has some is refused
	ReadOnly bool   // nothing is to be left behind on disk
}

// NewFeed returns a feed that holds nothing yet.
func NewFeed(o FeedOptions) *Feed {
	f := &Feed{role: o.Role, yaml: o.YAML, keep: !o.ReadOnly, log: o.Log.With("feed", o.Role), wait: pause, poke: make(chan struct{}, 1)}
	f.metrics = newFeedMetrics(f, o.Register)
	return f
}

// A release is one policy as its source gave it.
type release struct {
	*files
	origin string        // the folder, or the bundle's address
	bundle *BundleConfig // that it was fetched and verified by; nil: a folder
	raw    []byte        // the bundle
	etag   string
	tested bool // its own tests have passed; folders are not tested
	since  time.Time
}

func (r *release) content() string {
	if r == nil {
		return ""
	}
	return r.files.content
}

// A Choice is a policy that is ready to decide.
type Choice struct {
	Engine   *Engine
	cfg      *Config
	pools    []string
	release  *release
	source   *release // what the source holds
	why      string
	declined string
	refused  error // why release is not source; nil: it is, or was rolled back
	back     bool  // release is the last of previous
}

// Prepare reads the source that cfg names, for a gateway that has these pools, and compiles what it holds. After
// a rollback it keeps to the policy in force for as long as the source holds what was rolled back.
func (f *Feed) Prepare(ctx context.Context, cfg *Config, pools []string) (*Choice, error) {
	source, err := f.look(ctx, cfg)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	inForce, declined := f.inForce, f.declined
	f.mu.Unlock()
	c := &Choice{cfg: cfg, pools: pools, release: source, source: source, why: "the source"}
	if declined != "" && declined == source.content() {
		c.release, c.declined = inForce, declined
	}
	c.Engine, err = f.check(ctx, c.release, cfg, pools)
	if err == nil || c.declined != "" || source.bundle == nil || inForce == nil || inForce.origin != source.origin {
		return c, err
	}
	// A configuration must not be refused because a bundle is.
	c.release, c.refused = inForce, err
	c.Engine, err = f.check(ctx, inForce, cfg, pools)
	return c, err
}

// ErrNoPrevious says that no earlier policy is kept; ErrNotHeld, that none was rolled back.
var (
	ErrNoPrevious = errors.New("policy: no earlier policy is kept")
	ErrNotHeld    = errors.New("policy: nothing was rolled back")
)

// Back prepares the policy that was in force before the one that is.
func (f *Feed) Back(ctx context.Context, cfg *Config, pools []string) (*Choice, error) {
	f.mu.Lock()
	source := f.source
	var r *release
	if n := len(f.previous); n > 0 {
		r = f.previous[n-1]
	}
	f.mu.Unlock()
	if r == nil {
		return nil, ErrNoPrevious
	}
	c := &Choice{cfg: cfg, pools: pools, release: r, source: source, why: "a rollback", declined: source.content(), back: true}
	var err error
	c.Engine, err = f.check(ctx, r, cfg, pools)
	return c, err
}

// Forward prepares what the source holds, though it was rolled back.
func (f *Feed) Forward(ctx context.Context, cfg *Config, pools []string) (*Choice, error) {
	f.mu.Lock()
	held := f.declined != ""
	f.mu.Unlock()
	if !held {
		return nil, ErrNotHeld
	}
	source, err := f.look(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c := &Choice{cfg: cfg, pools: pools, release: source, source: source, why: "a resume"}
	c.Engine, err = f.check(ctx, source, cfg, pools)
	return c, err
}

// check compiles r, unless it is too old, and runs the tests that a bundle brings.
func (f *Feed) check(ctx context.Context, r *release, cfg *Config, pools []string) (*Engine, error) {
	if err := f.tooOld(r, cfg); err != nil {
		return nil, err
	}
	among := r.files.among(slices.Sorted(slices.Values(pools)))
	among.yaml = f.yaml
	e, err := f.compiler.compile(ctx, among, *cfg)
	if err != nil {
		return nil, err
	}
	if r.bundle == nil || r.tested {
		return e, nil
	}
	if err := among.prove(ctx); err != nil {
		return nil, err
	}
	r.tested = true
	return e, nil
}

// testTime bounds a bundle's own tests together.
const testTime = 30 * time.Second

// prove runs the tests of f; an error names those that fail.
func (f *files) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	report, err := f.test(ctx)
	if ctx.Err() != nil {
		return fmt.Errorf("policy: the bundle's tests take longer than %v", testTime)
	}
	if err != nil {
		return err
	}
	return report.mistakes()
}

// Commit notes that c is in force. Whoever was asked for it has put its engine in place.
func (f *Feed) Commit(c *Choice) {
	since := time.Now()
	f.mu.Lock()
	was := f.inForce
	changed := was == nil || was.content() != c.release.content()
	if !changed { // it may have been read anew
		since = was.since
	}
	c.release.since = since
	if n := len(f.previous); c.back {
		f.previous = slices.Delete(f.previous, n-1, n)
	} else if changed && was != nil {
		f.previous = slices.Delete(append(f.previous, was), 0, max(0, n+1-maxPrevious))
	}
	f.inForce, f.source, f.cfg, f.pools = c.release, c.source, c.cfg, c.pools
	f.declined, f.refused = c.declined, c.refused
	f.mu.Unlock()
	f.rise(c.release)
	if changed || was.revision != c.release.revision {
		f.tell(c, was)
	}
	if f.keep && c.release.bundle != nil {
		f.store(c)
	}
}

// store keeps the bundle that c puts in force for a start without its server, unless it lies there already.
func (f *Feed) store(c *Choice) {
	where := *c.release.bundle
	where.Keep = c.cfg.Bundle.Keep // it may be another folder since
	kept := stored{where.kept(), sha256.Sum256(c.release.raw)}
	if where.Keep == "" || f.stored == kept {
		return
	}
	if err := where.keep(c.release.raw); err != nil {
		f.log.Error("the bundle in force is not kept for a start without its server", "err", err)
		return
	}
	f.stored = kept
}

// tell writes what came into force to the program's log.
func (f *Feed) tell(c *Choice, was *release) {
	old := ""
	if was != nil {
		old = was.revision
	}
	f.log.Info("policy in force", "revision", c.release.revision, "was", old, "source", c.release.origin, "by", c.why)
}

// Off notes that no policy is in force, and that none is asked for.
func (f *Feed) Off() { f.Await(nil, nil) }

// Await notes that no policy is in force yet: that of cfg comes when its server answers.
func (f *Feed) Await(cfg *Config, pools []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inForce, f.source, f.cfg, f.pools, f.previous, f.declined, f.refused = nil, nil, cfg, pools, nil, "", nil
}

// look returns what the source of cfg holds. A bundle is fetched only when none of this address is known.
func (f *Feed) look(ctx context.Context, cfg *Config) (*release, error) {
	if cfg.Bundle.URL == "" {
		src, err := cfg.Sources(nil)
		if err != nil {
			return nil, err
		}
		src.YAML = f.yaml
		text, err := src.read()
		return &release{files: text, origin: src.Name}, err
	}
	f.mu.Lock()
	known := f.source
	f.mu.Unlock()
	if known == nil || known.origin != cfg.Bundle.address() || known.bundle == nil || known.bundle.URL != cfg.Bundle.URL {
		return f.first(ctx, cfg)
	}
	if reflect.DeepEqual(*known.bundle, cfg.Bundle) {
		return known, nil
	}
	if r, err := releaseOf(&cfg.Bundle, download{raw: known.raw}); err == nil { // under other keys, perhaps
		return r, nil
	}
	return f.first(ctx, cfg)
}

// first fetches a bundle that nothing is known of. While the server is away, or has one that is too old, the one kept on
// disk takes its place.
func (f *Feed) first(ctx context.Context, cfg *Config) (*release, error) {
	b := &cfg.Bundle
	if b.MinRevision != "" {
		if kept, err := b.restore(); err == nil {
			f.rise(kept)
		}
	}
	var r *release
	got, err := b.fetch(ctx, "")
	if err != nil {
		f.note(b, pollFailed, err)
		return f.instead(b, err)
	}
	if r, err = releaseOf(b, got); err != nil {
		f.note(b, pollRefused, err)
		return nil, err
	}
	if err = f.tooOld(r, cfg); err != nil {
		f.note(b, pollRefused, err)
		return f.instead(b, err)
	}
	f.note(b, pollChanged, nil)
	return r, nil
}

// instead is the bundle kept on disk, in the place of one that cannot be had for err.
func (f *Feed) instead(b *BundleConfig, err error) (*release, error) {
	r, second := b.restore()
	if second != nil {
		return nil, errors.Join(err, second)
	}
	f.log.Warn("the server has no bundle for us; the bundle kept on disk takes its place", "revision", r.revision, "err", err)
	return r, nil
}

func releaseOf(cfg *BundleConfig, got download) (*release, error) {
	text, err := cfg.unpack(got.raw, cfg.name())
	if err != nil {
		return nil, err
	}
	return &release{files: text, origin: cfg.address(), bundle: new(*cfg), raw: got.raw, etag: got.etag}, nil
}

// A FeedStatus is what a feed has brought, as the status page shows it.
type FeedStatus struct {
	Revision string    `json:"revision"` // in force; empty: no policy is
	Source   string    `json:"source,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Held     bool      `json:"held"`               // rolled back, until the source changes or the operator resumes
	Previous []string  `json:"previous,omitempty"` // revisions that a rollback goes to, the next one first
	Offered  string    `json:"offered,omitempty"`  // revision that the source holds, when it is not in force
	Refused  []string  `json:"refused,omitempty"`  // why it is not, one problem each
	Poll     *Poll     `json:"poll,omitempty"`     // the last of a bundle
}

// Status tells what is in force.
func (f *Feed) Status() FeedStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := FeedStatus{Held: f.declined != ""}
	if f.inForce != nil {
		s.Revision, s.Source, s.Since = f.inForce.revision, f.inForce.origin, f.inForce.since
	}
	for _, r := range slices.Backward(f.previous) {
		s.Previous = append(s.Previous, r.revision)
	}
	if f.source != nil && f.source.content() != f.inForce.content() {
		s.Offered = f.source.revision
	}
	if f.refused != nil {
		s.Refused = strings.Split(f.refused.Error(), "\n")
	}
	if f.cfg != nil && f.cfg.Bundle.URL != "" && !f.last.At.IsZero() {
		s.Poll = new(f.last)
	}
	return s
}
