package upstream

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what happens at the backends. It outlives reloads; labels are backend ids from the
// configuration and a closed set of outcomes.
type Metrics struct {
	attempts  *prometheus.CounterVec
	ejections *prometheus.CounterVec
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
	}
	r.MustRegister(m.attempts, m.ejections)
	return m
}

func (m *Metrics) attempt(backend, outcome string) {
	m.attempts.WithLabelValues(backend, outcome).Inc()
}

func (m *Metrics) ejected(backend string, why cause) {
	m.ejections.WithLabelValues(backend, string(why)).Inc()
}
