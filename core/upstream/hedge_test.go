package upstream

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
)

// duo is an upstream of one pool of two backends; slow answers the first request of all, be it whose it may.
func duo(t *testing.T, slow, quick func(net.Conn, int64), edit func(*PoolConfig)) (u *Upstream, servers [2]*raw) {
	t.Helper()
	var asked atomic.Int64
	either := func(c net.Conn, n int64) {
		if asked.Add(1) == 1 {
			slow(c, n)
			return
		}
		quick(c, n)
	}
	servers = [2]*raw{rawBackend(t, either), rawBackend(t, either)}
	pool := PoolConfig{Models: []string{"mock"}, Backends: []string{"a", "b"}, Hedge: HedgeConfig{After: 30 * time.Millisecond, Share: 0.05}, Timeouts: fast, Retry: brisk}
	pool.Timeouts = TimeoutsConfig{Connect: time.Second, FirstToken: time.Minute, Between: time.Minute}
	if edit != nil {
		edit(&pool)
	}
	u = newUpstream(t, Config{
		Backends: map[string]BackendConfig{"a": {URL: servers[0].url}, "b": {URL: servers[1].url}},
		Pools:    map[string]PoolConfig{"p": pool},
	})
	return u, servers
}

// counted is what a counter stands at.
func counted(c prometheus.Counter) float64 {
	var m dto.Metric
	_ = c.Write(&m)
	return m.GetCounter().GetValue()
}

func TestHedge(t *testing.T) {
	broken := func(c net.Conn, _ int64) { time.Sleep(400 * time.Millisecond); _ = c.Close() }
	late := func(c net.Conn, n int64) { time.Sleep(400 * time.Millisecond); well(c, n) }
	for _, tt := range []struct {
		name        string
		slow, quick func(net.Conn, int64)
		body        string
		after       time.Duration
		asked       int64
		code        string
	}{
		{name: "the first is silent", slow: silent, quick: well, asked: 2},
		{name: "the first is late, the second silent", slow: late, quick: silent, asked: 2},
		{name: "the first breaks", slow: broken, quick: late, asked: 2},
		{name: "the second breaks", slow: late, quick: hangUp, asked: 2},
		{name: "both break", slow: broken, quick: hangUp, asked: 2, code: "backend_unreachable"},
		{name: "the first is quick", slow: well, quick: silent, after: time.Minute, asked: 1},
		{name: "not streamed", slow: func(c net.Conn, _ int64) { time.Sleep(400 * time.Millisecond); send200(c, "", answerJSON) }, quick: silent, body: chat("x", false), asked: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, servers := duo(t, tt.slow, tt.quick, func(p *PoolConfig) {
				if tt.after > 0 {
					p.Hedge.After = tt.after
				}
			})
			if tt.body == "" {
				tt.body = chat("x", true)
			}
			c := newCall(t, llm.Chat, tt.body)
			code := outcomeOf(t, u, c)
			if n := servers[0].calls.Load() + servers[1].calls.Load(); code != tt.code || n != tt.asked || int64(c.Outcome.Attempts) != n {
				t.Errorf("code %q after %d requests, %d attempts, want %q after %d", code, n, c.Outcome.Attempts, tt.code, tt.asked)
			}
			if tt.code == "" && (c.Outcome.Finish != "stop" || c.Outcome.Backend == "") {
				t.Errorf("outcome %+v", c.Outcome)
			}
			waitUntil(t, func() bool { // the loser is cancelled
				return servers[0].conns.Load()+servers[1].conns.Load()-servers[0].closed.Load()-servers[1].closed.Load() <= 1
			})
			for _, b := range u.pools[0].members() {
				waitUntil(t, func() bool { return b.peer.replica.Active() == 0 })
			}
		})
	}
}

// Once one of two attempts has begun to answer, the other's backend sees its call left: at once, while the answer is still
// being written, and ten minutes before its own would begin or end.
func TestLoserIsLeftAtOnce(t *testing.T) {
	for _, tt := range []struct{ name, order, script string }{
		{"the first, before its headers", "loser winner", "fault=hang"},
		{"the first, before its first token", "loser winner", "fault=headers-then-nothing"},
		{"the first, in its prefill", "loser winner", "ttft=10m"},
		{"the second, before its headers", "winner loser", "fault=hang"},
		{"the second, in its prefill", "winner loser", "ttft=10m"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			loser, url := backendAt(t, mock.Options{Script: tt.script})
			winner := rawBackend(t, func(c net.Conn, _ int64) {
				for began := time.Now(); loser.Stats().Running == 0 && time.Since(began) < time.Minute; {
					time.Sleep(time.Millisecond)
				}
				_, _ = io.WriteString(c, streamHead+chunked(delta(0, "yes", "")))
			})
			u := newUpstream(t, Config{
				Backends: map[string]BackendConfig{"loser": {URL: url}, "winner": {URL: winner.url}},
				Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: strings.Fields(tt.order), Balance: "round-robin", Retry: brisk, Hedge: HedgeConfig{After: time.Millisecond}, Timeouts: unhurried}},
			})
			c := newCall(t, llm.Chat, chat("x", true))
			ctx, leave := context.WithCancel(context.Background())
			defer leave() // a test that fails waits for nobody
			reply, err := u.Handle(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			waitUntil(t, func() bool { return loser.Stats().Aborted == 1 && loser.Stats().Running == 0 })
			if winner.closed.Load() != 0 || c.Outcome.Backend != "winner" || c.Outcome.Attempts != 2 || u.member("loser").peer.health.failed != 0 {
				t.Errorf("%d connections of the winner closed, outcome %+v", winner.closed.Load(), c.Outcome)
			}
			waitUntil(t, func() bool { return u.member("loser").peer.replica.Active() == 0 })
			_ = reply.Stream.Close()
			waitUntil(t, func() bool { return winner.closed.Load() == 1 })
		})
	}
}

// Second attempts are few: a pool that is slow altogether is not asked twice over.
func TestHedgesHaveABudget(t *testing.T) {
	late := func(c net.Conn, n int64) { time.Sleep(20 * time.Millisecond); well(c, n) }
	u, servers := duo(t, late, late, func(p *PoolConfig) { p.Hedge = HedgeConfig{After: time.Millisecond, Share: 0.1} })
	const calls = 60
	for range calls {
		if _, _, err := ask(t, u, chat("x", true)); err != nil {
			t.Fatal(err)
		}
	}
	n := servers[0].calls.Load() + servers[1].calls.Load() - calls
	if n < 10 || n > 10+calls/10+10 { // ten at once, the share, and one a second
		t.Errorf("%d second attempts for %d calls", n, calls)
	}
	if left := counted(u.count.hedges.WithLabelValues("p", "over_budget")); left == 0 {
		t.Error("none was left out")
	}
}

// A caller who leaves ends both attempts.
func TestLeavingEndsBothAttempts(t *testing.T) {
	u, servers := duo(t, silent, silent, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { _, err := u.Handle(ctx, newCall(t, llm.Chat, chat("x", true))); done <- err }()
	waitUntil(t, func() bool { return servers[0].calls.Load()+servers[1].calls.Load() == 2 })
	cancel()
	if err := <-done; err == nil {
		t.Error("an answer of nobody")
	}
	waitUntil(t, func() bool { return servers[0].closed.Load()+servers[1].closed.Load() == 2 })
}

// mirrored is an upstream whose pool copies its calls to a shadow.
func mirrored(t *testing.T, shadow func(net.Conn, int64), c MirrorConfig) (*Upstream, *raw, *raw) {
	t.Helper()
	main, dark := rawBackend(t, well), rawBackend(t, shadow)
	c.Pool = "shadow"
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"main": {URL: main.url}, "dark": {URL: dark.url}},
		Pools: map[string]PoolConfig{
			"main":   {Models: []string{"mock"}, Backends: []string{"main"}, Mirror: c},
			"shadow": {Models: []string{"other"}, Model: "candidate", Backends: []string{"dark"}},
		},
	})
	return u, main, dark
}

// Whatever a shadow does, its callers get the answer they would have got, and are charged for that one alone.
func TestMirrorChangesNothing(t *testing.T) {
	for name, shadow := range map[string]func(net.Conn, int64){
		"well": well, "silent": silent, "dead": hangUp, "503": status(503, "", ""),
		"endless": func(c net.Conn, _ int64) {
			_, _ = io.WriteString(c, streamHead)
			for {
				if _, err := io.WriteString(c, chunked(delta(0, "more", ""))); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			u, main, dark := mirrored(t, shadow, MirrorConfig{Share: 1, Concurrent: 4, Longest: 300 * time.Millisecond})
			for range 10 {
				c := newCall(t, llm.Chat, chat("x", true))
				reply, err := u.Handle(context.Background(), c)
				if err != nil {
					t.Fatal(err)
				}
				text, err := drain(t, reply)
				if err != nil || strings.Count(text, "yes") != 1 || c.Outcome.Backend != "main" || c.Outcome.Attempts != 1 || c.Outcome.Usage.Completion != 1 {
					t.Errorf("%q, %v, %+v", text, err, c.Outcome)
				}
			}
			if main.calls.Load() != 10 {
				t.Errorf("main was asked %d times", main.calls.Load())
			}
			waitUntil(t, func() bool { return len(u.pools[0].mirror.seats) == 0 }) // each is given up in time
			if n := dark.calls.Load(); n < 1 || n > 10 {
				t.Errorf("the shadow was asked %d times", n)
			}
		})
	}
}

func TestMirrorIsBounded(t *testing.T) {
	u, _, dark := mirrored(t, silent, MirrorConfig{Share: 1, Concurrent: 3, Longest: time.Minute})
	for range 20 {
		if _, _, err := ask(t, u, chat("x", true)); err != nil {
			t.Fatal(err)
		}
	}
	waitUntil(t, func() bool { return dark.calls.Load() == 3 })
	if n := counted(u.count.mirrored.WithLabelValues("shadow", "left_out")); n != 17 {
		t.Errorf("%v copies left out, want 17", n)
	}
	began := time.Now()
	_ = u.Close() // copies do not outlive their configuration
	if took := time.Since(began); took > 10*time.Second || len(u.pools[0].mirror.seats) != 0 {
		t.Errorf("closing took %v, %d copies left", took, len(u.pools[0].mirror.seats))
	}
}

func TestMirrorTakesItsShare(t *testing.T) {
	u, _, dark := mirrored(t, well, MirrorConfig{Share: 0.2, Concurrent: 1000, Longest: time.Minute})
	const calls = 1000
	for range calls {
		_, _, _ = ask(t, u, chat("x", true))
	}
	waitUntil(t, func() bool { return len(u.pools[0].mirror.seats) == 0 })
	if n := dark.calls.Load(); n < calls/10 || n > calls*3/10 {
		t.Errorf("%d of %d calls copied, want a fifth", n, calls)
	}
}

// A content filter's no counts, whichever of two attempts it meets, and nobody is asked to get round it.
func TestHedgesStopAtAFilter(t *testing.T) {
	no := func(wait time.Duration) func(net.Conn, int64) {
		return func(c net.Conn, n int64) {
			time.Sleep(wait)
			status(400, "", `{"error":{"message":"Filtered.","code":"content_filter"}}`)(c, n)
		}
	}
	late := func(c net.Conn, n int64) { time.Sleep(400 * time.Millisecond); well(c, n) }
	busy := func(c net.Conn, n int64) { time.Sleep(100 * time.Millisecond); status(503, "", "{}")(c, n) }
	for _, tt := range []struct {
		name        string
		first, next func(net.Conn, int64)
		code        string
	}{
		{"the second is refused, the first would answer", late, no(0), "400"},
		{"the first is refused, the second would answer", no(200 * time.Millisecond), late, "400"},
		{"the first is busy, the second refused", busy, no(200 * time.Millisecond), "400"},
		{"the second is busy, the first refused", no(300 * time.Millisecond), busy, "400"},
		{"the second is forbidden, which may be a filter's no", silent, status(403, "", ""), "bad_backend_answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, servers := duo(t, tt.first, tt.next, nil)
			code := outcomeOf(t, u, newCall(t, llm.Chat, chat("x", true)))
			if n := servers[0].calls.Load() + servers[1].calls.Load(); code != tt.code || n != 2 {
				t.Errorf("code %q after %d requests, want the filter's %q after 2", code, n, tt.code)
			}
		})
	}
}
