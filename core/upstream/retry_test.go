package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// brisk retries without long pauses.
var brisk = RetryConfig{Attempts: 3, Backoff: 5 * time.Millisecond, Longest: 20 * time.Millisecond, RetryAfter: time.Second, Share: 0.1, Floor: 10}

// unhurried are timeouts that no machine is too slow for.
var unhurried = TimeoutsConfig{Connect: time.Minute, FirstToken: time.Minute, Between: time.Minute}

// status answers every request with a status and headers.
func status(code int, head, body string) func(net.Conn, int64) {
	return func(c net.Conn, _ int64) {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s", code, head, len(body), body)
	}
}

// well answers as was asked; tests use it for streams.
func well(c net.Conn, _ int64) {
	_, _ = io.WriteString(c, streamHead+chunked(eventText(finished))+chunked(doneText)+"0\r\n\r\n")
}

func hangUp(c net.Conn, _ int64) { _ = c.Close() }

func silent(net.Conn, int64) {}

// first answers the first n requests with bad and all others well.
func first(n int64, bad func(net.Conn, int64)) func(net.Conn, int64) {
	return func(c net.Conn, i int64) {
		if i <= n {
			bad(c, i)
			return
		}
		well(c, i)
	}
}

const overflowBody = `{"error":{"message":"This model's maximum context length is 10 tokens.","code":400}}`

// What is tried again, where, and how often: S01 to S07, S12 and S13 of the fault wall, for one pool of backends a
// (and b), and a pool with a fallback.
func TestWhatIsTriedAgain(t *testing.T) {
	busy := status(429, "Retry-After-Ms: 60\r\n", "")
	filter := status(400, "", `{"error":{"message":"Filtered.","code":"content_filter"}}`)
	for _, tt := range []struct {
		name              string
		a, b, fallback    func(net.Conn, int64) // nil: there is none
		model             string                // of the fallback's pool; empty: the same
		asked             string                // requests to those there are; several ways, as the pool may ask either of two first
		code              string                // of the refusal or the error's status; empty: an answer
		least             time.Duration
		fallbackModel     string
		first, lastResort time.Duration
	}{
		{name: "well", a: well, b: well, fallback: well, asked: "100 010"},
		{name: "429 once, waited for", a: first(1, busy), asked: "2", least: 60 * time.Millisecond},
		{name: "429 once, another is free", a: first(1, busy), b: well, asked: "11 01"},
		{name: "429 for ever", a: busy, fallback: well, asked: "31", fallbackModel: "mock"},
		{name: "429 for ever, nobody else", a: busy, asked: "3", code: "429"},
		{name: "429 with too long a wait", a: status(429, "Retry-After: 30\r\n", ""), fallback: well, asked: "11", fallbackModel: "mock"},
		{name: "500 once", a: first(1, status(500, "", "")), fallback: well, asked: "20"},
		{name: "503 for ever", a: status(503, "", ""), fallback: well, asked: "31", fallbackModel: "mock"},
		{name: "in-band 503 as the first event", a: first(1, func(c net.Conn, _ int64) {
			_, _ = io.WriteString(c, streamHead+chunked(eventText(`{"error":{"message":"full","code":503}}`))+chunked(doneText)+"0\r\n\r\n")
		}), asked: "2"},
		{name: "an empty 200", a: first(1, func(c net.Conn, _ int64) { _, _ = io.WriteString(c, streamHead+"0\r\n\r\n") }), asked: "2"},
		{name: "HTML", a: status(200, "Content-Type: text/html\r\n", "<html>"), b: well, asked: "11 01"},
		{name: "reset once", a: first(1, hangUp), asked: "2"},
		{name: "cut in the head", a: first(1, func(c net.Conn, _ int64) { _, _ = io.WriteString(c, "HTTP/1.1 20"); _ = c.Close() }), asked: "2"},
		{name: "cut before the first event", a: first(1, func(c net.Conn, _ int64) { _, _ = io.WriteString(c, streamHead); _ = c.Close() }), b: well, asked: "11 01"},
		{name: "a call that kills", a: hangUp, b: hangUp, fallback: well, asked: "110", code: "backend_unreachable"},
		{name: "silent", a: silent, fallback: well, asked: "11", first: 80 * time.Millisecond, least: 80 * time.Millisecond, fallbackModel: "mock"},
		{name: "silent, another is not", a: silent, b: well, asked: "11 01", first: 80 * time.Millisecond},
		{name: "silent, and nobody else", a: silent, asked: "1", code: "first_token_timeout", first: 50 * time.Millisecond, lastResort: 200 * time.Millisecond, least: 200 * time.Millisecond},
		{name: "too long, a larger model", a: status(400, "", overflowBody), b: status(400, "", overflowBody), fallback: well, model: "large", asked: "101 011", fallbackModel: "large"},
		{name: "too long, the same model", a: status(400, "", overflowBody), fallback: well, asked: "10", code: "400"},
		{name: "filtered", a: filter, b: filter, fallback: well, model: "large", asked: "100 010", code: "400"},
		{name: "filtered, with a status that says busy", a: status(503, "", `{"error":{"message":"Filtered.","code":"content_filter"}}`), fallback: well, asked: "10", code: "503"},
		{name: "filtered, with a status that says a wrong credential", a: status(401, "", `{"error":{"message":"Filtered.","code":"content_filter"}}`), fallback: well, asked: "10", code: "bad_backend_answer"},
		{name: "forbidden", a: status(403, "", ""), b: status(403, "", ""), fallback: well, asked: "100 010", code: "bad_backend_answer"},
		{name: "the gateway's own credential", a: status(401, "", ""), fallback: well, asked: "11", fallbackModel: "mock"},
		{name: "the caller's mistake", a: status(422, "", ""), b: status(422, "", ""), fallback: well, asked: "100 010", code: "422"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Backends: map[string]BackendConfig{}, Pools: map[string]PoolConfig{}}
			limits := fast
			if tt.first > 0 {
				limits.FirstToken, limits.LastResort = tt.first, tt.lastResort
			}
			var servers []*raw
			main := PoolConfig{Models: []string{"mock"}, Retry: brisk, Timeouts: limits}
			targets := []pipeline.Target{{Pool: "main"}}
			for i, answer := range []func(net.Conn, int64){tt.a, tt.b, tt.fallback} {
				if answer == nil {
					continue
				}
				s, id := rawBackend(t, answer), string("abf"[i])
				servers = append(servers, s)
				cfg.Backends[id] = BackendConfig{URL: s.url}
				if i < 2 {
					main.Backends = append(main.Backends, id)
					continue
				}
				cfg.Pools["fallback"] = PoolConfig{Models: []string{"other"}, Model: tt.model, Backends: []string{id}, Retry: brisk, Timeouts: limits}
				targets = append(targets, pipeline.Target{Pool: "fallback"})
			}
			cfg.Pools["main"] = main
			u := newUpstream(t, cfg)
			c := newCall(t, llm.Chat, chat("x", true))
			c.Decision.Targets = targets
			began := time.Now()
			code := outcomeOf(t, u, c)
			if took := time.Since(began); took < tt.least {
				t.Errorf("after %v, want %v at least", took, tt.least)
			}
			asked := ""
			for _, s := range servers {
				asked += fmt.Sprint(s.calls.Load())
			}
			if code != tt.code || c.Outcome.Fallback != tt.fallbackModel || !slices.Contains(strings.Fields(tt.asked), asked) {
				t.Errorf("code %q, asked %s, fallback %q; want %q, %s, %q", code, asked, c.Outcome.Fallback, tt.code, tt.asked, tt.fallbackModel)
			}
		})
	}
}

// outcomeOf makes a call and returns the refusal's code or the error's status; empty for an answer that came whole.
func outcomeOf(t *testing.T, u *Upstream, c *pipeline.Call) string {
	t.Helper()
	reply, err := u.Handle(context.Background(), c)
	if err == nil {
		_, err = drain(t, reply)
	}
	var r *pipeline.Refusal
	switch {
	case errors.As(err, &r):
		return r.Code
	case err != nil:
		t.Fatal(err)
	case reply.Status != http.StatusOK:
		return fmt.Sprint(reply.Status)
	}
	return ""
}

func TestBudget(t *testing.T) {
	b := new(savings).under(0.1, 2)
	now := time.Now()
	spend := func() (n int) {
		for b.spend(now) {
			n++
		}
		return n
	}
	if n := spend(); n != 10 {
		t.Errorf("%d retries at the start, want 10", n)
	}
	now = now.Add(1500 * time.Millisecond)
	if n := spend(); n != 3 {
		t.Errorf("%d retries after 1.5 s, want 3", n)
	}
	for range 100 {
		b.earn()
	}
	if n := spend(); n != 10 {
		t.Errorf("%d retries after 100 calls, want 10", n)
	}
	for range 10_000 {
		b.earn()
	}
	now = now.Add(time.Hour)
	if n := spend(); n != 60 {
		t.Errorf("%d retries saved up, want 60", n)
	}
	b = b.under(0, 0)
	b.earned.Store(0)
	if b.spend(now.Add(time.Hour)) {
		t.Error("a budget of nothing allows a retry")
	}
}

// Retries add less than a tenth to the load of a pool that answers nothing but 503.
func TestRetriesAreNoStorm(t *testing.T) {
	b := rawBackend(t, status(503, "", ""))
	retry := brisk
	retry.Backoff, retry.Longest, retry.Share, retry.Floor = 0, 0, 0.08, 0.001
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: b.url}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Retry: retry}},
	})
	const calls = 1000
	for range calls {
		_, _, _ = ask(t, u, chat("x", true))
		u.pools[0].members()[0].peer.health.succeed(time.Now(), time.Now())
	}
	if n := b.calls.Load(); n <= calls || n > calls*110/100 {
		t.Errorf("%d requests for %d calls", n, calls)
	}
}

// A pause is one between two attempts: how long, and when it was to be over.
type pause struct {
	d     time.Duration
	until time.Time
}

// unslept has u wait for nothing, and returns what it would have waited for.
func unslept(u *Upstream) *[]pause {
	all := new([]pause)
	u.sleep = func(ctx context.Context, d time.Duration) bool {
		*all = append(*all, pause{d, time.Now().Add(d)})
		return ctx.Err() == nil
	}
	return all
}

// A backend that was asked before is asked again after a pause that doubles up to its longest, less up to half at random,
// and no sooner than it asked for; another one is asked at once.
func TestPausesBetweenAttempts(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name     string
		answer   func(net.Conn, int64)
		backends int
		attempts int
		want     []time.Duration // each pause, or up to half less
		asked    time.Duration   // after the first answer at the earliest
	}{
		{name: "they double up to the longest", answer: status(503, "", ""), backends: 1, attempts: 6, want: []time.Duration{100 * ms, 200 * ms, 350 * ms, 350 * ms, 350 * ms}},
		{name: "a 500 alike", answer: status(500, "", ""), backends: 1, attempts: 3, want: []time.Duration{100 * ms, 200 * ms}},
		{name: "one attempt", answer: status(503, "", ""), backends: 1, attempts: 1},
		{name: "another is asked at once", answer: status(503, "", ""), backends: 2, attempts: 2},
		{name: "then one of them again", answer: status(503, "", ""), backends: 2, attempts: 3, want: []time.Duration{100 * ms}},
		{name: "it asks for longer", answer: first(1, status(503, "Retry-After: 3\r\n", "")), backends: 1, attempts: 3, want: []time.Duration{3 * time.Second}, asked: 3 * time.Second},
		{name: "so does one that is busy", answer: first(1, status(429, "Retry-After-Ms: 1500\r\n", "")), backends: 1, attempts: 3, want: []time.Duration{1500 * ms}, asked: 1500 * ms},
		{name: "it asks for less", answer: first(1, status(429, "Retry-After-Ms: 1\r\n", "")), backends: 1, attempts: 3, want: []time.Duration{100 * ms}, asked: ms},
		{name: "it asks for too long", answer: status(503, "Retry-After: 6\r\n", ""), backends: 1, attempts: 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var answered time.Time // written before the first answer is
			b := rawBackend(t, func(c net.Conn, n int64) {
				if n == 1 {
					answered = time.Now()
				}
				tt.answer(c, n)
			})
			health := usualHealth
			health.Failures, health.ErrorRate = 0, 0 // whatever it answers it stays in traffic
			cfg := Config{Backends: map[string]BackendConfig{}}
			p := PoolConfig{Models: []string{"mock"}, Timeouts: unhurried, Retry: RetryConfig{Attempts: tt.attempts, Backoff: 100 * ms, Longest: 350 * ms, RetryAfter: 5 * time.Second, Share: 1, Floor: 1}}
			for i := range tt.backends {
				id := fmt.Sprint("b", i)
				cfg.Backends[id] = BackendConfig{URL: b.url, Health: health}
				p.Backends = append(p.Backends, id)
			}
			cfg.Pools = map[string]PoolConfig{"p": p}
			u := newUpstream(t, cfg)
			pauses := unslept(u)
			_, _, _ = ask(t, u, chat("x", true))
			if len(*pauses) != len(tt.want) {
				t.Fatalf("pauses %v, want %v", *pauses, tt.want)
			}
			for i, got := range *pauses {
				if got.d > tt.want[i] || got.d < tt.want[i]/2 {
					t.Errorf("pause %d took %v, want %v or up to half less", i, got.d, tt.want[i])
				}
			}
			if tt.asked > 0 && (*pauses)[0].until.Before(answered.Add(tt.asked)) {
				t.Errorf("asked again %v after its answer, want %v", (*pauses)[0].until.Sub(answered), tt.asked)
			}
		})
	}
}

// Calls that fail together are not made again together.
func TestPausesDiffer(t *testing.T) {
	b := rawBackend(t, status(429, "", ""))
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: b.url}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: unhurried, Retry: RetryConfig{Attempts: 2, Backoff: time.Second, Longest: time.Second, Share: 1}}},
	})
	pauses := unslept(u)
	for range 64 {
		_, _, _ = ask(t, u, chat("x", true))
	}
	eighths := make(map[time.Duration]bool)
	for _, got := range *pauses {
		eighths[got.d/(time.Second/8)] = true
	}
	if len(*pauses) != 64 || len(eighths) < 4 {
		t.Errorf("%d pauses in %d eighths of a second, want 64 in all from the fourth to the last", len(*pauses), len(eighths))
	}
}

// A reload gives a pool no new budget, neither of retries nor of second attempts, whatever became of the configuration
// before; only with the last that has the pool is it forgotten.
func TestBudgetsSurviveReloads(t *testing.T) {
	f := NewFleet()
	build := func(floor float64) *Upstream {
		u, err := New(Config{
			Backends: map[string]BackendConfig{"one": {URL: "http://127.0.0.1:1", Weight: 1, Health: usualHealth}},
			Pools:    map[string]PoolConfig{"p": {Backends: []string{"one"}, Retry: RetryConfig{Share: 0.1, Floor: floor}}, "q": {Backends: []string{"one"}, Retry: RetryConfig{Floor: floor}}},
		}, f, NewMetrics(prometheus.NewRegistry()), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Close() })
		return u
	}
	now := time.Now()
	spend := func(u *Upstream) (retries, hedges int) {
		for u.pools[0].retries.spend(now) {
			retries++
		}
		for u.pools[0].hedges.spend(now) {
			hedges++
		}
		return retries, hedges
	}
	u := build(1)
	if r, h := spend(u); r != 10 || h != 10 {
		t.Fatalf("%d retries and %d second attempts, want 10", r, h)
	}
	for range 30 {
		u.pools[0].retries.earn()
	}
	refused := build(1)
	_ = refused.Close()
	next := build(2)
	_ = u.Close()
	if r, h := spend(next); r != 3 || h != 0 {
		t.Errorf("%d retries and %d second attempts after a reload, want the 3 that calls earned and none", r, h)
	}
	now = now.Add(time.Second)
	if r, h := spend(next); r != 2 || h != 1 {
		t.Errorf("%d retries and %d second attempts a second later, want the new 2 and 1", r, h)
	}
	if !next.pools[1].retries.spend(now) {
		t.Error("one pool spends another's budget")
	}
	_ = next.Close()
	if len(f.accounts) != 0 {
		t.Errorf("%d accounts are left", len(f.accounts))
	}
	if r, h := spend(build(1)); r != 10 || h != 10 {
		t.Errorf("%d retries and %d second attempts, want 10 of a pool that is new", r, h)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "2", 2 * time.Second},
		{"Retry-After", "0.5", 500 * time.Millisecond},
		{"Retry-After", "Mon, 30 Nov 2026 12:00:03 GMT", 3 * time.Second},
		{"Retry-After", "Mon, 30 Nov 2026 11:00:03 GMT", 0},
		{"Retry-After", "-1", 0},
		{"Retry-After", "NaN", 0},
		{"Retry-After", "1e300", maxRetryAfter},
		{"Retry-After", "soon", 0},
		{"Retry-After", "", 0},
		{"Retry-After-Ms", "1500", 1500 * time.Millisecond},
		{"Retry-After-Ms", "Inf", maxRetryAfter},
	} {
		h := http.Header{}
		h.Set(tt.name, tt.value)
		if got := retryAfter(h, now); got != tt.want {
			t.Errorf("%s: %q is %v, want %v", tt.name, tt.value, got, tt.want)
		}
	}
}

// A long prompt may take longer to its first token, and the last backend there is longer still.
func TestFirstTokenGrowsWithThePrompt(t *testing.T) {
	p := &pool{timeouts: TimeoutsConfig{FirstToken: 10 * time.Second, FirstPer1K: 2 * time.Second, LastResort: 60 * time.Second}}
	for _, tt := range []struct {
		bytes int
		last  bool
		want  time.Duration
	}{
		{100, false, 10050 * time.Millisecond},
		{40_000, false, 30 * time.Second},
		{400_000, false, 210 * time.Second},
		{100, true, 60 * time.Second},
		{400_000, true, 210 * time.Second},
	} {
		c := &pipeline.Call{Request: &llm.Request{Body: make([]byte, tt.bytes)}}
		got := (&try{pool: p, last: tt.last}).timeouts(c).FirstToken
		if got.Round(50*time.Millisecond) != tt.want {
			t.Errorf("%d bytes, last %v: %v, want %v", tt.bytes, tt.last, got, tt.want)
		}
	}
}

// An answer that is not streamed may take longer where nobody else is left to ask; without a bound it has none.
func TestLastAnswer(t *testing.T) {
	c := &pipeline.Call{Request: &llm.Request{}}
	for _, tt := range []struct {
		answer, lastAnswer time.Duration
		last               bool
		want               time.Duration
	}{
		{90 * time.Second, 10 * time.Minute, false, 90 * time.Second}, {90 * time.Second, 10 * time.Minute, true, 10 * time.Minute},
		{time.Hour, 10 * time.Minute, true, time.Hour}, {0, 10 * time.Minute, true, 0},
	} {
		p := &pool{timeouts: TimeoutsConfig{Answer: tt.answer, LastAnswer: tt.lastAnswer}}
		if got := (&try{pool: p, last: tt.last}).timeouts(c).Answer; got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// A stream that is fed comments alone, or a token now and then, falls below the least rate.
func TestPace(t *testing.T) {
	for _, tt := range []struct {
		name string
		each time.Duration // between events with tokens
		rate float64
		want bool
	}{
		{"fast", 100 * time.Millisecond, 0.1, false},
		{"as slow as may be", 9 * time.Second, 0.1, false},
		{"too slow", 11 * time.Second, 0.1, true},
		{"none at all", time.Hour, 0.1, true},
		{"no floor", time.Hour, 0, false},
	} {
		var p pace
		now, slow, last := time.Now(), false, time.Duration(0)
		for past := time.Duration(0); past < 5*time.Minute; past += 50 * time.Millisecond {
			slow = slow || p.slow(now.Add(past), tt.rate)
			if past-last >= tt.each {
				p.events++
				last = past
			}
		}
		if slow != tt.want {
			t.Errorf("%s: slow is %v", tt.name, slow)
		}
	}
	if f := answerFault("x", errSlow); f.late != errSlow || f.refusal.Code != "throughput_timeout" || !f.movable {
		t.Errorf("fault %+v", f)
	}
}
