package quota_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/nexus-gateway/nexus/core/quota"
	"github.com/nexus-gateway/nexus/core/quota/storetest"
)

// rolling adds to a store what the suite needs to reach later windows.
type rolling struct{ quota.Store }

func (r rolling) NextWindow() { quota.NextWindow(r.Store) }

func open(t *testing.T, cfg quota.Config) quota.Store {
	t.Helper()
	s, err := quota.OpenLong(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return rolling{s}
}

// patient waits longer than a gateway does: the suite asks what is right, not how fast, on a machine
// that other tests share.
func patient(addr string) quota.Config {
	cfg := quota.RedisConfig(addr)
	cfg.Redis.Timeout = 20 * time.Second
	return cfg
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) quota.Store { return open(t, quota.Config{Store: "memory"}) })
}

func TestMiniredis(t *testing.T) {
	storetest.Run(t, func(t *testing.T) quota.Store { return open(t, patient(miniredis.RunT(t).Addr())) })
}

func TestRedis(t *testing.T) {
	storetest.Run(t, func(t *testing.T) quota.Store { return open(t, patient(quota.StartRedis(t))) })
}
