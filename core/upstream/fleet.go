package upstream

import (
	"context"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// A Fleet keeps what must survive a reload: connections to backends and what is known of their health,
// keyed by the backend's id and address, and what is left of the pools' budgets. Snapshots hold peers and accounts of
// it and give them back when they close.
type Fleet struct {
	Resolver Resolver // for discovery; nil: the system's. To be set before Run.

	mu       sync.Mutex
	peers    map[peerKey]*peer
	sites    map[siteKey]*site
	accounts map[string]*account                            // by pool
	launch   func(work func(context.Context)) (stop func()) // nil unless it runs

	count    *Metrics // while it runs
	pulse    pulse
	editions atomic.Uint64  // counts changes of what servers list
	index    *balance.Index // which servers were sent which prompts
	commons  commons        // what all streams keep so that they can go on elsewhere
}

// NewFleet returns an empty fleet. Until it runs it asks no server and looks up no name.
func NewFleet() *Fleet {
	return &Fleet{peers: make(map[peerKey]*peer), sites: make(map[siteKey]*site), accounts: make(map[string]*account), index: balance.NewIndex(balance.DefaultIndex)}
}

// Run asks the servers how they are and looks up names until ctx ends, and returns when all of that is over.
func (f *Fleet) Run(ctx context.Context, count *Metrics) {
	var works sync.WaitGroup
	works.Go(func() { f.pulse.run(ctx) })
	f.mu.Lock()
	f.launch = func(work func(context.Context)) func() {
		ctx, stop := context.WithCancel(ctx)
		works.Go(func() {
			defer stop()
			work(ctx)
		})
		return stop
	}
	f.count = count
	for _, p := range f.peers {
		f.start(p)
	}
	for _, s := range f.sites {
		f.startSite(s)
	}
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.launch = nil
	f.mu.Unlock()
	works.Wait()
}

// start has a peer asked how it is, once the fleet runs.
func (f *Fleet) start(p *peer) {
	if f.launch != nil {
		well := f.launch(func(ctx context.Context) { p.examine(ctx, f) })
		load := f.launch(func(ctx context.Context) { p.followLoad(ctx, f) })
		p.stop = func() { well(); load() }
	}
}

func (f *Fleet) startSite(s *site) {
	if f.launch != nil {
		s.stop = f.launch(func(ctx context.Context) { s.follow(ctx, f.resolver(), f.count) })
	}
}

func (f *Fleet) resolver() Resolver {
	if f.Resolver != nil {
		return f.Resolver
	}
	return net.DefaultResolver
}

// visit returns the site of a name, which is looked up until everybody has left it.
func (f *Fleet) visit(key siteKey) *site {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sites[key]
	if s == nil {
		s = newSite(key)
		f.sites[key] = s
		f.startSite(s)
	}
	s.visitors++
	return s
}

func (f *Fleet) leave(s *site) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.visitors--; s.visitors > 0 {
		return
	}
	delete(f.sites, s.key)
	if s.stop != nil {
		s.stop()
	}
}

// A peerKey is what makes two servers the same one. Two backends at one address are two peers: they may
// differ in path and credential, and so in health.
type peerKey struct {
	backend string // configured id
	origin  string // scheme://host[:port] as configured
	dial    string // ip:port of one server behind that name; empty: the name itself is dialled
	link    string // the link's print: who is reached in another way is another server, for all that is known
}

// A peer is one server with its connections and health.
type peer struct {
	key     peerKey
	holders []*terms // of each configuration that has it, the newest last; guarded by Fleet.mu
	stop    func()   // ends its examination; guarded by Fleet.mu
	inForce atomic.Pointer[terms]
	woken   chan struct{}
	relist  atomic.Bool  // its models are to be read
	listed  atomic.Int64 // when they were
	wire    *wire
	replica *balance.Replica // its load
	health  health
	models  atomic.Pointer[models] // nil: unknown
	renders atomic.Bool            // it renders the prompt itself, whatever tokens it is given
}

// terms are what a configuration says of how a peer is reached and treated.
type terms struct {
	link   *link
	health HealthConfig // with Path as asked, empty for none, and Models on or off
	kind   string
	prefix string
	header []byte
	loads  []string      // paths that may tell of its load; none: it is not asked
	every  time.Duration // it is asked for that
}

func newTerms(c BackendConfig, b *backend, l *link) *terms {
	t := &terms{link: l, health: c.Health, kind: c.Kind, prefix: b.prefix, header: b.header, loads: loadPaths(c), every: c.Load.Interval}
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
	key := peerKey{id, u.Scheme + "://" + u.Host, dial, t.link.print}
	p := f.peers[key]
	if p == nil {
		p, fresh = &peer{key: key, wire: newWire(u, dial, t.link), replica: balance.NewReplica(key.origin + "/" + dial), woken: make(chan struct{}, 1)}, true
		f.peers[key] = p
	}
	p.holders = append(p.holders, t)
	p.agree(t)
	if fresh {
		f.start(p)
	}
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
		p.agree(p.holders[n-1])
		return
	}
	delete(f.peers, p.key)
	if p.stop != nil {
		p.stop()
	}
	p.wire.close()
	f.index.Remove(p.replica)
}

// agree puts terms in force.
func (p *peer) agree(t *terms) {
	if p.inForce.Swap(t) == t {
		return
	}
	p.health.agree(t.health)
	p.wake()
}

// wake has the examination look at what is due.
func (p *peer) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}
