package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stepped is a backend that says "_ said" in every event and goes from one to the next when it is told to.
func stepped(t *testing.T, events int) (url string, step chan struct{}) {
	t.Helper()
	step = make(chan struct{}, events)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"stream":true`) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"_ said"},"finish_reason":"stop"}]}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for range events {
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"_ said\"}}]}\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-step:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(s.Close)
	return s.URL, step
}

// replace puts a file in the place of another whole, as a careful copy does: the watch reads when it likes.
func replace(t *testing.T, name, text string) {
	t.Helper()
	write(t, name+".next", text)
	if err := os.Rename(name+".next", name); err != nil {
		t.Fatal(err)
	}
}

// TestStreamsKeepTheirModule replaces a plugin's module, then its settings, while a stream is half way: the stream is
// edited by the module it began with to its end, and every call after the swap by the new one. A bad module that is
// dropped meanwhile changes nothing for either.
func TestStreamsKeepTheirModule(t *testing.T) {
	const events = 8
	url, step := stepped(t, events)
	dir := t.TempDir()
	module, file := filepath.Join(dir, "tiny.wasm"), filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, module, string(tiny('A')))
	write(t, filepath.Join(dir, "tiny.yaml"), tinyManifest)
	setting := func(entry string) string {
		return fmt.Sprintf(minimal, url) + fmt.Sprintf("plugins: {dir: %q, cache_dir: \"\", chain: [{name: tiny, instances: 2, %s}]}\n", dir, entry)
	}
	write(t, file, setting("directions: [reply]"))
	g, address, admin := runFile(t, file)
	says := func(want string) {
		t.Helper()
		if _, out := post(t, address, "/v1/chat/completions", whole); !strings.Contains(out, want) {
			t.Errorf("a call after the swap got %s, want %q", out, want)
		}
	}
	swap := func(name, text string) { // what is reported is so for the next call
		t.Helper()
		replace(t, name, text)
		if _, err := g.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	says("A said")

	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(streamed))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	next := func(want string) { // reads the stream's next event
		t.Helper()
		for lines.Scan() {
			if lines.Text() != "" {
				break
			}
		}
		if !strings.Contains(lines.Text(), want) {
			t.Errorf("the running stream got %q, want %q: %v", lines.Text(), want, lines.Err())
		}
	}
	next("A said")

	swap(module, string(tiny('B')))
	says("B said")
	step <- struct{}{}
	next("A said")

	for _, tt := range []struct{ name, wasm, want string }{
		{"half a module", string(tiny('C'))[:40], "cannot be read"},
		{"no module", "#!/bin/sh\n", "not a WebAssembly module"},
		{"a component", "\x00asm\x0d\x00\x01\x00", "component"},
		{"another contract", strings.Replace(string(tiny('C')), "nexus_abi_1", "nexus_abi_9", 1), "speaks nexus_abi_9; this gateway speaks nexus_abi_1"},
	} {
		replace(t, module, tt.wasm)
		if _, err := g.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), `plugin: load "tiny": `) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s is refused by %v, want %q", tt.name, err, tt.want)
		}
		says("B said")
	}
	step <- struct{}{}
	next("A said")

	swap(module, string(tiny('D')))
	says("D said")
	swap(file, setting("directions: [request]"))
	says("_ said")
	swap(file, setting("directions: [reply], max_hold: 7"))
	replace(t, module, string(tiny('E'))) // and nobody says so
	waitFor(t, "the watch to see the dropped module", func() bool {
		_, out := post(t, address, "/v1/chat/completions", whole)
		return strings.Contains(out, "E said")
	})
	for range 50 {
		for _, letter := range "BE" {
			swap(module, string(tiny(byte(letter))))
			says(string(letter) + " said")
		}
	}
	for range events - 3 {
		step <- struct{}{}
		next("A said")
	}
	step <- struct{}{}
	next("finish_reason")
	next("[DONE]")
	lines.Scan() // what ends the event
	if lines.Scan() {
		t.Errorf("the stream goes on: %q", lines.Text())
	}
	waitFor(t, "the old modules' instances to be given back", func() bool {
		_, metrics := fetch(t, "http://"+admin+"/metrics")
		return metric(metrics, "gateway_plugin_instances") <= 2
	})
}
