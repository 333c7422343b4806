package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/mock"
	"go.uber.org/goleak"
)

// asChild makes the test binary the program that compare starts as backend and ReverseProxy.
const asChild = "NEXUS_BENCH_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

func TestHistogramIsNearlyExact(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 10, 1000, 20000} {
		var h histogram
		all := make([]time.Duration, n)
		for i := range all {
			all[i] = time.Duration(random.ExpFloat64() * float64(3*time.Millisecond))
			h.add(all[i])
		}
		slices.Sort(all)
		for _, share := range []float64{0, .5, .9, .99, .999} {
			want := all[int(share*float64(n))]
			got := h.at(share)
			if d := (got - want).Abs(); d > want/fine+1 {
				t.Errorf("%d durations: %v is %v, want %v", n, share, got, want)
			}
		}
		if h.at(1) != all[n-1] {
			t.Errorf("%d durations: the greatest is %v, want %v", n, h.at(1), all[n-1])
		}
	}
}

func FuzzSlot(f *testing.F) {
	for _, n := range []int64{0, 1, 63, 64, 65, 127, 128, 1 << 40, 1<<63 - 1, -5} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		d := max(time.Duration(n), 0)
		i := slot(time.Duration(n))
		if floor(i) > d || i+1 < len(histogram{}.counts) && floor(i+1) <= d && floor(i+1) > 0 {
			t.Errorf("%d is in slot %d, from %d to %d", n, i, floor(i), floor(i+1))
		}
	})
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{1, 3}, 2}, {[]float64{1, 2, 9}, 2}} {
		if got := median(tt.in); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestStatAndStatus(t *testing.T) {
	stat := "12 (a ) b) S 1 12 12 0 -1 4194560 1 0 0 0 150 25 3 4 20 0 1 0 9"
	if got := statCPU(stat); got != 1750*time.Millisecond {
		t.Errorf("CPU is %v, want 1.75s", got)
	}
	if got := statCPU("nothing"); got != 0 {
		t.Errorf("CPU of nothing is %v", got)
	}
	if got := schedCPU("962885 5026468 9\n"); got != 962885 {
		t.Errorf("CPU of a thread is %v, want 962885ns", got)
	}
	before := account{coarse: time.Second, fine: 999 * time.Millisecond}
	for _, tt := range []struct {
		name  string
		after account
		want  time.Duration
	}{
		{"fine within a tick", account{coarse: 1020 * time.Millisecond, fine: 1023 * time.Millisecond, slack: 40 * time.Millisecond}, 24 * time.Millisecond},
		{"a thread ended", account{coarse: 2 * time.Second, fine: 1100 * time.Millisecond, slack: 40 * time.Millisecond}, time.Second},
		{"no schedstat", account{coarse: 2 * time.Second, slack: 40 * time.Millisecond}, time.Second},
	} {
		if got := tt.after.since(before); got != tt.want {
			t.Errorf("%s: spent %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := statusLine("VmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n", "VmHWM"); got != 2<<20 {
		t.Errorf("VmHWM is %d, want 2 MiB", got)
	}
}

func TestCounterTakesAnySplit(t *testing.T) {
	const text = "data: {\"a\":1}\n\nevent: x\ndata: {}\n\n: ping\n\ndata: [DONE]\n\n"
	for size := 1; size <= len(text); size++ {
		var c counter
		seen := 0
		c.seen = func() { seen++ }
		for b := []byte(text); len(b) > 0; b = b[min(size, len(b)):] {
			c.count(b[:min(size, len(b))])
		}
		if c.n != 4 || seen != 4 || !c.done {
			t.Errorf("in pieces of %d: %d events, %d seen, done %v", size, c.n, seen, c.done)
		}
	}
}

// raw answers each connection's first request with text and closes.
func raw(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, text)
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestClientReadsAnswers(t *testing.T) {
	tests := []struct {
		name, answer string
		stream       bool
		fails        string
		events       int
	}{
		{"whole", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false, "", 0},
		{"stream", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: {}\n\r\nf\r\n\ndata: [DONE]\n\n\r\n0\r\n\r\n", true, "", 2},
		{"no done", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n0\r\n\r\n", true, "[DONE]", 1},
		{"status", "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", false, "status 503", 0},
		{"cut", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", false, "EOF", 0},
		{"cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}", false, "EOF", 0},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", false, "chunk size", 0},
		{"not HTTP", "SSH-2.0-x\r\nxxxxxxxxxxxxxxxxx\r\n", false, "no HTTP/1 answer", 0},
		{"silence", "", false, "EOF", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := client{addr: raw(t, tt.answer), request: request("/", "", "{}")}
			defer c.close()
			err := c.do(t.Context(), tt.stream)
			if (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("error %v, want %q", err, tt.fails)
			}
			if c.events.n != tt.events {
				t.Errorf("%d events, want %d", c.events.n, tt.events)
			}
		})
	}
}

// startMock runs the backend in this process.
func startMock(t *testing.T) (*mock.Server, target) {
	t.Helper()
	s, err := mock.New(backendOptions)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, target{addr: p.Addr, path: "/v1/chat/completions"}
}

func TestLoadsAgainstMock(t *testing.T) {
	s, direct := startMock(t)
	u, err := url.Parse("http://" + direct.addr)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(bareProxy(u))
	defer proxy.Close()
	proxied := direct
	proxied.addr = proxy.Listener.Addr().String()
	for _, to := range []target{direct, proxied} {
		before := s.Stats().Requests
		r := closed(t.Context(), to, prompt("", ""), 4, 100*time.Millisecond)
		if r.errors != 0 || r.calls < 4 || int64(r.calls) != s.Stats().Requests-before || r.latency.total != uint64(r.calls) {
			t.Errorf("closed: %v; the backend saw %d", r, s.Stats().Requests-before)
		}
		if r = open(t.Context(), to, prompt("", ""), 100, 200*time.Millisecond); r.errors != 0 || r.calls != 20 {
			t.Errorf("open: %v, want 20 calls", r)
		}
		r = streams(t.Context(), to, flow{streams: 5, events: 6, pace: 5 * time.Millisecond})
		if want := 5 * (6 + 3); r.errors != 0 || r.calls != 5 || r.events != want || r.late.total != 5*5 {
			t.Errorf("streams: %v; %d lateness; want %d events", r, r.late.total, want)
		}
	}
}

// TestOpenLoopOmitsNothing holds the server still for a while: the calls that were due then must show it.
func TestOpenLoopOmitsNothing(t *testing.T) {
	var began atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		began.CompareAndSwap(0, time.Now().UnixNano())
		if since := time.Since(time.Unix(0, began.Load())); since < 200*time.Millisecond {
			time.Sleep(200*time.Millisecond - since)
		}
	}))
	defer server.Close()
	r := open(t.Context(), target{addr: server.Listener.Addr().String(), path: "/"}, "{}", 100, 400*time.Millisecond)
	if r.calls != 40 || r.errors != 0 {
		t.Fatal(r)
	}
	// Half of the calls fell into the stall, and waited 100 ms of it in the mean.
	if p25 := r.latency.at(.75); p25 < 60*time.Millisecond || r.latency.most < 180*time.Millisecond {
		t.Errorf("a quarter waited %v or more, the greatest %v; want about 100ms and 200ms", p25, r.latency.most)
	}
}

func TestErrorsEndARun(t *testing.T) {
	to := target{addr: raw(t, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), path: "/"}
	r := closed(t.Context(), to, "{}", 2, 10*time.Second)
	if r.errors < maxErrors || r.errors > maxErrors+2 || r.took > 5*time.Second {
		t.Errorf("%v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := closed(ctx, to, "{}", 2, 10*time.Second); r.calls+r.errors != 0 {
		t.Errorf("a cancelled run asked: %v", r)
	}
}

func TestBounds(t *testing.T) {
	for _, args := range []string{"--rate 100000", "--conns 0", "--streams 100000", "--for 1h", "--nonsense"} {
		if err := load(t.Context(), io.Discard, strings.Fields(args)); err == nil {
			t.Errorf("load %s was accepted", args)
		}
	}
}

func TestReport(t *testing.T) {
	of := func(cpu time.Duration, calls int, proxied bool) sample {
		r := &result{calls: calls, took: time.Second}
		r.latency.add(cpu)
		return sample{result: r, cpu: cpu, proxied: proxied, peak: 20 * mega}
	}
	tb := table{scenario{title: "Whole", cols: wholeColumns}, map[string][]sample{
		"direct":       {of(0, 100, false), of(0, 100, false), of(0, 100, false)},
		"reverseproxy": {of(2*time.Millisecond, 100, true), of(4*time.Millisecond, 100, true), of(2*time.Millisecond, 100, true)},
		"nexus-a":      {of(4*time.Millisecond, 100, true), of(4*time.Millisecond, 100, true), of(3*time.Millisecond, 100, true)},
	}}
	p := &plant{skipped: []string{"nginx: not installed"}, subjects: []*subject{{name: "direct"}, {name: "reverseproxy"}, {name: "nexus-a", idle: 30 * mega}}}
	o := &options{commit: "c0ffee", command: "nexus-bench compare", profile: fullProfile}
	text := o.report(p, []table{tb})
	for _, want := range []string{
		"commit: c0ffee", "`nexus-bench compare`", "Go: go", "left out: nginx: not installed", "before any load 30 MiB", "## Whole\n",
		"| subject | calls/s | CPU µs/call | × bare |", "| direct | 100 | – | – |", "| nexus-a | 100 | 40 (30…40) | 1.50 (1.00…2.00) |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if failures([]table{tb}) != nil {
		t.Error("failures where there are none")
	}
	bad := of(0, 1, true)
	bad.errors, bad.first = 1, errors.New("odd")
	tb.samples["nexus-a"] = append(tb.samples["nexus-a"], bad)
	if err := failures([]table{tb}); err == nil || !strings.Contains(err.Error(), "odd") {
		t.Errorf("a failed call is reported as %v", err)
	}
}

// TestCompare runs the whole comparison with this test binary as backend and ReverseProxy, without nginx
// and Nexus.
func TestCompare(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	t.Setenv(asChild, "1")
	t.Setenv("TMPDIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "B.md")
	var out strings.Builder
	args := []string{"--quick", "--for", "100ms", "--nginx", "no-such-nginx", "--nexus", "no-such-nexus", "--commit", "x", "--write", file}
	if err := compare(t.Context(), &out, args); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(file)
	if err != nil || string(written) != out.String() {
		t.Errorf("written %q, %v", written, err)
	}
	for _, want := range []string{"| direct |", "| reverseproxy |", "left out: nginx", "left out: Nexus", "## 100 streams"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "nexus-bench-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestChildThatEndsIsReported(t *testing.T) {
	t.Setenv(asChild, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := launch(t.TempDir(), nil, self, "backend", "--listen", "nowhere:-1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	err = p.ready(t.Context(), func() error { return errors.New("no") })
	if err == nil || !strings.Contains(err.Error(), "listen on nowhere:-1") {
		t.Errorf("error %v does not hold what the child said", err)
	}
}

func TestNexusConfigsNameTheBackend(t *testing.T) {
	for _, s := range setups("127.0.0.1:1") {
		text := fmt.Sprintf(s.yaml, "127.0.0.1:2")
		if !strings.Contains(text, `url: "http://127.0.0.1:1"`) || !strings.Contains(text, "listen: 127.0.0.1:2") || strings.Contains(text, "%") {
			t.Errorf("%s:\n%s", s.name, text)
		}
	}
}
