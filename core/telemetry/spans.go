package telemetry

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// spans makes spans and sends them. A nil *spans makes none.
type spans struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

const maxAttribute = 1 << 10 // bytes of one attribute's text

func newSpans(cfg Config, version string, failures prometheus.Counter) (*spans, error) {
	if cfg.Traces.Endpoint == "" {
		return nil, nil
	}
	headers := make(map[string]string, len(cfg.Traces.Headers))
	for name, value := range cfg.Traces.Headers {
		headers[name] = value.Reveal()
	}
	endpoint := strings.TrimSuffix(cfg.Traces.Endpoint, "/")
	if u, err := url.Parse(endpoint); err == nil && u.Path == "" {
		endpoint += "/v1/traces"
	}
	out, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(endpoint),
		otlptracehttp.WithHeaders(headers),
		otlptracehttp.WithTimeout(cfg.Traces.Timeout))
	if err != nil {
		return nil, err
	}
	limits := sdk.NewSpanLimits()
	limits.AttributeValueLengthLimit = maxAttribute
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&exporter{SpanExporter: out, failures: failures}),
		sdk.WithSampler(sampler(cfg.Traces)),
		sdk.WithRawSpanLimits(limits),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", cfg.ServiceName),
			attribute.String("service.version", version))))
	return &spans{provider, provider.Tracer("github.com/nexus-gateway/nexus")}, nil
}

func sampler(cfg Traces) sdk.Sampler {
	share := sdk.TraceIDRatioBased(cfg.Sample)
	if cfg.Follow {
		return sdk.ParentBased(share)
	}
	return share
}

func (s *spans) close(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.provider.Shutdown(ctx)
}

// An exporter counts what could not be sent, and says so once each time that sending begins to fail. Its errors
// end here: the library would hand them to a handler shared by the whole process.
type exporter struct {
	sdk.SpanExporter
	failures prometheus.Counter
	failing  atomic.Bool
}

func (e *exporter) ExportSpans(ctx context.Context, batch []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, batch)
	if err == nil {
		e.failing.Store(false)
		return nil
	}
	e.failures.Inc()
	if !e.failing.Swap(true) {
		slog.Warn("telemetry: spans cannot be exported", "err", err)
	}
	return nil
}

// join takes up the caller's trace. With no exporter the caller's context goes on to the backend as it came;
// with one the gateway's own span stands between.
func (t *Telemetry) join(ctx context.Context, c *pipeline.Call) (context.Context, trace.Span) {
	c.Trace = incoming(c.Header)
	if t.spans == nil {
		return ctx, nil
	}
	if c.Trace.ID != "" {
		ctx = trace.ContextWithRemoteSpanContext(ctx, spanContext(c.Trace))
	}
	ctx, span := t.spans.tracer.Start(ctx, operation(routeLabel(c.Route)),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(c.Start))
	c.Trace.ID = span.SpanContext().TraceID().String()
	c.Trace.Parent = parentOf(span)
	return ctx, span
}

// spanContext is the context that t, checked by incoming, says.
func spanContext(t pipeline.Trace) trace.SpanContext {
	var cfg trace.SpanContextConfig
	cfg.Remote = true
	cfg.TraceID, _ = trace.TraceIDFromHex(t.ID)
	cfg.SpanID, _ = trace.SpanIDFromHex(t.Parent[36:52])
	if flags, err := strconv.ParseUint(t.Parent[53:55], 16, 8); err == nil {
		cfg.TraceFlags = trace.TraceFlags(flags) & trace.FlagsSampled
	}
	return trace.NewSpanContext(cfg)
}

// parentOf is the traceparent that makes a backend's span a child of span.
func parentOf(span trace.Span) string {
	at := span.SpanContext()
	flags := "-00"
	if at.IsSampled() {
		flags = "-01"
	}
	return "00-" + at.TraceID().String() + "-" + at.SpanID().String() + flags
}

// spanName names the model only if the configuration does, since a span's name must come from a small set.
func spanName(c *pipeline.Call, k *known) string {
	name := operation(routeLabel(c.Route))
	if model := k.model(c.Request.Model); model != "" && model != other {
		return name + " " + model
	}
	return name
}

// attempt is a pipeline.Tracer.
func (t *Telemetry) attempt(ctx context.Context, c *pipeline.Call, id string) (context.Context, func(error)) {
	k := t.known.Load()
	b := k.backend(id)
	ctx, span := t.spans.tracer.Start(ctx, spanName(c, k), trace.WithSpanKind(trace.SpanKindClient))
	c.Trace.Parent = parentOf(span)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("gen_ai.operation.name", operation(routeLabel(c.Route))),
			attribute.String("gen_ai.provider.name", b.Provider),
			attribute.String("gen_ai.request.model", c.Request.Model),
			attribute.String("nexus.backend", id),
			attribute.Int("nexus.attempt", c.Outcome.Attempts))
		span.SetAttributes(server(b.Address)...)
	}
	return ctx, func(err error) {
		if err != nil {
			code, _ := blame(err)
			fail(span, code)
		}
		span.End()
	}
}

func server(address string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return []attribute.KeyValue{attribute.String("server.address", address)}
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return []attribute.KeyValue{attribute.String("server.address", host)}
	}
	return []attribute.KeyValue{attribute.String("server.address", host), attribute.Int("server.port", number)}
}

// fail marks span with a code and no text, which might quote what no trace may hold.
func fail(span trace.Span, code string) {
	span.SetStatus(codes.Error, "")
	span.SetAttributes(attribute.String("error.type", code))
}

// endCall says what came of the call and ends its span.
func endCall(span trace.Span, e *entry, k *known) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	c, out := e.call, &e.call.Outcome
	span.SetName(spanName(c, k)) // the body, and so the model, was not read when the span began
	span.SetAttributes(
		attribute.String("gen_ai.operation.name", operation(routeLabel(c.Route))),
		attribute.String("gen_ai.request.model", e.model),
		attribute.Int("http.response.status_code", e.status),
		attribute.String("nexus.request_id", c.ID),
		attribute.String("nexus.rule", c.Decision.Rule),
		attribute.Bool("nexus.client_gone", e.gone))
	if c.Request.MaxTokens >= 0 {
		span.SetAttributes(attribute.Int64("gen_ai.request.max_tokens", c.Request.MaxTokens))
	}
	if out.Backend != "" {
		span.SetAttributes(
			attribute.String("gen_ai.provider.name", k.backend(out.Backend).Provider),
			attribute.String("gen_ai.response.model", out.Model),
			attribute.StringSlice("gen_ai.response.finish_reasons", []string{out.Finish}),
			attribute.Int64("gen_ai.usage.input_tokens", out.Usage.Prompt),
			attribute.Int64("gen_ai.usage.output_tokens", out.Usage.Completion),
			attribute.Int("nexus.attempts", out.Attempts),
			attribute.Int("nexus.continued", out.Continued))
	}
	if e.code != "" || e.status >= 500 {
		fail(span, errorType(e))
	}
}

func errorType(e *entry) string {
	if e.code != "" {
		return e.code
	}
	return strconv.Itoa(e.status)
}
