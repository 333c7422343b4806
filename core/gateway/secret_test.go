package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadConfigurationsKeepSecrets: what is wrong with a configuration is said without the secrets in it.
func TestBadConfigurationsKeepSecrets(t *testing.T) {
	const canary = "cnry-5ecret-0123456789"
	t.Setenv("NEXUS_TEST_SECRET", canary)
	t.Setenv("NEXUS_TEST_KEYS", "a:"+canary+",b")
	t.Setenv("NEXUS_TEST_URL", "redis://:"+canary+"@[::1:6379")
	good := fmt.Sprintf(minimal, "http://127.0.0.1:1")
	for _, tt := range []struct{ name, text string }{
		{"redis address", good + "quota: {store: redis, redis: {url: \"${NEXUS_TEST_URL}\"}}\n"},
		{"redis scheme", good + "quota: {store: redis, redis: {url: \"http://:" + canary + "@127.0.0.1\"}}\n"},
		{"keys in the environment", strings.Replace(good, "anonymous: true", "keys_env: NEXUS_TEST_KEYS", 1)},
		{"a key in place of its hash", strings.Replace(good, "anonymous: true", "keys: [{id: a, sha256: "+canary+"}]", 1)},
		{"a key in place of the variable's name", strings.Replace(good, "anonymous: true", "keys_env: \"a:"+canary+"\"", 1)},
		{"a backend's credential of the wrong form", strings.Replace(good, "url:", "api_key: [\"${NEXUS_TEST_SECRET}\"], url:", 1)},
		{"a secret beside an unknown key", strings.Replace(good, "url:", "api_key: \"${NEXUS_TEST_SECRET}\", urk: 1, url:", 1)},
		{"a control character", strings.Replace(good, "url:", "api_key: \"${NEXUS_TEST_SECRET}\\n\", url:", 1)},
		{"a secret for a duration", strings.Replace(good, "deadline: 1s", "deadline: \"${NEXUS_TEST_SECRET}\"", 1)},
		{"a password in a backend's address", strings.Replace(good, "http://", "ftp://u:"+canary+"@", 1)},
		{"a header of an exporter", good[:len(good)-1] + "\ntelemetry: {traces: {endpoint: \"http://u:" + canary + "@[\"}}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "nexus.yaml")
			write(t, file, tt.text)
			g, err := New(context.Background(), Options{File: file, Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				g.Close()
				t.Fatal("taken, so its error was never seen")
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the secret stands in: %v", err)
			}
		})
	}
}
