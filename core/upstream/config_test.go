package upstream

import (
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// What a backend's headers may not say: where the request goes, and where it ends.
func TestConfiguredHeaders(t *testing.T) {
	for name, good := range map[string]bool{
		"X-Api-Version": true, "OpenAI-Organization": true, "Content-Length": false, "transfer-encoding": false,
		"Host": false, "X-A\r\nX-B": false, "": false, "X-Request-Id": false,
	} {
		b := BackendConfig{URL: "http://127.0.0.1:8000", Header: map[string]setting.Secret{name: {}}, Weight: 1, Health: usualHealth}
		p := setting.NewProblems()
		b.validate(p)
		if bad := len(p.All()) > 0; bad == good {
			t.Errorf("%q: %v", name, p.All())
		}
	}
}

// What the tags cannot say of health, discovery and price is told with its place and what to do.
func TestHealthSettings(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		edit       func(b *BackendConfig)
		want       string // place of the problem; empty: there is none
	}{
		{"defaults", "vllm", func(*BackendConfig) {}, ""},
		{"SGLang's defaults", "sglang", func(*BackendConfig) {}, ""},
		{"a path", "vllm", func(b *BackendConfig) { b.Health.Path = "/ping" }, ""},
		{"off", "vllm", func(b *BackendConfig) { b.Health.Path = "off" }, ""},
		{"a path without a slash", "vllm", func(b *BackendConfig) { b.Health.Path = "health" }, "health.path"},
		{"a path with a line break", "vllm", func(b *BackendConfig) { b.Health.Path = "/a\r\nX: y" }, "health.path"},
		{"SGLang too often", "sglang", func(b *BackendConfig) { b.Health.Interval = time.Second }, "health.interval"},
		{"SGLang too hastily", "sglang", func(b *BackendConfig) { b.Health.Timeout = time.Second }, "health.timeout"},
		{"SGLang not at all", "sglang", func(b *BackendConfig) { b.Health.Path, b.Health.Interval = "off", time.Second }, ""},
		{"too often", "vllm", func(b *BackendConfig) { b.Health.Interval = time.Millisecond }, "health.interval"},
		{"models too often", "vllm", func(b *BackendConfig) { b.Health.ModelsInterval = 0 }, "health.models_interval"},
		{"no percentage", "vllm", func(b *BackendConfig) { b.Health.ErrorRate = 101 }, "health.error_rate"},
		{"negative", "vllm", func(b *BackendConfig) { b.Health.Failures = -1 }, "health.failures"},
		{"no window", "vllm", func(b *BackendConfig) { b.Health.Window = 0 }, "health.window"},
		{"no pause", "vllm", func(b *BackendConfig) { b.Health.Ejection = 0 }, "health.ejection"},
		{"the longest is shorter", "vllm", func(b *BackendConfig) { b.Health.Ejection = time.Minute }, "health.longest_ejection"},
		{"a start before now", "vllm", func(b *BackendConfig) { b.Health.SlowStart = -1 }, "health.slow_start"},
		{"dns", "vllm", func(b *BackendConfig) { b.Discovery = DiscoveryConfig{Mode: "dns", Interval: time.Second} }, ""},
		{"dns too often", "vllm", func(b *BackendConfig) { b.Discovery = DiscoveryConfig{Mode: "dns"} }, "discovery.interval"},
		{"srv without a port's name", "vllm", func(b *BackendConfig) { b.Discovery = DiscoveryConfig{Mode: "srv", Interval: time.Second} }, "discovery.service"},
		{"money back", "vllm", func(b *BackendConfig) { b.Price.Output = -1 }, "price.output"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := BackendConfig{Kind: tt.kind, URL: "http://gpu:8000", Weight: 1, Health: usualHealth}
			tt.edit(&b)
			p := setting.NewProblems()
			b.validate(p)
			switch all := p.All(); {
			case tt.want == "" && len(all) > 0:
				t.Errorf("found %v", all)
			case tt.want != "" && (len(all) != 1 || all[0].Path != tt.want):
				t.Errorf("found %v, want one at %s", all, tt.want)
			}
		})
	}
}
