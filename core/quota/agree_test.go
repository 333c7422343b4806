package quota

import (
	"context"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// TestStoresAgree puts the same random history to both stores, over many windows: they answer alike.
func TestStoresAgree(t *testing.T) {
	const steps = 1500
	clock := at
	memory := NewMemory(func() time.Time { return clock })
	m := miniredis.RunT(t)
	cfg := redisConfig(m.Addr()).Redis
	cfg.Timeout = 20 * time.Second
	shared, err := openRedis(cfg, newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	random := rand.New(rand.NewPCG(11, 12))
	type pair struct{ memory, redis *Reservation }
	var open []pair
	taken, late := 0, 0
	for step := range steps {
		m.SetTime(clock)
		if random.IntN(3) > 0 || len(open) == 0 {
			charges := randomCharges(random)
			p := pair{&Reservation{Tenant: "a", Charges: charges}, &Reservation{Tenant: "a", Charges: append([]Charge(nil), charges...)}}
			if err := memory.Take(context.Background(), p.memory); err != nil {
				t.Fatal(err)
			}
			if err := shared.Take(context.Background(), p.redis); err != nil {
				t.Fatal(err)
			}
			p.redis.id = 0
			if !reflect.DeepEqual(p.memory, p.redis) {
				t.Fatalf("step %d at %v:\nmemory %+v\nredis  %+v", step, clock, p.memory, p.redis)
			}
			p.redis.id = shared.seq.Load()
			if p.memory.Taken {
				open = append(open, p)
				taken++
			}
		} else {
			i := random.IntN(len(open))
			p := open[i]
			for j := range p.memory.Charges {
				used := random.Int64N(40)
				p.memory.Charges[j].Used, p.redis.Charges[j].Used = used, used
			}
			if clock.UnixNano()/int64(Window) != p.memory.Window {
				late++
			}
			for range 1 + random.IntN(2) {
				if err := memory.Settle(context.Background(), p.memory); err != nil {
					t.Fatal(err)
				}
				if err := shared.Settle(context.Background(), p.redis); err != nil {
					t.Fatal(err)
				}
			}
			open = append(open[:i], open[i+1:]...)
		}
		step := time.Duration(random.Int64N(int64(4 * time.Second)))
		clock = clock.Add(step.Truncate(time.Millisecond))
		m.FastForward(step)
	}
	if taken < steps/20 || late < steps/100 {
		t.Errorf("the history proves little: %d taken, %d settled late", taken, late)
	}
}

func randomCharges(random *rand.Rand) []Charge {
	kinds := []Kind{KeyRequests, KeyTokens, PolicyTokens}
	random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	var out []Charge
	for _, kind := range kinds[:1+random.IntN(3)] {
		name := string(rune('a' + random.IntN(2)))
		out = append(out, Charge{Counter: Counter{kind, name}, Limit: 50 + random.Int64N(100), Amount: random.Int64N(30)})
	}
	return out
}
