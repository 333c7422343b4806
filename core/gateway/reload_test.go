package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/auth"
	"github.com/nexus-gateway/nexus/plugins"
)

// shippedFolder is a folder with a copy of the shipped plugin.
func shippedFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"pii-mask.wasm", "pii-mask.yaml"} {
		b, err := fs.ReadFile(plugins.Shipped(), name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(b))
	}
	return dir
}

// echoed is how the gateway's backend was asked for a phone number's sake.
func echoed(t *testing.T, address string) string {
	t.Helper()
	_, out := post(t, address, "/v1/chat/completions", `{"model":"mock-echo","messages":[{"role":"user","content":"tel 010-2345-6789"}]}`)
	return out
}

// TestPluginFiles replaces a plugin's files while calls run (trust C-22): a bad one is refused and the old one
// stays, a good one takes over.
func TestPluginFiles(t *testing.T) {
	needPlugins(t)
	_, url := backend(t)
	dir := shippedFolder(t)
	g, address, _ := run(t, fmt.Sprintf(minimal, url)+fmt.Sprintf("plugins: {dir: %q, chain: [{name: pii-mask, deadline: 5s}]}\n", dir))
	module, manifest := filepath.Join(dir, "pii-mask.wasm"), filepath.Join(dir, "pii-mask.yaml")
	good := map[string]string{}
	for _, name := range []string{module, manifest} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		good[name] = string(b)
	}
	hostile := hostileFolder(t, "deny")
	other, err := os.ReadFile(filepath.Join(hostile, "hostile.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	wasm := good[module]
	for _, tt := range []struct {
		name, file, text string
	}{
		{"no module", module, ""},
		{"half a module", module, wasm[:len(wasm)/2]},
		{"another contract", module, "\x00asm\x0d\x00\x01\x00"},
		{"another plugin", module, string(other)},
		{"no manifest", manifest, ""},
		{"a manifest of another", manifest, strings.Replace(good[manifest], "name: pii-mask", "name: other", 1)},
		{"another digest", manifest, good[manifest] + "sha256: " + strings.Repeat("0", 64) + "\n"},
		{"a hook too many", manifest, strings.Replace(good[manifest], "[on_text]", "[on_text, on_request]", 1)},
		{"too large a hold", manifest, strings.Replace(good[manifest], "max_hold: 256", "max_hold: 99999", 1)},
	} {
		write(t, tt.file, tt.text)
		generation := g.current.Load().generation
		if _, err := g.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "pii-mask") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := g.current.Load().generation; got != generation {
			t.Errorf("%s: taken", tt.name)
		}
		if out := echoed(t, address); !strings.Contains(out, "tel [PHONE]") {
			t.Errorf("%s: the old plugin is gone: %s", tt.name, out)
		}
		write(t, tt.file, good[tt.file])
	}
	if err := os.Remove(module); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Reload(context.Background()); err != nil { // the one in the binary takes its place
		t.Errorf("without the module: %v", err)
	}
	if out := echoed(t, address); !strings.Contains(out, "tel [PHONE]") {
		t.Errorf("without the module: %s", out)
	}
	write(t, module, wasm)
	generation := g.current.Load().generation
	write(t, manifest, good[manifest]+"# changed\n")
	waitFor(t, "the watch to see a good manifest", func() bool { return g.current.Load().generation > generation })
	if out := echoed(t, address); !strings.Contains(out, "tel [PHONE]") {
		t.Errorf("the new plugin: %s", out)
	}
}

// TestPolicyAndKeyFiles: a policy folder and a keys file that change count for the next call within two seconds;
// a stream that runs goes on, whatever became of its key.
func TestPolicyAndKeyFiles(t *testing.T) {
	_, url := backend(t)
	dir := t.TempDir()
	key, entry, err := auth.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	stays, second, err := auth.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	entry.ID, second.ID = "goes", "stays"
	keys, rules := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "policy", "rules.rego")
	write(t, keys, entry.Paste()+second.Paste())
	if err := os.Mkdir(filepath.Dir(rules), 0o700); err != nil {
		t.Fatal(err)
	}
	rule := "package nexus.access\n\nforbidden := {\"message\": \"no\", \"code\": \"%s\"} if input.request.headers[\"x-deny\"] == \"1\"\n"
	write(t, rules, fmt.Sprintf(rule, "first"))
	text := strings.NewReplacer("anonymous: true", "keys_file: keys.yaml", "{deadline: 1s}", "{deadline: 1s, dir: policy, headers: [x-deny]}").Replace(fmt.Sprintf(minimal, url))
	file := filepath.Join(dir, "nexus.yaml")
	write(t, file, text)
	g, address, _ := runFile(t, file)
	call := func(key, body, deny string) *http.Response {
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(body))
		r.Header = http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}, "X-Deny": {deny}}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	answer := func(key, deny string) (int, string) {
		response := call(key, whole, deny)
		defer response.Body.Close()
		b, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(b)
	}
	if status, out := answer(key, "1"); status != http.StatusForbidden || !strings.Contains(out, "first") {
		t.Errorf("before: %d %s", status, out)
	}
	stream := call(key, `{"model":"mock","stream":true,"messages":[{"role":"user","content":"[[mock tokens=60 pace=50ms]]"}]}`, "")
	defer stream.Body.Close()
	lines := bufio.NewReader(stream.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	write(t, keys, second.Paste())
	write(t, rules, fmt.Sprintf(rule, "second"))
	waitFor(t, "the key to stop working", func() bool { status, _ := answer(key, ""); return status == http.StatusUnauthorized })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a removed key worked for %v", took)
	}
	if status, out := answer(stays, "1"); status != http.StatusForbidden || !strings.Contains(out, "second") {
		t.Errorf("the changed policy: %d %s", status, out)
	}
	generation := g.current.Load().generation
	write(t, rules, "package nexus.access\n\nforbidden := {")
	if _, err := g.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "rules.rego:3") {
		t.Errorf("half a policy: %v", err)
	}
	if status, out := answer(stays, "1"); status != http.StatusForbidden || !strings.Contains(out, "second") || g.current.Load().generation != generation {
		t.Errorf("half a policy is in force: %d %s", status, out)
	}
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("the running stream was cut: %v", err)
	}
}

// TestAlternatingPlugins reloads two hundred times, or for three seconds, with plugins configured one way and the other, under load:
// each call is masked one way or the other, and what the old configurations held is given back.
func TestAlternatingPlugins(t *testing.T) {
	needPlugins(t)
	_, url := backend(t)
	file := filepath.Join(t.TempDir(), "nexus.yaml")
	frame := strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}", "{enabled: false}", 1) // compiling it is what a reload takes longest at
	texts := []string{
		frame + masking,
		frame + "plugins: {chain: [{name: pii-mask, deadline: 5s, config: {placeholder: \"<{kind}>\"}}]}\n",
		frame + "plugins: {chain: [{name: pii-mask, deadline: 5s, directions: [request], max_hold: 300}]}\n",
	}
	write(t, file, texts[0])
	g, address, admin := runFile(t, file)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	const body = `{"model":"mock-echo","stream":true,"messages":[{"role":"user","content":"tel 010-2345-6789 and more words"}]}`
	try := func() {
		status, out, err := ask(client, address, body)
		if err != nil || status != http.StatusOK || strings.Contains(out, "2345-6") || !strings.HasSuffix(out, "data: [DONE]\n\n") {
			t.Errorf("%d %v %.300s", status, err, out)
		}
	}
	for i := range 2 * len(texts) { // each has been loaded before anything is measured
		write(t, file, texts[i%len(texts)])
		if _, err := g.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		try()
	}
	client.CloseIdleConnections()
	time.Sleep(50 * time.Millisecond)
	goroutines, memory := baseline()
	var stop atomic.Bool
	var calls atomic.Int64
	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			for !stop.Load() {
				try()
				calls.Add(1)
			}
		})
	}
	began := time.Now()
	reloads := 0
	for ; reloads < 200 && time.Since(began) < 3*time.Second; reloads++ {
		write(t, file, texts[reloads%len(texts)])
		if _, err := g.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	stop.Store(true)
	callers.Wait()
	var now int
	var heap uint64
	waitFor(t, "goroutines and memory to come back", func() bool {
		client.CloseIdleConnections()
		now, heap = baseline()
		return now <= goroutines+5 && heap <= memory+16<<20
	})
	_, metrics := fetch(t, "http://"+admin+"/metrics")
	if n := metric(metrics, "gateway_plugin_instances"); n < 1 || n > 8 {
		t.Errorf("%v instances", n)
	}
	t.Logf("%d reloads in %v, %d calls; goroutines %d → %d, heap %d → %d MiB, instances %v, plugin memory %v MiB", reloads, took, calls.Load(),
		goroutines, now, memory>>20, heap>>20, metric(metrics, "gateway_plugin_instances"), metric(metrics, "gateway_plugin_memory_bytes")/(1<<20))
}
