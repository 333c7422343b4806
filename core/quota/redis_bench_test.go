package quota

import (
	"context"
	"testing"
	"time"
)

// BenchmarkRedis is one decision and one settlement on a real server over loopback.
func BenchmarkRedis(b *testing.B) {
	cfg := redisConfig(startRedis(b).addr()).Redis
	cfg.Timeout = 5 * time.Second
	s, err := openRedis(cfg, newMetrics(nil))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		r := &Reservation{Tenant: "acme", Charges: []Charge{
			{Counter: Counter{KeyRequests, "alice"}, Limit: maxLimit, Amount: 1}, {Counter: Counter{KeyTokens, "alice"}, Limit: maxLimit, Amount: 10},
		}}
		if err := s.Take(context.Background(), r); err != nil || !r.Taken {
			b.Fatal(err)
		}
		if err := s.Settle(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}
