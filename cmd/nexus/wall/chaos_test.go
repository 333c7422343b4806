package wall

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// S15: a backend is away for a minute. Nobody notices but by the name of who answers, and soon after it is
// back it is asked again.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		away func(b *backend) (back func())
	}{
		{"refused", func(b *backend) func() { b.down(); return func() { b.up(b.t, b.addr) } }},
		{"503", func(b *backend) func() { b.sick.Store(true); return func() { b.sick.Store(false) } }},
	} {
		t.Run("S15 "+tt.name, func(t *testing.T) {
			t.Parallel()
			outage(t, tt.away)
		})
	}
}

func outage(t *testing.T, away func(b *backend) func()) {
	lasting, calls := 20*time.Second, 20
	if thorough {
		lasting = 60 * time.Second
	}
	main := newBackend(t, "main", nil)
	main.script = func(x *asked) {
		if main.sick.Load() {
			status(503, "service_unavailable_error", "overloaded")(x)
			return
		}
		well(x)
	}
	spare := newBackend(t, "spare", well)
	g := start(t, "openai", main, spare, "")
	ask := func(by ...string) string {
		a := g.call(context.Background(), streamed)
		who := a.header.Get("X-Nexus-Backend")
		if !a.ok() || a.texts[0] != fullText || !slices.Contains(by, who) {
			t.Errorf("wanted an answer of %v, got %v", by, a)
		}
		return who
	}
	ask("main")
	back := away(main)
	for range calls {
		ask("spare")
		time.Sleep(lasting / time.Duration(calls))
	}
	if n := len(main.calls()) - 1; n > 6+int(lasting/(5*time.Second)) { // until it is out, and now and then whether it is back
		t.Errorf("main was asked %d times in %v while it was out", n, lasting)
	}
	back()
	returned := time.Now()
	for ask("main", "spare") != "main" {
		if time.Since(returned) > 30*time.Second {
			t.Fatal("main is not asked again within 30 s of its return")
		}
		time.Sleep(250 * time.Millisecond)
	}
	if took := time.Since(returned); took > 10*time.Second {
		t.Errorf("main was asked again after %v, want 10 s at most", took)
	}
}

// leavings are the points at which a caller leaves: what main does before it waits for that.
var leavings = []struct {
	name string
	do   script
}{
	{"before the headers", (*asked).silent},
	{"in the head", func(x *asked) { x.send("HTTP/1.1 200 OK\r\nContent-"); x.silent() }},
	{"before the first event", func(x *asked) { x.send(streamHead); x.silent() }},
	{"inside the first event", func(x *asked) { x.send(streamHead + chunk("data: {")); x.silent() }},
	{"between events", at(20, stalled)},
	{"inside an event", at(20, func(v *telling) bool { v.send(chunk("data: {")); v.silent(); return false })},
	{"before the finish", at(atFinish, stalled)},
	{"among events without end", tell(func(v *telling) {
		v.before[atFinish] = v.chatter("data: " + v.choice(`{"content":""}`, "", nil) + "\n\n")
	})},
	{"in an error's body", func(x *asked) { x.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{"); x.silent() }},
	{"after a body has begun", func(x *asked) {
		x.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		x.silent()
	}},
}

// Field note 4.1: a caller leaves at any point. The backend sees it at once and can stop its work, nothing is left
// behind, nobody else is asked in vain. It runs before the others and alone, since it measures.
func TestCallersLeave(t *testing.T) {
	spare := newBackend(t, "spare", well)
	main := newBackend(t, "main", func(x *asked) { leavings[x.body.N-1].do(x) })
	g := start(t, "openai", main, spare, "")
	baseline := g.number(t, "go_goroutines")
	const callers = 10 // at each point
	for i, l := range leavings {
		request := fmt.Sprintf(`{"model":"chat","stream":%v,"n":%d,"messages":[{"role":"user","content":"tell me"}]}`, l.name != "after a body has begun", i+1)
		var late []time.Duration
		for range callers {
			asked := len(main.calls())
			ctx, leave := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); g.call(ctx, request) }()
			waitUntil(t, 5*time.Second, l.name+": the call arrives", func() bool { return len(main.calls()) > asked })
			time.Sleep(rand.N(30 * time.Millisecond))
			left := time.Now()
			leave()
			x := main.calls()[asked]
			select {
			case <-x.gone.now:
				late = append(late, x.gone.at.Sub(left))
			case <-time.After(5 * time.Second):
				t.Errorf("%s: the backend does not see that the caller has left", l.name)
				late = append(late, 5*time.Second)
			}
			<-done
		}
		slices.Sort(late)
		t.Logf("%s: the backend sees it after %v, at most %v", l.name, ms(late[callers/2]), ms(late[callers-1]))
		if median := late[callers/2]; median > 50*time.Millisecond {
			t.Errorf("%s: the backend sees it after %v, want 50 ms at most: %v", l.name, median, late)
		}
	}
	if n := len(main.calls()); n != callers*len(leavings) || len(spare.calls()) != 0 {
		t.Errorf("main was asked %d times for %d calls, spare %d times", n, callers*len(leavings), len(spare.calls()))
	}
	waitUntil(t, 2*time.Second, "the connections are closed", func() bool { return main.open() <= 1 && main.busy() == 0 })
	waitUntil(t, 8*time.Second, "goroutines are back to what they were", func() bool { return g.number(t, "go_goroutines") <= baseline+3 })
}

// A sleeper closes a connection that has been idle for so long, as uvicorn does under vLLM and SGLang: by the
// clock, whatever may be on its way.
type sleeper struct {
	addr          string
	idle          time.Duration
	served, fresh atomic.Int64
}

func newSleeper(t *testing.T, idle time.Duration) *sleeper {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &sleeper{addr: l.Addr().String(), idle: idle}
	answer := wholeAnswer("main")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c, answer)
		}
	}()
	return s
}

func (s *sleeper) serve(c net.Conn, answer string) {
	defer c.Close()
	in := bufio.NewReader(c)
	for n := 0; ; n++ {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if strings.HasSuffix(r.URL.Path, "/completions") {
			s.served.Add(1)
			if n == 0 {
				s.fresh.Add(1)
			}
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
		_ = c.SetReadDeadline(time.Now().Add(s.idle))
	}
}

// C-09: backends close idle connections at 5 s, and calls come every 5 s, give or take 50 ms. None is lost, and none
// is asked twice. A backend that closes sooner than the gateway thinks costs nobody a call, either.
func TestKeepAliveRace(t *testing.T) {
	skipIfRacing(t)
	t.Parallel()
	for _, tt := range []struct {
		name         string
		idle, jitter time.Duration
		lanes, turns int // thorough: five times the turns
	}{
		{"closed at 5 s", 5 * time.Second, 50 * time.Millisecond, 200, 2},
		{"closed at 1 s", time.Second, 3 * time.Millisecond, 40, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if thorough {
				tt.turns *= 5
			}
			lanes(t, tt.idle, tt.jitter, tt.lanes, tt.turns)
		})
	}
}

// lanes makes each backend one call after another with the pause after which it closes the connection.
func lanes(t *testing.T, idle, jitter time.Duration, count, turns int) {
	var config strings.Builder
	fmt.Fprintf(&config, "auth: {keys: [{id: wall, sha256: %q, tenant: wall}]}\n", hash(key))
	var backends, pools strings.Builder
	sleepers := make([]*sleeper, count)
	for i := range sleepers {
		sleepers[i] = newSleeper(t, idle)
		fmt.Fprintf(&backends, "  b%d: {url: %q}\n", i, "http://"+sleepers[i].addr)
		fmt.Fprintf(&pools, "  p%d: {models: [m%d], backends: [b%d]}\n", i, i, i)
	}
	fmt.Fprintf(&config, "backends:\n%spools:\n%s", backends.String(), pools.String())
	file := filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, file, config.String())
	g := launch(t, file)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: count}}
	var failed atomic.Int64
	var running sync.WaitGroup
	for i := range count {
		running.Go(func() {
			time.Sleep(rand.N(idle / 2)) // not all at once
			for turn := range turns + 1 {
				if turn > 0 {
					time.Sleep(idle - jitter + rand.N(2*jitter))
				}
				a := g.callBy(context.Background(), client, fmt.Sprintf(`{"model":"m%d","messages":[{"role":"user","content":"tell me"}]}`, i))
				if !a.ok() || a.texts[0] != fullText {
					failed.Add(1)
					t.Errorf("lane %d, turn %d: %v", i, turn, a)
				}
			}
		})
	}
	running.Wait()
	var served, fresh int64
	for _, s := range sleepers {
		served, fresh = served+s.served.Load(), fresh+s.fresh.Load()
	}
	calls := int64(count * (turns + 1))
	if n := g.failed(t); n > 0 {
		t.Errorf("%v attempts failed, though the calls were saved", n)
	}
	t.Logf("%d calls, %d failed; the backends answered %d, %d of them as a connection's first", calls, failed.Load(), served, fresh)
	if served != calls {
		t.Errorf("the backends answered %d times for %d calls", served, calls)
	}
}

// A caller who waits hears comments, by default after 15 s. They commit the status and nothing else: what is tried
// again behind them stays unseen, and an error is told in the stream.
func TestCommentsWhileWaiting(t *testing.T) {
	t.Parallel()
	slow := func(d time.Duration, then script) script {
		return func(x *asked) {
			if x.wait(d) {
				then(x)
			}
		}
	}
	out := status(503, "service_unavailable_error", "overloaded")
	for _, tt := range []struct {
		name        string
		main, spare script
		more        string
		comments    int
		fails       bool
	}{
		{"on defaults, main too slow, spare slow", (*asked).silent, slow(8*time.Second, well), "", 1, false},
		{"two that are tried", slow(500*time.Millisecond, out), slow(500*time.Millisecond, well), "server: {keep_alive: 100ms}\n", 3, false},
		{"two that fail", slow(500*time.Millisecond, out), slow(500*time.Millisecond, out), "server: {keep_alive: 100ms}\n", 3, true},
		{"an answer that is taken up elsewhere", at(20, cut), slow(500*time.Millisecond, well), "server: {keep_alive: 100ms}\n", 3, false},
		{"switched off", slow(500*time.Millisecond, well), well, "server: {keep_alive: 0s}\n", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := &view{T: t, main: newBackend(t, "main", tt.main), spare: newBackend(t, "spare", tt.spare), streaming: true}
			v.gateway = start(t, "openai", v.main, v.spare, tt.more)
			v.answer = v.gateway.call(context.Background(), streamed)
			if v.status != 200 || v.comments < tt.comments || tt.comments == 0 && v.comments > 0 {
				t.Errorf("got %v", v.answer)
			}
			if tt.fails {
				v.failed()
			} else {
				v.complete()
			}
			v.settled()
		})
	}
}
