package policy

import (
	"context"
	"math/rand/v2"
	"reflect"
	"time"
)

// A Poll is what came of the last question to a bundle's server.
type Poll struct {
	At     time.Time `json:"at"`
	Result string    `json:"result"`          // "changed", "unchanged", "refused" or "failed"
	Error  string    `json:"error,omitempty"` // why the bundle was refused, or could not be fetched
}

// Results of a poll.
const (
	pollChanged   = "changed"
	pollUnchanged = "unchanged"
	pollRefused   = "refused" // it is no policy that may decide
	pollFailed    = "failed"  // there was no answer, or none that could be read
)

// Bounds on the time between polls after failures.
const (
	minBackoff = time.Second
	maxBackoff = 5 * time.Minute
)

// Run asks the bundle's server from time to time, until ctx ends. When there is another bundle it is checked
// aside, and then swap is asked to put it in force by Prepare and Commit. Without a bundle it waits for one.
func (f *Feed) Run(ctx context.Context, swap func(context.Context) error) error {
	for {
		if f.wait(ctx, f.interval(), f.poke) != nil {
			return nil
		}
		f.mu.Lock()
		cfg := f.cfg
		f.mu.Unlock()
		if cfg != nil && cfg.Bundle.URL != "" {
			f.poll(ctx, cfg, swap)
		}
	}
}

// Poke has Run ask the server now.
func (f *Feed) Poke() {
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// interval is the time to wait before the next poll. It varies, so that the replicas of a gateway do not ask
// all at once.
func (f *Feed) interval() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cfg == nil || f.cfg.Bundle.URL == "" {
		return time.Hour
	}
	d := f.cfg.Bundle.Poll
	if f.failures > 0 {
		d = min(minBackoff<<min(f.failures-1, 16), max(maxBackoff, d))
	}
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// pause waits for d, or until poke says to go on.
func pause(ctx context.Context, d time.Duration, poke <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-poke:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// poll asks once.
func (f *Feed) poll(ctx context.Context, cfg *Config, swap func(context.Context) error) {
	f.mu.Lock()
	known := f.source
	f.mu.Unlock()
	etag := ""
	if known != nil && known.bundle != nil && reflect.DeepEqual(*known.bundle, cfg.Bundle) {
		etag = known.etag
	}
	got, err := cfg.Bundle.fetch(ctx, etag)
	switch {
	case ctx.Err() != nil || !f.asks(cfg): // what was answered is nobody's any more
	case err != nil:
		f.note(&cfg.Bundle, pollFailed, err)
	case got.raw == nil:
		f.unchanged(&cfg.Bundle)
	default:
		f.take(ctx, cfg, known, got, swap)
	}
}

// asks reports whether it is still cfg that is in force: a reload in between has looked at its own bundle.
func (f *Feed) asks(cfg *Config) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cfg == cfg
}

// take looks at what was downloaded, and has it put in force. All that takes time is done before swap, which
// may keep a reload waiting.
func (f *Feed) take(ctx context.Context, cfg *Config, known *release, got download, swap func(context.Context) error) {
	next, err := releaseOf(&cfg.Bundle, got)
	if !f.asks(cfg) {
		return
	}
	if err != nil { // it may be half of a good one, and is downloaded again
		f.mu.Lock()
		f.refused = err
		f.mu.Unlock()
		f.note(&cfg.Bundle, pollRefused, err)
		return
	}
	if known != nil && known.content() == next.content() && known.revision == next.revision {
		f.mu.Lock()
		known.etag = next.etag
		f.mu.Unlock()
		f.unchanged(&cfg.Bundle)
		return
	}
	f.mu.Lock()
	pools := f.pools
	f.mu.Unlock()
	_, err = f.check(ctx, next, cfg, pools)
	f.mu.Lock()
	if f.cfg != cfg { // a reload came in between
		f.mu.Unlock()
		return
	}
	f.source, f.refused = next, err // what was looked at once is not downloaded again
	f.mu.Unlock()
	if err == nil {
		err = swap(ctx)
	}
	f.judged(&cfg.Bundle, err)
}

// unchanged notes that the server has what it had before: if that is in force, nothing is refused any more.
func (f *Feed) unchanged(cfg *BundleConfig) {
	f.mu.Lock()
	if f.inForce != nil && f.source.content() == f.inForce.content() {
		f.refused = nil
	}
	f.mu.Unlock()
	f.note(cfg, pollUnchanged, nil)
}

// judged notes what became of a bundle that was whole.
func (f *Feed) judged(cfg *BundleConfig, err error) {
	if err == nil {
		f.note(cfg, pollChanged, nil)
		return
	}
	f.mu.Lock()
	f.refused = err
	f.mu.Unlock()
	f.note(cfg, pollRefused, err)
	f.mu.Lock()
	f.failures = 0 // the server is well
	f.mu.Unlock()
}

// note keeps and counts what came of a poll.
func (f *Feed) note(cfg *BundleConfig, result string, err error) {
	poll := Poll{At: time.Now(), Result: result}
	f.mu.Lock()
	f.failures++
	if err == nil {
		f.failures = 0
	} else {
		poll.Error = err.Error()
	}
	repeated := err != nil && f.last.Error == poll.Error
	f.last = poll
	f.mu.Unlock()
	f.metrics.polled(result)
	switch {
	case repeated: // once is enough, however often it is asked
	case result == pollRefused:
		f.log.Error("bundle refused; the running policy stays", "source", cfg.address(), "err", err)
	case result == pollFailed:
		f.log.Warn("the bundle could not be fetched; the running policy stays", "source", cfg.address(), "err", err)
	}
}
