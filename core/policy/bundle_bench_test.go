package policy

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A bundle of 50 modules with a test each, from the bytes that were downloaded to an engine that may decide.
func BenchmarkReloadBundle50(b *testing.B) {
	var files []string
	for i := range 50 {
		files = append(files, fmt.Sprintf("team%d.rego", i), fmt.Sprintf(`package nexus.routes

team%[1]d := {"targets": ["pool"], "priority": %[1]d, "reason": "team %[1]d"} if {
	input.principal.team == "team%[1]d"
	input.prompt.tokens_est < %[1]d + 1000
	not _closed%[1]d
}

_closed%[1]d if input.labels.team%[1]d == "closed"
`, i), fmt.Sprintf("team%d_test.rego", i), fmt.Sprintf(`package team%[1]d_test

test_team if data.nexus.decision.rule == "routes.team%[1]d" with input as {"principal": {"team": "team%[1]d"}, "prompt": {"tokens_est": -1}, "labels": {}}
`, i))
	}
	sign := newSigner(b, "ES256")
	raw := packed(b, "r1", sign, files...)
	cfg := testConfig()
	cfg.Bundle = testBundle("https://h/nexus.tar.gz")
	cfg.Bundle.Keys = sign.key()
	for b.Loop() {
		f := NewFeed(FeedOptions{Role: "policy", Log: slog.New(slog.DiscardHandler), Register: prometheus.NewRegistry()})
		r, err := releaseOf(&cfg.Bundle, download{raw: raw})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.check(context.Background(), r, &cfg, nil); err != nil {
			b.Fatal(err)
		}
	}
}
