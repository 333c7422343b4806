package quota

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// counting is a Counters and how to let time pass for it.
type counting struct {
	*Counters
	pass func(time.Duration)
}

func openCounters(t *testing.T, cfg Config) *Counters {
	t.Helper()
	cfg.Redis.Timeout = 20 * time.Second // what is right is asked here, not how fast
	q, err := New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q.Counters()
}

// eachStore runs a test with every place to count in.
func eachStore(t *testing.T, f func(t *testing.T, c counting)) {
	t.Run("memory", func(t *testing.T) {
		c := openCounters(t, Config{Store: "memory"})
		var now atomic.Int64
		c.local.now = func() time.Duration { return time.Duration(now.Load()) }
		f(t, counting{c, func(d time.Duration) { now.Add(int64(d)) }})
	})
	t.Run("miniredis", func(t *testing.T) {
		m := miniredis.RunT(t)
		f(t, counting{openCounters(t, redisConfig(m.Addr())), m.FastForward})
	})
	t.Run("redis", func(t *testing.T) {
		f(t, counting{openCounters(t, redisConfig(StartRedis(t))), func(d time.Duration) { time.Sleep(d) }})
	})
}

func TestCounters(t *testing.T) {
	eachStore(t, func(t *testing.T, c counting) {
		for i, tt := range []struct {
			key           string
			amount, limit int64
			n             int64
			ok            bool
		}{
			{"a", 2, 5, 2, true},
			{"a", 3, 5, 5, true},
			{"a", 1, 5, 5, false},
			{"a", 0, 5, 5, true},
			{"a", 0, 4, 5, false},
			{"a", -1, 4, 4, true},
			{"a", -100, 5, 0, true},
			{"a", 1, 5, 1, true},
			{"b", 0, 0, 0, true},
			{"b", 1, 0, 0, false},
			{"b", -5, 0, 0, true},
			{"b\x00", 7, 9, 7, true},
			{"b", 0, 9, 0, true},
			{strings.Repeat("k", 1000) + "}{\r\n", 1, 1, 1, true},
			{"large", 1 << 50, 1 << 50, 1 << 50, true},
			{"large", -1, 1 << 50, 1<<50 - 1, true},
			{"large", 1, 1 << 50, 1 << 50, true},
			{"large", 1, 1 << 50, 1 << 50, false},
		} {
			n, ok, err := c.IncrIf(context.Background(), tt.key, tt.amount, tt.limit, time.Minute)
			if err != nil || n != tt.n || ok != tt.ok {
				t.Errorf("%d: %d to %q within %d: got %d, %v, %v; want %d, %v", i, tt.amount, tt.key, tt.limit, n, ok, err, tt.n, tt.ok)
			}
			if n, err = c.Get(context.Background(), tt.key); err != nil || n != tt.n {
				t.Errorf("%d: %q stands at %d, %v; want %d", i, tt.key, n, err, tt.n)
			}
		}
	})
}

// TestCounterLife: a counter lives from when it was made, however often it is added to.
func TestCounterLife(t *testing.T) {
	eachStore(t, func(t *testing.T, c counting) {
		add := func() int64 {
			n, _, err := c.IncrIf(context.Background(), "k", 1, 100, 1200*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		add()
		c.pass(800 * time.Millisecond)
		if n := add(); n != 2 {
			t.Errorf("before its end it stands at %d", n)
		}
		c.pass(500 * time.Millisecond)
		if n, err := c.Get(context.Background(), "k"); n != 0 || err != nil {
			t.Errorf("after its end it stands at %d, %v", n, err)
		}
		if n := add(); n != 1 {
			t.Errorf("made anew it stands at %d", n)
		}
	})
}

// TestCountersHammer adds from many goroutines: no more is let through than the limit, and none is lost.
func TestCountersHammer(t *testing.T) {
	eachStore(t, func(t *testing.T, c counting) {
		const limit, each = 500, 100
		var through atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range each {
					_, ok, err := c.IncrIf(context.Background(), "k", 1, limit, time.Hour)
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						through.Add(1)
					}
				}
			})
		}
		all.Wait()
		n, err := c.Get(context.Background(), "k")
		if n != limit || through.Load() != limit || err != nil {
			t.Errorf("%d were let through, it stands at %d, %v; want %d", through.Load(), n, err, limit)
		}
	})
}

// TestCountersAgree gives memory and Redis the same questions.
func TestCountersAgree(t *testing.T) {
	local := openCounters(t, Config{Store: "memory"})
	remote := openCounters(t, redisConfig(miniredis.RunT(t).Addr()))
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		key, amount, limit := fmt.Sprint(rnd.IntN(4)), rnd.Int64N(21)-8, rnd.Int64N(60)
		a, okA, errA := local.IncrIf(context.Background(), key, amount, limit, time.Hour)
		b, okB, errB := remote.IncrIf(context.Background(), key, amount, limit, time.Hour)
		if a != b || okA != okB || errA != nil || errB != nil {
			t.Fatalf("%d: %d to %q within %d: memory %d, %v, %v; Redis %d, %v, %v", i, amount, key, limit, a, okA, errA, b, okB, errB)
		}
	}
}

// TestCountersBounded: memory holds so many counters and no more; those whose life is over make room.
func TestCountersBounded(t *testing.T) {
	c := openCounters(t, Config{Store: "memory"})
	var now time.Duration
	c.local.now = func() time.Duration { return now }
	add := func(i int, ttl time.Duration) error {
		_, _, err := c.IncrIf(context.Background(), fmt.Sprint(i), 1, math.MaxInt64, ttl)
		return err
	}
	i, err := 0, error(nil)
	for ; err == nil && i <= shards*maxLives; i++ {
		err = add(i, time.Minute)
	}
	if !errors.Is(err, errCounters) || i < maxLives {
		t.Fatalf("counter %d: %v", i, err)
	}
	if _, ok, err := c.IncrIf(context.Background(), "0", 1, 9, time.Minute); !ok || err != nil {
		t.Errorf("a counter that is there: %v, %v", ok, err)
	}
	now = 2 * time.Minute
	for j := range 1000 {
		if err := add(-1-j, time.Minute); err != nil {
			t.Fatalf("after their end: %v", err)
		}
	}
	for j := range 4 * shards * maxLives { // a counter a millisecond, of a second: the old ones go as the new ones come
		now += time.Millisecond
		if err := add(j+1e9, time.Second); err != nil {
			t.Fatal(err)
		}
		if j == 100_000 {
			break
		}
	}
	held := 0
	for i := range c.local.shards {
		held += len(c.local.shards[i].live)
	}
	if held > 20_000 {
		t.Errorf("%d counters are held where about a thousand live", held)
	}
}

// TestCountersWithoutRedis: a Redis that is away costs its timeout and then nothing, and every question is an error.
func TestCountersWithoutRedis(t *testing.T) {
	m := miniredis.RunT(t)
	q, err := New(redisConfig(m.Addr()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	c := q.Counters()
	if _, _, err := c.IncrIf(context.Background(), "k", 1, 9, time.Minute); err != nil {
		t.Fatal(err)
	}
	m.Close()
	began := time.Now()
	for range 100 {
		if _, err := c.Get(context.Background(), "k"); err == nil {
			t.Fatal("a Redis that is away answers")
		}
	}
	if _, err := c.Get(context.Background(), "k"); !errors.Is(err, ErrDown) || time.Since(began) > 2*time.Second {
		t.Errorf("got %v after %v", err, time.Since(began))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Get(ctx, "k"); err == nil {
		t.Error("a question of a caller who has left was answered")
	}
}

// TestCountersAreHashed: whatever a key holds, it reaches no other key of Redis.
func TestCountersAreHashed(t *testing.T) {
	m := miniredis.RunT(t)
	c := openCounters(t, redisConfig(m.Addr()))
	if _, _, err := c.IncrIf(context.Background(), "secret\r\nDEL x", 1, 9, time.Minute); err != nil {
		t.Fatal(err)
	}
	keys := m.Keys()
	if len(keys) != 1 || strings.Contains(keys[0], "secret") || !strings.HasPrefix(keys[0], "t:{") || !strings.HasSuffix(keys[0], "}:p") {
		t.Errorf("the keys are %q", keys)
	}
	if ttl := m.TTL(keys[0]); ttl <= 0 || ttl > time.Minute {
		t.Errorf("it lives for %v", ttl)
	}
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer client.Close()
	client.Set(context.Background(), keys[0], "text", 0)
	if _, err := c.Get(context.Background(), "secret\r\nDEL x"); err == nil {
		t.Error("a counter that is text was read")
	}
}
