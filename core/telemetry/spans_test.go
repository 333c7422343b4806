package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// A receiver is an OTLP collector that keeps what it is sent.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	spans  []*otlp.Span
	raw    bytes.Buffer
	path   string
	header http.Header
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		var batch collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &batch); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.path, r.header = q.URL.Path, q.Header
		r.raw.Write(body)
		for _, resource := range batch.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func newTraced(t *testing.T, endpoint string, edit func(*Traces)) *Telemetry {
	t.Helper()
	cfg := Config{ServiceName: "nexus", AccessLog: "off", Traces: Traces{Endpoint: endpoint, Sample: 1, Follow: true, Timeout: 2 * time.Second}}
	if edit != nil {
		edit(&cfg.Traces)
	}
	tel, err := New(cfg, "test")
	if err != nil {
		t.Fatal(err)
	}
	tel.SetKnown(testKnown)
	t.Cleanup(func() { closeNow(t, tel) })
	return tel
}

// retrying fails its first attempt and answers on the second, noting what each was told to send.
func retrying(tracer pipeline.Tracer, parents *[]string, stream llm.Stream) pipeline.HandlerFunc {
	return func(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
		c.Request.Model = "m1"
		_, end := tracer(ctx, c, "gpu-1")
		*parents = append(*parents, c.Trace.Parent)
		end(errors.New("connection refused: canary-text"))
		_, end = tracer(ctx, c, "gpu-1")
		*parents = append(*parents, c.Trace.Parent)
		defer end(nil)
		return backendOf(stream)(ctx, c)
	}
}

func attributes(s *otlp.Span) map[string]any {
	m := map[string]any{}
	for _, a := range s.Attributes {
		switch v := a.Value; {
		case v.GetStringValue() != "":
			m[a.Key] = v.GetStringValue()
		case v.GetArrayValue() != nil:
			m[a.Key] = v.GetArrayValue().Values[0].GetStringValue()
		default:
			m[a.Key] = v.GetIntValue()
		}
	}
	return m
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func TestSpans(t *testing.T) {
	r := newReceiver(t)
	tel := newTraced(t, r.URL, func(c *Traces) {
		c.Headers = map[string]setting.Secret{"Authorization": setting.NewSecret("Bearer collector-key")}
	})
	c := newCall()
	c.Request.Model = "" // the body is read by a stage below
	c.Header["Traceparent"], c.Header["Tracestate"] = []string{goodParent}, []string{"a=1"}
	var parents []string
	drain(tel.Handle(context.Background(), c, retrying(tel.Tracer(), &parents, events(io.EOF, "ab"))))
	closeNow(t, tel)

	if r.path != "/v1/traces" || r.header.Get("Authorization") != "Bearer collector-key" {
		t.Errorf("exported to %q with %q", r.path, r.header.Get("Authorization"))
	}
	if len(r.spans) != 3 {
		t.Fatalf("got %d spans, want a call and two attempts", len(r.spans))
	}
	failed, second, call := r.spans[0], r.spans[1], r.spans[2]
	if c.Trace.ID != goodTrace || c.Trace.State != "a=1" {
		t.Errorf("the call's trace is %+v, want the caller's", c.Trace)
	}
	for i, s := range r.spans {
		if hexOf(s.TraceId) != goodTrace || s.Name != "chat m1" {
			t.Errorf("span %d: %q of trace %s", i, s.Name, hexOf(s.TraceId))
		}
	}
	if hexOf(call.ParentSpanId) != "00f067aa0ba902b7" || call.Kind != otlp.Span_SPAN_KIND_SERVER {
		t.Errorf("the call's parent is %s and its kind %v", hexOf(call.ParentSpanId), call.Kind)
	}
	for i, s := range []*otlp.Span{failed, second} {
		if !bytes.Equal(s.ParentSpanId, call.SpanId) || s.Kind != otlp.Span_SPAN_KIND_CLIENT {
			t.Errorf("attempt %d is a child of %s and of kind %v", i, hexOf(s.ParentSpanId), s.Kind)
		}
		if want := "00-" + goodTrace + "-" + hexOf(s.SpanId) + "-01"; parents[i] != want {
			t.Errorf("attempt %d sends %s, want %s", i, parents[i], want)
		}
		if a := attributes(s); a["gen_ai.provider.name"] != "vllm" || a["server.address"] != "10.0.0.7" || a["server.port"] != int64(8000) {
			t.Errorf("attempt %d has %v", i, a)
		}
	}
	if failed.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR || failed.Status.GetMessage() != "" || attributes(failed)["error.type"] != "internal_error" {
		t.Errorf("the failed attempt's status is %v", failed.Status)
	}
	want := map[string]any{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "vllm", "gen_ai.request.model": "m1", "gen_ai.response.model": "m1-served",
		"gen_ai.response.finish_reasons": "stop", "gen_ai.usage.input_tokens": int64(12), "gen_ai.usage.output_tokens": int64(3),
		"http.response.status_code": int64(200), "nexus.request_id": "req-1", "nexus.rule": "local",
	}
	got := attributes(call)
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: got %v, want %v", key, got[key], value)
		}
	}
	if strings.Contains(r.raw.String(), "canary-text") {
		t.Error("an error's text is in the trace")
	}
}

func TestSampling(t *testing.T) {
	unsampled := goodParent[:53] + "00"
	tests := []struct {
		name   string
		parent string
		edit   func(*Traces)
		want   int
	}{
		{"nobody asks, all are taken", "", nil, 1},
		{"nobody asks, none is taken", "", func(c *Traces) { c.Sample = 0 }, 0},
		{"the caller samples", goodParent, func(c *Traces) { c.Sample = 0 }, 1},
		{"the caller does not", unsampled, nil, 0},
		{"the caller is not followed", goodParent, func(c *Traces) { c.Sample, c.Follow = 0, false }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReceiver(t)
			tel := newTraced(t, r.URL, tt.edit)
			c := newCall()
			if tt.parent != "" {
				c.Header["Traceparent"] = []string{tt.parent}
			}
			drain(tel.Handle(context.Background(), c, backendOf(events(io.EOF, "ab"))))
			closeNow(t, tel)
			if len(r.spans) != tt.want {
				t.Errorf("got %d spans, want %d", len(r.spans), tt.want)
			}
			if flag := c.Trace.Parent[len(c.Trace.Parent)-2:]; (flag == "01") != (tt.want == 1) || !validParent(c.Trace.Parent) {
				t.Errorf("backends are sent %s", c.Trace.Parent)
			}
		})
	}
}

// TestNoExporter: the caller's context goes on unchanged and no span is made.
func TestNoExporter(t *testing.T) {
	tel := newTest(t, io.Discard)
	if tel.Tracer() != nil {
		t.Error("there is a tracer although nothing is exported")
	}
	c := newCall()
	c.Header["Traceparent"], c.Header["Tracestate"] = []string{goodParent}, []string{"a=1"}
	drain(tel.Handle(context.Background(), c, backendOf(events(io.EOF, "ab"))))
	if want := (pipeline.Trace{ID: goodTrace, Parent: goodParent, State: "a=1"}); c.Trace != want {
		t.Errorf("got %+v, want %+v", c.Trace, want)
	}
}

// TestCollectorAway: calls go on and the loss is counted.
func TestCollectorAway(t *testing.T) {
	r := newReceiver(t)
	r.Close()
	tel := newTraced(t, r.URL, func(c *Traces) { c.Timeout = 200 * time.Millisecond })
	began := time.Now()
	drain(tel.Handle(context.Background(), newCall(), backendOf(events(io.EOF, "ab"))))
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("a call took %s while the collector was away", took)
	}
	closeNow(t, tel)
	if got := valueOf(t, tel, "gateway_trace_export_failures_total"); got != 1 {
		t.Errorf("%v failures counted, want 1", got)
	}
}

func TestUnknownModelIsNoSpanName(t *testing.T) {
	r := newReceiver(t)
	tel := newTraced(t, r.URL, nil)
	c := newCall()
	c.Request.Model = "of-the-callers-own"
	drain(tel.Handle(context.Background(), c, failing(&pipeline.Refusal{Kind: pipeline.NotFound, Code: "model_not_found"})))
	closeNow(t, tel)
	if len(r.spans) != 1 || r.spans[0].Name != "chat" || attributes(r.spans[0])["error.type"] != "model_not_found" {
		t.Errorf("got %v", r.spans)
	}
}

func TestServerAddress(t *testing.T) {
	for address, want := range map[string]int{"10.0.0.7:8000": 2, "api.example": 1, "[::1]:80": 2, "a:http": 1} {
		if got := server(address); len(got) != want {
			t.Errorf("%s: got %v, want %d attributes", address, got, want)
		}
	}
}
