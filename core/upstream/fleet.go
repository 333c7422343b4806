package upstream

import (
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
)

// A Fleet keeps what must survive a reload: connections to backends and what is known of their health,
// keyed by the backend's id and address. Snapshots hold peers of it and give them back when they close.
type Fleet struct {
	mu    sync.Mutex
	peers map[peerKey]*peer

	editions atomic.Uint64 // counts changes of what servers list
}

// NewFleet returns an empty fleet.
func NewFleet() *Fleet { return &Fleet{peers: make(map[peerKey]*peer)} }

// A peerKey is what makes two servers the same one. Two backends at one address are two peers: they may
// differ in path and credential, and so in health.
type peerKey struct {
	backend string // configured id
	origin  string // scheme://host[:port] as configured
	dial    string // ip:port of one server behind that name; empty: the name itself is dialled
}

// A peer is one server with its connections and health.
type peer struct {
	key      peerKey
	holders  []*terms // of each configuration that has it, the newest last; guarded by Fleet.mu
	wire     *wire
	inflight atomic.Int64
	health   health
	models   atomic.Pointer[models] // nil: unknown
}

// terms are what a configuration says of how a peer is treated.
type terms struct {
	health HealthConfig // with Path as asked, empty for none, and Models on or off
	kind   string
	prefix string
	header []byte
}

func newTerms(c BackendConfig, b *backend) *terms {
	t := &terms{health: c.Health, kind: c.Kind, prefix: b.prefix, header: b.header}
	engine := c.Kind == "vllm" || c.Kind == "sglang"
	switch {
	case c.Health.Path == "off" || c.Health.Path == "" && !engine:
		t.health.Path = ""
	case c.Health.Path == "":
		t.health.Path = "/health"
	}
	if c.Health.Models == "auto" && engine {
		t.health.Models = "on"
	}
	return t
}

// hold returns the peer for the server of backend id at u that is reached at dial, and whether it was made
// just now. The newest terms are in force.
func (f *Fleet) hold(id string, u *url.URL, dial string, t *terms) (_ *peer, fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := peerKey{id, u.Scheme + "://" + u.Host, dial}
	p := f.peers[key]
	if p == nil {
		p, fresh = &peer{key: key, wire: newWire(u, dial)}, true
		f.peers[key] = p
	}
	p.holders = append(p.holders, t)
	p.health.agree(t.health)
	return p, fresh
}

// release gives a peer back. With its last holder go its idle connections; those in use close when what
// runs on them has ended.
func (f *Fleet) release(p *peer, t *terms) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(p.holders, t); i >= 0 {
		p.holders = slices.Delete(p.holders, i, i+1)
	}
	if n := len(p.holders); n > 0 {
		p.health.agree(p.holders[n-1].health)
		return
	}
	delete(f.peers, p.key)
	p.wire.close()
}
