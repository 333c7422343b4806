package upstream

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what happens at the backends. It outlives reloads; labels are backend ids from the
// configuration and closed sets of outcomes.
type Metrics struct {
	attempts  *prometheus.CounterVec
	ejections *prometheus.CounterVec
	retries   *prometheus.CounterVec
	timeouts  *prometheus.CounterVec
	fallbacks *prometheus.CounterVec
	probes    *prometheus.CounterVec
	lookups   *prometheus.CounterVec
	resumes   *prometheus.CounterVec
	prompts   *prometheus.CounterVec
	hedges    *prometheus.CounterVec
	mirrored  *prometheus.CounterVec
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
		resumes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_continuations_total", Help: "Attempts to take up an answer that had broken off, by how (ids, text, anew) and whether it was taken, refused, ignored (the tokens given were not read) or, written anew, diverged.",
		}, []string{"backend", "form", "outcome"}),
		hedges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_hedges_total", Help: "Second attempts beside one that was slow to begin: sent, those of them that won, and those left out because they were over_budget.",
		}, []string{"pool", "outcome"}),
		mirrored: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_mirrored_total", Help: "Copies of calls, by the pool that got them and what came of them; left_out: too many were under way.",
		}, []string{"pool", "outcome"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_probes_total", Help: "Questions to servers, of their health, models or load, by what came of them; ours: the gateway could not ask.",
		}, []string{"backend", "probe", "outcome"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_lookups_total", Help: "Lookups of a backend's name by what came of them.",
		}, []string{"backend", "outcome"}),
		prompts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_prompt_tokens_total", Help: "Prompt tokens of calls balanced by prefix, estimated: held where the server was sent them before, else new.",
		}, []string{"pool", "prefix"}),
	}
	r.MustRegister(m.attempts, m.ejections, m.probes, m.lookups, m.retries, m.timeouts, m.fallbacks, m.resumes, m.hedges, m.mirrored, m.prompts)
	return m
}

func (m *Metrics) attempt(backend, outcome string) {
	m.attempts.WithLabelValues(backend, outcome).Inc()
}

func (m *Metrics) ejected(backend string, why cause) {
	m.ejections.WithLabelValues(backend, string(why)).Inc()
}

func (m *Metrics) retry(pool, outcome string)  { m.retries.WithLabelValues(pool, outcome).Inc() }
func (m *Metrics) hedge(pool, outcome string)  { m.hedges.WithLabelValues(pool, outcome).Inc() }
func (m *Metrics) mirror(pool, outcome string) { m.mirrored.WithLabelValues(pool, outcome).Inc() }
func (m *Metrics) fallback(pool string)        { m.fallbacks.WithLabelValues(pool).Inc() }
func (m *Metrics) late(backend string, l *lateness) {
	m.timeouts.WithLabelValues(backend, l.phase).Inc()
}
func (m *Metrics) continued(backend string, f form, outcome string) {
	m.resumes.WithLabelValues(backend, string(f), outcome).Inc()
}

func (m *Metrics) probe(backend, probe, outcome string) {
	m.probes.WithLabelValues(backend, probe, outcome).Inc()
}

// prompt counts a prompt by what the server it went to was sent before.
func (m *Metrics) prompt(pool string, held, fresh int64) {
	m.prompts.WithLabelValues(pool, "held").Add(float64(held))
	m.prompts.WithLabelValues(pool, "new").Add(float64(fresh))
}

func (m *Metrics) lookup(backend, outcome string) {
	m.lookups.WithLabelValues(backend, outcome).Inc()
}

// Register shows with r how many servers there are of each configured backend, by state, when it is asked.
func (f *Fleet) Register(r prometheus.Registerer) { r.MustRegister(serversOf{f}) }

type serversOf struct{ fleet *Fleet }

var serverCount = prometheus.NewDesc("gateway_upstream_servers", "Servers of a backend by the state of their health.", []string{"backend", "state"}, nil)

func (s serversOf) Describe(to chan<- *prometheus.Desc) { to <- serverCount }

// Collect counts the servers of every configuration that still runs.
func (s serversOf) Collect(to chan<- prometheus.Metric) {
	for backend, counts := range s.fleet.census() {
		for _, state := range states {
			to <- prometheus.MustNewConstMetric(serverCount, prometheus.GaugeValue, float64(counts[state]), backend, state)
		}
	}
}
