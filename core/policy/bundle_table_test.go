package policy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/policy"
)

// Tables of tests in a bundle are run as those of a folder are.
func TestTablesInBundles(t *testing.T) {
	for want, problem := range map[string]string{"one": "", "other": "nexus.tar.gz/a_test.yaml:2"} {
		var raw bytes.Buffer
		zip := gzip.NewWriter(&raw)
		w := tar.NewWriter(zip)
		for _, f := range [][2]string{
			{"a.rego", "package nexus.routes\n\nall := {\"targets\": [\"one\"]}\n"},
			{"a_test.yaml", "cases:\n  - name: it\n    expect: {targets: [" + want + "]}\n"},
		} {
			_ = w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1])), Mode: 0o600})
			_, _ = w.Write([]byte(f[1]))
		}
		_, _ = w.Close(), zip.Close()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw.Bytes()) }))
		defer server.Close()
		feed := policy.NewFeed(policy.FeedOptions{
			Role: "policy", Log: slog.New(slog.DiscardHandler), Register: prometheus.NewRegistry(), YAML: config.Lines,
		})
		cfg := policy.Config{Deadline: time.Second, Bundle: policy.BundleConfig{URL: server.URL + "/nexus.tar.gz", Timeout: time.Minute, MaxSize: 1 << 20}}
		_, err := feed.Prepare(t.Context(), &cfg, nil)
		if (err == nil) != (problem == "") || err != nil && !strings.Contains(err.Error(), problem) {
			t.Errorf("expecting %s: got %v", want, err)
		}
	}
}
