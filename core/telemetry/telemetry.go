// Package telemetry tells operators what became of every call: one access-log line, metrics, and spans when an
// OTLP endpoint is set. It is the outermost stage, so that what it counts is what the caller got.
//
// Nothing here can hold a call up: a log that cannot be written drops lines and counts them, and so does a
// trace exporter. No prompt, answer or credential is ever read here, nor any error's text.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Telemetry watches calls. One of it outlives every reload.
type Telemetry struct {
	registry *prometheus.Registry
	metrics  *metrics
	log      *sink  // nil: no access log
	spans    *spans // nil: no exporter is configured
	known    atomic.Pointer[known]
	knowing  sync.Mutex // held while known is swapped
	closing  sync.Once
	closed   error
}

var _ pipeline.Stage = (*Telemetry)(nil)

// New opens the access log and makes the registry and, if an endpoint is set, the span exporter. The log's
// writer starts with the first line. The caller closes what New returns, after the last call's stream.
func New(cfg Config, version string) (*Telemetry, error) {
	t := &Telemetry{registry: newRegistry(version)}
	t.metrics = newMetrics(t.registry)
	t.known.Store(newKnown(Known{}))
	log, err := openLog(cfg.AccessLog, int(cfg.LogBuffer), t.metrics.dropped)
	if err != nil {
		return nil, fmt.Errorf("telemetry: open access log: %w", err)
	}
	t.log = log
	t.spans, err = newSpans(cfg, version, t.metrics.exportFailures)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("telemetry: traces to %q: %w", cfg.Traces.Endpoint, err), t.Close(context.Background()))
	}
	return t, nil
}

func newRegistry(version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "nexus_build_info",
		Help:        "Always 1; its labels say which build runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(
		build,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// Registry is where every package registers its metrics.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Metrics serves the registry to scrapers.
func (t *Telemetry) Metrics() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	})
}

// Tracer is what upstream calls round each attempt; nil when no exporter is configured.
func (t *Telemetry) Tracer() pipeline.Tracer {
	if t.spans == nil {
		return nil
	}
	return t.attempt
}

// Close sends and writes what is waiting, until ctx ends. Calls that end later are not seen.
func (t *Telemetry) Close(ctx context.Context) error {
	t.closing.Do(func() {
		t.closed = errors.Join(t.spans.close(ctx), t.log.close(ctx))
	})
	return t.closed
}
