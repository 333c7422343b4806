package upstream

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what happens at the backends. It outlives reloads; labels are backend ids from the
// configuration and a closed set of outcomes.
type Metrics struct {
	attempts  *prometheus.CounterVec
	ejections *prometheus.CounterVec
	retries   *prometheus.CounterVec
	timeouts  *prometheus.CounterVec
	fallbacks *prometheus.CounterVec
}

// NewMetrics registers the counters with r.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_attempts_total", Help: "Attempts at a backend by what came of them.",
		}, []string{"backend", "outcome"}),
		ejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_ejections_total", Help: "Times a server was taken out of traffic, by why.",
		}, []string{"backend", "cause"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_retries_total", Help: "Attempts made again within a pool: elsewhere, or again at a backend that was asked before; and those left out because they were over_budget.",
		}, []string{"pool", "outcome"}),
		timeouts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_timeouts_total", Help: "Attempts that ended because a phase of theirs took too long.",
		}, []string{"backend", "phase"}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_fallbacks_total", Help: "Calls that a pool answered in place of the first target.",
		}, []string{"pool"}),
	}
	r.MustRegister(m.attempts, m.ejections, m.retries, m.timeouts, m.fallbacks)
	return m
}

func (m *Metrics) attempt(backend, outcome string) {
	m.attempts.WithLabelValues(backend, outcome).Inc()
}

func (m *Metrics) ejected(backend string, why cause) {
	m.ejections.WithLabelValues(backend, string(why)).Inc()
}

func (m *Metrics) retry(pool, outcome string) { m.retries.WithLabelValues(pool, outcome).Inc() }
func (m *Metrics) fallback(pool string)       { m.fallbacks.WithLabelValues(pool).Inc() }
func (m *Metrics) late(backend string, l *lateness) {
	m.timeouts.WithLabelValues(backend, l.phase).Inc()
}
