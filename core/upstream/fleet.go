package upstream

import (
	"net/url"
	"sync"
	"sync/atomic"
)

// A Fleet keeps what must survive a reload: connections to backends and what is known of their health,
// keyed by the backend's id and address. Snapshots hold peers of it and give them back when they close.
type Fleet struct {
	mu    sync.Mutex
	peers map[peerKey]*peer
}

// NewFleet returns an empty fleet.
func NewFleet() *Fleet { return &Fleet{peers: make(map[peerKey]*peer)} }

// A peerKey is what makes two servers the same one. Two backends at one address are two peers: they may
// differ in path and credential, and so in health.
type peerKey struct {
	backend string // configured id
	origin  string // scheme://host[:port] as configured
	dial    string // ip:port of one replica behind that name; empty: the name itself is dialled
}

// A peer is one server with its connections and health.
type peer struct {
	key      peerKey
	holders  int // guarded by Fleet.mu
	wire     *wire
	inflight atomic.Int64
	health   health
}

// hold returns the peer for the replica of backend id at u that is reached at dial, making it if need be.
func (f *Fleet) hold(id string, u *url.URL, dial string) *peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := peerKey{id, u.Scheme + "://" + u.Host, dial}
	p := f.peers[key]
	if p == nil {
		p = &peer{key: key, wire: newWire(u, dial)}
		f.peers[key] = p
	}
	p.holders++
	return p
}

// release gives a peer back. With its last holder go its idle connections; those in use close when what
// runs on them has ended.
func (f *Fleet) release(p *peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.holders--
	if p.holders == 0 {
		delete(f.peers, p.key)
		p.wire.close()
	}
}
