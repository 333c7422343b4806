package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
)

// running runs a fleet until the test ends.
func running(t *testing.T, f *Fleet) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	count := NewMetrics(prometheus.NewRegistry())
	done.Go(func() { f.Run(ctx, count) })
	t.Cleanup(func() { stop(); done.Wait() })
	waitUntil(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.launch != nil
	})
}

// A server answers as one of several behind a name.
type server struct {
	*httptest.Server
	hosts   chan string // Host headers, as far as there is room
	calls   atomic.Int64
	streams chan func() // each ends a stream that runs
}

func serverOn(t *testing.T, address string) *server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	s := &server{hosts: make(chan string, 100), streams: make(chan func(), 100)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	_ = s.Server.Listener.Close()
	s.Server.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	select {
	case s.hosts <- r.Host:
	default:
	}
	s.calls.Add(1)
	if !strings.Contains(string(body), `"stream":true`) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answerJSON)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, eventText(`{"choices":[{"index":0,"delta":{"content":"a"}}]}`))
	_ = http.NewResponseController(w).Flush()
	end := make(chan struct{})
	s.streams <- sync.OnceFunc(func() { close(end) })
	<-end
	_, _ = io.WriteString(w, eventText(finished)+"data: [DONE]\n\n")
}

func (s *server) port() string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

// discovered is an Upstream with one backend of that address, found as mode says.
func discovered(t *testing.T, f *Fleet, url, mode string) *Upstream {
	t.Helper()
	return discoveredEvery(t, 20*time.Millisecond, f, url, mode)
}

func discoveredEvery(t *testing.T, interval time.Duration, f *Fleet, url, mode string) *Upstream {
	t.Helper()
	b := BackendConfig{URL: url, Kind: "openai", Weight: 1, Health: usualHealth}
	b.Discovery = DiscoveryConfig{Mode: mode, Service: "http", Interval: interval}
	u, err := New(Config{
		Backends: map[string]BackendConfig{"gpu": b},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"gpu"}, Timeouts: TimeoutsConfig{Connect: time.Second}}},
	}, f, NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

func servers(u *Upstream) (all []string) {
	for _, b := range u.pools[0].members() {
		all = append(all, b.id)
	}
	return all
}

func waitForServers(t *testing.T, u *Upstream, want ...string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !slices.Equal(servers(u), want); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("servers are %v, want %v", servers(u), want)
		}
	}
}

// Each address behind a name is a server: both are asked, under the name.
func TestAddressesAreServers(t *testing.T) {
	z := newZone(t)
	one := serverOn(t, "127.0.0.1:0")
	two := serverOn(t, "127.0.0.2:"+one.port())
	z.set("gpu.test", "127.0.0.2", "127.0.0.1", "::1")
	f := NewFleet()
	f.Resolver = z.resolver()
	u := discovered(t, f, "http://gpu.test:"+one.port(), "dns")
	if len(servers(u)) != 0 {
		t.Error("a fleet that does not run looks names up")
	}
	if _, _, err := ask(t, u, chat("x", false)); err == nil {
		t.Error("an answer from nobody")
	}
	running(t, f)
	u.Await(t.Context())
	waitForServers(t, u, "gpu/127.0.0.1:"+one.port(), "gpu/127.0.0.2:"+one.port())
	for range 20 {
		if _, _, err := ask(t, u, chat("x", false)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := one.calls.Load(), two.calls.Load(); a != 10 || b != 10 {
		t.Errorf("%d and %d calls of 20", a, b)
	}
	c := newCall(t, llm.Chat, chat("x", false))
	reply, err := u.Handle(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = drain(t, reply)
	if c.Outcome.Backend != "gpu" || "gpu/"+c.Outcome.Server != servers(u)[0] && "gpu/"+c.Outcome.Server != servers(u)[1] {
		t.Errorf("answered by %s at %s", c.Outcome.Backend, c.Outcome.Server)
	}
	if host := <-one.hosts; host != "gpu.test:"+one.port() {
		t.Errorf("asked as %q", host)
	}
}

// A server that is gone from the name gets no further calls; its stream ends whole, and then its connection
// closes. One that is new gets its share, slowly at first.
func TestServersComeAndGo(t *testing.T) {
	z := newZone(t)
	one := serverOn(t, "127.0.0.1:0")
	two := serverOn(t, "127.0.0.2:"+one.port())
	z.set("gpu.test", "127.0.0.1")
	f := NewFleet()
	f.Resolver = z.resolver()
	u := discovered(t, f, "http://gpu.test:"+one.port(), "dns")
	running(t, f)
	u.Await(t.Context())
	if _, _, err := ask(t, u, chat("x", false)); err != nil {
		t.Fatal(err)
	}
	reply, err := u.Handle(context.Background(), newCall(t, llm.Chat, chat("x", true)))
	if err != nil {
		t.Fatal(err)
	}
	leaving := u.pools[0].members()[0]

	z.set("gpu.test", "127.0.0.1", "127.0.0.2")
	waitForServers(t, u, "gpu/127.0.0.1:"+one.port(), "gpu/127.0.0.2:"+one.port())
	if s := u.pools[0].members()[1].peer.health.standing(time.Now()); s.state != stateSlow {
		t.Errorf("a new server is %s", s.state)
	}
	z.set("gpu.test", "127.0.0.2")
	waitForServers(t, u, "gpu/127.0.0.2:"+one.port())
	before := one.calls.Load()
	for range 10 {
		if _, _, err := ask(t, u, chat("x", false)); err != nil {
			t.Fatal(err)
		}
	}
	if one.calls.Load() != before || two.calls.Load() != 10 {
		t.Errorf("%d calls to the server that left, %d to the one that came", one.calls.Load()-before, two.calls.Load())
	}
	(<-one.streams)()
	if text, err := drain(t, reply); err != nil || !strings.Contains(text, "yes") || !strings.HasSuffix(text, "[DONE]\n\n") {
		t.Errorf("the stream of a server that left: %q, %v", text, err)
	}
	leaving.peer.wire.mu.Lock()
	idle := len(leaving.peer.wire.idle)
	leaving.peer.wire.mu.Unlock()
	if idle != 0 {
		t.Errorf("%d connections kept to a server that left", idle)
	}
	f.mu.Lock()
	peers := len(f.peers)
	f.mu.Unlock()
	if peers != 1 {
		t.Errorf("%d peers", peers)
	}
}

// C-45: a lookup that fails, finds nothing or gets no answer changes nothing.
func TestTheLastAnswerIsKept(t *testing.T) {
	z := newZone(t)
	one := serverOn(t, "127.0.0.1:0")
	z.set("gpu.test", "127.0.0.1")
	f := NewFleet()
	f.Resolver = z.resolver()
	u := discovered(t, f, "http://gpu.test:"+one.port(), "dns")
	running(t, f)
	u.Await(t.Context())
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"server failure", func() { z.fail(rcodeFailed, false) }},
		{"no such name", func() { z.fail(rcodeUnknown, false) }},
		{"no records", func() { z.fail(0, false); z.set("gpu.test") }},
		{"silence", func() { z.fail(0, true) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.do()
			for asks := z.asks.Load(); z.asks.Load() < asks+2; time.Sleep(time.Millisecond) {
			}
			if _, _, err := ask(t, u, chat("x", false)); err != nil {
				t.Error(err)
			}
			waitForServers(t, u, "gpu/127.0.0.1:"+one.port())
		})
	}
	// The change is followed once there is an answer again.
	serverOn(t, "127.0.0.2:"+one.port())
	z.set("gpu.test", "127.0.0.2")
	z.fail(0, false)
	waitForServers(t, u, "gpu/127.0.0.2:"+one.port())
}

// A server that cannot be reached has its name looked up at once, however long the interval.
func TestAnUnreachableServerIsLookedUp(t *testing.T) {
	z := newZone(t)
	gone := serverOn(t, "127.0.0.1:0")
	serverOn(t, "127.0.0.2:"+gone.port())
	z.set("gpu.test", "127.0.0.1")
	f := NewFleet()
	f.Resolver = z.resolver()
	u := discoveredEvery(t, time.Hour, f, "http://gpu.test:"+gone.port(), "dns")
	running(t, f)
	u.Await(t.Context())
	gone.Close()
	z.set("gpu.test", "127.0.0.2")
	if _, _, err := ask(t, u, chat("x", false)); err == nil {
		t.Error("an answer from a server that is gone")
	}
	waitForServers(t, u, "gpu/127.0.0.2:"+gone.port())
	if _, _, err := ask(t, u, chat("x", false)); err != nil {
		t.Error(err)
	}
}

// SRV: the targets of the best priority, each with its port.
func TestServices(t *testing.T) {
	z := newZone(t)
	one, two := serverOn(t, "127.0.0.1:0"), serverOn(t, "127.0.0.1:0")
	record := func(target string, s *server, priority uint16) net.SRV {
		port, _ := strconv.Atoi(s.port())
		return net.SRV{Target: target, Port: uint16(port), Priority: priority, Weight: 5}
	}
	z.set("a.gpu.test", "127.0.0.1")
	z.set("b.gpu.test", "127.0.0.1")
	z.set("c.gpu.test", "127.0.0.9") // of the second priority
	z.setServices("_http._tcp.gpu.test", record("a.gpu.test.", one, 1), record("b.gpu.test.", two, 1), record("c.gpu.test.", two, 2))
	f := NewFleet()
	f.Resolver = z.resolver()
	u := discovered(t, f, "http://gpu.test", "srv")
	running(t, f)
	u.Await(t.Context())
	want := []string{"gpu/127.0.0.1:" + one.port(), "gpu/127.0.0.1:" + two.port()}
	slices.Sort(want)
	waitForServers(t, u, want...)
	for range 4 {
		if _, _, err := ask(t, u, chat("x", false)); err != nil {
			t.Fatal(err)
		}
	}
	if one.calls.Load() != 2 || two.calls.Load() != 2 {
		t.Errorf("%d and %d calls of 4", one.calls.Load(), two.calls.Load())
	}
	// A target without an address takes nothing from the others.
	z.set("b.gpu.test")
	waitForServers(t, u, "gpu/127.0.0.1:"+one.port())
}

// IPv6 counts where there is no IPv4.
func TestOneFamily(t *testing.T) {
	z := newZone(t)
	z.set("six.test", "::1", "fe80::2")
	z.set("both.test", "::1", "127.0.0.3")
	for host, want := range map[string]string{"six.test": "[::1]:80 [fe80::2]:80", "both.test": "127.0.0.3:80", "none.test": ""} {
		got, err := resolve(t.Context(), z.resolver(), host, "80")
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, %v, want %s", host, got, err, want)
		}
	}
}

// A reload finds the servers that are known, without a lookup, and their health; the old configuration's end
// takes nothing from the new one. When the last is gone nothing is left.
func TestServersSurviveReloads(t *testing.T) {
	z := newZone(t)
	one := serverOn(t, "127.0.0.1:0")
	z.set("gpu.test", "127.0.0.1")
	f := NewFleet()
	f.Resolver = z.resolver()
	running(t, f)
	u := discovered(t, f, "http://gpu.test:"+one.port(), "dns")
	u.Await(t.Context())
	u.pools[0].members()[0].out(time.Now(), causeAnswer)
	z.fail(rcodeFailed, false)
	for range 3 {
		next := discovered(t, f, "http://gpu.test:"+one.port(), "dns")
		if want := []string{"gpu/127.0.0.1:" + one.port()}; !slices.Equal(servers(next), want) {
			t.Fatalf("servers are %v after a reload, want %v", servers(next), want)
		}
		if next.pools[0].members()[0].peer.health.share(time.Now()) != 0 {
			t.Error("a reload heals")
		}
		_ = u.Close()
		u = next
	}
	_ = u.Close()
	_ = u.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.peers) != 0 || len(f.sites) != 0 {
		t.Errorf("%d peers and %d sites are left", len(f.peers), len(f.sites))
	}
}

// Servers come and go while calls run: none fails.
func TestServersChurnUnderCalls(t *testing.T) {
	z := newZone(t)
	one := serverOn(t, "127.0.0.1:0")
	for i := 2; i <= 4; i++ {
		serverOn(t, fmt.Sprintf("127.0.0.%d:%s", i, one.port()))
	}
	z.set("gpu.test", "127.0.0.1")
	f := NewFleet()
	f.Resolver = z.resolver()
	u := discovered(t, f, "http://gpu.test:"+one.port(), "dns")
	running(t, f)
	u.Await(t.Context())
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, err := ask(t, u, chat("x", false)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 20 {
		z.set("gpu.test", fmt.Sprintf("127.0.0.%d", i%4+1), fmt.Sprintf("127.0.0.%d", (i+1)%4+1))
		for asks := z.asks.Load(); z.asks.Load() < asks+4; time.Sleep(time.Millisecond) {
		}
	}
	close(stop)
	callers.Wait()
}

// C-45 for a backend that is one server: a name that cannot be looked up leads to where it led last.
func TestANameThatIsOutLeadsWhereItLed(t *testing.T) {
	z := newZone(t)
	s := serverOn(t, "127.0.0.1:0")
	z.set("gpu.test", "127.0.0.1")
	u := single(t, "http://gpu.test:"+s.port())
	w := u.pools[0].members()[0].peer.wire
	w.link.resolver = z.resolver()
	for _, rcode := range []byte{0, rcodeFailed, rcodeUnknown, 0} {
		z.fail(rcode, false)
		if _, _, err := ask(t, u, chat("x", false)); err != nil {
			t.Errorf("answer code %d: %v", rcode, err)
		}
		w.mu.Lock()
		for _, c := range w.idle {
			_ = c.Close()
		}
		w.idle = nil
		w.mu.Unlock()
	}
	if n := s.calls.Load(); n != 4 {
		t.Errorf("%d calls of 4", n)
	}
	two := serverOn(t, "127.0.0.2:"+s.port())
	z.set("gpu.test", "127.0.0.2")
	if _, _, err := ask(t, u, chat("x", false)); err != nil || two.calls.Load() != 1 {
		t.Errorf("a name that leads elsewhere is not followed: %v", err)
	}
}

// A server found by name is asked under that name in TLS too, and its certificate must bear it.
func TestDiscoveredServersInTLS(t *testing.T) {
	z := newZone(t)
	z.set("example.com", "127.0.0.1") // which httptest's certificate bears
	z.set("other.test", "127.0.0.1")
	names := make(chan string, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answerJSON)
	}))
	s.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- h.ServerName
		return nil, nil
	}}
	s.Config.ErrorLog = quietLog()
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	savePEM(t, ca, "CERTIFICATE", s.Certificate().Raw)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for host, good := range map[string]bool{"example.com": true, "other.test": false} {
		f := NewFleet()
		f.Resolver = z.resolver()
		b := BackendConfig{URL: "https://" + host + ":" + port, Kind: "openai", Weight: 1, Health: usualHealth, TLS: TLSConfig{CA: ca}}
		b.Discovery = DiscoveryConfig{Mode: "dns", Interval: time.Hour}
		u, err := New(Config{
			Backends: map[string]BackendConfig{"gpu": b},
			Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"gpu"}, Timeouts: TimeoutsConfig{Connect: 5 * time.Second}}},
		}, f, NewMetrics(prometheus.NewRegistry()), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Close() })
		running(t, f)
		u.Await(t.Context())
		if _, _, err := ask(t, u, chat("x", false)); (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
		if name := <-names; name != host {
			t.Errorf("asked for the certificate of %q, want %s", name, host)
		}
	}
}
