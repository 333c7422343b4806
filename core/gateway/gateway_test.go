package gateway

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/plugins"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const minimal = `
server: {listen: "127.0.0.1:0", drain: {delay: 0s, limit: 5s}}
admin: {listen: "127.0.0.1:0"}
auth: {anonymous: true}
backends: {one: {kind: vllm, url: %q}}
pools: {default: {models: [mock, mock-echo], backends: [one]}}
telemetry: {access_log: "off"}
policy: {deadline: 1s} # the race detector on a busy machine is no measure of a policy
`

func backend(t *testing.T) (*mock.Server, string) {
	t.Helper()
	s, err := mock.New(mock.Options{Models: []string{"mock", "mock-echo"}, Tokens: 8})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, p.URL
}

// run starts a gateway on text and returns it with its address; it is stopped at the test's end.
func run(t *testing.T, text string) (*Gateway, string, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, file, text)
	return runFile(t, file)
}

func runFile(t *testing.T, file string) (*Gateway, string, string) {
	t.Helper()
	return runLogged(t, file, slog.New(slog.DiscardHandler))
}

func runLogged(t *testing.T, file string, log *slog.Logger) (*Gateway, string, string) {
	t.Helper()
	g, err := New(context.Background(), Options{File: file, Version: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	addresses := make(chan [2]string, 1)
	done := make(chan error, 1)
	go func() {
		done <- g.Run(ctx, func(l, a net.Addr) { addresses <- [2]string{l.String(), a.String()} })
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case at := <-addresses:
		return g, at[0], at[1]
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	panic("unreachable")
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ask(client *http.Client, address, body string) (int, string, error) {
	response, err := client.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, string(data), err
}

const (
	whole    = `{"model":"mock","messages":[{"role":"user","content":"hi"}]}`
	streamed = `{"model":"mock","stream":true,"messages":[{"role":"user","content":"hi"}]}`
)

// TestReloadHammer swaps the configuration thousands of times under load: no call fails, and what the old
// snapshots held is given back. NEXUS_RELOADS sets another number.
func TestReloadHammer(t *testing.T) {
	reloads := 10_000
	if text := os.Getenv("NEXUS_RELOADS"); text != "" {
		if _, err := fmt.Sscan(text, &reloads); err != nil {
			t.Fatal(err)
		}
	}
	_, url := backend(t)
	text := fmt.Sprintf(minimal, url)
	if _, err := fs.Stat(plugins.Shipped(), "pii-mask.wasm"); err == nil {
		text += "plugins: {chain: [{name: pii-mask, deadline: 1s}]}\n"
	}
	g, address, _ := run(t, text)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	if status, body, err := ask(client, address, whole); err != nil || status != 200 {
		t.Fatalf("before: %d %s %v", status, body, err)
	}
	goroutines, memory := baseline()

	var stop atomic.Bool
	var calls, failed atomic.Int64
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			body := []string{whole, streamed}[i%2]
			for !stop.Load() {
				calls.Add(1)
				status, answer, err := ask(client, address, body)
				if err != nil || status != 200 || i%2 == 1 && !strings.HasSuffix(answer, "data: [DONE]\n\n") {
					failed.Add(1)
					t.Errorf("status %d, err %v: %.200s", status, err, answer)
				}
			}
		})
	}
	for range reloads {
		if _, err := g.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	callers.Wait()
	client.CloseIdleConnections()
	t.Logf("%d reloads, %d calls, %d failed", reloads, calls.Load(), failed.Load())
	if got := g.current.Load().generation; got < int64(reloads) {
		t.Errorf("generation %d after %d reloads", got, reloads)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		goroutinesNow, memoryNow := baseline()
		if goroutinesNow <= goroutines+5 && memoryNow <= memory+16<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("goroutines %d → %d, heap %d → %d MiB", goroutines, goroutinesNow, memory>>20, memoryNow>>20)
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n := g.current.Load().users.Load(); n != 1 {
		t.Errorf("%d users of the current snapshot, want the gateway alone", n)
	}
}

func baseline() (goroutines int, heap uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

func TestAStreamKeepsItsSnapshot(t *testing.T) {
	_, url := backend(t)
	g, address, _ := run(t, fmt.Sprintf(minimal, url))
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"mock","stream":true,"messages":[{"role":"user","content":"[[mock tokens=30 pace=10ms]]"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	old := g.current.Load()
	if _, err := g.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := old.users.Load(); n != 1 {
		t.Errorf("%d users of the old snapshot, want the stream", n)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
		t.Errorf("the stream was cut by the reload: %v", err)
	}
	for deadline := time.Now().Add(time.Second); old.users.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the old snapshot is still held")
		}
	}
}

func TestBadConfigurations(t *testing.T) {
	_, url := backend(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "not.wasm"), "I am text")
	write(t, filepath.Join(dir, "not.yaml"), "name: not\nversion: 1.0.0\nabi: 1\nhooks: [on_text]\n")
	if err := os.Mkdir(filepath.Join(dir, "broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "broken", "x.rego"), "package nexus.routes\n\nr := {\"targets\": [input.tennant]} if true\n")
	good := fmt.Sprintf(minimal, url)
	g, address, _ := runFile(t, func() string {
		f := filepath.Join(dir, "nexus.yaml")
		write(t, f, good)
		return f
	}())
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"unknown key", strings.Replace(good, "kind:", "knd:", 1), []string{"nexus.yaml:5", "knd", "kind"}},
		{"unknown section", good + "polices: {}\n", []string{"nexus.yaml:9", "policy"}},
		{"unknown backend", strings.Replace(good, "backends: [one]", "backends: [two]", 1), []string{"nexus.yaml:6", `"two"`}},
		{"bad address", strings.Replace(good, url, "ftp://x", 1), []string{"nexus.yaml:5", "ftp://x"}},
		{"bad duration", strings.Replace(good, "5s", "5", 1), []string{"nexus.yaml:2"}},
		{"missing variable", good + "quota: {redis: {url: \"${NEXUS_TEST_NO_SUCH}\"}}\n", []string{"nexus.yaml:9", "NEXUS_TEST_NO_SUCH"}},
		{"several at once", strings.Replace(strings.Replace(good, "kind:", "knd:", 1), "models:", "modells:", 1), []string{"nexus.yaml:5", "nexus.yaml:6"}},
		{"not YAML", "server: [", []string{"nexus.yaml"}},
		{"empty", "", []string{"is empty"}},
		{"plugin that is not Wasm", good + "plugins: {chain: [{name: not, path: not.wasm}]}\n", []string{"not", "WebAssembly"}},
		{"plugin that is not there", good + "plugins: {chain: [{name: nowhere}]}\n", []string{"nowhere"}},
		{"policy with a typing error", strings.Replace(good, "{deadline: 1s}", "{dir: broken}", 1), []string{"x.rego:3", "tennant", "tenant"}},
		{"policy folder missing", strings.Replace(good, "{deadline: 1s}", "{dir: nowhere}", 1), []string{"nowhere"}},
		{"no keys", strings.Replace(good, "anonymous: true", "anonymous: false", 1), []string{"nexus.yaml:4", "nobody could call"}},
		{"keys file missing", strings.Replace(good, "anonymous: true", "keys_file: nowhere.yaml", 1), []string{"nowhere.yaml"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			write(t, filepath.Join(dir, "nexus.yaml"), tt.text)
			generation := g.current.Load().generation
			_, err := g.Reload(context.Background())
			if err == nil {
				t.Fatal("taken")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not named in:\n%v", w, err)
				}
			}
			if got := g.current.Load().generation; got != generation {
				t.Errorf("generation %d → %d", generation, got)
			}
			if status, body, err := ask(http.DefaultClient, address, whole); err != nil || status != 200 {
				t.Errorf("the running configuration suffered: %d %s %v", status, body, err)
			}
		})
	}
}

func TestReloadOnFileChange(t *testing.T) {
	_, url := backend(t)
	// A ConfigMap: nexus.yaml → ..data/nexus.yaml, ..data → a folder that is swapped whole.
	dir := t.TempDir()
	good := fmt.Sprintf(minimal, url)
	for name, text := range map[string]string{"1": good, "2": strings.Replace(good, "mock-echo", "other", 1)} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "nexus.yaml"), text)
	}
	link(t, "1", filepath.Join(dir, "..data"))
	link(t, filepath.Join("..data", "nexus.yaml"), filepath.Join(dir, "nexus.yaml"))
	g, address, _ := runFile(t, filepath.Join(dir, "nexus.yaml"))
	link(t, "2", filepath.Join(dir, "..tmp"))
	if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for g.current.Load().generation == 1 {
		if time.Since(began) > 2*time.Second {
			t.Fatal("the swap was not seen within 2 s")
		}
		time.Sleep(10 * time.Millisecond)
	}
	response, err := http.Get("http://" + address + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); !strings.Contains(string(body), `"other"`) {
		t.Errorf("models: %s", body)
	}
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

func TestAdmin(t *testing.T) {
	_, url := backend(t)
	_, _, admin := run(t, fmt.Sprintf(minimal, url))
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/live", 200, ""},
		{"GET", "/ready", 200, ""},
		{"GET", "/status", 200, `"generation"`},
		{"GET", "/status", 200, `"plugins": []`},
		{"GET", "/metrics", 200, "gateway_snapshot_generation 1"},
		{"POST", "/reload", 200, "2"},
		{"GET", "/reload", 405, ""},
		{"GET", "/nothing", 404, ""},
	} {
		r, _ := http.NewRequest(tt.method, "http://"+admin+tt.path, nil)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != tt.status || !strings.Contains(string(body), tt.want) {
			t.Errorf("%s %s: %d %.300s", tt.method, tt.path, response.StatusCode, body)
		}
	}
}

func TestStoppingIsGraceful(t *testing.T) {
	_, url := backend(t)
	text := strings.Replace(fmt.Sprintf(minimal, url), "delay: 0s", "delay: 300ms", 1)
	file := filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, file, text)
	g, err := New(context.Background(), Options{File: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	addresses, done := make(chan [2]string, 1), make(chan error, 1)
	go func() {
		done <- g.Run(ctx, func(l, a net.Addr) { addresses <- [2]string{l.String(), a.String()} })
	}()
	at := <-addresses
	defer http.DefaultClient.CloseIdleConnections()
	response, err := http.Post("http://"+at[0]+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"mock","stream":true,"messages":[{"role":"user","content":"[[mock tokens=60 pace=10ms]]"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stop()
	time.Sleep(100 * time.Millisecond)
	if ready, err := http.Get("http://" + at[1] + "/ready"); err != nil || ready.StatusCode != 503 {
		t.Errorf("ready while stopping: %v %v", ready, err)
	} else {
		ready.Body.Close()
	}
	if status, _, err := ask(http.DefaultClient, at[0], whole); err != nil || status != 200 {
		t.Errorf("a call during the delay: %d %v", status, err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
		t.Errorf("the running stream was cut: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
