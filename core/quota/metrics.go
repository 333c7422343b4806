package quota

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the stages decide and how the store does. All labels are from closed sets.
type metrics struct {
	decisions    *prometheus.CounterVec   // stage: admit, reserve; outcome: the outcomes below
	storeSeconds *prometheus.HistogramVec // op: take, settle, count
	storeErrors  *prometheus.CounterVec   // op: take, settle, count
	breakerOpen  prometheus.Gauge
	tokens       *prometheus.CounterVec // source: backend, estimate
	pending      prometheus.Gauge
	dropped      prometheus.Counter

	counted, estimated prometheus.Counter // of tokens
}

// Outcomes of a decision.
const (
	admitted       = "admitted"
	shortRequests  = "requests_exhausted"
	shortTokens    = "tokens_exhausted"
	tooLarge       = "too_large"
	storeDenied    = "store_down_denied"
	storeAllowed   = "store_down_allowed"
	storeShared    = "store_down_shared"
	callerWentAway = "caller_gone"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "gateway", Subsystem: "quota", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "gateway", Subsystem: "quota", Name: name, Help: help}
	}
	m := &metrics{
		decisions:    prometheus.NewCounterVec(opts("decisions_total", "Decisions of the admit and reserve stages."), []string{"stage", "outcome"}),
		storeErrors:  prometheus.NewCounterVec(opts("store_errors_total", "Operations the store did not answer."), []string{"op"}),
		breakerOpen:  prometheus.NewGauge(gauge("store_breaker_open", "1 while the store is taken to be down.")),
		tokens:       prometheus.NewCounterVec(opts("settled_tokens_total", "Tokens charged, by who counted them."), []string{"source"}),
		pending:      prometheus.NewGauge(gauge("settle_pending", "Settlements waiting to be repeated.")),
		dropped:      prometheus.NewCounter(opts("settle_dropped_total", "Settlements given up; their reservations end with their window.")),
		storeSeconds: prometheus.NewHistogramVec(storeBuckets, []string{"op"}),
	}
	if reg != nil {
		m.decisions, m.storeErrors, m.tokens = register(reg, m.decisions), register(reg, m.storeErrors), register(reg, m.tokens)
		m.breakerOpen, m.pending, m.dropped = register(reg, m.breakerOpen), register(reg, m.pending), register(reg, m.dropped)
		m.storeSeconds = register(reg, m.storeSeconds)
	}
	m.counted, m.estimated = m.tokens.WithLabelValues("backend"), m.tokens.WithLabelValues("estimate")
	return m
}

var storeBuckets = prometheus.HistogramOpts{
	Namespace: "gateway", Subsystem: "quota", Name: "store_seconds", Help: "Time of one operation of a remote store.",
	Buckets: []float64{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1},
}

// register returns c, or the collector that stands there already: a Quota made anew goes on counting.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	var there prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(C); ok {
			return old
		}
	}
	return c
}
