package upstream

import (
	"slices"
	"time"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// A State is what is known of one backend, for policies: of all its servers together.
type State struct {
	ID, Pool   string        // Pool: the first that lists it
	Healthy    bool          // at least one server takes calls
	InFlight   int64         // calls that this gateway has there
	FirstToken time.Duration // median time to the first token; the best server's; 0: unknown
	LoadKnown  bool          // the engines of all that take calls tell of theirs
	Running    int64         // calls that the engines work on, whoever sent them
	Waiting    int64         // calls in their own queues
	KVUsed     float64       // share of their KV caches in use, on average; 0 where it is not told
	Price      float64       // of a million tokens, three prompt tokens for each generated one; 0: none is configured
}

// States calls yield for every configured backend, once each, until it returns false.
func (u *Upstream) States(yield func(State) bool) {
	now, seen := time.Now(), make(map[string]bool)
	for _, p := range u.pools {
		var own []*backend
		rest := p.members()
		for _, s := range p.sources {
			own, rest = s.cut(rest)
			if seen[s.mould.id] {
				continue
			}
			seen[s.mould.id] = true
			if !yield(s.state(p, own, now)) {
				return
			}
		}
	}
}

// cut takes the servers of s off the front of a pool's members, which come in the order of the sources.
func (s *source) cut(members []*backend) (own, rest []*backend) {
	n := slices.IndexFunc(members, func(b *backend) bool { return b.name != s.mould.id })
	if n < 0 {
		n = len(members)
	}
	return members[:n], members[n:]
}

func (s *source) state(p *pool, own []*backend, now time.Time) State {
	out := State{ID: s.mould.id, Pool: p.name, Price: s.mould.price.blended()}
	var all loads
	for _, b := range own {
		all.add(b.peer, now)
		out.Healthy = out.Healthy || b.peer.health.share(now) > 0
		out.InFlight += b.peer.replica.Active()
		if m := b.peer.health.firstTokenMedian(); m > 0 && (out.FirstToken == 0 || m < out.FirstToken) {
			out.FirstToken = m
		}
	}
	all.tell(&out)
	return out
}

// loads gathers what the engines of one backend tell.
type loads struct {
	told, untold     int // servers
	running, waiting int64
	kv               float64
	kvs              int
}

func (l *loads) add(p *peer, now time.Time) {
	r, trust := p.replica.Load(now)
	if trust == 0 {
		if p.health.share(now) > 0 {
			l.untold++
		}
		return
	}
	l.told++
	l.running, l.waiting = l.running+r.Running, l.waiting+r.Waiting
	if r.KV >= 0 {
		l.kv += r.KV
		l.kvs++
	}
}

func (l *loads) tell(s *State) {
	if l.told == 0 || l.untold > 0 {
		return
	}
	s.LoadKnown, s.Running, s.Waiting = true, l.running, l.waiting
	if l.kvs > 0 {
		s.KVUsed = l.kv / float64(l.kvs)
	}
}

// A Replica is what is known of one server, for status.
type Replica struct {
	ID, Backend, Kind, URL string
	Address                string // found by discovery; empty: the URL's own
	Healthy                bool   // it takes calls
	State                  string // healthy, slow_start, open or half_open
	Cause                  string // why it is open or half open
	Until                  time.Time
	InFlight               int64
	Load                   *balance.Report // what the engine tells; nil: unknown
	FirstToken             time.Duration   // median; 0: unknown
	Models                 []string        // that it lists; nil: unknown
}

// census counts the servers of each backend by state; a backend whose name leads nowhere has none.
func (f *Fleet) census() map[string]map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, out := time.Now(), make(map[string]map[string]int)
	for key := range f.sites {
		out[key.backend] = make(map[string]int)
	}
	for key, p := range f.peers {
		if out[key.backend] == nil {
			out[key.backend] = make(map[string]int)
		}
		out[key.backend][p.health.standing(now).state]++
	}
	return out
}

// Replicas calls yield for every server, once each, until it returns false.
func (u *Upstream) Replicas(yield func(Replica) bool) {
	now, seen := time.Now(), make(map[string]bool)
	for _, p := range u.pools {
		for _, b := range p.members() {
			if !seen[b.id] && !yield(b.replica(now)) {
				return
			}
			seen[b.id] = true
		}
	}
}

func (b *backend) replica(now time.Time) Replica {
	s := b.peer.health.standing(now)
	out := Replica{
		ID: b.id, Backend: b.name, Kind: b.kind, URL: b.base.String(), Address: b.peer.key.dial,
		Healthy: b.peer.health.share(now) > 0, State: s.state, Cause: string(s.cause), Until: s.until,
		InFlight: b.peer.replica.Active(), FirstToken: b.peer.health.firstTokenMedian(),
	}
	if r, trust := b.peer.replica.Load(now); trust > 0 {
		out.Load = &r
	}
	if m := b.peer.models.Load(); m != nil {
		out.Models = m.names()
	}
	return out
}
