package policy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Metrics counts decisions. It outlives reloads; a nil one counts nothing.
type Metrics struct {
	decisions *prometheus.CounterVec
	engines   *prometheus.CounterVec
	seconds   prometheus.Histogram
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_policy_decisions_total",
			Help: "Decisions by what came of the evaluation and what became of the call.",
		}, []string{"outcome", "action"}),
		engines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_policy_evaluations_total",
			Help: "Calls by the engine that evaluated the policy; one that Wasm left to topdown is topdown's.",
		}, []string{"engine"}),
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
	reg.MustRegister(m.decisions, m.engines, m.seconds, adriftGauge)
	return m
}

func (m *Metrics) decided(o outcome, a pipeline.Action, took time.Duration) {
	if m == nil {
		return
	}
	m.decisions.WithLabelValues(string(o), string(a)).Inc()
	m.seconds.Observe(took.Seconds())
}

func (m *Metrics) evaluated(engine string) {
	if m != nil {
		m.engines.WithLabelValues(engine).Inc()
	}
}

// feedMetrics counts what a feed brings.
type feedMetrics struct{ polls *prometheus.CounterVec }

func newFeedMetrics(f *Feed, reg prometheus.Registerer) *feedMetrics {
	feed := prometheus.Labels{"feed": f.role}
	m := &feedMetrics{polls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_policy_bundle_polls_total", ConstLabels: feed,
		Help: "Questions to the bundle's server by what came of them.",
	}, []string{"result"})}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_policy_held", ConstLabels: feed,
		Help: "1 while a policy that was rolled back to stays in force against its source.",
	}, func() float64 { return truth(f.Status().Held) })
	refused := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_policy_source_refused", ConstLabels: feed,
		Help: "1 while the source holds a policy that may not decide, so that the one before it does.",
	}, func() float64 { return truth(len(f.Status().Refused) > 0) })
	since := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_policy_in_force_timestamp_seconds", ConstLabels: feed,
		Help: "When the policy that decides came into force, in seconds since 1970; 0: none does.",
	}, func() float64 {
		if at := f.Status().Since; !at.IsZero() {
			return float64(at.UnixMilli()) / 1000
		}
		return 0
	})
	reg.MustRegister(m.polls, held, refused, since)
	return m
}

func (m *feedMetrics) polled(result string) { m.polls.WithLabelValues(result).Inc() }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// shadowMetrics counts what a shadow policy says.
type shadowMetrics struct {
	decisions   *prometheus.CounterVec
	dropped     prometheus.Counter
	differences *prometheus.CounterVec
	seconds     prometheus.Histogram
}

func newShadowMetrics(reg prometheus.Registerer) *shadowMetrics {
	m := &shadowMetrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_policy_shadow_decisions_total",
			Help: "Calls that the shadow policy was asked about, by what came of it.",
		}, []string{"outcome"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_policy_shadow_dropped_total",
			Help: "Calls that the shadow policy was to be asked about, but too many waited.",
		}),
		differences: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_policy_shadow_differences_total",
			Help: "Calls that the shadow policy would have decided otherwise, by both decisions and the rule that makes the difference.",
		}, []string{"from", "to", "rule"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gateway_policy_shadow_seconds",
			Help:    "Time of one decision of the shadow policy.",
			Buckets: []float64{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 20e-3, 40e-3, 80e-3},
		}),
	}
	reg.MustRegister(m.decisions, m.dropped, m.differences, m.seconds)
	return m
}

func (m *shadowMetrics) asked(o outcome, took time.Duration) {
	m.decisions.WithLabelValues(string(o)).Inc()
	m.seconds.Observe(took.Seconds())
}
