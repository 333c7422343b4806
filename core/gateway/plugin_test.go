package gateway

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tiny is a module that speaks the plugins' contract and says the same of every text: to replace its first byte by a
// letter. It writes both each time: the host wipes away what it has read. It is small enough to be loaded thousands of times.
func tiny(letter byte) []byte {
	le := func(words ...uint32) (b []byte) {
		for _, w := range words {
			b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
		}
		return b
	}
	name := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	vector := func(id byte, items ...[]byte) []byte {
		body := append([]byte{byte(len(items))}, bytes.Join(items, nil)...)
		size := []byte{byte(len(body)&0x7f | 0x80), byte(len(body) >> 7)}
		return append(append([]byte{id}, size...), body...)
	}
	table := le(1024, 8192, 64, 32, 128, 32) // in, edits, out
	data := append([]byte{0, 0x41, 8, 0x0b, 24}, table...)
	says := "\x00\x41\xc4\x00\x41\x01\x36\x02\x00" + // the edit's end is 1
		"\x41\xcc\x00\x41\x01\x36\x02\x00" + // its length is 1
		"\x41\x80\x01\x41" + string([]byte{letter | 0x80, 0}) + "\x3a\x00\x00" + // and it puts in the letter
		"\x42\x80\x80\x80\x80\x80\x80\xc0\x00\x0b"
	module := []byte("\x00asm\x01\x00\x00\x00")
	for _, section := range [][]byte{
		vector(1, []byte("\x60\x00\x00"), []byte("\x60\x00\x01\x7f"), []byte("\x60\x02\x7f\x7f\x01\x7e")),
		vector(3, []byte{0}, []byte{1}, []byte{2}), vector(5, []byte{0, 1}),
		vector(7, append(name("memory"), 2, 0), append(name("nexus_abi_1"), 0, 0), append(name("nexus_buffers"), 0, 1), append(name("nexus_on_text"), 0, 2)),
		vector(10, []byte("\x02\x00\x0b"), []byte("\x04\x00\x41\x08\x0b"), append([]byte{byte(len(says))}, says...)),
		append([]byte{11, byte(len(data) + 1), 1}, data...),
	} {
		module = append(module, section...)
	}
	return module
}

const tinyManifest = "name: tiny\nversion: 1.0.0\nhooks: [on_text]\nmemory: 64KiB\n"

// descriptors is how many files the process has open.
func descriptors() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}

// TestPluginReloads swaps a plugin's module, and with every swap its settings, a thousand times, and with NEXUS_E2E up to
// ten thousand in twenty seconds, while calls run: each call is edited by one of the modules whole, and nothing of the old ones
// stays. NEXUS_RELOADS is another number.
func TestPluginReloads(t *testing.T) {
	reloads, most := 1000, 1000
	if os.Getenv("NEXUS_E2E") != "" {
		most = 10_000
	}
	if text := os.Getenv("NEXUS_RELOADS"); text != "" {
		_, _ = fmt.Sscan(text, &reloads)
		most = reloads
	}
	_, url := backend(t)
	dir := t.TempDir()
	module, file := filepath.Join(dir, "tiny.wasm"), filepath.Join(t.TempDir(), "nexus.yaml")
	modules := []string{string(tiny('A')), string(tiny('B'))}
	write(t, module, modules[0])
	write(t, filepath.Join(dir, "tiny.yaml"), tinyManifest)
	frame := strings.Replace(fmt.Sprintf(minimal, url), "{deadline: 1s}", "{enabled: false}", 1)
	setting := func(i int) string {
		return frame + fmt.Sprintf("plugins: {dir: %q, cache_dir: \"\", chain: [{name: tiny, directions: [request], instances: 2, max_hold: %d}]}\n", dir, 1+i%100)
	}
	write(t, file, setting(0))
	g, address, admin := runFile(t, file)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	var bad atomic.Int64
	try := func() {
		status, out, err := ask(client, address, `{"model":"mock-echo","messages":[{"role":"user","content":"_ said"}]}`)
		good := err == nil && status == http.StatusOK && (strings.Contains(out, "A said") || strings.Contains(out, "B said"))
		if !good && bad.Add(1) == 1 {
			t.Errorf("%d %v %s", status, err, out)
		}
	}
	swap := func(i int) {
		replace(t, module, modules[i%2])
		replace(t, file, setting(i))
		if _, err := g.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		swap(i)
		try()
	}
	client.CloseIdleConnections()
	time.Sleep(50 * time.Millisecond)
	goroutines, memory := baseline()
	files := descriptors()
	var stop atomic.Bool
	var calls atomic.Int64
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			for !stop.Load() {
				try()
				calls.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	began, done := time.Now(), 0
	for ; done < reloads || done < most && time.Since(began) < 20*time.Second; done++ {
		swap(done)
	}
	took := time.Since(began)
	stop.Store(true)
	callers.Wait()
	var now, open int
	var heap uint64
	waitFor(t, "goroutines, memory and files to come back", func() bool {
		client.CloseIdleConnections()
		now, heap = baseline()
		open = descriptors()
		return now <= goroutines+5 && heap <= memory+8<<20 && open <= files+5
	})
	_, metrics := fetch(t, "http://"+admin+"/metrics")
	if n := metric(metrics, "gateway_plugin_instances"); n < 1 || n > 2 {
		t.Errorf("%v instances", n)
	}
	if n := metric(metrics, "gateway_plugin_calls_total"); n < float64(calls.Load()) {
		t.Errorf("%v calls of the plugin are counted after %d calls: what closed plugins counted is lost", n, calls.Load())
	}
	t.Logf("%d plugin reloads in %v, %d calls, %d bad; goroutines %d → %d, heap %d → %d KiB, files %d → %d, on %d processors", done, took, calls.Load(), bad.Load(),
		goroutines, now, memory>>10, heap>>10, files, open, runtime.GOMAXPROCS(0))
}

// TestPluginFaults: what is wrong with a plugin is said at its line of the configuration.
func TestPluginFaults(t *testing.T) {
	_, url := backend(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tiny.wasm"), string(tiny('A')))
	const schema = "config: {type: object, additionalProperties: false, properties: {words: {type: array, items: {type: string}}}}\n"
	write(t, filepath.Join(dir, "tiny.yaml"), tinyManifest+schema)
	frame := fmt.Sprintf(minimal, url) // ends in line 8
	for _, tt := range []struct{ name, manifest, entry, want string }{
		{"a value of the config", "", "config:\n          words:\n            - a\n            - 2\n",
			`nexus.yaml:16:15: plugins.chain[0].config.words[1]: plugin: load "tiny": config.words[1]: got number, want string`},
		{"an unknown key of the config", "", "config:\n          wrods: [a]\n",
			`nexus.yaml:14:11: plugins.chain[0].config.wrods: plugin: load "tiny": config.wrods: unknown key; did you mean "words"?`},
		{"an endpoint that is none", "", "only: {routes: [chta]}\n",
			`plugins.chain[0].only.routes[0]: there is no endpoint "chta"; did you mean "chat"?; there are [chat completions embeddings responses rerank score tokenize]`},
		{"a capability that is none", "", "capabilities: [kv_incr]\n",
			`plugins.chain[0].capabilities[0]: there is no capability "kv_incr"; did you mean "kv_incr_if"?`},
		{"nobody to call", "", "capabilities: [http_call]\n",
			`plugins.chain[0].http.hosts: the capability http_call is granted, but no server is listed that it may ask: write name:port`},
		{"an unknown key", "", "isolaton: none\n", `nexus.yaml:13:9: plugins.chain[0].isolaton: unknown key; did you mean "isolation"?`},
		{"an unknown key of the manifest", tinyManifest + "hook: []\n", "deadline: 1s\n",
			`tiny.wasm's manifest:5:1: hook: unknown key; did you mean "hooks"?`},
		{"a schema that is none", tinyManifest + "config: {type: objekt}\n", "deadline: 1s\n", `tiny.wasm's manifest:5:1: config: is not a JSON Schema: config.type:`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.manifest != "" {
				write(t, filepath.Join(dir, "tiny.yaml"), tt.manifest)
			}
			file := filepath.Join(t.TempDir(), "nexus.yaml")
			write(t, file, frame+fmt.Sprintf("plugins:\n  dir: %q\n  chain:\n      - name: tiny\n        ", dir)+tt.entry)
			err := Check(context.Background(), Options{File: file, Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}
