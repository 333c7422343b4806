package plugin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what plugins are counted by. A label is a plugin's name, which comes from the configuration,
// or from a closed set.
type metrics struct {
	loader  *Loader
	calls   *prometheus.CounterVec
	faults  *prometheus.CounterVec
	seconds *prometheus.HistogramVec

	instances, memory *prometheus.Desc
}

func newMetrics(l *Loader) *metrics {
	return &metrics{
		loader: l,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_plugin_calls_total", Help: "Calls of a plugin's hooks.",
		}, []string{"plugin", "hook"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_plugin_faults_total", Help: "Calls of a plugin that failed, by cause.",
		}, []string{"plugin", "cause"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_plugin_call_seconds", Help: "Time of one call of a plugin's hook, with the host's part.",
			Buckets: []float64{1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1},
		}, []string{"plugin", "hook"}),
		instances: prometheus.NewDesc("gateway_plugin_instances", "Instances of a plugin that exist.", []string{"plugin"}, nil),
		memory:    prometheus.NewDesc("gateway_plugin_memory_bytes", "Memory of a plugin's instances.", []string{"plugin"}, nil),
	}
}

// Describe and Collect make the metrics one collector, so that they come and go together.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.calls.Describe(ch)
	m.faults.Describe(ch)
	m.seconds.Describe(ch)
	ch <- m.instances
	ch <- m.memory
}

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.calls.Collect(ch)
	m.faults.Collect(ch)
	m.seconds.Collect(ch)
	type sum struct{ instances, memory float64 }
	sums := map[string]sum{} // two generations of a plugin may live at once
	for name, s := range m.loader.stats() {
		for _, one := range s {
			sums[name] = sum{sums[name].instances + float64(one.Instances), sums[name].memory + float64(one.Memory)}
		}
	}
	for name, s := range sums {
		ch <- prometheus.MustNewConstMetric(m.instances, prometheus.GaugeValue, s.instances, name)
		ch <- prometheus.MustNewConstMetric(m.memory, prometheus.GaugeValue, s.memory, name)
	}
}

// A meter is one plugin's metrics, looked up once.
type meter struct {
	request, text hookMeter
	faults        *prometheus.CounterVec
	name          string
}

type hookMeter struct {
	calls   prometheus.Counter
	seconds prometheus.Observer
}

// of returns the meter of a plugin, with a figure for each of its hooks.
func (m *metrics) of(name string, hooks []string) *meter {
	all := &meter{faults: m.faults, name: name}
	for _, hook := range hooks {
		h := hookMeter{m.calls.WithLabelValues(name, hook), m.seconds.WithLabelValues(name, hook)}
		if hook == "on_request" {
			all.request = h
		} else {
			all.text = h
		}
	}
	return all
}

func (h hookMeter) done(start time.Time) {
	h.calls.Inc()
	h.seconds.Observe(time.Since(start).Seconds())
}

func (m *meter) fault(cause string) { m.faults.WithLabelValues(m.name, cause).Inc() }
