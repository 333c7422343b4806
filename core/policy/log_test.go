package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// openLog returns a log that writes to a file, and the file's name.
func openLog(t *testing.T, cfg LogConfig) (*Log, string) {
	t.Helper()
	if cfg.To == "" {
		cfg.To = filepath.Join(t.TempDir(), "decisions.ndjson")
	}
	if cfg.Size == 0 {
		cfg.Size = 100
	}
	l := NewLog(nil)
	use(t, l, cfg)
	t.Cleanup(func() { _ = l.Close() })
	return l, cfg.To
}

func use(t *testing.T, l *Log, cfg LogConfig) {
	t.Helper()
	o, err := l.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Use(o)
}

// logged closes l and reads what it wrote: whole lines, each an object.
func logged(t *testing.T, l *Log, file string) (lines []map[string]any) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return linesOf(t, file)
}

func linesOf(t *testing.T, file string) (lines []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

// at is the value at path of a line; nil when there is none.
func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// decideFor puts calls through a policy that is logged to l.
func decideFor(t *testing.T, l *Log, rego string, calls ...*pipeline.Call) *Engine {
	t.Helper()
	e := compile(t, testConfig(), "a.rego", rego)
	s := e.Stage(Env{Log: l})
	for _, c := range calls {
		_, _ = s.Handle(t.Context(), c, passed)
	}
	return e
}

func TestDecisionLog(t *testing.T) {
	l, file := openLog(t, LogConfig{Input: true, Labels: map[string]string{"region": "seoul"}})
	c := newCall(t, chatBody)
	c.Labels = map[string]string{"confidential": "true"}
	c.Remote = "192.0.2.1"
	e := decideFor(t, l, threeLines, c)
	lines := logged(t, l, file)
	if len(lines) != 1 {
		t.Fatalf("%d lines, want 1", len(lines))
	}
	for _, tt := range []struct {
		path string
		want any
	}{
		{"decision_id", "req-1"},
		{"labels.region", "seoul"},
		{"revision", e.Revision()},
		{"path", "nexus/decision"},
		{"requested_by", "192.0.2.1"},
		{"result.action", "allow"},
		{"result.rule", "routes.confidential"},
		{"outcome", "decision"},
		{"tenant", "acme"},
		{"input.labels.confidential", "true"},
	} {
		if got := at(lines[0], strings.Split(tt.path, ".")...); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.path, got, tt.want)
		}
	}
	if ns, _ := at(lines[0], "metrics", "timer_rego_query_eval_ns").(float64); ns <= 0 {
		t.Errorf("metrics %v", lines[0]["metrics"])
	}
	if at(lines[0], "input", "request") != nil {
		t.Error("the input holds what the policy does not read")
	}
	text, _ := os.ReadFile(file)
	if !strings.HasPrefix(string(text), `{"decision_id":"req-1","labels":`) {
		t.Errorf("OPA's members do not stand first: %s", text)
	}
}

// Every failure has its own line, with the input that it failed on, a timeout's too.
func TestFailuresAreLoggedWithTheirInput(t *testing.T) {
	for _, tt := range outcomes {
		l, file := openLog(t, LogConfig{Input: true})
		cfg := testConfig()
		if tt.outcome == timeout {
			cfg.Deadline = 20 * time.Millisecond
		}
		s := compile(t, cfg, "a.rego", tt.rego).Stage(Env{Log: l})
		if _, err := s.Handle(t.Context(), newCall(t, chatBody), passed); err == nil {
			t.Fatalf("%s: no refusal", tt.outcome)
		}
		lines := logged(t, l, file)
		if len(lines) != 1 || lines[0]["outcome"] != string(tt.outcome) || at(lines[0], "result", "rule") != "on_"+string(tt.outcome) ||
			at(lines[0], "result", "action") != "deny" || lines[0]["error"] == nil {
			t.Errorf("%s: got %v", tt.outcome, lines)
		}
	}
	l, file := openLog(t, LogConfig{Input: true})
	cfg := testConfig()
	cfg.Deadline = 20 * time.Millisecond
	_, _ = compile(t, cfg, "a.rego", endless+" + count(input.request.model) * 0").Stage(Env{Log: l}).Handle(t.Context(), newCall(t, chatBody), passed)
	if lines := logged(t, l, file); len(lines) != 1 || lines[0]["outcome"] != "timeout" || at(lines[0], "input", "request", "model") == nil {
		t.Errorf("a timeout: got %v", lines)
	}
}

const readsText = `package nexus.routes

a := {"targets": [], "tags": {"n": sprintf("%d", [count(input.prompt.last_user)])}} if {
	input.principal.tenant
	input.principal.id
	input.labels.secret
	input.request.model
}
`

func TestInputsAreMasked(t *testing.T) {
	key := setting.NewSecret("0123456789abcdef")
	tests := []struct {
		name       string
		cfg        LogConfig
		has, hides []string
	}{
		{"as it comes", LogConfig{Input: true}, []string{"acme", "s3cr3t", `"erased":["/input/prompt/last_user"]`}, []string{"날씨"}},
		{"no input", LogConfig{}, []string{"acme"}, []string{"날씨", "s3cr3t", `"input"`}},
		{"with the user's text", LogConfig{Input: true, Text: true}, []string{"날씨", "s3cr3t"}, []string{"erased"}},
		{"erased", LogConfig{Input: true, Erase: []string{"input.labels.secret", "input.principal"}},
			[]string{`"/input/labels/secret"`, `"/input/principal"`}, []string{"s3cr3t", "acme", "alice", "날씨"}},
		{"erased without input", LogConfig{Erase: []string{"input.principal.tenant"}}, []string{"alice"}, []string{"acme", "erased"}},
		{"hashed", LogConfig{Input: true, Hash: []string{"input.principal.id", "input.labels"}, HashKey: key},
			[]string{"hmac:", `"masked":["/input/principal/id","/input/labels"]`, "acme"}, []string{"alice", "s3cr3t"}},
	}
	for _, tt := range tests {
		l, file := openLog(t, tt.cfg)
		c := newCall(t, `{"model":"m","messages":[{"role":"user","content":"날씨"}]}`)
		c.Labels = map[string]string{"secret": "s3cr3t"}
		c.Principal = &pipeline.Principal{ID: "alice", Tenant: "acme"}
		decideFor(t, l, readsText, c, c)
		lines := logged(t, l, file)
		text, _ := os.ReadFile(file)
		for _, want := range tt.has {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %s in %s", tt.name, want, text)
			}
		}
		for _, bad := range tt.hides {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s: %s in %s", tt.name, bad, text)
			}
		}
		if tt.cfg.Hash != nil && (lines[0]["principal"] != lines[1]["principal"] || lines[0]["principal"] != at(lines[0], "input", "principal", "id")) {
			t.Errorf("%s: equal values have different sums: %v", tt.name, lines)
		}
	}
}

func TestLogConfigValidate(t *testing.T) {
	p := setting.NewProblems()
	c := LogConfig{Size: 0, Erase: []string{"input.prompt.lastuser", "input.labels.any"}, Hash: []string{"principal.id", "input"}, HashKey: setting.NewSecret("short")}
	c.validate(p)
	text := ""
	for _, one := range p.All() {
		text += one.Path + ": " + one.Text + "\n"
	}
	if len(p.All()) != 5 || !strings.Contains(text, `erase: "input.prompt.lastuser" is not in the input schema: did you mean input.prompt.last_user?`) {
		t.Errorf("got %s", text)
	}
}

// stuck is a writer that blocks until it is let go, and keeps what it is given.
type stuck struct {
	let chan struct{}
	mu  sync.Mutex
	got bytes.Buffer
}

func (w *stuck) Write(b []byte) (int, error) {
	<-w.let
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.Write(b)
}

// Decisions are neither held up by a log that is stuck nor lost unseen: those dropped and those written are all.
func TestAStuckLogDropsAndCounts(t *testing.T) {
	l := NewLog(nil)
	reg := prometheus.NewRegistry()
	l.Register(reg)
	w := &stuck{let: make(chan struct{})}
	l.Use(&Outlet{sink: newSink(w, nil, LogConfig{Size: 4}, &l.dropped)})
	const all = 2000
	for i := range all {
		l.add(&entry{call: identity{decision: fmt.Sprint(i)}}) // returns though nothing is written
	}
	close(w.let)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(w.got.String(), "\n")
	families, _ := reg.Gather()
	dropped := families[0].GetMetric()[0].GetCounter().GetValue()
	if lines < 4 || dropped < all/2 || float64(lines)+dropped != all {
		t.Errorf("%d lines and %v dropped of %d", lines, dropped, all)
	}
}

// limited is a disk of so many bytes.
type limited struct {
	left int
	got  bytes.Buffer
}

func (w *limited) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	w.left -= n
	w.got.Write(b[:n])
	if n < len(b) {
		return n, errors.New("no space left")
	}
	return n, nil
}

// A disk that is full loses whole lines and counts them; when there is room again the log goes on with no line torn.
func TestAFullDisk(t *testing.T) {
	var dropped atomic.Int64
	for room := range 400 {
		w := &limited{left: room}
		s := newSink(w, nil, LogConfig{Size: 10}, &dropped)
		dropped.Store(0)
		line := s.mask.appendLine(nil, &entry{call: identity{decision: "a"}})
		s.flush(append(slices.Clone(line), line...))
		s.flush(line)
		w.left = 1 << 20
		s.flush(line)
		whole := 0
		for text := range strings.Lines(w.got.String()) {
			if text != string(line) {
				t.Fatalf("room for %d bytes: a line is torn: %q", room, text)
			}
			whole++
		}
		if whole+int(dropped.Load()) != 4 || whole == 0 {
			t.Fatalf("room for %d bytes: %d lines and %d dropped of 4", room, whole, dropped.Load())
		}
	}
}

func TestDevFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	l, _ := openLog(t, LogConfig{To: "/dev/full"})
	calls := []*pipeline.Call{newCall(t, chatBody), newCall(t, chatBody), newCall(t, chatBody)}
	decideFor(t, l, threeLines, calls...)
	if err := l.Close(); err != nil || l.dropped.Load() != 3 {
		t.Errorf("%d dropped of 3, %v", l.dropped.Load(), err)
	}
}

// A file that was moved away is made anew by the next Open; one that was not goes on.
func TestRotation(t *testing.T) {
	l, file := openLog(t, LogConfig{})
	cfg := LogConfig{To: file, Size: 100}
	decideFor(t, l, threeLines, newCall(t, chatBody))
	first := l.sink.Load()
	use(t, l, cfg)
	if l.sink.Load() != first {
		t.Error("a file in its place was opened again")
	}
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	decideFor(t, l, threeLines, newCall(t, chatBody))
	use(t, l, cfg)
	decideFor(t, l, threeLines, newCall(t, chatBody), newCall(t, chatBody), newCall(t, chatBody))
	<-first.done
	if old, now := linesOf(t, file+".1"), logged(t, l, file); len(old) != 2 || len(now) != 3 {
		t.Errorf("%d lines before and %d after, want 2 and 3", len(old), len(now))
	}
}

// A log can be turned on, moved and turned off by reloads, under calls, and every decision is in one of the files.
func TestHammerLogMoves(t *testing.T) {
	dir := t.TempDir()
	l := NewLog(nil)
	names := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	use(t, l, LogConfig{To: names[0], Size: 1 << 16})
	const each = 200
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range each {
				l.add(&entry{call: identity{decision: "x"}})
			}
		})
	}
	for i := range 50 {
		use(t, l, LogConfig{To: names[i%2], Size: 1 << 16, Input: i%3 == 0})
	}
	wg.Wait()
	sinks := l.sink.Load()
	if err := l.Close(); err != nil || sinks == nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return len(linesOf(t, names[0]))+len(linesOf(t, names[1])) == 4*each })
	use(t, l, LogConfig{})
	if l.add(&entry{}) {
		t.Error("a log that is off takes entries")
	}
}

// waitUntil polls for what happens beside the test.
func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen")
}

func TestNoLog(t *testing.T) {
	var none *Log
	if none.add(&entry{}) || none.wantsInput() || none.Close() != nil {
		t.Error("no log takes entries")
	}
	l := NewLog(nil)
	if _, err := l.Open(LogConfig{To: filepath.Join(t.TempDir(), "no", "such", "folder")}); err == nil {
		t.Error("a file in no folder was opened")
	}
	o, err := l.Open(LogConfig{To: filepath.Join(t.TempDir(), "unused"), Size: 1})
	if err = errors.Join(err, o.Close(), o.Close(), l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
}

func TestLinesAreVisible(t *testing.T) {
	m := newMasks(LogConfig{Input: true, Size: 1})
	for _, text := range []string{"a\r\nb", "\x1b[31m", "\u009b31m", "\u202egnp.exe", "\ufeff", "\x7f", "\u2028", "\xff\xfe", `"},{"`} {
		e := &entry{call: identity{decision: text, tenant: text}, err: errors.New(text), verdict: &verdict{Decision: pipeline.Decision{Reason: text}}}
		line := m.appendLine(nil, e)
		if bytes.Count(line, []byte("\n")) != 1 || bytes.ContainsFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' || r != 0xfffd && hidden(r) }) {
			t.Errorf("%q makes %q", text, line)
		}
		var back map[string]any
		if err := json.Unmarshal(line, &back); err != nil || utf8.ValidString(text) && back["tenant"] != text {
			t.Errorf("%q comes back as %v, %v", text, back["tenant"], err)
		}
	}
}

// What a decision costs with a log that works, and with one that does not.
func BenchmarkLog(b *testing.B) {
	for name, to := range map[string]string{"none": "", "file": filepath.Join(b.TempDir(), "log"), "full disk": "/dev/full"} {
		b.Run(name, func(b *testing.B) {
			l := NewLog(nil)
			o, err := l.Open(LogConfig{To: to, Size: 4096, Input: true})
			if err != nil {
				b.Skip(err)
			}
			l.Use(o)
			defer l.Close()
			s := compile(b, testConfig(), "a.rego", threeLines).Stage(Env{Log: l})
			c := newCall(b, chatBody)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = s.Handle(b.Context(), c, passed)
			}
		})
	}
}
