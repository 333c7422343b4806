package upstream

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const (
	maxLoad   = 4 << 20          // bytes of an engine's metrics
	askAgain  = 30 * time.Second // an engine that tells nothing
	lookAgain = time.Second      // at the terms, while they ask nothing
)

// loadPaths are where an engine may tell of its load, the best first.
func loadPaths(c BackendConfig) []string {
	switch {
	case c.Load.Path == "off" || c.Load.Interval == 0:
		return nil
	case c.Load.Path != "":
		return []string{c.Load.Path}
	case c.Kind == "vllm":
		return []string{"/metrics"}
	case c.Kind == "sglang": // /metrics only when it is switched on, /v1/loads only since 2026
		return []string{"/v1/loads", "/metrics", "/get_load"}
	}
	return nil
}

// followLoad asks the peer's engine for its load until ctx ends.
func (p *peer) followLoad(ctx context.Context, f *Fleet) {
	var under *terms
	at, wait := 0, firstProbe
	for sleep(ctx, jitter(wait)) {
		t := p.inForce.Load()
		if t != under {
			under, at = t, 0
		}
		if len(t.loads) == 0 {
			p.replica.Forget()
			wait = lookAgain
			continue
		}
		wait = t.every
		if p.readLoad(ctx, t, f, t.loads[at%len(t.loads)]) {
			continue
		}
		if at++; at%len(t.loads) == 0 {
			wait = max(askAgain, wait)
		}
	}
}

// readLoad asks once, and reports whether this is where to ask. An engine that cannot be reached keeps its last
// report until it is stale; one that answers without telling has none.
func (p *peer) readLoad(ctx context.Context, t *terms, f *Fleet, path string) (right bool) {
	asked := time.Now()
	status, body, err := p.get(ctx, t, path, maxLoad)
	outcome := "ok"
	switch {
	case ctx.Err() != nil:
		return true
	case err != nil:
		outcome = "silent"
	case status >= http.StatusInternalServerError:
		outcome = "sick"
	case status != http.StatusOK:
		err, outcome = errNoLoad, "unknown"
	default:
		r, fault := parseLoad(body)
		if err = fault; err != nil {
			err, outcome = errNoLoad, "unknown"
			break
		}
		r.At = asked
		p.replica.Tell(r)
	}
	f.count.probe(p.key.backend, "load", outcome)
	if !errors.Is(err, errNoLoad) {
		return true
	}
	p.replica.Forget()
	return false
}
