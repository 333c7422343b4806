package telemetry

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

const (
	goodTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	goodParent = "00-" + goodTrace + "-00f067aa0ba902b7-01"
)

func TestIncoming(t *testing.T) {
	tests := []struct {
		name           string
		parent, states []string
		want           pipeline.Trace
	}{
		{"none", nil, nil, pipeline.Trace{}},
		{"parent", []string{goodParent}, nil, pipeline.Trace{ID: goodTrace, Parent: goodParent}},
		{"unsampled", []string{goodParent[:53] + "00"}, nil, pipeline.Trace{ID: goodTrace, Parent: goodParent[:53] + "00"}},
		{"later version", []string{"cc" + goodParent[2:] + "-more"}, nil, pipeline.Trace{ID: goodTrace, Parent: "cc" + goodParent[2:] + "-more"}},
		{"later version, glued", []string{"cc" + goodParent[2:] + "more"}, nil, pipeline.Trace{}},
		{"forbidden version", []string{"ff" + goodParent[2:]}, nil, pipeline.Trace{}},
		{"two parents", []string{goodParent, goodParent}, nil, pipeline.Trace{}},
		{"upper case", []string{strings.ToUpper(goodParent)}, nil, pipeline.Trace{}},
		{"zero trace", []string{"00-" + strings.Repeat("0", 32) + goodParent[35:]}, nil, pipeline.Trace{}},
		{"zero span", []string{goodParent[:36] + strings.Repeat("0", 16) + "-01"}, nil, pipeline.Trace{}},
		{"too long", []string{goodParent + "-x"}, nil, pipeline.Trace{}},
		{"too short", []string{goodParent[:54]}, nil, pipeline.Trace{}},
		{"line break", []string{goodParent[:54] + "\n"}, nil, pipeline.Trace{}},
		{"state", []string{goodParent}, []string{"a=1,t@b=2"}, pipeline.Trace{ID: goodTrace, Parent: goodParent, State: "a=1,t@b=2"}},
		{"states", []string{goodParent}, []string{"a=1", "b=2"}, pipeline.Trace{ID: goodTrace, Parent: goodParent, State: "a=1,b=2"}},
		{"state alone", nil, []string{"a=1"}, pipeline.Trace{}},
		{"bad state", []string{goodParent}, []string{"A=1"}, pipeline.Trace{ID: goodTrace, Parent: goodParent}},
		{"repeated key", []string{goodParent}, []string{"a=1, a=2"}, pipeline.Trace{ID: goodTrace, Parent: goodParent}},
		{"33 members", []string{goodParent}, []string{manyStates(33)}, pipeline.Trace{ID: goodTrace, Parent: goodParent}},
		{"32 members", []string{goodParent}, []string{manyStates(32)}, pipeline.Trace{ID: goodTrace, Parent: goodParent, State: manyStates(32)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := incoming(http.Header{"Traceparent": tt.parent, "Tracestate": tt.states})
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func manyStates(n int) string {
	var members []string
	for i := range n {
		members = append(members, "k"+strings.Repeat("x", i)+"=v")
	}
	return strings.Join(members, ",")
}

// FuzzTraceparent holds the parser against OpenTelemetry's own, of which it may be the stricter only.
func FuzzTraceparent(f *testing.F) {
	f.Add(goodParent)
	f.Add("cc" + goodParent[2:] + "-what")
	f.Add(goodParent[:53] + "ff")
	f.Add("")
	f.Fuzz(func(t *testing.T, parent string) {
		h := http.Header{"Traceparent": {parent}}
		got := incoming(h)
		sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(h)))
		if got.ID == "" {
			if sc.IsValid() && len(parent) == parentLen {
				t.Errorf("%q: refused, OpenTelemetry reads %s", parent, sc.TraceID())
			}
			return
		}
		// The library refuses flags it does not know, which the recommendation says to ignore.
		if sc.IsValid() && got.ID != sc.TraceID().String() || got.Parent != parent || len(got.ID) != 32 {
			t.Errorf("%q: got %+v, OpenTelemetry reads %s", parent, got, sc.TraceID())
		}
		if at := spanContext(got); !at.IsValid() || at.TraceID().String() != got.ID {
			t.Errorf("%q: the span's parent is %v", parent, at)
		}
	})
}

// FuzzTracestate: whatever passes is read by OpenTelemetry's own parser too.
func FuzzTracestate(f *testing.F) {
	for _, s := range []string{"a=1", "a=1,b=2", "t@s=v", "1t@s=v", "a= x", "a=x ,b=y", ",,a=1", "a=1,a=2", "A=1", "a=", manyStates(33)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, state string) {
		if !validState(state) {
			return
		}
		for member := range strings.SplitSeq(state, ",") {
			member = strings.Trim(member, " \t")
			if _, err := trace.ParseTraceState(member); err != nil {
				t.Errorf("%q passes, OpenTelemetry says %v of %q", state, err, member)
			}
		}
		for i := range len(state) {
			if c := state[i]; c < ' ' && c != '\t' || c > '~' {
				t.Errorf("%q passes with byte %#x", state, c)
			}
		}
	})
}

// BenchmarkIncoming: a caller's context passes without a copy.
func BenchmarkIncoming(b *testing.B) {
	h := http.Header{"Traceparent": {goodParent}, "Tracestate": {"a=1,t@b=2"}}
	b.ReportAllocs()
	for b.Loop() {
		incoming(h)
	}
}
