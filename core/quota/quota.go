// Package quota keeps each principal within its requests and tokens a minute: it admits a call, reserves
// what the answer may cost before it is asked for, and settles what it did cost when its stream closes.
package quota

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Quota owns the counts. It outlives reloads of the configuration, which only make new stages on it.
type Quota struct {
	config  Config
	store   Store   // the configured one
	share   *Memory // counts while store is down
	metrics *metrics
	settler *settler
	outage  *outage

	counters *Counters // of plugins
}

// New opens the store that cfg names; it does not wait for it to answer. reg and log may be nil.
func New(cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Quota, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	q := &Quota{config: cfg, share: NewMemory(nil), outage: &outage{log: log}}
	q.metrics = newMetrics(reg)
	q.store = q.share
	if cfg.Store == storeRedis {
		store, err := openRedis(cfg.Redis, q.metrics)
		if err != nil {
			return nil, err
		}
		q.store = store
	}
	q.settler = newSettler(q.metrics)
	q.counters = newCounters(q.store)
	return q, nil
}

// Stages returns the two stages that hold calls to the limits of cfg, counting in q: admit stands before
// plugins, reserve after policy. They are valid as long as q.
func (q *Quota) Stages(cfg Config) (admit, reserve pipeline.Stage) {
	return &admission{q.newKeeper("admit", cfg)}, &reservation{q.newKeeper("reserve", cfg)}
}

// Fits reports whether q counts where cfg says. When it does not, stages for cfg need a new Quota.
func (q *Quota) Fits(cfg Config) bool {
	return q.config.Store == cfg.Store && (cfg.Store != storeRedis || q.config.Redis == cfg.Redis)
}

// Run repeats settlements that failed, until ctx is done.
func (q *Quota) Run(ctx context.Context) error { return q.settler.run(ctx) }

// Close tries once more to settle what is still open, within a second, and closes the store. Call it
// after the last stream has closed and Run has returned; it may be called twice.
func (q *Quota) Close() error {
	q.settler.drain()
	return q.store.Close()
}
