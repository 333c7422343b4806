package quota

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// answer is the longest a decision may take: the 50 ms of the store and a little for ourselves (A10).
const answer = 60 * time.Millisecond

// down makes a Quota on a Redis that may fail, with its limits, its rule and a log to read.
func down(t *testing.T, addr, rule string, l pipeline.Limits) (*Quota, pipeline.Handler, *lines) {
	t.Helper()
	cfg := redisConfig(addr)
	cfg.WhenStoreDown, cfg.Replicas, cfg.Limits.Default = rule, 4, l
	log := &lines{}
	q, err := New(cfg, nil, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	q.share.window = 1000 * 24 * time.Hour // no test sees it end
	admit, reserve := q.Stages(cfg)
	return q, pipeline.Chain(backend{tokens: 5, prompt: 5, counted: true}, admit, reserve), log
}

// lines counts lines of a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	n    int
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n += bytes.Count(b, []byte("\n"))
	return l.text.Write(b)
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// try makes one call and says how long it took and whether it passed.
func try(t *testing.T, h pipeline.Handler) (took time.Duration, err error) {
	t.Helper()
	start := time.Now()
	reply, err := h.Handle(context.Background(), call(chat(10)))
	took = time.Since(start)
	if err == nil {
		drink(t, reply)
	}
	return took, err
}

// TestRedisKilled is C-11, by rule: decisions stay fast, the rule holds, one log line a second, and all
// is well within two seconds of the server's return.
func TestRedisKilled(t *testing.T) {
	for _, tt := range []struct {
		rule string
		pass int // of 30 calls with the server away; the limit is 40 requests a minute, the share 10
	}{{"deny", 0}, {"allow", 30}, {"share", 10}} {
		t.Run(tt.rule, func(t *testing.T) {
			s := startRedis(t)
			_, h, log := down(t, s.addr(), tt.rule, pipeline.Limits{Requests: 40, Tokens: 1000})
			if err := eventually(t, h); err != nil {
				t.Fatal(err)
			}
			s.kill()
			passed, slow, start := 0, 0, time.Now()
			for range 30 {
				took, err := try(t, h)
				if err == nil {
					passed++
				} else if f := refused(t, err); tt.rule == "deny" && (f.Kind != pipeline.Unavailable || f.Retry == 0) {
					t.Errorf("got %+v, want 503 with a time to try again", f)
				}
				if took > answer {
					slow++
				}
			}
			if passed != tt.pass {
				t.Errorf("%d of 30 passed, want %d", passed, tt.pass)
			}
			if slow > 2 { // the machine is shared: a hiccup is not ours
				t.Errorf("%d of 30 decisions took over %v", slow, answer)
			}
			if n, most := log.count(), 1+int(time.Since(start)/time.Second); n < 1 || n > most {
				t.Errorf("%d log lines, want 1 to %d", n, most)
			}
			if strings.Contains(log.text.String(), "redis://") {
				t.Errorf("the log shows the address: %s", log.text.String())
			}
			s.start(t)
			back := time.Now()
			for { // under allow and share calls pass all the while: ask the store itself
				_, err := try(t, h)
				if err == nil && tt.rule == "deny" || tt.rule != "deny" && stored(t, s) {
					break
				}
				if time.Since(back) > 2*time.Second {
					t.Fatalf("not back 2 s after the server: %v", err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// eventually makes calls until one passes: a machine under load may miss the first deadline.
func eventually(t *testing.T, h pipeline.Handler) (err error) {
	for range 20 {
		if _, err = try(t, h); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// stored reports whether anything is counted in s.
func stored(t *testing.T, s *server) bool {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.addr()})
	defer c.Close()
	n, err := c.DBSize(context.Background()).Result()
	return err == nil && n > 0
}

// TestRedisSilent is C-12: a Redis that takes connections and never answers costs three calls their
// 50 ms and the rest nothing, and is hardly dialled.
func TestRedisSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			accepted.Add(1)
			open = append(open, conn)
		}
		for _, c := range open {
			c.Close()
		}
	}()
	defer func() { l.Close(); <-done }()
	q, h, _ := down(t, l.Addr().String(), "deny", pipeline.Limits{Requests: 1000})
	var waits []time.Duration // of decisions that asked the store
	start := time.Now()
	for range 500 {
		took, err := try(t, h)
		if err == nil {
			t.Fatal("a call passed")
		}
		if took > 20*time.Millisecond {
			waits = append(waits, took)
		}
		time.Sleep(time.Millisecond)
	}
	slices.Sort(waits)
	if most := tripAfter + 4*int(1+time.Since(start)/time.Second); len(waits) < tripAfter || len(waits) > most {
		t.Errorf("%d of 500 decisions waited for the store, want %d to %d", len(waits), tripAfter, most)
	}
	if got := waits[len(waits)/2]; got > answer+20*time.Millisecond { // 20 ms for a machine that others share
		t.Errorf("they waited %v, want at most %v", got, answer)
	}
	if most := 4 + 3*int64(1+time.Since(start)/time.Second); accepted.Load() > most {
		t.Errorf("%d connections in %v, want at most %d", accepted.Load(), time.Since(start), most)
	}
	if got := gauge(t, q.metrics.breakerOpen); got != 1 {
		t.Errorf("the gauge of the breaker is %v, want 1", got)
	}
}

func gauge(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	if err := g.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

func count(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// TestDials counts the connection attempts on a Redis whose port is closed: at most one a second.
func TestDials(t *testing.T) {
	var dials atomic.Int64
	g := &dialGate{dial: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, errors.New("refused")
	}}
	c := redis.NewClient(&redis.Options{Dialer: g.Dial, DialerRetries: 1, MaxRetries: -1, PoolSize: 4, DialTimeout: 100 * time.Millisecond})
	defer c.Close()
	start := time.Now()
	for time.Since(start) < 2200*time.Millisecond {
		c.Ping(context.Background())
		time.Sleep(5 * time.Millisecond)
	}
	if n := dials.Load(); n < 2 || n > 4 {
		t.Errorf("%d connection attempts in 2.2 s, want 2 to 4", n)
	}
}

func TestBreaker(t *testing.T) {
	now := at
	b := newBreaker(newMetrics(nil))
	b.now = func() time.Time { return now }
	step := func(want bool) {
		t.Helper()
		if got := b.allow(); got != want {
			t.Errorf("allowed %v, want %v", got, want)
		}
	}
	for range tripAfter - 1 {
		step(true)
		b.failed(now)
	}
	b.succeeded()
	for range tripAfter {
		step(true)
		b.failed(now)
	}
	step(false)
	now = now.Add(probeEvery)
	step(true)
	step(false)
	b.failed(now)
	now = now.Add(probeEvery - 1)
	step(false)
	now = now.Add(1)
	step(true)
	b.succeeded()
	for range 2 * tripAfter {
		step(true)
		b.failed(now.Add(-1)) // began before the success
	}
	step(true)
}

func TestBreakerHammer(t *testing.T) {
	b := newBreaker(newMetrics(nil))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 2000 {
				if b.allow() && i%2 == 0 {
					b.failed(time.Now())
				} else {
					b.succeeded()
				}
			}
		})
	}
	wg.Wait()
	b.succeeded()
	if !b.allow() {
		t.Error("shut after a success")
	}
}

// TestRedisFull is C-14: a Redis out of memory is a store that failed, not a counter at 0.
func TestRedisFull(t *testing.T) {
	s := startRedis(t, "--maxmemory-policy", "noeviction")
	cfg := redisConfig(s.addr())
	cfg.Redis.Timeout = 5 * time.Second
	store, err := openRedis(cfg.Redis, newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	store.window = 1000 * 24 * time.Hour
	full := func() (*Reservation, error) {
		r := &Reservation{Tenant: "a", Charges: []Charge{{Counter: Counter{KeyRequests, "x"}, Limit: 3, Amount: 3}}}
		return r, store.Take(context.Background(), r)
	}
	if r, err := full(); err != nil || !r.Taken {
		t.Fatal(r, err)
	}
	c := redis.NewClient(&redis.Options{Addr: s.addr()})
	defer c.Close()
	if err := c.ConfigSet(context.Background(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if r, err := full(); err != nil || r.Taken {
		t.Errorf("out of memory: got %+v and %v, want the limit still used up", r, err)
	}
	fresh := &Reservation{Tenant: "a", Charges: []Charge{{Counter: Counter{KeyRequests, "y"}, Limit: 3, Amount: 1}}}
	if err := store.Take(context.Background(), fresh); err == nil || fresh.Taken || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("out of memory: got %+v and %v for a new counter, want an error", fresh, err)
	}
	c.ConfigSet(context.Background(), "maxmemory", "0")
	if r, err := full(); err != nil || r.Taken {
		t.Errorf("after it: got %+v and %v, want the limit still used up", r, err)
	}
	// A server that was restarted knows no scripts.
	c.ScriptFlush(context.Background())
	if r, err := full(); err != nil || r.Taken {
		t.Errorf("after SCRIPT FLUSH: got %+v and %v", r, err)
	}
	c.FlushAll(context.Background())
	if r, err := full(); err != nil || !r.Taken {
		t.Errorf("after FLUSHALL: got %+v and %v, want a window that begins anew", r, err)
	}
	keys, err := c.Keys(context.Background(), "*").Result()
	if err != nil || len(keys) != 2 {
		t.Errorf("got keys %v and %v, want a counter and a record", keys, err)
	}
	for _, key := range keys {
		if life := c.PTTL(context.Background(), key).Val(); life <= 0 {
			t.Errorf("%s lives for ever", key)
		}
		if !strings.HasPrefix(key, "t:{") {
			t.Errorf("%s is not tagged with its tenant", key)
		}
	}
}

// TestRedisWindowPasses lets a real window end by the server's own clock.
func TestRedisWindowPasses(t *testing.T) {
	cfg := redisConfig(startRedis(t).addr())
	cfg.Redis.Timeout = 5 * time.Second
	store, err := openRedis(cfg.Redis, newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	store.window = time.Second
	take := func() *Reservation {
		r := &Reservation{Tenant: "a", Charges: []Charge{{Counter: Counter{KeyRequests, "x"}, Limit: 1, Amount: 1}}}
		if err := store.Take(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := take()
	if !first.Taken || first.Reset > time.Second {
		t.Fatalf("got %+v", first)
	}
	second := take()
	if second.Window == first.Window && second.Taken {
		t.Error("taken twice in one window")
	}
	time.Sleep(second.Reset + 5*time.Millisecond)
	if third := take(); !third.Taken || third.Window <= first.Window {
		t.Errorf("in the next window: got %+v", third)
	}
}

// TestRedisClockSetBack is C-39: a clock that steps back over the edge of a window, as at a failover,
// neither empties the window twice nor stretches it.
func TestRedisClockSetBack(t *testing.T) {
	m := miniredis.RunT(t)
	cfg := redisConfig(m.Addr())
	cfg.Redis.Timeout = 5 * time.Second
	store, err := openRedis(cfg.Redis, newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, tt := range []struct {
		at   time.Duration // after the middle of a window
		want bool
	}{
		{0, true}, {20 * time.Second, false}, {31 * time.Second, true}, {29 * time.Second, false}, {31 * time.Second, false},
		{89 * time.Second, false}, {91 * time.Second, true}, {-time.Hour, true}, {-time.Hour, false}, {0, true}, {time.Second, false},
	} {
		m.SetTime(time.Unix(1_800_000_030, 0).Add(tt.at))
		r := &Reservation{Tenant: "a", Charges: []Charge{{Counter: Counter{KeyRequests, "x"}, Limit: 1, Amount: 1}}}
		if err := store.Take(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		if r.Taken != tt.want || r.Reset <= 0 || r.Reset > Window {
			t.Errorf("at %v: taken %v with %v to go, want %v", tt.at, r.Taken, r.Reset, tt.want)
		}
	}
}

// TestReadTake: an answer that belongs to another question, or makes no sense, is an error (C-17).
func TestReadTake(t *testing.T) {
	for name, out := range map[string][]any{
		"another's": {"other-1", int64(1), int64(5), int64(1000), int64(3)},
		"short":     {"me-1", int64(1), int64(5), int64(1000)},
		"long":      {"me-1", int64(1), int64(5), int64(1000), int64(3), int64(3)},
		"no number": {"me-1", int64(1), "5", int64(1000), int64(3)},
		"no left":   {"me-1", int64(1), int64(5), int64(1000), nil},
		"nothing":   nil,
		"settled":   {"me-1", int64(2), int64(5), int64(1000), int64(3)},
	} {
		r := &Reservation{Charges: []Charge{{Limit: 5, Amount: 1}}}
		if err := readTake(r, out, "me-1"); err == nil || r.Taken || r.Window != 0 {
			t.Errorf("%s: got %+v and %v", name, r, err)
		}
	}
	r := &Reservation{Charges: []Charge{{Limit: 5, Amount: 1}}}
	if err := readTake(r, []any{"me-1", int64(1), int64(5), int64(1500), int64(3)}, "me-1"); err != nil || !r.Taken || r.Window != 5 || r.Reset != 1500*time.Millisecond || r.Charges[0].Left != 3 {
		t.Errorf("got %+v and %v", r, err)
	}
}

// TestLedgerUnderTimeouts is S-29: replies get lost on 5 % of all operations, and still what is counted
// in the end is what was used (LiteLLM #30460 counted twice).
func TestLedgerUnderTimeouts(t *testing.T) {
	calls := 2000
	if testing.Short() {
		calls = 200
	}
	if os.Getenv("NEXUS_SOAK") != "" {
		calls = 10_000
	}
	s := startRedis(t)
	p := newLossy(t, s.addr())
	cfg := redisConfig(p.addr())
	cfg.Redis.Timeout = 50 * time.Millisecond
	cfg.Limits.Default.Tokens = maxLimit
	q, err := New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	q.store.(*redisStore).window = 1000 * 24 * time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	var owner sync.WaitGroup
	for range 4 { // one does it in the gateway; four are quicker here
		owner.Go(func() { _ = q.Run(ctx) })
	}
	_, reserve := q.Stages(cfg)
	var audit, passed atomic.Int64
	var wg sync.WaitGroup
	p.lose.Store(5)
	start := time.Now()
	for worker := range 8 {
		random := rand.New(rand.NewPCG(7, uint64(worker)))
		wg.Go(func() {
			for passed.Load() < int64(calls) && time.Since(start) < 20*time.Second {
				used := backend{tokens: random.Int64N(4), prompt: random.Int64N(100), counted: true}
				c := call(chat(10))
				reply, err := pipeline.Chain(used, reserve).Handle(context.Background(), c)
				if err != nil {
					time.Sleep(5 * time.Millisecond) // the breaker may be open
					continue
				}
				drink(t, reply)
				passed.Add(1)
				audit.Add(c.Outcome.Usage.Prompt + c.Outcome.Usage.Completion)
			}
		})
	}
	wg.Wait()
	p.lose.Store(0)
	for start := time.Now(); gauge(t, q.metrics.pending) > 0 && time.Since(start) < 20*time.Second; {
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	owner.Wait()
	q.settler.drain()
	c := redis.NewClient(&redis.Options{Addr: s.addr()})
	defer c.Close()
	r := &Reservation{Tenant: "acme", Charges: []Charge{{Counter: Counter{KeyTokens, "alice"}}}}
	ledger, err := c.HGet(context.Background(), q.store.(*redisStore).keys("", r)[1], "u").Int64()
	if err != nil || ledger != audit.Load() {
		t.Errorf("counted %d (%v), used %d", ledger, err, audit.Load())
	}
	if p.lost.Load() < int64(calls/50) || passed.Load() < int64(calls/4) {
		t.Errorf("only %d replies were lost and %d calls passed", p.lost.Load(), passed.Load())
	}
	if n := count(t, q.metrics.dropped); n != 0 {
		t.Errorf("%v settlements were given up", n)
	}
	t.Logf("%d calls passed in %v, %d replies lost, ledger and audit %d", passed.Load(), time.Since(start), p.lost.Load(), ledger)
}

// A lossy is a TCP proxy that passes every question on and swallows some answers.
type lossy struct {
	listener net.Listener
	lose     atomic.Int64 // of 100 answers
	lost     atomic.Int64
}

func newLossy(t *testing.T, to string) *lossy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(client, to) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return p
}

func (p *lossy) addr() string { return p.listener.Addr().String() }

func (p *lossy) serve(client net.Conn, to string) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(server, client); server.Close() })
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			break
		}
		if rand.Int64N(100) < p.lose.Load() {
			p.lost.Add(1)
			continue
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			break
		}
	}
	client.Close()
	wg.Wait()
}

// TestReplicas: two gateways on one Redis enforce one limit, not two (LiteLLM #27736).
func TestReplicas(t *testing.T) {
	cfg := redisConfig(miniredis.RunT(t).Addr())
	cfg.Redis.Timeout, cfg.Limits.Default = 20*time.Second, pipeline.Limits{Requests: 50, Tokens: 40 * (10 + promptOfChat)}
	var passed atomic.Int64
	var wg sync.WaitGroup
	replies := make(chan *llm.Reply, 120)
	for range 2 {
		q, err := New(cfg, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		q.store.(*redisStore).window = 1000 * 24 * time.Hour
		admit, reserve := q.Stages(cfg)
		h := pipeline.Chain(backend{tokens: 10, prompt: promptOfChat, counted: true}, admit, reserve)
		for range 60 {
			wg.Go(func() {
				if reply, err := h.Handle(context.Background(), call(chat(10))); err == nil {
					passed.Add(1)
					replies <- reply
				}
			})
		}
	}
	wg.Wait()
	close(replies)
	for reply := range replies {
		drink(t, reply)
	}
	if passed.Load() != 40 {
		t.Errorf("%d calls passed both together, want 40", passed.Load())
	}
}

// TestCallerLeaves: a caller who leaves during the decision is no failure of the store, and whatever
// the store took for it comes free.
func TestCallerLeaves(t *testing.T) {
	q, _, _ := down(t, miniredis.RunT(t).Addr(), "allow", pipeline.Limits{Requests: 5})
	cfg := q.config
	admit, _ := q.Stages(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := admit.Handle(ctx, call(""), pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		t.Error("the call went on")
		return nil, nil
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the caller left", err)
	}
	if q.store.(*redisStore).breaker.failures != 0 {
		t.Error("it counts against the store")
	}
	if len(q.settler.queue) != 1 {
		t.Errorf("%d settlements wait, want the one that makes sure", len(q.settler.queue))
	}
}

// TestSettlementsAreRepeated: a stream that closes while Redis is away is settled when it is back.
func TestSettlementsAreRepeated(t *testing.T) {
	s := startRedis(t)
	p := newLossy(t, s.addr())
	q, h, _ := down(t, p.addr(), "deny", pipeline.Limits{Tokens: 1000})
	q.store.(*redisStore).window = 1000 * 24 * time.Hour
	var reply *llm.Reply
	var err error
	for range 20 {
		if reply, err = h.Handle(context.Background(), call(chat(100))); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.lose.Store(100)
	drink(t, reply)
	if len(q.settler.queue) == 0 {
		t.Fatal("nothing waits to be settled")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = q.Run(ctx) })
	time.Sleep(150 * time.Millisecond)
	p.lose.Store(0)
	c := redis.NewClient(&redis.Options{Addr: s.addr()})
	defer c.Close()
	r := &Reservation{Tenant: "acme", Charges: []Charge{{Counter: Counter{KeyTokens, "alice"}}}}
	key := q.store.(*redisStore).keys("", r)[1]
	var got int64
	for range 100 {
		if got, _ = c.HGet(context.Background(), key, "u").Int64(); got == 10 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	if got != 10 {
		t.Errorf("counted %d, want the 10 used", got)
	}
}

// TestSettlerIsBounded: a full queue drops and counts, and Close ends in time.
func TestSettlerIsBounded(t *testing.T) {
	s := newSettler(newMetrics(nil))
	r := &Reservation{Charges: []Charge{{Limit: 1}}}
	for range maxPending + 5 {
		s.settle(context.Background(), broken{}, r)
	}
	if len(s.queue) != maxPending {
		t.Errorf("%d wait, want %d", len(s.queue), maxPending)
	}
	start := time.Now()
	s.drain()
	if len(s.queue) != 0 || time.Since(start) > 2*drainTimeout {
		t.Errorf("%d wait after %v", len(s.queue), time.Since(start))
	}
}

type broken struct{}

func (broken) Take(context.Context, *Reservation) error   { return ErrDown }
func (broken) Settle(context.Context, *Reservation) error { return ErrDown }
func (broken) Close() error                               { return nil }

func TestBadAddress(t *testing.T) {
	cfg := redisConfig("")
	cfg.Redis.URL = setting.NewSecret("redis://user:hunter2@host:port:port/")
	if _, err := New(cfg, nil, nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
}
