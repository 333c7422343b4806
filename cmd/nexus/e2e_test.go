package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/auth"
	"github.com/nexus-gateway/nexus/core/mock"
)

// thorough says that nothing may be skipped: .ci/run and `make e2e` set it.
var thorough = os.Getenv("NEXUS_E2E") != ""

var binary string

func TestMain(m *testing.M) { os.Exit(withBinary(m)) }

// withBinary builds the command once for all tests.
func withBinary(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nexus-test-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "nexus")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Printf("go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// needPlugins skips where the shipped plugins have not been built into the binary.
func needPlugins(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("../../plugins/dist/shipped.zip"); err == nil {
		return
	}
	if thorough {
		t.Fatal("the shipped plugins are not built: run make plugins")
	}
	t.Skip("SKIPPED: the shipped plugins are not built; run make plugins")
}

// A process is a running nexus.
type process struct {
	*exec.Cmd
	base, admin string
	stderr      *bytes.Buffer
	ended       chan error
}

// launch starts the binary and waits until it answers.
func launch(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	listen, admin := freePort(t), freePort(t)
	p := &process{base: "http://" + listen, admin: "http://" + admin, stderr: new(bytes.Buffer), ended: make(chan error, 1)}
	p.Cmd = exec.Command(binary, args...)
	p.Env = append(append(os.Environ(), "NEXUS_LISTEN="+listen, "NEXUS_ADMIN_LISTEN="+admin), env...)
	p.Stderr = p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() { p.stop(t) })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if response, err := http.Get(p.admin + "/ready"); err == nil {
			response.Body.Close()
			if response.StatusCode == 200 {
				return p
			}
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			t.Fatalf("nexus ended: %v\n%s", err, p.stderr)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("nexus is not ready\n%s", p.stderr)
		}
	}
}

func (p *process) stop(t *testing.T) {
	_ = p.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		if err != nil && !t.Failed() {
			t.Errorf("nexus ended with %v\n%s", err, p.stderr)
		}
		p.ended <- nil
	case <-time.After(20 * time.Second):
		_ = p.Process.Kill()
		t.Errorf("nexus did not stop\n%s", p.stderr)
	}
}

const devKey = "nx-test-development-key-000000"

func TestServeOnDefaults(t *testing.T) {
	needPlugins(t)
	p := launch(t, []string{"NEXUS_DEV_KEY=" + devKey}, "serve")
	out, err := exec.Command("curl", "-sN", p.base+"/v1/chat/completions", "-H", "Authorization: Bearer "+devKey,
		"-H", "Content-Type: application/json", "-d", `{"model":"mock-echo","stream":true,"messages":[{"role":"user","content":"제 번호는 010-2345-6789 입니다."}]}`).Output()
	if errors.Is(err, exec.ErrNotFound) && !thorough {
		t.Skip("SKIPPED: curl is not installed")
	}
	if err != nil || !strings.HasSuffix(string(out), "data: [DONE]\n\n") || strings.Contains(string(out), "6789") || !strings.Contains(string(out), "PHONE") {
		t.Errorf("curl: %v\n%s", err, out)
	}
	if !strings.Contains(p.stderr.String(), "curl -N "+p.base+"/v1/chat/completions -H 'Authorization: Bearer "+devKey+"'") {
		t.Errorf("the greeting has no curl line:\n%s", p.stderr)
	}
}

// A world is a gateway under a configuration of its own, with a backend beside it.
type world struct {
	*process
	backend           *mock.Server
	config            string
	key, poor, narrow string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	needPlugins(t)
	w := &world{}
	var err error
	w.backend, err = mock.New(mock.Options{Models: defaultModels, Tokens: 12})
	if err != nil {
		t.Fatal(err)
	}
	port, err := w.backend.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.backend.Close() })
	dir := t.TempDir()
	keys := ""
	for _, k := range []struct {
		into     *string
		id, more string
	}{{&w.key, "main", ""}, {&w.poor, "poor", "  limits: {requests_per_minute: 1}\n"}, {&w.narrow, "narrow", "  models: [mock-echo]\n"}} {
		key, entry, err := auth.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		entry.ID, entry.Tenant = k.id, "테넌트-"+k.id
		*k.into = key
		keys += entry.Paste() + k.more
	}
	write(t, filepath.Join(dir, "keys.yaml"), keys)
	write(t, filepath.Join(dir, "policy", "rules.rego"), `package nexus.access

forbidden := {"message": "not you", "code": "not_you"} if input.request.headers["x-deny-me"] == "1"
`)
	w.config = filepath.Join(dir, "nexus.yaml")
	write(t, w.config, fmt.Sprintf(`
server: {max_body: 2MiB, drain: {delay: 0s, limit: 10s}}
auth: {keys_file: keys.yaml}
backends:
  one: {kind: vllm, url: %q}
pools:
  default: {models: [mock, mock-echo, mock-embed], backends: [one]}
plugins:
  chain: [{name: pii-mask}]
policy: {dir: policy, headers: [x-deny-me]}
quota:
  limits: {default: {requests_per_minute: 10000, tokens_per_minute: 100000000}}
telemetry: {access_log: %q}
`, port.URL, filepath.Join(dir, "access.log")))
	w.process = launch(t, nil, "serve", "-c", w.config)
	return w
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

func TestReloadAndStop(t *testing.T) {
	w := newWorld(t)
	get := func(path string) string {
		response, err := http.Get(w.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.config, strings.Replace(string(text), "kind: vllm", "kinds: vllm", 1))
	waitUntil(t, func() bool {
		return strings.Contains(get("/status"), `"ok": false`) || strings.Contains(get("/status"), `"ok":false`)
	})
	if s := get("/status"); !strings.Contains(s, "nexus.yaml:5") || !strings.Contains(s, "kind") {
		t.Errorf("status does not name file, line and the nearest key:\n%s", s)
	}
	if !strings.Contains(get("/metrics"), "gateway_reload_success 0") {
		t.Error("gateway_reload_success is not 0")
	}
	write(t, w.config, string(text)+"\n")
	waitUntil(t, func() bool { return strings.Contains(get("/metrics"), "gateway_reload_success 1") })
	_ = w.Process.Signal(syscall.SIGHUP)
	waitUntil(t, func() bool { return !strings.Contains(get("/metrics"), "gateway_snapshot_generation 1\n") })

	request, _ := http.NewRequest(http.MethodPost, w.base+"/v1/chat/completions", strings.NewReader(`{"model":"mock","stream":true,"messages":[{"role":"user","content":"[[mock tokens=40 pace=25ms]]"}]}`))
	request.Header.Set("Authorization", "Bearer "+w.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = w.Process.Signal(syscall.SIGTERM)
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("a running stream did not end well under SIGTERM: %v\n…%s", err, rest[max(0, len(rest)-200):])
	}
	select {
	case err := <-w.ended:
		if err != nil {
			t.Errorf("exit: %v", err)
		}
		w.ended <- nil
	case <-time.After(5 * time.Second):
		t.Error("still running after its last stream")
	}
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, _, line, _ := runtime.Caller(1)
			t.Fatalf("line %d: waited too long", line)
		}
	}
}
