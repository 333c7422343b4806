package upstream

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/setting"
)

// quick are the usual terms with questions in quick succession.
func quick() HealthConfig {
	h := usualHealth
	h.Interval, h.Timeout, h.ModelsInterval = 10*time.Millisecond, 2*time.Second, 10*time.Millisecond
	return h
}

func examined(t *testing.T, backends map[string]BackendConfig, pool PoolConfig) *Upstream {
	t.Helper()
	for id := range backends {
		pool.Backends = append(pool.Backends, id)
	}
	pool.Models, pool.Panic = []string{"*"}, 50
	u := newUpstream(t, Config{Backends: backends, Pools: map[string]PoolConfig{"p": pool}})
	running(t, u.fleet)
	return u
}

func (u *Upstream) member(id string) *backend {
	for _, b := range u.pools[0].members() {
		if b.id == id {
			return b
		}
	}
	return nil
}

func waitForState(t *testing.T, b *backend, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); b.peer.health.standing(time.Now()).state != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("state %+v, want %s", b.peer.health.standing(time.Now()), want)
		}
	}
}

// A server that says that it is ill is out at once, without a call; well again, one call tries it.
func TestProbesTakeOutAndBringBack(t *testing.T) {
	s, url := backendAt(t, mock.Options{Tokens: 3})
	u := examined(t, map[string]BackendConfig{"one": {URL: url, Health: quick()}}, PoolConfig{})
	b := u.member("one")
	waitForState(t, b, stateHealthy)
	s.SetHealth(http.StatusServiceUnavailable)
	waitForState(t, b, stateOpen)
	if got := b.peer.health.standing(time.Now()); got.cause != causeProbe || !got.until.IsZero() {
		t.Errorf("out because of %s until %v", got.cause, got.until)
	}
	if _, _, err := ask(t, u, chat("x", false)); err == nil {
		t.Error("an ill backend was asked")
	}
	s.SetHealth(0)
	waitForState(t, b, stateHalfOpen)
	if _, _, err := ask(t, u, chat("x", false)); err != nil {
		t.Error(err)
	}
	waitForState(t, b, stateSlow)
}

// One where nobody listens any more is out at once; a path that it does not know is a sign of life.
func TestProbeFindings(t *testing.T) {
	s, url := backendAt(t, mock.Options{})
	h := quick()
	h.Path = "/no/such/path"
	u := examined(t, map[string]BackendConfig{"one": {URL: url, Health: h}}, PoolConfig{})
	waitForModels(t, u.member("one"), "mock mock-echo")
	waitForState(t, u.member("one"), stateHealthy)
	_ = s.Close()
	waitForState(t, u.member("one"), stateOpen)
	if !u.member("one").peer.health.dead.Load() {
		t.Error("not known to be of no use")
	}
}

func waitForModels(t *testing.T, b *backend, want string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(10 * time.Second); got != want; time.Sleep(time.Millisecond) {
		if m := b.peer.models.Load(); m != nil {
			got = strings.Join(m.names(), " ")
		} else {
			got = ""
		}
		if time.Now().After(deadline) {
			t.Fatalf("models %q, want %q", got, want)
		}
	}
}

// A server is asked on its own terms: with its credential, its headers and under its path, and nothing is
// asked of one that is to be left alone.
func TestWhatProbesSay(t *testing.T) {
	got := make(chan *http.Request, 100)
	var other atomic.Int64
	on := func(f func(r *http.Request)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f(r)
			_, _ = io.WriteString(w, `{"data":[{"id":"m"}]}`)
		})}
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close(); <-done })
		return "http://" + l.Addr().String()
	}
	var key, header setting.Secret
	_, _ = key.UnmarshalText([]byte("sk-own")), header.UnmarshalText([]byte("v1"))
	u := examined(t, map[string]BackendConfig{
		"one": {URL: on(func(r *http.Request) {
			select {
			case got <- r:
			default:
			}
		}) + "/base/", APIKey: key, Header: map[string]setting.Secret{"X-Version": header}, Health: quick()},
		"two": {URL: on(func(*http.Request) { other.Add(1) }), Kind: "openai", Health: quick()},
	}, PoolConfig{})
	waitForModels(t, u.member("one"), "m")
	paths := make(map[string]bool)
	for len(paths) < 2 {
		r := <-got
		paths[r.URL.Path] = true
		if r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer sk-own" || r.Header.Get("X-Version") != "v1" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
	}
	if !paths["/base/health"] || !paths["/base/v1/models"] {
		t.Errorf("asked for %v", paths)
	}
	if other.Load() != 0 || u.member("two").peer.models.Load() != nil {
		t.Errorf("%d questions to one of kind openai", other.Load())
	}
}

// Only servers that list a model are asked for it: an adapter loaded on one of two.
func TestOnlyServersThatListTheModel(t *testing.T) {
	base, one := backendAt(t, mock.Options{Models: []string{"base"}, Tokens: 2})
	adapted, two := backendAt(t, mock.Options{Models: []string{"base", "lora"}, Tokens: 2})
	u := examined(t, map[string]BackendConfig{"one": {URL: one, Health: quick()}, "two": {URL: two, Health: quick()}}, PoolConfig{})
	waitForModels(t, u.member("one"), "base")
	waitForModels(t, u.member("two"), "base lora")
	for range 6 {
		if status, text, err := ask(t, u, strings.Replace(chat("x", false), "mock", "lora", 1)); status != 200 || err != nil {
			t.Fatalf("%d %s %v", status, text, err)
		}
	}
	if a, b := len(base.Requests()), len(adapted.Requests()); a != 0 || b != 6 {
		t.Errorf("%d and %d calls", a, b)
	}
	for range 6 {
		if status, _, err := ask(t, u, strings.Replace(chat("x", false), "mock", "base", 1)); status != 200 || err != nil {
			t.Fatal(status, err)
		}
	}
	if len(base.Requests()) == 0 {
		t.Error("one that lists the model was not asked")
	}
	// Nobody lists it: the backend's own words say so.
	if status, text, err := ask(t, u, strings.Replace(chat("x", false), "mock", "none", 1)); status != 404 || err != nil || !strings.Contains(text, "model_not_found") {
		t.Errorf("%d %s %v", status, text, err)
	}
}

// A server that does not tell its models, or tells nonsense, may serve anything.
func TestListingsThatTellNothing(t *testing.T) {
	for name, answer := range map[string]string{
		"not found": "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"HTML":      "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
		"no list":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"too large": "HTTP/1.1 200 OK\r\n\r\n" + `{"data":[{"id":"` + strings.Repeat("x", maxListing) + `"}]}`,
		"garbage":   "garbage\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := rawConns(t, func(b *raw, c net.Conn) {
				_, _ = c.Read(make([]byte, 4<<10))
				b.calls.Add(1)
				_, _ = io.WriteString(c, answer)
			})
			h := quick()
			h.Path = "off"
			u := examined(t, map[string]BackendConfig{"one": {URL: b.url, Health: h}}, PoolConfig{})
			waitUntil(t, func() bool { return b.calls.Load() > 2 })
			if m := u.member("one").peer.models.Load(); m != nil {
				t.Errorf("learnt %d models", len(*m))
			}
			if all, _, _ := u.pools[0].candidates(time.Now(), "any", nil, nil); len(all) != 1 {
				t.Error("it is not asked")
			}
		})
	}
}

// A probe that hangs ends with its timeout, and at once when the configuration that has it asked ends: goleak
// sees what is left behind.
func TestProbesEndWithTheirConfiguration(t *testing.T) {
	b := rawConns(t, func(_ *raw, c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	h := quick()
	h.Timeout = time.Hour
	u := examined(t, map[string]BackendConfig{"one": {URL: b.url, Health: h}}, PoolConfig{})
	waitUntil(t, func() bool { return b.conns.Load() > 0 })
	_ = u.Close()
	waitUntil(t, func() bool { return b.closed.Load() == b.conns.Load() })
}

func TestSilentProbes(t *testing.T) {
	b := rawConns(t, func(_ *raw, c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	h := quick()
	h.Timeout = 20 * time.Millisecond
	u := examined(t, map[string]BackendConfig{"one": {URL: b.url, Health: h}}, PoolConfig{})
	waitForState(t, u.member("one"), stateOpen)
	if n := b.conns.Load(); n < failuresToEject {
		t.Errorf("out after %d probes", n)
	}
}

// One that was silent once is asked again soon, however long the interval.
func TestSilenceIsLookedInto(t *testing.T) {
	b := rawConns(t, func(_ *raw, c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	h := quick()
	h.Timeout, h.Interval, h.Failures = 200*time.Millisecond, time.Hour, 2
	u := examined(t, map[string]BackendConfig{"one": {URL: b.url, Health: h}}, PoolConfig{})
	waitForState(t, u.member("one"), stateOpen)
}

// A server that does not know a model that it listed has been started with others: it is asked again.
func TestListingsAreDoubted(t *testing.T) {
	var listed atomic.Pointer[string]
	old, now := `{"data":[{"id":"mock"}]}`, `{"data":[{"id":"other"}]}`
	listed.Store(&old)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/models":
			_, _ = io.WriteString(w, *listed.Load())
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	h := quick()
	h.Path, h.ModelsInterval = "off", time.Hour
	u := examined(t, map[string]BackendConfig{"one": {URL: s.URL, Health: h}}, PoolConfig{})
	waitForModels(t, u.member("one"), "mock")
	listed.Store(&now)
	for deadline := time.Now().Add(10 * time.Second); (*u.member("one").peer.models.Load()).names()[0] != "other"; time.Sleep(10 * time.Millisecond) {
		if _, _, _ = ask(t, u, chat("x", false)); time.Now().After(deadline) {
			t.Fatal("its models are not read again")
		}
	}
}

// A server that has come back may serve other models: they are read at once.
func TestModelsOfOneThatCameBack(t *testing.T) {
	var listed atomic.Pointer[string]
	var ill atomic.Bool
	old, now := `{"data":[{"id":"mock"}]}`, `{"data":[{"id":"other"}]}`
	listed.Store(&old)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ill.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, *listed.Load())
	}))
	t.Cleanup(s.Close)
	h := quick()
	h.ModelsInterval = time.Hour
	u := examined(t, map[string]BackendConfig{"one": {URL: s.URL, Health: h}}, PoolConfig{})
	waitForModels(t, u.member("one"), "mock")
	ill.Store(true)
	waitForState(t, u.member("one"), stateOpen)
	listed.Store(&now)
	ill.Store(false)
	waitForModels(t, u.member("one"), "other")
}

// Other terms are in force at once, and those before them again when a configuration is given up.
func TestTermsOfTheNewestConfiguration(t *testing.T) {
	s, url := backendAt(t, mock.Options{})
	f := NewFleet()
	running(t, f)
	build := func(path string) *Upstream {
		h := quick()
		h.Path, h.Models = path, "off"
		u, err := New(Config{
			Backends: map[string]BackendConfig{"one": {URL: url, Kind: "openai", Weight: 1, Health: h}},
			Pools:    map[string]PoolConfig{"p": {Models: []string{"*"}, Backends: []string{"one"}}},
		}, f, NewMetrics(prometheus.NewRegistry()), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Close() })
		return u
	}
	first := build("off")
	second := build("/health")
	s.SetHealth(503)
	waitForState(t, first.member("one"), stateOpen)
	_ = second.Close() // refused, say
	waitForState(t, first.member("one"), stateHalfOpen)
}

// The gateway's own wants are nobody's fault.
func TestOurOwnFailuresAreNotCounted(t *testing.T) {
	var p pulse
	began := time.Now()
	p.beat(began)
	now := began
	for range 100 {
		now = now.Add(beat)
		p.beat(now)
	}
	if p.starved(began, now) {
		t.Error("starved while every beat is in time")
	}
	p.beat(now.Add(3 * time.Second)) // stopped for three seconds
	now = now.Add(3 * time.Second)
	if !p.starved(now.Add(-3*time.Second), now) || !p.starved(now.Add(-10*time.Second), now) || p.starved(now.Add(-30*time.Second), now) {
		t.Errorf("lost %v", p.lost(now.Add(-10*time.Second), now))
	}
	if !p.starved(now.Add(time.Second), now.Add(5*time.Second)) {
		t.Error("a beat that has not come yet says nothing")
	}
	p.beat(time.Time{})
	if p.starved(now.Add(-3*time.Second), now.Add(time.Hour)) {
		t.Error("starved without a pulse")
	}
}

// C-48: timeouts while the gateway is kept from its work take nobody out; the same timeouts else do.
func TestStarvationEjectsNobody(t *testing.T) {
	for _, starved := range []bool{true, false} {
		b := rawBackend(t, func(net.Conn, int64) {})
		u := single(t, b.url)
		u.pools[0].timeouts.Headers = 20 * time.Millisecond
		for range failuresToEject + 1 {
			if starved {
				u.fleet.pulse.beat(time.Now().Add(-time.Second)) // and none since
			}
			_, _, _ = ask(t, u, chat("x", false))
		}
		if out := u.pools[0].members()[0].peer.health.share(time.Now()) == 0; out == starved {
			t.Errorf("starved %v: out %v", starved, out)
		}
	}
}

func TestServersAreCounted(t *testing.T) {
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: "http://127.0.0.1:1"}, "two": {URL: "http://127.0.0.1:2"}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"*"}, Backends: []string{"one", "two"}}},
	})
	u.member("two").out(time.Now(), causeConnect)
	r := prometheus.NewRegistry()
	u.fleet.Register(r)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, m := range families[0].GetMetric() {
		got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
	}
	for _, id := range []string{"one", "two"} {
		for _, state := range states {
			want := 0.0
			if id == "one" && state == stateHealthy || id == "two" && state == stateOpen {
				want = 1
			}
			if n, ok := got[id+" "+state]; !ok || n != want {
				t.Errorf("%s %s: %v, want %v", id, state, n, want)
			}
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add([]byte(`{"object":"list","data":[{"id":"a","parent":null},{"id":"b"}]}`))
	f.Add([]byte(`{"data":null}`))
	f.Add([]byte(`{"data":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseListing(body)
		if (m == nil) != (err != nil) || len(m) > maxListed {
			t.Errorf("%d models, %v", len(m), err)
		}
		for name := range m {
			if len(name) > 3*len(body) {
				t.Errorf("%q is not of the body", name)
			}
		}
	})
}

var _ Resolver = (*net.Resolver)(nil)

// Over HTTP/2 a server is asked on the connection that its calls share, which stays open.
func TestProbesOverHTTP2(t *testing.T) {
	var opened, asked atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.ProtoMajor != 2 || r.Host == "" {
			t.Errorf("asked over %s as %q", r.Proto, r.Host)
		}
		_, _ = io.WriteString(w, `{"data":[{"id":"m"}]}`)
	}))
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	s.Config.Protocols = p
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	u := examined(t, map[string]BackendConfig{"one": {URL: s.URL, Protocol: "h2c", Health: quick()}}, PoolConfig{})
	waitForModels(t, u.member("one"), "m")
	waitUntil(t, func() bool { return asked.Load() > 10 })
	waitForState(t, u.member("one"), stateHealthy)
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for %d questions", n, asked.Load())
	}
}
