package upstream

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A source is a configured backend in one pool. It stands for one server, or for as many as discovery finds.
type source struct {
	mould backend             // what its servers have in common; it has no peer
	terms *terms              // for its servers' peers
	live  map[string]*backend // by the address dialled; guarded by Upstream.mu
}

func newSource(id string, c BackendConfig) (*source, error) {
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	b := backend{id: id, name: id, kind: c.Kind, base: base, weight: int64(c.Weight), price: c.Price}
	b.prefix = strings.TrimSuffix(base.EscapedPath(), "/")
	b.header = fmt.Appendf(nil, "Host: %s\r\nContent-Type: application/json\r\nAccept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: nexus\r\n", base.Host)
	if !c.APIKey.IsZero() {
		b.header = fmt.Appendf(b.header, "Authorization: Bearer %s\r\n", c.APIKey.Reveal())
	}
	for name, value := range c.Header {
		b.header = fmt.Appendf(b.header, "%s: %s\r\n", name, value.Reveal())
	}
	return &source{mould: b, terms: newTerms(c, &b), live: make(map[string]*backend)}, nil
}

// server makes the backend that is dialled at address; an empty one stands for the url's own.
func (s *source) server(f *Fleet, address string) *backend {
	b := s.mould
	if address != "" {
		b.id += "/" + address
	}
	known := len(s.live) > 0
	p, fresh := f.hold(b.name, b.base, address, s.terms)
	if fresh && known {
		p.health.join(time.Now())
	}
	b.peer = p
	return &b
}

// seat makes the servers at addresses those of s in p. One that is gone gets no further calls; those it works
// on run to their end, and then its connections close.
func (u *Upstream) seat(p *pool, s *source, addresses []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	for _, a := range addresses {
		if s.live[a] == nil {
			s.live[a] = s.server(u.fleet, a)
		}
	}
	var gone []*backend
	for a, b := range s.live {
		if !slices.Contains(addresses, a) {
			gone = append(gone, b)
			delete(s.live, a)
		}
	}
	p.gather()
	for _, b := range gone {
		u.fleet.release(b.peer, s.terms)
	}
}

// gather lists the servers of all sources as the pool's members, in the order of the configuration.
func (p *pool) gather() {
	var members []*backend
	for _, s := range p.sources {
		of := make([]*backend, 0, len(s.live))
		for _, b := range s.live {
			of = append(of, b)
		}
		slices.SortFunc(of, func(a, b *backend) int { return strings.Compare(a.id, b.id) })
		members = append(members, of...)
	}
	p.setMembers(members)
}

// Close gives the connections back; those that no other configuration holds are closed once idle.
func (u *Upstream) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	u.closed = true
	for _, p := range u.pools {
		for _, s := range p.sources {
			for _, b := range s.live {
				u.fleet.release(b.peer, s.terms)
			}
			clear(s.live)
		}
		p.setMembers(nil)
	}
	return nil
}
