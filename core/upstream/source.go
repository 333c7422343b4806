package upstream

import (
	"context"
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

	site     *site // nil: it stands for one server
	follower *follower
}

func newSource(id string, c BackendConfig, out *egress) (*source, error) {
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	b := backend{id: id, name: id, kind: c.Kind, prefill: prefillOf(c), base: base, weight: int64(c.Weight), price: c.Price}
	b.prefix = strings.TrimSuffix(base.EscapedPath(), "/")
	b.header = fmt.Appendf(nil, "Host: %s\r\nContent-Type: application/json\r\nAccept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: nexus\r\n", base.Host)
	if !c.APIKey.IsZero() {
		b.header = fmt.Appendf(b.header, "Authorization: Bearer %s\r\n", c.APIKey.Reveal())
	}
	for name, value := range c.Header {
		b.header = fmt.Appendf(b.header, "%s: %s\r\n", name, value.Reveal())
	}
	l, err := newLink(c, base, out)
	if err != nil {
		return nil, err
	}
	return &source{mould: b, terms: newTerms(c, &b, l), live: make(map[string]*backend)}, nil
}

// server makes the backend that is dialled at address; an empty one stands for the url's own. One that joins
// others that already take calls starts slowly.
func (s *source) server(f *Fleet, address string, joins bool) *backend {
	b := s.mould
	if address != "" {
		b.id += "/" + address
	}
	p, fresh := f.hold(b.name, b.base, address, s.terms)
	if fresh && joins {
		p.health.join(time.Now())
	}
	b.peer, b.site = p, s.site
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
	joins := len(s.live) > 0
	for _, a := range addresses {
		if s.live[a] == nil {
			s.live[a] = s.server(u.fleet, a, joins)
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

// open seats the server of s in p, or has discovery seat those it finds.
func (u *Upstream) open(p *pool, s *source, c DiscoveryConfig) {
	if c.Mode == "" || c.Mode == "static" {
		u.seat(p, s, []string{""})
		return
	}
	s.follower = &follower{interval: c.Interval, tell: func(addresses []string) { u.seat(p, s, addresses) }}
	s.site = u.fleet.visit(keyOf(s.mould.id, s.mould.base, c))
	s.site.add(s.follower)
}

// Await returns when every name has been looked up once, whatever came of it, or ctx ends. The fleet must run.
func (u *Upstream) Await(ctx context.Context) {
	for _, p := range u.pools {
		for _, s := range p.sources {
			if s.site == nil {
				continue
			}
			select {
			case <-s.site.first:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Close gives the connections back; those that no other configuration holds are closed once idle.
func (u *Upstream) Close() error {
	if u.shut() {
		return nil
	}
	u.end()
	u.extra.Wait()
	for _, p := range u.pools {
		for _, s := range p.sources {
			if s.site != nil {
				s.site.drop(s.follower)
				u.fleet.leave(s.site)
			}
			for _, b := range s.live {
				u.fleet.release(b.peer, s.terms)
			}
		}
		p.setMembers(nil)
		u.fleet.settle(p.name)
	}
	return nil
}

// shut has no server seated from now on, and reports whether that was so before.
func (u *Upstream) shut() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.closed
	u.closed = true
	return was
}
