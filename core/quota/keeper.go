package quota

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A keeper takes and settles for both stages, by the rule for a store that is down.
type keeper struct {
	config    Config
	store     Store
	share     *Memory
	metrics   *metrics
	decisions *prometheus.CounterVec // of one stage; outcome
	passes    [3]prometheus.Counter  // by place
	settler   *settler
	outage    *outage
}

// newKeeper makes the keeper of the stage that metrics call name.
func (q *Quota) newKeeper(name string, cfg Config) *keeper {
	decisions := q.metrics.decisions.MustCurryWith(prometheus.Labels{"stage": name})
	return &keeper{
		config: cfg, store: q.store, share: q.share, metrics: q.metrics, settler: q.settler, outage: q.outage, decisions: decisions,
		passes: [3]prometheus.Counter{
			inStore: decisions.WithLabelValues(admitted),
			inShare: decisions.WithLabelValues(storeShared),
			nowhere: decisions.WithLabelValues(storeAllowed),
		},
	}
}

// A place says where a reservation was taken, and so where it is settled.
type place byte

const (
	inStore place = iota
	inShare
	nowhere
)

// take takes r. An error is a refusal, or that the caller has left.
func (k *keeper) take(ctx context.Context, r *Reservation) error {
	err := k.store.Take(ctx, r)
	if err == nil {
		return nil
	}
	k.makeSure(r)
	if gone := ctx.Err(); gone != nil {
		k.decisions.WithLabelValues(callerWentAway).Inc()
		return gone
	}
	k.outage.note(err, k.config.WhenStoreDown)
	switch k.config.WhenStoreDown {
	case whenAllow:
		r.Taken, r.place = true, nowhere
		return nil
	case whenShare:
		return k.takeShare(ctx, r)
	}
	return k.refuseDown(err)
}

// takeShare takes r from this replica's share of each limit.
func (k *keeper) takeShare(ctx context.Context, r *Reservation) error {
	r.place = inShare
	for i := range r.Charges {
		c := &r.Charges[i]
		c.Limit = max(1, c.Limit/max(1, k.config.Replicas))
		c.Amount = min(c.Amount, c.Limit)
	}
	if err := k.share.Take(ctx, r); err != nil {
		return k.refuseDown(err)
	}
	return nil
}

// makeSure sees to it that a Take without an answer is undone, should it have happened.
func (k *keeper) makeSure(r *Reservation) {
	if r.id == 0 {
		return
	}
	undo := *r
	undo.Charges = append([]Charge(nil), r.Charges...)
	for i := range undo.Charges {
		undo.Charges[i].Used = 0
	}
	k.settler.later(k.store, &undo)
}

func (k *keeper) refuseDown(err error) *pipeline.Refusal {
	k.decisions.WithLabelValues(storeDenied).Inc()
	return &pipeline.Refusal{
		Kind: pipeline.Unavailable, Stage: stage, Code: "quota_unavailable", Retry: time.Second, Err: err,
		Reason: "The gateway cannot check your limits at the moment. Try again shortly.",
	}
}

// settle settles r where it was taken.
func (k *keeper) settle(ctx context.Context, r *Reservation) {
	switch r.place {
	case inStore:
		k.settler.settle(ctx, k.store, r)
	case inShare:
		k.settler.settle(ctx, k.share, r)
	}
}

// An outage logs that the store is away, at most once a second.
type outage struct {
	log    *slog.Logger
	mu     sync.Mutex
	last   time.Time
	silent int
}

func (o *outage) note(err error, rule string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.silent++
	if time.Since(o.last) < time.Second {
		return
	}
	o.log.Warn("quota: the store does not answer", "rule", rule, "calls", o.silent, "error", err)
	o.last, o.silent = time.Now(), 0
}
