package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nexus-gateway/nexus/core/sandbox"
)

// probe is the Go SDK's probe, built once: a plugin that does on demand all that one can do.
var probe = sync.OnceValues(func() (wasm []byte, err error) {
	dir, err := os.MkdirTemp("", "nexus-probe")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "probe.wasm")
	if text, err := exec.Command("../../sdk/go/build", "../../sdk/go/probe", out).CombinedOutput(); err != nil {
		return nil, &exec.Error{Name: string(text), Err: err}
	}
	return os.ReadFile(out)
})

// pluginFolder lays plugins out that are wrong in one way each, beside one that is right.
func pluginFolder(t *testing.T) string {
	t.Helper()
	wasm, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("../../sdk/go/probe/manifest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(name string, text []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	both := func(name string, wasm, manifest []byte) { put(name+".wasm", wasm); put(name+".yaml", manifest) }
	both("good/probe", wasm, manifest)
	both("two/a", wasm, manifest)
	both("two/b", wasm, manifest)
	both("truncated", wasm[:3000], manifest)
	both("page", []byte("<html>"), manifest)
	both("component", []byte("\x00asm\x0d\x00\x01\x00"), manifest)
	both("bare", []byte("\x00asm\x01\x00\x00\x00"), manifest)
	both("future", bytes.ReplaceAll(wasm, []byte("nexus_abi_1"), []byte("nexus_abi_9")), manifest)
	both("digest", wasm, append([]byte("sha256: "+strings.Repeat("0", 64)+"\n"), manifest...))
	both("slip", wasm, append([]byte("hokks: []\n"), manifest...))
	both("poor", wasm, bytes.Replace(manifest, []byte("kv_get"), []byte("label_get"), 1))
	put("alone.wasm", wasm)
	put("slip-config.yaml", []byte("# a comment\nwodr: ab\n"))
	put("type-config.yaml", []byte("with: [a]\n"))
	put("bad-config.yaml", []byte("word: [a\n"))
	put("own-config.yaml", []byte("fail: true\n"))
	put("word-config.yaml", []byte("word: ab\nwith: x\n"))
	put("reply.html", []byte("<html>"))
	put("reply.json", []byte(`{"choices":[{"index":0,"message":{"role":"assistant","content":"a secret"},"finish_reason":"stop"}]}`))
	put("request.json", []byte(`{"model":"m","messages":[{"role":"user","content":"a secret"}]}`))
	put("odd/manifest.yaml", []byte("name: odd\n"))
	put("odd/build", []byte("#!/bin/sh\nexit 0\n"))
	put("lost/manifest.yaml", []byte("name: lost\n"))
	return dir
}

// TestPluginMistakes: every command says in a sentence what was found, on standard error, and leaves standard output to
// what was asked for.
func TestPluginMistakes(t *testing.T) {
	t.Chdir(pluginFolder(t))
	if err := os.Chmod("odd/build", 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"inspect", exitUsage, "name a module"},
		{"inspect nowhere.wasm", exitFailed, "there is no file nowhere.wasm"},
		{"inspect nowhere", exitFailed, "nor a shipped plugin; shipped are: "},
		{"inspect two", exitFailed, "two holds 2 modules; name one"},
		{"inspect odd", exitFailed, "there is no .wasm in odd; nexus plugin build odd makes it"},
		{"inspect truncated.wasm", exitFailed, "truncated at byte 3000; build or copy it anew"},
		{"inspect page.wasm", exitFailed, `starts with "<html>"`},
		{"inspect component.wasm", exitFailed, "a component, not a core module; build or copy it anew"},
		{"test alone.wasm", exitFailed, "there is no alone.yaml: the manifest must lie beside the module"},
		{"test -cases nowhere good", exitFailed, "there is no folder nowhere"},
		{"test -config slip-config.yaml good", exitFailed, `slip-config.yaml:2:7: wodr: unknown key; did you mean "word"?`},
		{"run -text a nowhere.wasm", exitFailed, "there is no file nowhere.wasm"},
		{"run -text a truncated.wasm", exitFailed, "truncated at byte 3000; build or copy it anew"},
		{"run -text a component.wasm", exitFailed, "a component, not a core module"},
		{"run -text a bare.wasm", exitFailed, "exports no nexus_abi_1"},
		{"run -text a future.wasm", exitFailed, "speaks nexus_abi_9; this gateway speaks nexus_abi_1"},
		{"run -text a alone.wasm", exitFailed, "there is no alone.yaml"},
		{"run -text a digest.wasm", exitFailed, "they are of two builds"},
		{"run -text a slip.wasm", exitFailed, `slip.yaml:1:1: hokks: unknown key; did you mean "hooks"?`},
		{"run -text a poor.wasm", exitFailed, `"kv_get"`},
		{"run -text a -config nowhere.yaml good", exitFailed, "nowhere.yaml"},
		{"run -text a -config slip-config.yaml good", exitFailed, `slip-config.yaml:2:7: wodr: unknown key; did you mean "word"?`},
		{"run -text a -config type-config.yaml good", exitFailed, "type-config.yaml:1:1: with: got array, want string"},
		{"run -text a -config bad-config.yaml good", exitFailed, "bad-config.yaml:"},
		{"run -text a -config own-config.yaml good", exitFailed, "asked to fail"},
		{"run good", exitUsage, "-text TEXT or -request FILE"},
		{"run -text a -request request.json good", exitUsage, "two requests"},
		{"run -request nowhere.json good", exitFailed, "nowhere.json"},
		{"run -request reply.html good", exitFailed, "the request: "},
		{"run -text a -reply nowhere.json good", exitFailed, "nowhere.json"},
		{"run -text a -reply reply.html good", exitFailed, "nexus plugin run: the reply: "},
		{"run -text a -route chta good", exitUsage, `there is no endpoint "chta"`},
		{"run -text a -route rerank good", exitUsage, "give -request FILE"},
		{"run -text a -labels a good", exitUsage, "write NAME=VALUE"},
		{"run -text a -who age=7 good", exitUsage, `a caller has no "age"`},
		{"run -text a -header X good", exitUsage, "write NAME:VALUE"},
		{"run -text !trap good", exitFailed, "the plugin failed (trap): "},
		{"run -nope good", exitUsage, "not defined: -nope"},
		{"bench truncated.wasm", exitFailed, "truncated at byte 3000"},
		{"bench -time x good", exitUsage, "-time"},
		{"bench -config slip-config.yaml good", exitFailed, "slip-config.yaml:2:7: wodr"},
		{"new", exitUsage, "name the plugin"},
		{"new -lang cobol x", exitUsage, `there is no SDK for "cobol"; there are go, `},
		{"new a/b", exitUsage, "is not a plugin's name"},
		{"new -dir good x", exitFailed, "good is not empty"},
		{"build nowhere", exitFailed, "there is no nowhere/manifest.yaml"},
		{"build odd", exitFailed, "odd/build may not be run; chmod +x odd/build"},
		{"build lost", exitFailed, "there is no lost/build"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, out, err := nexus(t, "plugin "+tt.args)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(err, tt.want) || out != "" {
				t.Errorf("want %q on standard error alone, got\n%s%s", tt.want, err, out)
			}
		})
	}
}

func nexus(t *testing.T, args string) (code int, out, err string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), terminal{&o, &e}, strings.Fields(args))
	return code, o.String(), e.String()
}

// TestPluginTestTells: a plugin that cannot be loaded fails the first law, and its report is output.
func TestPluginTestTells(t *testing.T) {
	t.Chdir(pluginFolder(t))
	for name, want := range map[string]string{"truncated.wasm": "FAIL  it loads: its module cannot be read: truncated", "slip.wasm": "FAIL  it loads: manifest:1:1: hokks"} {
		code, out, err := nexus(t, "plugin test "+name)
		if code != exitFailed || !strings.Contains(out, want) || !strings.Contains(err, "1 of 1 laws do not hold") {
			t.Errorf("%s: %d, %s%s", name, code, out, err)
		}
	}
}

// TestPluginRun: what a plugin changes is told, to people and to programs.
func TestPluginRun(t *testing.T) {
	t.Chdir(pluginFolder(t))
	for _, tt := range []struct{ args, want string }{
		{"-text secret good", "text 0:\n- secret\n+ [WORD]\nfound: 1 (WORD)\n"},
		{"-text abc -config word-config.yaml good/probe.wasm", "text 0:\n- abc\n+ xc\nfound: 1 (WORD)\n"},
		{"-text secret -route completions good", "+ [WORD]\n"},
		{"-text secret -route responses good", "+ [WORD]\n"},
		{"-text secret -route embeddings good", "+ [WORD]\n"},
		{"-request request.json -reply reply.json good", `"content":"a [WORD]"`},
		{"-text !refuse good", "refused: 403 probe_refused: "},
		{"-text !label good", "label: probe = mock\n"},
		{"-text !label good", "label: seen = mock\n"},
		{"-text secret -labels team=a good", "label: team = a\n"},
	} {
		if code, out, err := nexus(t, "plugin run "+tt.args); code != 0 || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit code %d, got %s%s, want %s", tt.args, code, out, err, tt.want)
		}
	}
	code, out, err := nexus(t, "plugin run -json -text secret -labels a=1 -who tenant=acme -request  good")
	if code != exitUsage {
		t.Errorf("an empty -request: %d, %s%s", code, out, err)
	}
	code, out, err = nexus(t, "plugin run -json -text secret -labels a=1,b=2 -who tenant=acme,key=k good")
	var got runResult
	if bad := json.Unmarshal([]byte(out), &got); bad != nil || code != 0 || got.Texts[0].After != "[WORD]" || got.Found != 1 || got.Labels["b"] != "2" {
		t.Errorf("%d, %v: %s%s", code, bad, out, err)
	}
	code, out, err = nexus(t, "plugin run -json -text !label good")
	got = runResult{}
	if bad := json.Unmarshal([]byte(out), &got); bad != nil || code != 0 || got.Labels["probe"] != "mock" || got.Labels["seen"] != "mock" {
		t.Errorf("what it labels: %d, %v: %s%s", code, bad, out, err)
	}
	code, out, err = nexus(t, "plugin inspect -json good")
	var module struct{ Hooks []string }
	if bad := json.Unmarshal([]byte(out), &module); bad != nil || code != 0 || len(module.Hooks) != 5 {
		t.Errorf("%d, %v: %s%s", code, bad, out, err)
	}
}

// TestPluginInspect: what a module is, in every row that is told of it.
func TestPluginInspect(t *testing.T) {
	wasm, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(pluginFolder(t))
	shape, err := sandbox.Inspect(wasm)
	if err != nil {
		t.Fatal(err)
	}
	code, out, stderr := nexus(t, "plugin inspect good")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	rows := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		rows[name] = strings.TrimSpace(value)
	}
	for name, want := range map[string]string{
		"module":        fmt.Sprintf("good/probe.wasm, %d bytes", len(wasm)),
		"sha256":        fmt.Sprintf("%x", sha256.Sum256(wasm)),
		"kind":          "nexus_abi_1",
		"hooks":         "on_end, on_request, on_text, on_tool_call, on_usage",
		"configuration": "takes one",
		"memory":        fmt.Sprintf("%d KiB at first", shape.Memory.Min*64),
	} {
		if rows[name] != want {
			t.Errorf("%s: got %q, want %q", name, rows[name], want)
		}
	}
	for name, all := range map[string][]string{
		"imports":      {"nexus.call_get", "nexus.http_call", "nexus.kv_get", "nexus.kv_incr_if", "nexus.label_get", "nexus.label_set", "nexus.log", "nexus.metric", "nexus.model_set", "nexus.now_ms", "nexus.pool_set", "nexus.random", "nexus.vault_put"},
		"capabilities": {"call_get", "http_call", "kv_get", "kv_incr_if", "label_get", "label_set", "log", "metric", "model", "now_ms", "pool", "random", "vault_put"},
		"exports":      {"_initialize", "nexus_abi_1", "nexus_buffers", "nexus_configure", "nexus_on_end", "nexus_on_request", "nexus_on_text", "nexus_on_tool_call", "nexus_on_usage"},
	} {
		said, note, _ := strings.Cut(rows[name], ";")
		var got []string
		for _, one := range strings.Split(said, ", ") {
			if !strings.HasPrefix(one, "wasi_snapshot_preview1.") {
				got = append(got, one)
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("%s: got %q, want %q", name, got, all)
		}
		if name == "capabilities" && !strings.Contains(note, "its manifest asks for ") {
			t.Errorf("what the manifest asks for is not told: %q", rows[name])
		}
	}
}

// TestPluginBench: each figure has its unit: time, time a KB, time a chunk of a stream, and the guest's time and fuel.
func TestPluginBench(t *testing.T) {
	t.Chdir(pluginFolder(t))
	code, out, stderr := nexus(t, "plugin bench -time 1ms good")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	const figure, guest = ` +([0-9.]+)`, ` +([0-9]+) ns and +([0-9]+) units of fuel a call of the guest`
	for what, rest := range map[string]string{
		"16 bytes of English":          figure + ` µs/KB` + guest,
		"64 bytes of English":          figure + ` µs/KB` + guest,
		"1024 bytes of English":        figure + ` µs/KB` + guest,
		"10[0-9][0-9] bytes of Korean": figure + ` µs/KB` + guest,
		"stream of [0-9]+ chunks":      figure + ` µs/KB` + figure + ` ns/chunk` + guest,
		"request":                      guest,
	} {
		found := regexp.MustCompile(`(?m)^` + what + figure + ` µs` + rest + `$`).FindStringSubmatch(out)
		if found == nil {
			t.Errorf("%s is not told with its figures:\n%s", what, out)
			continue
		}
		for _, n := range found[1:] {
			if v, err := strconv.ParseFloat(n, 64); err != nil || v <= 0 {
				t.Errorf("%s: the figure %q: %v", what, n, err)
			}
		}
	}
}

// TestPluginFromNothing: in an empty folder, new, build, test and run are all it takes; in the plugin's folder they need
// not be told which.
func TestPluginFromNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	steps := []struct{ args, want string }{
		{"new mine", "mine/README.md"},
		{"build mine", "mine/dist/mine.wasm"},
		{"test mine", "pass  it loads"},
		{"inspect mine", "hooks          on_text"},
		{"bench -time 1ms mine", "bytes"},
		{"run -text secret mine", "+ ***"},
		{"run -text nothing mine", "nothing is changed\n"},
	}
	for _, s := range steps {
		if code, out, err := nexus(t, "plugin "+s.args); code != 0 || !strings.Contains(out, s.want) || err != "" {
			t.Fatalf("%s: exit code %d, got %s%s, want %s", s.args, code, out, err, s.want)
		}
	}
	t.Chdir("mine")
	if code, out, err := nexus(t, "plugin run -text secret"); code != 0 || !strings.Contains(out, "+ ***") {
		t.Errorf("in its folder: %d, %s%s", code, out, err)
	}
	if err := os.WriteFile("main.go", []byte("package main\n\nfunc main() { none }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, err := nexus(t, "plugin run -text secret"); code != 0 || !strings.Contains(err, "main.go is newer than dist/mine.wasm") {
		t.Errorf("what is stale is not told: %d, %s", code, err)
	}
	before, _ := os.ReadFile("dist/mine.wasm")
	code, out, err := nexus(t, "plugin build")
	after, _ := os.ReadFile("dist/mine.wasm")
	if code != exitFailed || out != "" || !strings.Contains(err, "nexus plugin build: ") || !bytes.Equal(before, after) {
		t.Errorf("a build that fails: %d, %s%s; what was built before is kept: %t", code, out, err, bytes.Equal(before, after))
	}
	if left, _ := filepath.Glob("dist/.build-*"); left != nil {
		t.Errorf("it left %q", left)
	}
}
