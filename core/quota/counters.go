package quota

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Counters are numbers that plugins keep, each with a life of its own, in the store that limits are counted in. They
// are safe for concurrent use. While Redis is away every question is an error: a number of one replica alone would
// be another number.
type Counters struct {
	remote *redisStore // nil: local counts
	local  localCounters
}

// Counters returns the counters beside the limits. They are good as long as q, however often they are asked for.
func (q *Quota) Counters() *Counters { return q.counters }

func newCounters(s Store) *Counters {
	c := &Counters{}
	c.local.now, c.local.seed = sinceStart(), maphash.MakeSeed()
	c.remote, _ = s.(*redisStore)
	return c
}

// sinceStart is a clock that does not follow jumps of the system's.
func sinceStart() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// Get returns the counter at key, 0 when there is none.
func (c *Counters) Get(ctx context.Context, key string) (int64, error) {
	n, _, err := c.IncrIf(ctx, key, 0, math.MaxInt64, Window)
	return n, err
}

// IncrIf adds amount to the counter at key, which does not fall below 0, and returns the new count; ok is false, and
// nothing added, when an amount that is not negative would take it beyond limit. A counter lives for ttl from when it
// was made. Limits and amounts up to 2^50 are exact.
func (c *Counters) IncrIf(ctx context.Context, key string, amount, limit int64, ttl time.Duration) (n int64, ok bool, err error) {
	if c.remote != nil {
		return c.remote.count(ctx, key, amount, limit, ttl)
	}
	return c.local.count(key, amount, limit, ttl)
}

var (
	//go:embed count.lua
	countText   string
	countScript = redis.NewScript(countText)
)

// count asks Redis, in one script. The key is hashed, so that no text of it can reach another.
func (s *redisStore) count(ctx context.Context, key string, amount, limit int64, ttl time.Duration) (n int64, ok bool, err error) {
	id := s.nonce + "+" + strconv.FormatUint(s.seq.Add(1), 36)
	keys := []string{s.prefix + ":{" + digest(key) + "}:p"}
	out, err := s.run(ctx, "count", countScript, keys, []any{id, amount, min(limit, maxLimit*4), ttl.Milliseconds()})
	if errors.Is(err, ErrDown) {
		return 0, false, err
	}
	if err != nil {
		return 0, false, fmt.Errorf("quota: count: %w", err)
	}
	if len(out) != 3 || out[0] != id {
		return 0, false, fmt.Errorf("quota: count: %w", errDesync)
	}
	changed, fine := out[1].(int64)
	n, also := out[2].(int64)
	if !fine || !also {
		return 0, false, fmt.Errorf("quota: count: %w", errDesync)
	}
	return n, changed == 1, nil
}

// localCounters are counters within this process. The zero value with a clock and a seed is ready.
type localCounters struct {
	now    func() time.Duration
	seed   maphash.Seed
	shards [shards]counterShard
}

type counterShard struct {
	mu    sync.Mutex
	live  map[string]life
	swept time.Duration // when all were looked through
	_     [64]byte      // keeps the locks of two shards out of one cache line
}

// A life is a counter and when it ends.
type life struct {
	n   int64
	end time.Duration
}

const (
	maxLives   = 1 << 13 // in one shard, about 2 MiB each when full
	sweepEvery = time.Second
	glance     = 4 // counters that are looked at for each that is made
)

var errCounters = errors.New("quota: plugins keep too many counters")

func (l *localCounters) count(key string, amount, limit int64, ttl time.Duration) (n int64, ok bool, err error) {
	s := &l.shards[maphash.String(l.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := l.now()
	was, there := s.live[key]
	if there && was.end <= now {
		delete(s.live, key)
		was, there = life{}, false
	}
	to := max(0, was.n+amount)
	switch {
	case amount >= 0 && to > limit:
		return was.n, false, nil
	case to == was.n:
		return to, true, nil
	case there:
		s.live[key] = life{to, was.end}
		return to, true, nil
	}
	if !s.room(now) {
		return 0, false, errCounters
	}
	s.live[key] = life{to, now + ttl}
	return to, true, nil
}

// room makes room for one more counter: each looks at a few others, and a full shard is looked through, at most once
// in a while.
func (s *counterShard) room(now time.Duration) bool {
	if s.live == nil {
		s.live = map[string]life{}
	}
	full := len(s.live) >= maxLives
	if full && now-s.swept < sweepEvery {
		return false
	}
	if full {
		s.swept = now
	}
	looked := 0
	for key, c := range s.live {
		if c.end <= now {
			delete(s.live, key)
		}
		if looked++; !full && looked == glance {
			break
		}
	}
	return len(s.live) < maxLives
}
