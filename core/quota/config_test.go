package quota

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(c *Config)
		path   string // of the one problem; "": none
	}{
		{"good", func(*Config) {}, ""},
		{"memory needs no address", func(c *Config) { c.Store, c.Redis = "memory", Redis{} }, ""},
		{"tls", func(c *Config) { c.Redis.URL = setting.NewSecret("rediss://u:hunter2@h:6379/1") }, ""},
		{"no address", func(c *Config) { c.Redis.URL = setting.Secret{} }, "quota.redis.url"},
		{"another scheme", func(c *Config) { c.Redis.URL = setting.NewSecret("http://u:hunter2@h") }, "quota.redis.url"},
		{"no URL", func(c *Config) { c.Redis.URL = setting.NewSecret("h:6379?hunter2") }, "quota.redis.url"},
		{"no timeout", func(c *Config) { c.Redis.Timeout = 0 }, "quota.redis.timeout"},
		{"a long timeout", func(c *Config) { c.Redis.Timeout = time.Minute }, "quota.redis.timeout"},
		{"no dial timeout", func(c *Config) { c.Redis.DialTimeout = -1 }, "quota.redis.dial_timeout"},
		{"no pool", func(c *Config) { c.Redis.PoolSize = 0 }, "quota.redis.pool_size"},
		{"no prefix", func(c *Config) { c.Redis.KeyPrefix = "" }, "quota.redis.key_prefix"},
		{"braces in the prefix", func(c *Config) { c.Redis.KeyPrefix = "a{b}" }, "quota.redis.key_prefix"},
		{"line end in the prefix", func(c *Config) { c.Redis.KeyPrefix = "a\r\nb" }, "quota.redis.key_prefix"},
		{"no replicas", func(c *Config) { c.Replicas = 0 }, "quota.replicas"},
		{"negative requests", func(c *Config) { c.Limits.Default.Requests = -1 }, "quota.limits.default.requests_per_minute"},
		{"tokens beyond counting", func(c *Config) { c.Limits.Tiers = map[string]pipeline.Limits{"gold": {Tokens: maxLimit + 1}} }, "quota.limits.tiers.gold.tokens_per_minute"},
		{"no completion", func(c *Config) { c.Completion.Default = 0 }, "quota.completion.default"},
		{"no completion of a model", func(c *Config) { c.Completion.Models = map[string]int64{"m": 0} }, "quota.completion.models.m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := redisConfig("localhost:6379")
			tt.change(&cfg)
			p := setting.NewProblems()
			cfg.Validate(p.In("quota"))
			all := p.All()
			if tt.path == "" {
				if len(all) != 0 {
					t.Errorf("got %v, want none", all)
				}
				return
			}
			if len(all) != 1 || all[0].Path != tt.path || strings.Contains(all[0].Text, "hunter2") {
				t.Errorf("got %v, want one at %s", all, tt.path)
			}
		})
	}
}

func TestFits(t *testing.T) {
	q, err := New(redisConfig("localhost:1"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for name, tt := range map[string]struct {
		change func(c *Config)
		want   bool
	}{
		"nothing":      {func(*Config) {}, true},
		"a limit":      {func(c *Config) { c.Limits.Default.Tokens = 5 }, true},
		"the rule":     {func(c *Config) { c.WhenStoreDown = "allow" }, true},
		"the store":    {func(c *Config) { c.Store = "memory" }, false},
		"the address":  {func(c *Config) { c.Redis.URL = setting.NewSecret("redis://other") }, false},
		"the password": {func(c *Config) { c.Redis.URL = setting.NewSecret("redis://:x@localhost:1") }, false},
	} {
		cfg := redisConfig("localhost:1")
		tt.change(&cfg)
		if got := q.Fits(cfg); got != tt.want {
			t.Errorf("after a change of %s: fits %v, want %v", name, got, tt.want)
		}
	}
}

// TestMetrics: a second Quota on one registry goes on with the same series, and all names are ours.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 {
		q, err := New(Config{Store: "memory"}, reg, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.metrics.decisions.WithLabelValues("admit", admitted).Inc()
		q.metrics.storeSeconds.WithLabelValues("take").Observe(.001)
		q.metrics.storeErrors.WithLabelValues("take").Inc()
		q.Close()
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 7 {
		t.Errorf("%d metrics, want 7", len(families))
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "gateway_quota_") {
			t.Errorf("%s is not named gateway_quota_…", f.GetName())
		}
		if f.GetName() == "gateway_quota_decisions_total" && f.GetMetric()[0].GetCounter().GetValue() != 2 {
			t.Errorf("the second began anew: %v", f.GetMetric()[0])
		}
	}
}
