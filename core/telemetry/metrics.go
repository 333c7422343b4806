package telemetry

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
)

// Buckets in seconds and tokens. Those of the gen_ai metrics are the OpenTelemetry GenAI conventions' own, so
// that dashboards made for them fit.
var (
	requestBuckets     = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	durationBuckets    = prometheus.ExponentialBuckets(0.01, 2, 14)
	tokenBuckets       = prometheus.ExponentialBuckets(1, 4, 14)
	firstTokenBuckets  = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	outputTokenBuckets = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5}
)

// metrics are the vectors. Every label is from a closed set: see Known, routeLabel and statusLabel.
type metrics struct {
	requests       *prometheus.CounterVec
	seconds        *prometheus.HistogramVec
	firstToken     *prometheus.HistogramVec
	tokens         *prometheus.CounterVec
	genTokens      *prometheus.HistogramVec
	genDuration    *prometheus.HistogramVec
	genFirstToken  *prometheus.HistogramVec
	genOutputToken *prometheus.HistogramVec
	streams        prometheus.Gauge
	dropped        prometheus.Counter
	exportFailures prometheus.Counter
	vectors        []vector
}

type vector interface {
	DeletePartialMatch(prometheus.Labels) int
}

// genLabels are of the conventions' attributes those that a closed set bounds.
var genLabels = []string{"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests:       counters("gateway_requests_total", "Calls, by what the caller was answered.", "route", "status", "model", "pool", "backend"),
		seconds:        histograms("gateway_request_seconds", "From the call's arrival to the end of its reply.", requestBuckets, "route", "class"),
		firstToken:     histograms("gateway_time_to_first_token_seconds", "From the call's arrival to the first event of a streamed reply.", firstTokenBuckets, "route", "pool"),
		tokens:         counters("gateway_tokens_total", "Tokens read (in, and of those cached) and written (out) by backends.", "direction", "model", "pool"),
		genTokens:      histograms("gen_ai_client_token_usage", "Tokens a call used, by type input or output.", tokenBuckets, append(genLabels, "gen_ai_token_type")...),
		genDuration:    histograms("gen_ai_server_request_duration_seconds", "From the last attempt's sending to the end of the reply.", durationBuckets, genLabels...),
		genFirstToken:  histograms("gen_ai_server_time_to_first_token_seconds", "From the last attempt's sending to the first chunk of a streamed reply.", firstTokenBuckets, genLabels...),
		genOutputToken: histograms("gen_ai_server_time_per_output_token_seconds", "Mean time of each output token after the first of a streamed reply.", outputTokenBuckets, genLabels...),
		streams:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "gateway_streams_in_flight", Help: "Replies that have begun and not ended."}),
		dropped:        prometheus.NewCounter(prometheus.CounterOpts{Name: "gateway_access_log_dropped_total", Help: "Access-log lines lost because the log could not be written."}),
		exportFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: "gateway_trace_export_failures_total", Help: "Batches of spans lost because the exporter could not send them."}),
	}
	r.MustRegister(m.requests, m.seconds, m.firstToken, m.tokens, m.genTokens, m.genDuration, m.genFirstToken,
		m.genOutputToken, m.streams, m.dropped, m.exportFailures)
	m.vectors = []vector{m.requests, m.seconds, m.firstToken, m.tokens, m.genTokens, m.genDuration, m.genFirstToken, m.genOutputToken}
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// A seriesKey is the label values of a call; all its strings are from closed sets.
type seriesKey struct {
	route   llm.Endpoint
	status  string
	model   string
	pool    string
	backend string
}

// series are the handles a call counts on, resolved once for each seriesKey.
type series struct {
	requests            prometheus.Counter
	seconds, firstToken prometheus.Observer
	in, out, cached     prometheus.Counter
	gen                 *genSeries  // nil: the conventions do not know the route
	text                *textSeries // nil: the route writes no text
}

type genSeries struct{ in, duration prometheus.Observer }

type textSeries struct{ out, first, each prometheus.Observer }

// A seriesCache is copied when it grows, which the closed sets bound, so that reading it takes no lock.
type seriesCache struct {
	growing sync.Mutex
	byKey   atomic.Pointer[map[seriesKey]*series]
}

func (c *seriesCache) get(key seriesKey) *series {
	if m := c.byKey.Load(); m != nil {
		return (*m)[key]
	}
	return nil
}

func (c *seriesCache) put(key seriesKey, s *series) {
	c.growing.Lock()
	defer c.growing.Unlock()
	grown := map[seriesKey]*series{key: s}
	if m := c.byKey.Load(); m != nil {
		maps.Copy(grown, *m)
	}
	c.byKey.Store(&grown)
}

// count adds a finished call to the metrics.
func (m *metrics) count(k *known, e *entry) {
	c := e.call
	b := k.backend(c.Outcome.Backend)
	key := seriesKey{routeLabel(c.Route), statusLabel(e.status), k.model(e.model), k.pool(c.Outcome.Pool), b.id}
	s := k.series.get(key)
	if s == nil {
		s = m.resolve(key, b.Provider)
		k.series.put(key, s)
	}
	s.requests.Inc()
	s.seconds.Observe(e.duration.Seconds())
	if b.id != "" {
		s.countBackend(e)
	}
}

func (s *series) countBackend(e *entry) {
	usage := e.call.Outcome.Usage
	s.in.Add(float64(max(usage.Prompt, 0)))
	s.out.Add(float64(max(usage.Completion, 0)))
	s.cached.Add(float64(max(usage.Cached, 0)))
	streamed := e.call.Request.Stream && e.first >= 0
	if streamed {
		s.firstToken.Observe(e.first.Seconds())
	}
	if s.gen != nil {
		s.gen.count(e)
	}
	if s.text != nil {
		s.text.count(e, streamed)
	}
}

func (s *genSeries) count(e *entry) {
	if n := e.call.Outcome.Usage.Prompt; n > 0 {
		s.in.Observe(float64(n))
	}
	if e.upstream >= 0 {
		s.duration.Observe(e.upstream.Seconds())
	}
}

func (s *textSeries) count(e *entry, streamed bool) {
	n := e.call.Outcome.Usage.Completion
	if n > 0 {
		s.out.Observe(float64(n))
	}
	if !streamed {
		return
	}
	s.first.Observe(e.call.Outcome.FirstByte.Seconds())
	if n > 1 {
		s.each.Observe(((e.duration - e.first) / time.Duration(n-1)).Seconds())
	}
}

func (m *metrics) resolve(k seriesKey, provider string) *series {
	route := string(k.route)
	s := &series{
		requests: m.requests.WithLabelValues(route, k.status, k.model, k.pool, k.backend),
		seconds:  m.seconds.WithLabelValues(route, classLabel(k.status)),
	}
	if k.backend == "" {
		return s
	}
	s.firstToken = m.firstToken.WithLabelValues(route, k.pool)
	s.in = m.tokens.WithLabelValues("in", k.model, k.pool)
	s.out = m.tokens.WithLabelValues("out", k.model, k.pool)
	s.cached = m.tokens.WithLabelValues("cached", k.model, k.pool)
	gen := []string{operation(k.route), provider, k.model}
	switch k.route {
	case llm.Chat, llm.Responses, llm.Completions:
		s.text = &textSeries{
			out:   m.genTokens.WithLabelValues(append(gen, "output")...),
			first: m.genFirstToken.WithLabelValues(gen...),
			each:  m.genOutputToken.WithLabelValues(gen...),
		}
		fallthrough
	case llm.Embeddings:
		s.gen = &genSeries{
			in:       m.genTokens.WithLabelValues(append(gen, "input")...),
			duration: m.genDuration.WithLabelValues(gen...),
		}
	}
	return s
}

// ordinary are the statuses that the gateway or an engine ordinarily answers.
var ordinary = [...]int{200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 499, 500, 502, 503, 504}

// statusLabels is indexed by status: the status itself if it is ordinary, else its class, since a policy or a
// backend may invent any number.
var statusLabels = func() (labels [600]string) {
	for status := 100; status < len(labels); status++ {
		labels[status] = strconv.Itoa(status/100) + "xx"
	}
	for _, status := range ordinary {
		labels[status] = strconv.Itoa(status)
	}
	return labels
}()

func statusLabel(status int) string {
	if status < 100 || status >= len(statusLabels) {
		return other
	}
	return statusLabels[status]
}

func classLabel(status string) string {
	if status == other {
		return other
	}
	return status[:1] + "xx"
}

// operation is gen_ai.operation.name; the conventions have no word for the last few, which keep their own.
func operation(e llm.Endpoint) string {
	switch e {
	case llm.Chat, llm.Responses:
		return "chat"
	case llm.Completions:
		return "text_completion"
	}
	return string(e)
}
