package policy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Metrics counts decisions. It outlives reloads; a nil one counts nothing.
type Metrics struct {
	decisions *prometheus.CounterVec
	seconds   prometheus.Histogram
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_policy_decisions_total",
			Help: "Decisions by what came of the evaluation and what became of the call.",
		}, []string{"outcome", "action"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gateway_policy_seconds",
			Help:    "Time of one decision, its input included.",
			Buckets: []float64{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 20e-3, 40e-3, 80e-3},
		}),
	}
	adriftGauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_policy_adrift_evaluations",
		Help: "Evaluations given up at twice the deadline that still run.",
	}, func() float64 { return float64(calls.adrift.Load() + shadows.adrift.Load()) })
	reg.MustRegister(m.decisions, m.seconds, adriftGauge)
	return m
}

func (m *Metrics) decided(o outcome, a pipeline.Action, took time.Duration) {
	if m == nil {
		return
	}
	m.decisions.WithLabelValues(string(o), string(a)).Inc()
	m.seconds.Observe(took.Seconds())
}
