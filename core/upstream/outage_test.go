package upstream

import (
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
)

// A lamp is a server that can be switched off and on again at its address.
type lamp struct {
	t       *testing.T
	address string
	calls   atomic.Int64
	health  atomic.Int64

	mu sync.Mutex
	on *http.Server
}

func newLamp(t *testing.T) *lamp {
	l := &lamp{t: t}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.address = listener.Addr().String()
	l.serve(listener)
	t.Cleanup(l.off)
	return l
}

func (l *lamp) serve(listener net.Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &http.Server{Handler: l}
	l.on = s
	go func() { _ = s.Serve(listener) }()
}

func (l *lamp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/health":
		l.health.Add(1)
	case "/v1/models":
		_, _ = w.Write([]byte(`{"data":[{"id":"mock"}]}`))
	default:
		l.calls.Add(1)
		_, _ = w.Write([]byte(answerJSON))
	}
}

func (l *lamp) off() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.on.Close()
}

func (l *lamp) again() {
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		l.t.Error(err)
		return
	}
	l.serve(listener)
}

const callersOfLit = 4

// lit is a pool of three lamps of one kind on the usual terms, under the load of its callers until stop, which
// returns how many calls there were, how many failed, and how many attempts they took.
func lit(t *testing.T, kind string) (lamps []*lamp, u *Upstream, stop func() (calls, failed, attempts int64)) {
	cfg := Config{Backends: map[string]BackendConfig{}, Pools: map[string]PoolConfig{}}
	p := PoolConfig{Models: []string{"mock"}, Panic: 50, Timeouts: TimeoutsConfig{Connect: 2 * time.Second, Headers: 10 * time.Second}}
	p.Retry = RetryConfig{Attempts: 3, Backoff: 100 * time.Millisecond, Longest: 2 * time.Second, Share: 0.08, Floor: 1}
	for _, id := range []string{"a", "b", "c"} {
		l := newLamp(t)
		lamps = append(lamps, l)
		cfg.Backends[id] = BackendConfig{URL: "http://" + l.address, Kind: kind, Weight: 1, Health: usualHealth}
		p.Backends = append(p.Backends, id)
	}
	cfg.Pools["p"] = p
	f := NewFleet()
	u, err := New(cfg, f, NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	running(t, f)
	var calls, failed, attempts atomic.Int64
	end := make(chan struct{})
	var callers sync.WaitGroup
	for range callersOfLit {
		callers.Go(func() {
			for {
				select {
				case <-end:
					return
				case <-time.After(5 * time.Millisecond):
				}
				c := newCall(t, llm.Chat, chat("x", false))
				reply, err := u.Handle(t.Context(), c)
				calls.Add(1)
				attempts.Add(int64(c.Outcome.Attempts))
				if err != nil {
					failed.Add(1)
					t.Log(err)
					continue
				}
				_, _ = drain(t, reply)
			}
		})
	}
	return lamps, u, func() (int64, int64, int64) {
		close(end)
		callers.Wait()
		return calls.Load(), failed.Load(), attempts.Load()
	}
}

// One of three goes away, for two seconds or, where nothing may be shortened, for a minute: nobody notices, it is out
// within a second of its third failure, no call but those that try it goes there, and soon after it is back it is asked
// again. Retries add less than a tenth.
func TestOutageOfOneOfThree(t *testing.T) {
	t.Parallel()
	lasting := 2 * time.Second
	if os.Getenv("NEXUS_E2E") != "" {
		lasting = time.Minute
	}
	for _, kind := range []string{"vllm", "openai"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			outage(t, kind, lasting)
		})
	}
}

func outage(t *testing.T, kind string, lasting time.Duration) {
	lamps, u, stop := lit(t, kind)
	missed := u.count.attempts.WithLabelValues("a", "failed")
	waitUntil(t, func() bool { return lamps[0].calls.Load() > 20 })
	before := counted(missed)
	lamps[0].off()
	gone := time.Now()
	waitUntil(t, func() bool {
		return counted(missed) >= before+3 || u.member("a").peer.health.standing(time.Now()).state == stateOpen
	})
	third := time.Now()
	waitForState(t, u.member("a"), stateOpen)
	t.Logf("out after %v, %v after the third failure", time.Since(gone).Round(time.Millisecond), time.Since(third).Round(time.Millisecond))
	if took := time.Since(gone); took > time.Second || time.Since(third) > time.Second {
		t.Errorf("out after %v, want a second at most", took)
	}
	time.Sleep(lasting)
	// Those that had failed or were on their way, one a caller, and the trials: after 1, 2, 4 and then each 8 s.
	if n, most := counted(missed)-before, 3+callersOfLit+3+time.Since(gone).Seconds()/8; n > most {
		t.Errorf("%v calls went there while it was out, want %v at most", n, most)
	}
	lamps[0].again()
	back, seen := time.Now(), lamps[0].calls.Load()
	for lamps[0].calls.Load() == seen && time.Since(back) < 20*time.Second {
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(back)
	calls, failed, attempts := stop()
	t.Logf("asked again after %v; %d calls, %d attempts", took.Round(time.Millisecond), calls, attempts)
	if took > 10*time.Second {
		t.Errorf("asked again after %v, want 10 s at most", took)
	}
	if failed > 0 || attempts*10 >= calls*11 {
		t.Errorf("%d of %d calls failed, %d attempts", failed, calls, attempts)
	}
}

// C-10: one of three comes and goes in quick succession.
func TestFlapping(t *testing.T) {
	lamps, u, stop := lit(t, "vllm")
	for range 10 {
		lamps[0].off()
		time.Sleep(100 * time.Millisecond)
		lamps[0].again()
		time.Sleep(100 * time.Millisecond)
		for _, id := range []string{"b", "c"} {
			if u.member(id).peer.health.out.Load() != 0 {
				t.Errorf("%s is out", id)
			}
		}
	}
	calls, failed, attempts := stop()
	t.Logf("%d calls, %d attempts", calls, attempts)
	if failed*200 > calls || attempts*10 > calls*12 {
		t.Errorf("%d of %d calls failed, %d attempts", failed, calls, attempts)
	}
}
