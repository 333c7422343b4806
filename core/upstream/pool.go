package upstream

import (
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// A pool is a set of interchangeable backends under one configuration.
type pool struct {
	name     string
	models   []string
	model    string // sent to backends; empty: the one asked for
	timeouts TimeoutsConfig
	live     atomic.Pointer[[]*backend]
	turn     atomic.Uint64
}

// members are the servers that are there now. The slice is never written to; another one takes its place.
func (p *pool) members() []*backend {
	if live := p.live.Load(); live != nil {
		return *live
	}
	return nil
}

func (p *pool) setMembers(to []*backend) { p.live.Store(&to) }

// A backend is one server as one configuration sees it.
type backend struct {
	id     string // of the server: name, or name/ip:port for one that discovery found behind the name
	name   string // configured id, the label of metrics
	kind   string
	base   *url.URL
	prefix string // path before /v1, without a slash at its end
	header []byte // lines sent with every request
	weight int64
	peer   *peer
}

// serves reports whether callers may ask the pool for model.
func (p *pool) serves(model string) bool {
	for _, pattern := range p.models {
		if prefix, wild := strings.CutSuffix(pattern, "*"); pattern == model || wild && strings.HasPrefix(model, prefix) {
			return true
		}
	}
	return false
}

// pick takes the healthy backend with the fewest calls in flight for its weight, but not one of tried.
// With none to be had it returns nil and how long until one may be.
func (p *pool) pick(now time.Time, tried *backend) (*backend, time.Duration) {
	wait := longestEjection
	var refused *backend
	for {
		best, soonest := p.least(now, tried, refused)
		wait = min(wait, soonest)
		if best == nil {
			return nil, max(wait, time.Second)
		}
		if best.peer.health.take(now) {
			return best, 0
		}
		if refused != nil {
			return nil, time.Second
		}
		refused = best // its probe went to another call
	}
}

func (p *pool) least(now time.Time, tried, refused *backend) (*backend, time.Duration) {
	var best *backend
	var bestLoad int64
	soonest := longestEjection
	members := p.members()
	start := int(p.turn.Add(1) % uint64(max(len(members), 1)))
	for i := range members {
		b := members[(start+i)%len(members)]
		if b.weight == 0 || b == tried || b == refused {
			continue
		}
		if ok, wait := b.peer.health.healthy(now); !ok && wait > 0 {
			soonest = min(soonest, wait)
			continue
		}
		load := (b.peer.inflight.Load() + 1) * 1000 / b.weight
		if best == nil || load < bestLoad {
			best, bestLoad = b, load
		}
	}
	return best, soonest
}

func newBackend(id string, c BackendConfig, fleet *Fleet) (*backend, error) {
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	b := &backend{id: id, name: id, kind: c.Kind, base: base, weight: int64(c.Weight), prefix: strings.TrimSuffix(base.EscapedPath(), "/")}
	b.header = fmt.Appendf(nil, "Host: %s\r\nContent-Type: application/json\r\nAccept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: nexus\r\n", base.Host)
	if !c.APIKey.IsZero() {
		b.header = fmt.Appendf(b.header, "Authorization: Bearer %s\r\n", c.APIKey.Reveal())
	}
	for name, value := range c.Header {
		b.header = fmt.Appendf(b.header, "%s: %s\r\n", name, value.Reveal())
	}
	b.peer = fleet.hold(id, base, "")
	return b, nil
}
