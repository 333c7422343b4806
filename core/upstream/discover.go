package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A Resolver looks names up. *net.Resolver is one; calls may be concurrent.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Bounds of looking up a name.
const (
	maxServers    = 1024            // behind one name; the rest is left out
	lookupTime    = 2 * time.Second // for one lookup with all that follows from it
	nudgeInterval = time.Second     // between lookups that failed connections ask for
)

type siteKey struct{ backend, host, port, mode, service string }

// A site is a name that is looked up again and again, with the addresses it led to last. When a lookup fails,
// or finds nothing, those remain: servers that are truly gone are found out by their health.
type site struct {
	key    siteKey
	first  chan struct{} // closed once it was looked up, whatever came of it
	nudged chan struct{}

	visitors int    // guarded by Fleet.mu
	stop     func() // guarded by Fleet.mu

	mu        sync.Mutex
	followers []*follower
	addresses []string // sorted
}

// A follower is told a site's addresses when they change.
type follower struct {
	interval time.Duration
	tell     func(addresses []string) // called with the site's lock held
}

func newSite(key siteKey) *site {
	return &site{key: key, first: make(chan struct{}), nudged: make(chan struct{}, 1)}
}

func keyOf(id string, u *url.URL, c DiscoveryConfig) siteKey {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if c.Mode != "srv" {
		return siteKey{id, u.Hostname(), port, c.Mode, ""}
	}
	return siteKey{id, u.Hostname(), "", c.Mode, c.Service}
}

// add has fo told of the addresses, at once if there are any.
func (s *site) add(fo *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers = append(s.followers, fo)
	if len(s.addresses) > 0 {
		fo.tell(s.addresses)
	}
}

// drop ends what add began.
func (s *site) drop(fo *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers = slices.DeleteFunc(s.followers, func(f *follower) bool { return f == fo })
}

// interval is the shortest that a follower wishes, give or take a tenth, so that gateways do not ask in step.
func (s *site) interval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	least := time.Minute
	for _, f := range s.followers {
		least = min(least, f.interval)
	}
	return jitter(least)
}

func jitter(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

// nudge has the name looked up soon: a server of it could not be reached.
func (s *site) nudge() {
	select {
	case s.nudged <- struct{}{}:
	default:
	}
}

// follow looks the name up until ctx ends.
func (s *site) follow(ctx context.Context, r Resolver, count *Metrics) {
	once := sync.OnceFunc(func() { close(s.first) })
	defer once()
	for {
		asked := time.Now()
		s.renew(ctx, r, count)
		once()
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.interval()):
		case <-s.nudged:
			sleep(ctx, time.Until(asked.Add(nudgeInterval)))
		}
	}
}

// renew looks the name up once and tells the followers what is new.
func (s *site) renew(ctx context.Context, r Resolver, count *Metrics) {
	bounded, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, err := s.lookup(bounded, r)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		count.lookup(s.key.backend, "failed")
		return
	case len(found) == 0:
		count.lookup(s.key.backend, "empty")
		return
	}
	count.lookup(s.key.backend, "ok")
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(found, s.addresses) {
		return
	}
	s.addresses = found
	for _, f := range s.followers {
		f.tell(found)
	}
}

// lookup returns the addresses, ip:port, sorted. A name that does not exist has none, and is no error.
func (s *site) lookup(ctx context.Context, r Resolver) (found []string, err error) {
	if s.key.mode == "srv" {
		found, err = s.targets(ctx, r)
	} else {
		found, err = resolve(ctx, r, s.key.host, s.key.port)
	}
	slices.Sort(found)
	found = slices.Compact(found)
	return found[:min(len(found), maxServers)], err
}

// targets resolves the targets of the SRV record that have the best priority. Weights are left to the
// pool's balancing.
func (s *site) targets(ctx context.Context, r Resolver) (found []string, err error) {
	_, records, err := r.LookupSRV(ctx, s.key.service, "tcp", s.key.host)
	if err != nil && len(records) == 0 {
		return nil, known(err)
	}
	for i, record := range records {
		if record.Priority != records[0].Priority || i >= maxServers {
			break // they come sorted
		}
		some, err := resolve(ctx, r, record.Target, strconv.Itoa(int(record.Port)))
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

// resolve returns a name's addresses with port. One with both kinds has most likely each server twice, so IPv6
// counts only where there is no IPv4.
func resolve(ctx context.Context, r Resolver, host, port string) ([]string, error) {
	all, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, known(err)
	}
	var four, six []string
	for _, a := range all {
		a = a.Unmap()
		address := net.JoinHostPort(a.String(), port)
		if a.Is4() {
			four = append(four, address)
		} else {
			six = append(six, address)
		}
	}
	if len(four) > 0 {
		return four, nil
	}
	return six, nil
}

// known is nil for the error that says that there is no such name.
func known(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil
	}
	return fmt.Errorf("upstream: look up a backend's name: %w", err)
}
