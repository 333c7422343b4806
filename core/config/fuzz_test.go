package config

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// valid is a file with most of what a file can hold.
const valid = `# a comment
server:
  listen: 127.0.0.1:8080
  max_body: 64KiB
  drain: 1h30m
  mode: open
backends:
  gpu-1: &gpu
    url: http://gpu-1:8000
    key: ${NEXUS_FUZZ_KEY:-none}
    weight: 3
  gpu-2: {url: "http://gpu-2:8000", timeout: 5s}
  gpu-3: *gpu
plugins:
  - path: pii.wasm
    config: {kinds: [EMAIL, KR_RRN], threshold: 0.5, on: true, none: null, n: 10}
tls: {cert: 인증서.pem, port: 8443}
ratio: 0.25
small: -7
count: 12
debug: false
kinds: [chat, rerank]
labels: {team: "a b", tier: 1}
requests: 100
`

// FuzzDecode holds Decode to its laws: it never panics; a file is valid or refused with problems at
// lines that the file has; and what was read, written out in a plain form, reads the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(valid))
	for _, s := range []string{"", "{}", "[", "a: &a [*a]", "x: !!binary x", "a: ${", "free: ${HOME:-x}", "\t", "\xff", "--- 1\n--- 2", "? [a]\n: b",
		"free: {<<: {a: b}}", "labels: {a: |\n  x\n}", "free: 0o17", "free: 2024-01-01", "%YAML 9.9\n---\n{}", "tls: {port: 0}", "ratio: +.5e-3",
		"free: {0}", `labels: {"\U0001F600": "\x7f\u2028$${x}"}`, "backends: {a: {url: u}}\nkinds: []"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, again sample
		source, err := Decode("f", data, &got)
		if source == nil {
			t.Fatal("no source")
		}
		if err != nil {
			checkError(t, err, data)
			return
		}
		plain := flow(plainly(got))
		if _, err := Decode("f", []byte(plain), &again); err != nil {
			t.Fatalf("%q written as %s is refused: %v", data, plain, err)
		}
		if !reflect.DeepEqual(got, again) {
			t.Errorf("%q written as %s\nread %+v\nthen %+v", data, plain, got, again)
		}
	})
}

// plainly lays a sample out as the file would.
func plainly(s sample) map[string]any {
	m := map[string]any{"ratio": s.Ratio, "small": int64(s.Small), "count": int64(s.Count), "debug": s.Debug, "requests": s.Requests, "free": s.Free,
		"server": map[string]any{"listen": s.Server.Listen, "max_body": s.Server.MaxBody.String(), "drain": s.Server.Drain.String(), "mode": string(s.Server.Mode)}}
	kinds := []any{}
	for _, k := range s.Kinds {
		kinds = append(kinds, k)
	}
	m["kinds"] = kinds
	if s.TLS != nil {
		m["tls"] = map[string]any{"cert": s.TLS.Cert, "port": int64(*s.TLS.Port)}
	}
	if s.Labels != nil {
		labels := map[string]any{}
		for k, v := range s.Labels {
			labels[k] = v
		}
		m["labels"] = labels
	}
	if s.Backends != nil {
		backends := map[string]any{}
		for k, b := range s.Backends {
			backends[k] = map[string]any{"url": b.URL, "key": b.Key.Reveal(), "weight": int64(b.Weight), "timeout": b.Timeout.String()}
		}
		m["backends"] = backends
	}
	if s.Plugins != nil {
		plugins := []any{}
		for _, p := range s.Plugins {
			one := map[string]any{"path": p.Path}
			if p.Config != nil {
				one["config"] = p.Config
			}
			plugins = append(plugins, one)
		}
		m["plugins"] = plugins
	}
	return m
}

// flow writes v in YAML's flow style, every text in quotes and in ASCII.
func flow(v any) string {
	var b strings.Builder
	switch v := v.(type) {
	case map[string]any:
		b.WriteString("{")
		for _, k := range slices.Sorted(maps.Keys(v)) {
			b.WriteString("? " + quote(k) + "\n: " + flow(v[k]) + ",\n")
		}
		b.WriteString("}")
	case []any:
		b.WriteString("[")
		for _, item := range v {
			b.WriteString(flow(item) + ",\n")
		}
		b.WriteString("]")
	case string:
		b.WriteString(quote(strings.ReplaceAll(v, "${", "$${")))
	case float64:
		b.WriteString(strconv.FormatFloat(v, 'e', -1, 64))
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(&b, v)
	}
	return b.String()
}

func quote(s string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, "\\U%08X", r)
	}
	return `"` + b.String() + `"`
}

func checkError(t *testing.T, err error, data []byte) {
	t.Helper()
	all, ok := err.(*Error)
	if !ok || len(all.Problems) == 0 || len(all.Problems) > maxProblems+1 {
		t.Fatalf("got %T %v", err, err)
	}
	lines := 1 + strings.Count(strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(string(data)), "\n")
	for _, p := range all.Problems {
		if p.Line < 0 || p.Line > lines || p.Text == "" {
			t.Errorf("%q: problem %+v in a file of %d lines", data, p, lines)
		}
	}
}

// C-30: a damaged file is refused, or is valid and then means what it says: it is never half read.
func TestDecodeByteFlips(t *testing.T) {
	t.Setenv("NEXUS_FUZZ_KEY", "k")
	random := rand.New(rand.NewPCG(1, 30))
	var refused, accepted int
	for range 10_000 {
		data := []byte(valid)
		for range 1 + random.IntN(3) {
			data[random.IntN(len(data))] ^= 1 << random.IntN(8)
		}
		var s sample
		_, err := Decode("f", data, &s)
		if err != nil {
			checkError(t, err, data)
			refused++
			continue
		}
		accepted++
		if len(s.Backends) == 0 || len(s.Plugins) != 1 {
			t.Errorf("sections are lost without a word: %+v of\n%s", s, data)
		}
	}
	t.Logf("%d refused, %d accepted", refused, accepted)
	if refused == 0 || accepted == 0 {
		t.Error("one of the two never happened; this tests nothing")
	}
}

// C-31: a file cut off anywhere is refused or reads as a whole file that ends there; a cut inside a
// section's first line never empties it.
func TestDecodeCutOff(t *testing.T) {
	for n := range len(valid) {
		var s sample
		if _, err := Decode("f", []byte(valid[:n]), &s); err != nil {
			checkError(t, err, []byte(valid[:n]))
			continue
		}
		for name := range s.Backends {
			if !strings.Contains(valid[:n], name+":") || s.Backends[name].URL == "" {
				t.Errorf("cut at %d: backend %q is empty", n, name)
			}
		}
	}
}

func TestMain(m *testing.M) {
	os.Unsetenv("NEXUS_TEST_ABSENT")
	os.Exit(m.Run())
}
