package plugin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// metrics are what plugins are counted by. A label is a plugin's name, which comes from the configuration, or
// from a closed set. What a pool counts is read when it is asked for, so that no call pays for it.
type metrics struct {
	loader *Loader
	faults *prometheus.CounterVec
	added  *prometheus.CounterVec

	calls, seconds, fuel, instances, memory, waiting, open *prometheus.Desc
}

func newMetrics(l *Loader) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("gateway_plugin_"+name, help, append([]string{"plugin"}, labels...), nil)
	}
	return &metrics{
		loader: l,
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_plugin_faults_total", Help: "Calls of a plugin that failed, by cause.",
		}, []string{"plugin", "cause"}),
		added: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_plugin_metric_total", Help: "What plugins count themselves.",
		}, []string{"plugin", "metric"}),
		calls:     desc("calls_total", "Calls of a plugin's hooks.", "hook"),
		seconds:   desc("call_seconds", "Time of one call of a plugin's hook.", "hook"),
		fuel:      desc("call_fuel", "Fuel of one call of a plugin's hook, roughly instructions.", "hook"),
		instances: desc("instances", "Instances of a plugin that exist."),
		memory:    desc("memory_bytes", "Memory of a plugin's instances."),
		waiting:   desc("waiting", "Calls that wait for an instance of a plugin."),
		open:      desc("breaker_open", "1 while a plugin is taken out because it failed too often."),
	}
}

// Describe and Collect make the metrics one collector, so that they come and go together.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.faults.Describe(ch)
	m.added.Describe(ch)
	for _, d := range []*prometheus.Desc{m.calls, m.seconds, m.fuel, m.instances, m.memory, m.waiting, m.open} {
		ch <- d
	}
}

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.faults.Collect(ch)
	m.added.Collect(ch)
	for name, t := range m.loader.totals() {
		for export, s := range t.funcs {
			m.hook(ch, name, hookOf[export], s)
		}
		if !t.live {
			continue
		}
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
		}
		gauge(m.instances, float64(t.instances))
		gauge(m.memory, float64(t.memory))
		gauge(m.waiting, float64(t.waiting))
		gauge(m.open, float64(t.open))
	}
}

func (m *metrics) hook(ch chan<- prometheus.Metric, name, hook string, s sandbox.FuncStats) {
	ch <- prometheus.MustNewConstMetric(m.calls, prometheus.CounterValue, float64(s.Calls), name, hook)
	ch <- prometheus.MustNewConstHistogram(m.seconds, s.Seconds.Count, s.Seconds.Sum, s.Seconds.Buckets, name, hook)
	ch <- prometheus.MustNewConstHistogram(m.fuel, s.Fuel.Count, s.Fuel.Sum, s.Fuel.Buckets, name, hook)
}

// hookOf names the hooks in metrics, by their exports.
var hookOf = map[string]string{
	abi.OnRequest: "on_request", abi.OnText: "on_text", abi.OnToolCall: "on_tool_call", abi.OnUsage: "on_usage", abi.OnEnd: "on_end",
}

// A total is what is known of all plugins of one name: those that are loaded, those that are being closed, and, of what
// only grows, those that are gone.
type total struct {
	live               bool
	instances, waiting int
	memory             int64
	open               int
	funcs              map[string]sandbox.FuncStats // by export; hooks alone
}

// add counts a pool in.
func (t *total) add(s sandbox.Stats) {
	t.instances += s.Instances
	t.waiting += s.Waiting
	t.memory += s.Memory
	for export, f := range s.Funcs {
		if hookOf[export] == "" {
			continue
		}
		if t.funcs == nil {
			t.funcs = map[string]sandbox.FuncStats{}
		}
		sum := t.funcs[export]
		sum.Calls += f.Calls
		sum.Fuel = sumOf(sum.Fuel, f.Fuel)
		sum.Seconds = sumOf(sum.Seconds, f.Seconds)
		t.funcs[export] = sum
	}
}

// sumOf adds b to a copy of a. All histograms of a kind have the same buckets.
func sumOf(a, b sandbox.Histogram) sandbox.Histogram {
	sum := sandbox.Histogram{Buckets: make(map[float64]uint64, len(b.Buckets)), Count: a.Count + b.Count, Sum: a.Sum + b.Sum}
	for bound, n := range b.Buckets {
		sum.Buckets[bound] = a.Buckets[bound] + n
	}
	return sum
}

// totals are the figures of every plugin that is or was loaded, by name.
func (l *Loader) totals() map[string]*total {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]*total, len(l.gone)+len(l.live))
	of := func(name string) *total {
		if all[name] == nil {
			all[name] = &total{}
		}
		return all[name]
	}
	for name, s := range l.gone {
		of(name).add(sandbox.Stats{Funcs: s})
	}
	for p := range l.closing {
		of(p.name).add(p.pool.Stats())
	}
	for _, p := range l.live {
		t := of(p.name)
		t.live = true
		t.add(p.pool.Stats())
		if p.breaker.open() {
			t.open = 1
		}
	}
	return all
}

// bury keeps what a closed plugin has counted, so that counters do not fall.
func (l *Loader) bury(p *plugin) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.closing, p)
	var t total
	t.add(sandbox.Stats{Funcs: l.gone[p.name]})
	t.add(p.pool.Stats())
	l.gone[p.name] = t.funcs
}

// A meter counts one plugin's failures.
type meter struct {
	faults *prometheus.CounterVec
	name   string
}

func (m *metrics) of(name string) *meter { return &meter{m.faults, name} }

func (m *meter) fault(cause string) { m.faults.WithLabelValues(m.name, cause).Inc() }

// own returns a plugin's own counters. Their names come from its manifest, which names only so many.
func (m *metrics) own(plugin string, names []string) map[string]prometheus.Counter {
	all := make(map[string]prometheus.Counter, len(names))
	for _, n := range names {
		all[n] = m.added.WithLabelValues(plugin, n)
	}
	return all
}
