// Package wall drives the real binary, on its defaults and with one fallback configured, against backends
// that go wrong in every way that is known of, and judges what the caller and the backends see. It knows
// nothing of the gateway's inside: sockets, HTTP and the admin listener's numbers are all it goes by.
package wall

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// thorough says that nothing may be shortened: .ci/run and `make e2e` set it.
var thorough = os.Getenv("NEXUS_E2E") != ""

// racing says that the gateway runs under the race detector, with which its memory and time say nothing.
var racing = os.Getenv("NEXUS_WALL_RACE") != ""

// engine is the policies' setting, with racing: a hundred gateways that compile them for the other engine at once, with
// the detector, are not ready for minutes.
var engine = map[bool]string{true: ", engine: topdown"}[racing]

func skipIfRacing(t *testing.T) {
	t.Helper()
	if racing {
		t.Skip("SKIPPED: it measures, which the race detector makes nothing of")
	}
}

var binary string

func TestMain(m *testing.M) { os.Exit(withBinary(m)) }

// withBinary builds the command once for all tests, and lets the tests wait at the same time: what they do
// is nearly all waiting.
func withBinary(m *testing.M) int {
	flag.Parse()
	_ = flag.Set("test.parallel", "64")
	dir, err := os.MkdirTemp("", "nexus-wall-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "nexus")
	build := []string{"build", "-o", binary}
	if racing {
		build = append(build, "-race")
	}
	if out, err := exec.Command("go", append(build, "..")...).CombinedOutput(); err != nil {
		fmt.Printf("go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

const key = "nx-wall-key-0000000000000000000"

func hash(key string) string {
	s := sha256.Sum256([]byte(key))
	return hex.EncodeToString(s[:])
}

// A gateway is the running binary in front of two pools of one backend each: main, which the rule asks
// first, and spare, its fallback. The models they are asked for are called main-model and spare-model.
type gateway struct {
	*exec.Cmd
	base, admin string
	out         *output
	ended       chan error
}

// An output collects what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start runs the gateway with nothing configured but who may call, the backends and the fallback; more is
// for the tests of what has to be configured.
func start(t *testing.T, kind string, main, spare *backend, more string) *gateway {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy", "fallback.rego"), "package nexus.routes\n\nfallback := {\"targets\": [\"main\", \"spare\"]}\n")
	config := filepath.Join(dir, "nexus.yaml")
	write(t, config, fmt.Sprintf(`
auth: {keys: [{id: wall, sha256: %q, tenant: wall}]}
backends:
  main: {kind: %[2]s, url: %[3]q, api_key: main-credential}
  spare: {kind: %[2]s, url: %[4]q, api_key: spare-credential}
pools:
  main: {models: [chat], model: main-model, backends: [main]}
  spare: {models: [chat-spare], model: spare-model, backends: [spare]}
policy: {dir: policy%[6]s}
%[5]s`, hash(key), kind, main.url(), spare.url(), more, engine))
	return launch(t, config)
}

// launch runs the binary on a configuration until the test ends, and then sees that it stops in order.
func launch(t *testing.T, config string) *gateway {
	t.Helper()
	g := &gateway{out: new(output), ended: make(chan error, 1)}
	g.Cmd = exec.Command(binary, "serve", "-c", config)
	g.Env = append(os.Environ(), "NEXUS_LISTEN=127.0.0.1:0", "NEXUS_ADMIN_LISTEN=127.0.0.1:0")
	g.Stdout, g.Stderr = g.out, g.out
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { g.ended <- g.Wait() }()
	t.Cleanup(func() { g.stop(t) })
	for deadline := time.Now().Add(30 * time.Second); !g.listens() || !g.ready(); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-g.ended:
			g.ended <- err
			t.Fatalf("nexus ended: %v\n%s", err, g.out)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("nexus is not ready\n%s", g.out)
		}
	}
	return g
}

var listening = regexp.MustCompile(`"msg":"listening","calls":"([^"]+)","admin":"([^"]+)"`)

// listens takes the addresses from the log: no port can be kept free for a process that is yet to come.
func (g *gateway) listens() bool {
	m := listening.FindStringSubmatch(g.out.String())
	if m == nil {
		return false
	}
	g.base, g.admin = "http://"+m[1], "http://"+m[2]
	return true
}

func (g *gateway) ready() bool {
	response, err := http.Get(g.admin + "/ready")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// stop asks the gateway to stop, and to hurry; what it says and its exit tell whether all was in order.
func (g *gateway) stop(t *testing.T) {
	_ = g.Process.Signal(syscall.SIGTERM)
	time.Sleep(50 * time.Millisecond)
	_ = g.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-g.ended:
		if err != nil {
			t.Errorf("nexus ended with %v", err)
		}
		g.ended <- nil
	case <-time.After(20 * time.Second):
		_ = g.Process.Kill()
		t.Error("nexus did not stop")
	}
	if s := g.out.String(); strings.Contains(s, "panic") || strings.Contains(s, "DATA RACE") {
		t.Error("nexus panicked")
	}
	if t.Failed() {
		t.Logf("nexus said:\n%s\n%s", strings.Join(undecided.FindAllString(g.out.String(), 10), "\n"), tail(g.out.String(), 9000))
	}
}

// undecided are the lines of calls that got no decision.
var undecided = regexp.MustCompile(`.*"rule":"on_.*`)

// number reads one number of the admin listener's metrics; 0 if there is none of that name.
func (g *gateway) number(t *testing.T, name string) float64 {
	t.Helper()
	return g.sum(t, regexp.QuoteMeta(name))
}

// failed counts the attempts that did not go well.
func (g *gateway) failed(t *testing.T) float64 {
	t.Helper()
	const attempts = "gateway_upstream_attempts_total{[^}]*"
	all, well := g.sum(t, attempts+"}"), g.sum(t, attempts+`outcome="ok"[^}]*}`)
	if well == 0 {
		t.Error("no attempts are counted")
	}
	return all - well
}

// sum adds up the metrics whose names, labels and all, pattern matches.
func (g *gateway) sum(t *testing.T, pattern string) float64 {
	t.Helper()
	response, err := http.Get(g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, m := range regexp.MustCompile(`(?m)^`+pattern+` (\S+)$`).FindAllSubmatch(text, -1) {
		n, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// read reads a page of the admin listener that is JSON.
func (g *gateway) read(t *testing.T, path string, into any) {
	t.Helper()
	response, err := http.Get(g.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// waitUntil waits for what is sure to come soon.
func waitUntil(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s: not within %v", what, within)
			return
		}
	}
}
