package policy

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestDecisionLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.ndjson")
	l, err := OpenLog(LogConfig{To: path, Size: 2})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	l.Register(reg)
	s := compile(t, testConfig(), "a.rego", threeLines).Stage(Env{Log: l})
	c := newCall(t, chatBody)
	c.Labels = map[string]string{"confidential": "true"}
	for range 5 {
		if _, err := s.Handle(t.Context(), c, passed); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what is queued is written all the same
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 2 || l.dropped.Load() != 3 {
		t.Errorf("%d lines, %d dropped; want 2 and 3", len(lines), l.dropped.Load())
	}
	var e entry
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || e.Rule != "routes.confidential" || e.DecisionID != "req-1" || e.Targets[0] != "local" || e.Tenant != "acme" || e.Revision != s.engine.Revision() {
		t.Errorf("got %s, %v", lines[0], err)
	}
	if strings.Contains(string(text), "날씨") {
		t.Error("the log holds the prompt")
	}
}

func TestNoLog(t *testing.T) {
	l, err := OpenLog(LogConfig{})
	if l != nil || err != nil {
		t.Fatal(l, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(l.Run(ctx), l.Close()); err != nil {
		t.Error(err)
	}
	l.Register(prometheus.NewRegistry())
}
