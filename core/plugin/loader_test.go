package plugin

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/core/setting"
)

// A wasm assembles a module by hand.
type wasm struct{ sections []byte }

func (w *wasm) section(id byte, items ...string) *wasm {
	body := append([]byte{byte(len(items))}, strings.Join(items, "")...)
	w.sections = append(append(w.sections, id, byte(len(body))), body...)
	return w
}

func (w *wasm) bytes() []byte { return append([]byte("\x00asm\x01\x00\x00\x00"), w.sections...) }

func name(s string) string { return string(rune(len(s))) + s }

// exporting makes a module that exports a function of no parameters and no results under each name.
func exporting(names ...string) []byte {
	w := (&wasm{}).section(1, "\x60\x00\x00").section(3, "\x00").section(5, "\x00\x01")
	exports := []string{name("memory") + "\x02\x00"}
	for _, n := range names {
		exports = append(exports, name(n)+"\x00\x00")
	}
	return w.section(7, exports...).section(10, "\x02\x00\x0b").bytes()
}

// importing makes a module that imports a function, and speaks our contract.
func importing(module, function string, as sandbox.Signature) []byte {
	types := func(list []sandbox.Type) string {
		text := string(rune(len(list)))
		for _, t := range list {
			text += string([]byte{byte(t)})
		}
		return text
	}
	w := (&wasm{}).section(1, "\x60\x00\x00", "\x60\x00\x01\x7f", "\x60"+types(as.Params)+types(as.Results))
	return w.section(2, name(module)+name(function)+"\x00\x02").section(3, "\x00", "\x01").section(5, "\x00\x01").
		section(7, name("memory")+"\x02\x00", name("nexus_abi_1")+"\x00\x01", name("nexus_buffers")+"\x00\x02").
		section(10, "\x02\x00\x0b", "\x04\x00\x41\x08\x0b").bytes()
}

// buffered makes a module whose buffer table stands at an address.
func buffered(at string) []byte {
	w := (&wasm{}).section(1, "\x60\x00\x00", "\x60\x00\x01\x7f").section(3, "\x00", "\x01").section(5, "\x00\x01")
	return w.section(7, name("memory")+"\x02\x00", name("nexus_abi_1")+"\x00\x00", name("nexus_buffers")+"\x00\x01").
		section(10, "\x02\x00\x0b", string(rune(3+len(at)))+"\x00\x41"+at+"\x0b").bytes()
}

// starting makes a module that does something before it says where its buffers stand.
func starting(code string) []byte {
	w := (&wasm{}).section(1, "\x60\x00\x00", "\x60\x00\x01\x7f").section(3, "\x00", "\x01").section(5, "\x00\x01")
	return w.section(7, name("memory")+"\x02\x00", name("nexus_abi_1")+"\x00\x00", name("nexus_buffers")+"\x00\x01").
		section(10, "\x02\x00\x0b", string(rune(2+len(code)))+"\x00"+code+"\x0b").bytes()
}

func withoutMemory() []byte {
	w := (&wasm{}).section(1, "\x60\x00\x00", "\x60\x00\x01\x7f").section(3, "\x00", "\x01")
	return w.section(7, name("nexus_abi_1")+"\x00\x00", name("nexus_buffers")+"\x00\x01").
		section(10, "\x02\x00\x0b", "\x04\x00\x41\x00\x0b").bytes()
}

func TestLoadRefuses(t *testing.T) {
	good := folder(t)
	tests := []struct {
		name     string
		module   []byte
		manifest string
		entry    Entry
		want     string
	}{
		{name: "text file", module: []byte("hello, world"), want: `its module cannot be read: not a WebAssembly module (starts with "hello, w"); build or copy it anew: a core WebAssembly module is wanted`},
		{name: "empty file", module: []byte{}, want: `its module cannot be read: not a WebAssembly module (it is empty); build or copy it anew: a core WebAssembly module is wanted`},
		{name: "truncated", module: good["pii-mask.wasm"].Data[:1000], want: `its module cannot be read: truncated at byte 1000; build or copy it anew: a core WebAssembly module is wanted`},
		{name: "component", module: []byte("\x00asm\x0d\x00\x01\x00"), want: `its module cannot be read: a component, not a core module; build or copy it anew: a core WebAssembly module is wanted`},
		{name: "no contract", module: exporting("run"), want: `exports no nexus_abi_1: not a plugin of any contract known here; it exports memory, run: build it with an SDK of nexus_abi_1`},
		{name: "two contracts", module: exporting("nexus_abi_1", "proxy_abi_version_0_2_1"), want: `speaks several contracts at once: Proxy-Wasm, nexus_abi_1; build it for one`},
		{name: "later contract", module: exporting("nexus_abi_2"), want: "speaks nexus_abi_2; this gateway speaks nexus_abi_1: build it for that, or take a newer gateway"},
		{name: "Proxy-Wasm", module: exporting("proxy_abi_version_0_2_1"), want: `is a plugin for Proxy-Wasm, which this gateway does not run; build it for nexus_abi_1`},
		{name: "http-wasm", module: exporting("handle_request"), want: `is a plugin for http-wasm, which this gateway does not run; build it for nexus_abi_1`},
		{name: "Extism", module: (&wasm{}).section(1, "\x60\x00\x00").section(2, name("extism:host/env")+name("input_length")+"\x00\x00").bytes(), want: `is a plugin for Extism, which this gateway does not run; build it for nexus_abi_1`},
		{name: "no buffers", module: exporting("nexus_abi_1"), want: "exports no nexus_buffers, which says where its buffers stand: export it as a function () → (i32), or build it with an SDK, which does"},
		{name: "wrong signature", module: exporting("nexus_abi_1", "nexus_buffers"), want: "exports nexus_buffers as function () → (), but it must be a function () → (i32): correct its signature, or take the SDK's"},
		{name: "wrong signature of a hook", module: exporting("nexus_abi_1", "nexus_on_usage"), want: "exports nexus_on_usage as function () → (), but it must be a function (i32) → (i64): correct its signature, or take the SDK's"},
		{name: "unknown host function", module: importing("nexus", "htp_call", signature(nil)), want: `imports nexus.htp_call, which this gateway does not have; did you mean "http_call"?; it has log, label_get, label_set, call_get, model_set, pool_set, kv_get, kv_incr_if, vault_put, metric, now_ms, random, http_call: import one of those, or take a newer gateway`},
		{name: "unknown host module", module: importing("env", "abort", signature(nil)), want: `imports env.abort, which no host function is; those of this gateway are in the module nexus: build it without that import`},
		{name: "import without its capability", module: importing("nexus", "log", signature(nil)), want: `imports nexus.log without asking for the capability "log" in its manifest: name it among the manifest's capabilities, or build it without that import`},
		{name: "table outside its memory", module: buffered("\xff\xff\x03"), manifest: "name: p", want: `nexus_buffers says that its table stands at 65535, which is outside its memory: correct what it returns`},
		{name: "table of nothing", module: buffered("\x08"), manifest: "name: p", want: `its in buffer is 0 bytes long; it must be 4096 to 16777216: correct the table that nexus_buffers returns`},
		{name: "no manifest", module: exporting("nexus_abi_1"), manifest: "-", want: `read its manifest, which must lie beside the module: open p.yaml: file does not exist: put p.yaml there`},
		{name: "manifest of another", module: exporting("nexus_abi_1"), manifest: "name: other", want: `its manifest is that of "other": name the plugin so in the chain and its files, or take its own manifest`},
		{name: "unknown key in the manifest", module: exporting("nexus_abi_1"), manifest: "name: p\nhook: []", want: "p.wasm's manifest: yaml: unmarshal errors:\n  line 2: field hook not found in type plugin.Manifest"},
		{name: "unknown hook", module: exporting("nexus_abi_1"), manifest: "name: p\nhooks: [on_bytes]", want: `p.wasm's manifest: [{hooks[0] there is no hook "on_bytes"; there are [on_end on_request on_text on_tool_call on_usage]}]`},
		{name: "later contract in the manifest", module: exporting("nexus_abi_1"), manifest: "name: p\nabi: 2", want: `p.wasm's manifest: [{abi is 2; this gateway speaks 1}]`},
		{name: "wrong digest", module: exporting("nexus_abi_1"), manifest: "name: p\nsha256: " + strings.Repeat("0", 64), want: `the manifest promises sha256 0000000000000000000000000000000000000000000000000000000000000000, but the module has 3df624b809c209652fa31f397f0a8b2493ecaf7d11dfcb5e2b6b34dbe4f2a18c: they are of two builds; take both from one, or correct the digest`},
		{name: "digest that is none", module: exporting("nexus_abi_1"), manifest: "name: p\nsha256: abc", want: `p.wasm's manifest: [{sha256 is not 64 hexadecimal digits}]`},
		{name: "capability not granted", module: exporting("nexus_abi_1"), manifest: "name: p\ncapabilities: [log]", want: `its manifest asks for the capability "log", which is not granted: add it to the plugin's capabilities if it may have it`},
		{name: "capability that is none", module: exporting("nexus_abi_1"), manifest: "name: p\ncapabilities: [root]", want: `p.wasm's manifest: [{capabilities[0] there is no capability "root"; did you mean "pool"?; there are [answer call_get headers http_call kv_get kv_incr_if label_get label_set log metric model now_ms pool random system vault_put]}]`},
		{name: "hooks do not agree", module: good["pii-mask.wasm"].Data, manifest: "name: p\nhooks: [on_request]", want: `its manifest names the hooks [on_request], but the module exports [on_text]: name those that it exports`},
		{name: "configuration it refuses", module: good["pii-mask.wasm"].Data, manifest: "name: p\nhooks: [on_text]\nkinds: [A, B, C, D, E]", entry: Entry{Config: map[string]any{"kindz": 1}}, want: `refuses its configuration: unknown key kindz: write kinds, placeholder or mode`},
		{name: "reason fit for a log", module: good["hostile.wasm"].Data, manifest: "name: p\nhooks: [on_request, on_text]", entry: Entry{Config: map[string]any{"a": 1}}, want: "refuses its configuration: no such\ufffd[31m setting"},
		{name: "no memory", module: withoutMemory(), want: `exports no memory, where its texts would be put: export it under the name memory`},
		{name: "traps when it starts", module: starting("\x00"), want: "it fails before its first call; correct what it does when it starts and in nexus_configure: sandbox: call nexus_buffers: trap: wasm error: unreachable\nwasm stack trace:\n\t.$3() i32"},
		{name: "recurses when it starts", module: starting("\x10\x01"), want: `it fails before its first call; let it recurse less when it starts and in nexus_configure: sandbox: call nexus_buffers: depth: too many nested calls: the limit is 4096`},
		{name: "a tail call", module: starting("\x12\x01"), want: `its module does not run here; correct it or build it anew, for WebAssembly 2.0 without later proposals: sandbox: load p: function 1: opcode 0x12 at byte 78: tail calls`},
		{name: "a body of another type", module: starting(""), want: "its module does not run here; correct it or build it anew, for WebAssembly 2.0 without later proposals: sandbox: load p: invalid function[1] export[\"nexus_buffers\"]: not enough results\n\thave ()\n\twant (i32)"},
		{name: "takes no configuration", module: parrot(), manifest: "name: p\nhooks: [on_text]", entry: Entry{Config: map[string]any{"a": 1}}, want: `takes no configuration, but was given one: leave config out of its entry of the chain`},
		{name: "memory too small", module: good["pii-mask.wasm"].Data, manifest: "name: p\nhooks: [on_text]\nmemory: 64KiB", want: `its memory begins with 3008 KiB, but it may have 64 KiB: raise memory in its manifest or in its entry of the chain, or build it to begin with less`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.manifest == "" {
				tt.manifest = "name: p"
			}
			files := fstest.MapFS{"p.wasm": {Data: tt.module}, "p.yaml": {Data: []byte(tt.manifest)}}
			if tt.manifest == "-" {
				delete(files, "p.yaml")
			}
			tt.entry.Name = "p"
			l := loader(t, files)
			_, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{tt.entry}})
			if got := strings.TrimPrefix(fmt.Sprint(err), `plugin: load "p": `); got != tt.want {
				t.Fatalf("got\n%s\nwant\n%s", got, tt.want)
			}
			if len(l.live) != 0 {
				t.Error("something stayed loaded")
			}
		})
	}
}

func TestLoadNoSuchPlugin(t *testing.T) {
	l := loader(t, folder(t))
	_, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "pii"}}})
	if err == nil || !strings.Contains(err.Error(), "there is no pii.wasm in the folder, which holds hostile.wasm, pii-mask.wasm, second.wasm") {
		t.Errorf("got %v", err)
	}
	empty := loader(t, fstest.MapFS{})
	_, err = empty.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "pii"}}})
	if err == nil || !strings.Contains(err.Error(), "make plugins") {
		t.Errorf("got %v", err)
	}
}

func TestLoadFromFolders(t *testing.T) {
	files, dir := folder(t), t.TempDir()
	for name, f := range files {
		if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := loader(t, fstest.MapFS{"parrot.wasm": {Data: parrot()}, "parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]")}})
	for _, c := range []Config{
		{Dir: dir, Chain: []Entry{{Name: "pii-mask"}}},
		{Dir: dir, Chain: []Entry{{Name: "pii-mask"}, {Name: "parrot"}}}, // the folder need not hold what is shipped
		{Chain: []Entry{{Name: "mine", Path: filepath.Join(dir, "pii-mask.wasm")}}},
	} {
		c.CacheDir = cacheDir(t)
		s, err := l.Load(context.Background(), &c)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNowhereToCache: without a directory to be had, plugins are compiled all the same; one that was named and
// cannot be had is an error.
func TestNowhereToCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", file)
	files := fstest.MapFS{"parrot.wasm": {Data: parrot()}, "parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]")}}
	l := loader(t, files)
	s, err := l.Load(context.Background(), &Config{CacheDir: "auto", Chain: []Entry{{Name: "parrot"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Load(context.Background(), &Config{CacheDir: file, Chain: []Entry{{Name: "parrot"}}}); err == nil {
		t.Error("a file was taken for the cache directory")
	}
}

func TestNoPlugins(t *testing.T) {
	s, err := loader(t, nil).Load(context.Background(), &Config{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Stage() != nil {
		t.Error("a stage of nothing")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestReloads loads the same chain again and again under traffic: nothing is compiled twice, nothing leaks,
// and no call fails (Envoy #27336).
func TestReloads(t *testing.T) {
	l := loader(t, folder(t))
	c := &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "pii-mask"}}}
	current, err := l.Load(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	pool := current.plugins[0].pool
	before := runtime.NumGoroutine()
	var lock sync.RWMutex
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	for range 4 {
		traffic.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				lock.RLock()
				_, got, err := handle(t, current.Stage(), llm.Completions, `{"model":"m","prompt":"kim@x.io"}`)
				lock.RUnlock()
				if err != nil || got != `{"model":"m","prompt":"[EMAIL]"}` {
					t.Errorf("got %s, %v", got, err)
					return
				}
			}
		})
	}
	start := time.Now()
	for range 10000 {
		next, err := l.Load(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		lock.Lock()
		old := current
		current = next
		lock.Unlock()
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("10,000 reloads in %v", time.Since(start))
	close(stop)
	traffic.Wait()
	if current.plugins[0].pool != pool || current.plugins[0].refs != 1 || len(l.live) != 1 {
		t.Errorf("an unchanged plugin was loaded anew, or is counted wrongly: %d uses, %d plugins", current.plugins[0].refs, len(l.live))
	}
	if err := current.Close(); err != nil {
		t.Error(err)
	}
	if err := current.Close(); err != nil {
		t.Error(err)
	}
	if len(l.live) != 0 {
		t.Error("a plugin stayed after its last set")
	}
	if after := runtime.NumGoroutine(); after > before+1 {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

func TestChangedSettingsAreAnotherPlugin(t *testing.T) {
	l := loader(t, folder(t))
	load := func(e Entry) *Set {
		e.Name = "pii-mask"
		s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{e}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	a, b := load(Entry{}), load(Entry{Config: map[string]any{"mode": "report"}})
	if a.plugins[0] == b.plugins[0] {
		t.Error("another configuration, but the same plugin")
	}
	if c := load(Entry{}); c.plugins[0] != a.plugins[0] {
		t.Error("the same configuration, but another plugin")
	}
}

// TestFailedLoadChangesNothing: a set that cannot be had leaves what is loaded as it was (C-22).
func TestFailedLoadChangesNothing(t *testing.T) {
	files := folder(t)
	files["bad.wasm"], files["bad.yaml"] = &fstest.MapFile{Data: []byte("x")}, &fstest.MapFile{Data: []byte("name: bad")}
	l := loader(t, files)
	s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "pii-mask"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	live := maps.Clone(l.live)
	if _, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "pii-mask"}, {Name: "second"}, {Name: "bad"}}}); err == nil {
		t.Fatal("a text file was loaded")
	}
	if !maps.Equal(l.live, live) || s.plugins[0].refs != 1 {
		t.Error("the failed load left something behind")
	}
	if _, got, err := handle(t, s.Stage(), llm.Completions, `{"model":"m","prompt":"kim@x.io"}`); err != nil || !strings.Contains(got, "[EMAIL]") {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	l, err := NewLoader(Options{Shipped: folder(t), Decode: decode, Register: registry})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "hostile"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, prompt := range []string{"fine", "T", "fine"} {
		_, _, _ = handle(t, s.Stage(), llm.Completions, `{"model":"m","prompt":"`+prompt+`"}`)
	}
	got := figures(t, registry)
	for name, want := range map[string]float64{
		"gateway_plugin_calls_total hostile on_request": 3, "gateway_plugin_calls_total hostile on_text": 3,
		"gateway_plugin_faults_total hostile trap": 1, "gateway_plugin_instances hostile": 1,
	} {
		if key := strings.Join(strings.Fields(name), " "); got[key] != want {
			t.Errorf("%s: got %v, want %v (%v)", key, got[key], want, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left := figures(t, registry); len(left) != 0 {
		t.Errorf("left after Close: %v", left)
	}
}

func figures(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			for _, l := range []string{"plugin", "hook", "cause"} {
				if labels[l] != "" {
					name += " " + labels[l]
				}
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

// TestParallel sends calls through few instances at once, some of which trap.
func TestParallel(t *testing.T) {
	s := stage(t, Entry{Name: "hostile", Instances: 2, Directions: []string{"request"}})
	var calls sync.WaitGroup
	for worker := range 8 {
		calls.Go(func() {
			for i := range 50 {
				prompt, fails := "fine", worker == 0 && i%5 == 0
				if fails {
					prompt = "T"
				}
				_, _, err := handle(t, s, llm.Completions, `{"model":"m","prompt":"`+prompt+`"}`)
				if (err != nil) != fails {
					t.Errorf("prompt %s: got %v", prompt, err)
				}
			}
		})
	}
	calls.Wait()
}

func TestConfigValidate(t *testing.T) {
	c := Config{Chain: []Entry{
		{Name: "a/b", Directions: []string{"up"}, OnError: "maybe", Capabilities: []string{"root"}, Deadline: -1, Memory: 1 << 40, MaxHold: 1 << 20, Instances: -1},
		{Name: "a"}, {Name: "a"},
	}}
	p := setting.NewProblems()
	c.Validate(p)
	var got bytes.Buffer
	for _, one := range p.All() {
		got.WriteString(one.Path + "\n")
	}
	want := "chain[0].name\nchain[0].directions\nchain[0].on_error\nchain[0].capabilities[0]\nchain[0].deadline\nchain[0].memory\nchain[0].max_hold\nchain[0].instances\nchain[2].name\n"
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestStatus(t *testing.T) {
	all := set(t, Entry{Name: "pii-mask"}).Status()
	if len(all) != 1 || all[0].Name != "pii-mask" || all[0].Version == "" || len(all[0].SHA256) != 64 || all[0].Out || all[0].Instances < 1 || all[0].Memory == 0 {
		t.Errorf("got %+v", all)
	}
}
