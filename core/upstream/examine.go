package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"
)

// Bounds of what a server is asked of itself.
const (
	maxListing = 1 << 20 // bytes of /v1/models
	maxListed  = 10_000  // names in it
	firstProbe = 200 * time.Millisecond
	soon       = time.Second
)

// examine asks the peer how it is, and which models it lists, until ctx ends.
func (p *peer) examine(ctx context.Context, f *Fleet) {
	next := time.Now().Add(rand.N(firstProbe)) // a thousand servers are not asked at once
	var health, listing = next, next
	for {
		t := p.inForce.Load()
		now := time.Now()
		if t.health.Path != "" && !now.Before(health) {
			back, open := p.checkHealth(ctx, t, f)
			if back {
				listing = now // it may have come back with others
			}
			health = time.Now().Add(jitter(t.interval(open)))
		}
		if p.relist.Swap(false) {
			listing = now
		}
		if t.health.Models == "on" && !now.Before(listing) {
			p.readModels(ctx, t, f)
			listing = time.Now().Add(jitter(t.health.ModelsInterval))
			p.listed.Store(since(time.Now()))
		}
		if !p.rest(ctx, t, health, listing) {
			return
		}
	}
}

// rest waits for the next question, or for other terms; it reports false when ctx has ended.
func (p *peer) rest(ctx context.Context, t *terms, health, listing time.Time) bool {
	wait := time.Hour
	if t.health.Path != "" {
		wait = min(wait, time.Until(health))
	}
	if t.health.Models == "on" {
		wait = min(wait, time.Until(listing))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-p.woken:
	}
	return true
}

// interval is the time to the next question for a sign of life, soon if the last one is still open.
func (t *terms) interval(open bool) time.Duration {
	if open && t.kind != "sglang" {
		return min(t.health.Interval, soon)
	}
	return t.health.Interval
}

// doubt has the server asked soon for its models: it did not know one that it listed.
func (p *peer) doubt(now time.Time) {
	if since(now)-p.listed.Load() >= int64(soon) && !p.relist.Swap(true) {
		p.wake()
	}
}

// checkHealth asks for a sign of life. It reports whether the server came back, and whether the question is still
// open: nobody answered, or the gateway could not ask.
func (p *peer) checkHealth(ctx context.Context, t *terms, f *Fleet) (back, open bool) {
	began, sick := time.Now(), p.health.out.Load() == forever
	status, _, err := p.get(ctx, t, t.health.Path, 0)
	now := time.Now()
	if ctx.Err() != nil {
		return false, false
	}
	found, outcome := foundWell, "ok"
	switch {
	case err != nil && (ours(err) || f.pulse.starved(began, now)):
		f.count.probe(p.key.backend, "health", "ours")
		return false, true
	case errors.Is(err, syscall.ECONNREFUSED):
		found, outcome = foundSick, "refused"
	case err != nil:
		found, outcome = foundSilent, "silent"
	case status >= http.StatusInternalServerError:
		found, outcome = foundSick, "sick"
	}
	f.count.probe(p.key.backend, "health", outcome)
	if p.health.probed(now, began, found) {
		f.count.ejected(p.key.backend, causeProbe)
	}
	return sick && found == foundWell, found == foundSilent
}

// readModels learns which models the server lists. One that does not tell may serve anything; one that cannot
// be reached is left to its health.
func (p *peer) readModels(ctx context.Context, t *terms, f *Fleet) {
	status, body, err := p.get(ctx, t, "/v1/models", maxListing)
	if ctx.Err() != nil {
		return
	}
	outcome := "ok"
	switch {
	case err != nil:
		f.count.probe(p.key.backend, "models", "silent")
		return
	case status >= http.StatusInternalServerError:
		f.count.probe(p.key.backend, "models", "sick")
		return
	}
	m, err := parseListing(body)
	if status != http.StatusOK || err != nil {
		m, outcome = nil, "unknown"
	}
	f.count.probe(p.key.backend, "models", outcome)
	if p.learn(m) {
		f.editions.Add(1)
	}
}

// learn keeps what the server lists, nil if it does not tell, and reports whether that is new.
func (p *peer) learn(m models) bool {
	old := p.models.Load()
	if m == nil {
		p.models.Store(nil)
		return old != nil
	}
	if old != nil && maps.Equal(*old, m) {
		return false
	}
	p.models.Store(&m)
	return true
}

// parseListing reads the answer of /v1/models.
func parseListing(body []byte) (models, error) {
	var answer struct {
		Data *[]struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer.Data == nil {
		return nil, errors.New("there is no list")
	}
	if len(*answer.Data) > maxListed {
		return nil, fmt.Errorf("%d models exceed the limit of %d", len(*answer.Data), maxListed)
	}
	m := make(models, len(*answer.Data))
	for _, entry := range *answer.Data {
		m[entry.ID] = struct{}{}
	}
	return m, nil
}

// get asks the server for a path below its prefix. On HTTP/1.1 it has a connection of its own: that the server
// accepts one is part of the answer. Of the body up to limit bytes are read; a longer one is an error unless limit is 0.
func (p *peer) get(ctx context.Context, t *terms, path string, limit int64) (status int, body []byte, err error) {
	deadline := time.Now().Add(t.health.Timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c, err := p.wire.take(ctx, true, t.health.Timeout)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(deadline)
	head := fmt.Appendf(nil, "GET %s%s HTTP/1.1\r\n%s\r\n", t.prefix, path, t.header)
	response, err := c.exchange(&head, nil)
	if err != nil {
		return 0, nil, err
	}
	if limit == 0 {
		return response.StatusCode, nil, nil
	}
	body, err = readAll(response, limit)
	return response.StatusCode, body, err
}
