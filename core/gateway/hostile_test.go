package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
)

// hostileFolder holds the guest that obeys the first byte of each text, under its manifest.
func hostileFolder(t *testing.T, onError string) string {
	t.Helper()
	wasm, err := hostileGuest()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "hostile.wasm"), string(wasm))
	write(t, filepath.Join(dir, "hostile.yaml"), "name: hostile\nversion: 1.0.0\nabi: 1\nhooks: [on_request, on_text]\ndeadline: 100ms\non_error: "+onError+"\n")
	return dir
}

// hostileGuest builds it, once.
var hostileGuest = sync.OnceValues(func() ([]byte, error) { return buildGuest("../plugin/testdata/hostile") })

// buildGuest builds the guest in a folder.
func buildGuest(folder string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "nexus-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "guest.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", file, folder)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(file)
}

// TestPluginFailsInMidStream: what was let go stays, an error event ends the stream, the backend is told to stop,
// the reservation is settled, and nothing is left running.
func TestPluginFailsInMidStream(t *testing.T) {
	gone := make(chan struct{}, 100)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		text := []string{"hello", r.Header.Get("X-Order")}
		for i := 0; ; i++ {
			b, _ := json.Marshal(text[min(i, 1)])
			_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%s}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":%d}}\n\n", b, i+1)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				gone <- struct{}{}
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}))
	defer backend.Close()
	dir := t.TempDir()
	for _, tt := range []struct {
		order, onError string
		cut            bool
	}{{"T", "deny", true}, {"L", "deny", true}, {"M", "deny", true}, {"T", "allow", false}} {
		t.Run(tt.order+" "+tt.onError, func(t *testing.T) {
			access := filepath.Join(dir, tt.order+tt.onError)
			text := strings.Replace(fmt.Sprintf(minimal, backend.URL), `access_log: "off"`, fmt.Sprintf("access_log: %q", access), 1)
			text = strings.Replace(text, "url:", "headers: {X-Order: \""+tt.order+"\"}, url:", 1)
			text += fmt.Sprintf("plugins: {dir: %q, chain: [{name: hostile, directions: [reply]}]}\n", hostileFolder(t, tt.onError)) +
				"quota: {limits: {default: {tokens_per_minute: 1000000}}}\n"
			_, address, _ := run(t, text)
			goroutines := runtime.NumGoroutine()
			response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(streamed))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(response.Body)
			got, began := "", time.Now()
			for lines.Scan() && time.Since(began) < time.Second/2 {
				got += lines.Text() + "\n"
			}
			_ = response.Body.Close()
			if !strings.Contains(got, "hello") || strings.Contains(got, `"error"`) != tt.cut || strings.Contains(got, "[DONE]") {
				t.Errorf("the client got\n%.600s", got)
			}
			if tt.cut && !strings.Contains(got, "plugin_failed") {
				t.Errorf("the error does not say what failed: %s", got)
			}
			select {
			case <-gone:
			case <-time.After(2 * time.Second):
				t.Error("the backend still works")
			}
			waitFor(t, "goroutines", func() bool {
				http.DefaultClient.CloseIdleConnections()
				return runtime.NumGoroutine() <= goroutines+3
			})
			waitFor(t, "one access-log line", func() bool { return len(logLines(t, access)) == 1 })
			if line := logLines(t, access)[0]; line.TokensOut < 1 || line.TokensIn != 3 {
				t.Errorf("settled %+v", line)
			}
		})
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("waited too long: %s", what)
			return
		}
	}
}

type logLine struct {
	RequestID  string `json:"request_id"`
	TokensIn   int64  `json:"tokens_in"`
	TokensOut  int64  `json:"tokens_out"`
	ClientGone bool   `json:"client_gone"`
}

func logLines(t *testing.T, file string) (all []logLine) {
	t.Helper()
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		var l logLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, l)
	}
	return all
}

// TestLoopingPluginBesideHealthyCalls: fifty calls whose plugin loops, beside others whose plugin does not.
func TestLoopingPluginBesideHealthyCalls(t *testing.T) {
	_, url := backend(t)
	// Without the breaker, which would refuse the healthy calls of a plugin that fails for others, and with instances
	// enough that none of them waits too long.
	text := fmt.Sprintf(minimal, url) + fmt.Sprintf("plugins: {dir: %q, breaker: {failures: 0}, chain: [{name: hostile, instances: 16, directions: [request]}]}\n", hostileFolder(t, "deny"))
	_, address, _ := run(t, text)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	defer client.CloseIdleConnections()
	loop := `{"model":"mock","messages":[{"role":"user","content":"L"}]}`
	var loops, healthy sync.WaitGroup
	var slowest atomic.Int64
	began := time.Now()
	for range 50 {
		loops.Go(func() {
			status, out, err := ask(client, address, loop)
			if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(out, "plugin_failed") {
				t.Errorf("a loop: %d %s %v", status, out, err)
			}
		})
	}
	for range 20 {
		healthy.Go(func() {
			for range 5 {
				start := time.Now()
				if status, out, err := ask(client, address, whole); err != nil || status != http.StatusOK {
					t.Errorf("a healthy call: %d %s %v", status, out, err)
				}
				took := int64(time.Since(start))
				for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
				}
			}
		})
	}
	loops.Wait()
	t.Logf("50 loops of 100 ms ended after %v", time.Since(began))
	healthy.Wait()
	t.Logf("the slowest healthy call took %v", time.Duration(slowest.Load()))
}

// TestAborts leaves three hundred streams at random places (trust A8): each is charged at least what its client
// got, has one line in the access log, and leaves nothing behind.
func TestAborts(t *testing.T) {
	needPlugins(t)
	mock, url := backend(t)
	access := filepath.Join(t.TempDir(), "access.log")
	text := strings.Replace(fmt.Sprintf(minimal, url), `access_log: "off"`, fmt.Sprintf("access_log: %q", access), 1) + masking +
		"quota: {limits: {default: {requests_per_minute: 100000, tokens_per_minute: 100000000}}}\n"
	text = strings.Replace(text, "kind: vllm,", "kind: vllm, health: {failures: 0, error_rate: 0},", 1) // its many faults do not take it out
	g, address, admin := run(t, text)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	saw := map[string]int64{}
	const calls = 300
	var left atomic.Int64
	left.Store(calls)
	var callers sync.WaitGroup
	for i := range 8 {
		rnd := rand.New(rand.NewPCG(1, uint64(i)))
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				fault := []string{"none", "none", "no-usage", "die-after=20", "stall-after=10", "crlf"}[rnd.IntN(6)]
				id, n := abort(t, client, address, fault, rnd)
				mu.Lock()
				saw[id] = n
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	waitFor(t, "the backend's calls to end", func() bool { return mock.Stats().Running == 0 })
	waitFor(t, "an access-log line of each call", func() bool { return len(logLines(t, access)) >= calls })
	lines := logLines(t, access)
	if len(lines) != calls || len(saw) != calls {
		t.Errorf("%d lines for %d calls", len(lines), len(saw))
	}
	var charged, delivered int64
	for _, l := range lines {
		n, ok := saw[l.RequestID]
		if !ok || l.TokensOut < n {
			t.Errorf("%s: charged %d, delivered %d", l.RequestID, l.TokensOut, n)
		}
		charged, delivered = charged+l.TokensIn+l.TokensOut, delivered+n
	}
	t.Logf("%d calls: %d tokens charged, %d completion tokens delivered", len(lines), charged, delivered)
	if n := g.current.Load().users.Load(); n != 1 {
		t.Errorf("%d users of the snapshot", n)
	}
	_, metrics := fetch(t, "http://"+admin+"/metrics")
	settled := metric(metrics, "gateway_quota_settled_tokens_total")
	if int64(settled) != charged {
		t.Errorf("quota settled %v tokens, the access log says %d", settled, charged)
	}
	// What was reserved and not used is free again: only what was charged is missing, and this call's own part.
	response, err := client.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if n, err := strconv.ParseInt(response.Header.Get("X-Ratelimit-Remaining-Tokens"), 10, 64); err != nil || n < 100_000_000-charged-2000 {
		t.Errorf("%d tokens remain of 100000000 after %d were charged: %v", n, charged, err)
	}
	if n := metric(metrics, "gateway_streams_in_flight"); n != 0 {
		t.Errorf("%v streams in flight", n)
	}
}

func abort(t *testing.T, client *http.Client, address, fault string, rnd *rand.Rand) (id string, tokens int64) {
	body := fmt.Sprintf(`{"model":"mock","stream":true,"messages":[{"role":"user","content":"[[mock tokens=40 pace=1ms fault=%s]] 010-2345-6789"}]}`, fault)
	response, err := client.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return "", 0
	}
	defer response.Body.Close()
	events, text := llm.NewReader(response.Body, llm.Chat, 0), ""
	defer events.Release()
	for stop := rnd.IntN(50); stop > 0; stop-- {
		c, err := events.Next()
		if err != nil || c.View == nil || c.View.Error {
			break
		}
		for _, x := range c.View.Texts {
			text += string(llm.AppendText(nil, c.Data, x))
		}
		if fault == "stall-after=10" && len(strings.Fields(text)) >= 9 {
			break
		}
	}
	return response.Header.Get("X-Request-Id"), int64(len(strings.Fields(text))) // a token of the mock's is a word
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(b)
}

// metric sums a metric's series.
func metric(text, name string) (sum float64) {
	for line := range strings.Lines(text) {
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, name) && at > 0 && (line[len(name)] == '{' || line[len(name)] == ' ') {
			n, _ := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
			sum += n
		}
	}
	return sum
}
