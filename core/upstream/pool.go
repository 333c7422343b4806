package upstream

import (
	"cmp"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A pool is a set of interchangeable backends under one configuration.
type pool struct {
	name     string
	models   []string
	model    string // sent to backends; empty: the one asked for
	timeouts TimeoutsConfig
	panicAt  int // per cent of members that are out
	retry    RetryConfig
	retries  budget
	hedge    HedgeConfig
	hedges   budget
	mirror   *mirror // nil: calls are not copied
	goOn     ContinuationConfig
	balance  balancer

	sources  []*source
	live     atomic.Pointer[[]*backend]
	shelf    atomic.Pointer[shelf]
	editions *atomic.Uint64 // the fleet's
	looked   atomic.Int64   // when a slow member was last looked for
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
	id      string // of the server: name, or name/ip:port for one that discovery found behind the name
	name    string // configured id, the label of metrics
	kind    string
	prefill string
	base    *url.URL
	prefix  string // path before /v1, without a slash at its end
	header  []byte // lines sent with every request
	weight  int64
	price   PriceConfig
	peer    *peer
	site    *site // where it was discovered; nil: nowhere
}

// sent is the model name that the pool's backends are asked for.
func (p *pool) sent(c *pipeline.Call) string {
	return cmp.Or(p.model, c.Decision.Set.Model, c.Request.Model)
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

// pick takes the backend that the pool's balancing chooses among those that may be asked, but none of tried. One
// whose turn it is to be tried again goes first, unless the call has failed before. With none to be had it returns
// nil and how long until one may be.
func (p *pool) pick(now time.Time, q *query, tried ...*backend) (*backend, time.Duration) {
	var room [64]candidate
	all, due, wait := p.candidates(now, q.model, tried, room[:0])
	if due != nil && (len(tried) == 0 || len(all) == 0) && due.peer.health.take(now) {
		all = append(all[:0], candidate{due, full})
	}
	if len(all) == 0 {
		return nil, wait
	}
	return p.balance.choose(now, q, p, all), wait
}
