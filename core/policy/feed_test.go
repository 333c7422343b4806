package policy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/setting"
)

// A bundleServer serves one bundle as a real one would.
type bundleServer struct {
	*httptest.Server
	mu       sync.Mutex
	raw      []byte
	etag     string
	status   int           // instead of the bundle
	cut      int           // bytes sent before the connection breaks; 0: all
	stall    chan struct{} // waited for before the second half
	sent     int           // whole bundles
	spared   int           // 304s
	asked    int
	redirect string
	token    string
}

func newBundleServer(t testing.TB) *bundleServer {
	s := &bundleServer{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *bundleServer) put(raw []byte, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw, s.etag = raw, etag
}

func (s *bundleServer) set(f func(s *bundleServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *bundleServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	switch {
	case s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case s.redirect != "":
		http.Redirect(w, r, s.redirect, http.StatusFound)
		return
	case s.status != 0:
		w.WriteHeader(s.status)
		return
	}
	if s.etag != "" {
		w.Header().Set("Etag", s.etag)
		if r.Header.Get("If-None-Match") == s.etag {
			s.spared++
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if s.cut > 0 {
		w.Header().Set("Content-Length", fmt.Sprint(len(s.raw)))
		_, _ = w.Write(s.raw[:s.cut])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	half := len(s.raw) / 2
	_, _ = w.Write(s.raw[:half])
	if s.stall != nil {
		w.(http.Flusher).Flush()
		select {
		case <-s.stall:
		case <-r.Context().Done():
			return
		}
	}
	_, _ = w.Write(s.raw[half:])
	s.sent++
}

func (s *bundleServer) config() Config {
	cfg := testConfig()
	cfg.Bundle = testBundle(s.URL + "/nexus.tar.gz?secret=1")
	return cfg
}

// A holder stands in for the gateway: it puts in force what the feed brings.
type holder struct {
	t      *testing.T
	feed   *Feed
	log    *strings.Builder
	cfg    *Config
	pools  []string
	engine *Engine
	swaps  int
}

func newHolder(t *testing.T) *holder {
	h := &holder{t: t, log: &strings.Builder{}}
	h.feed = NewFeed(FeedOptions{Role: "policy", Log: slog.New(slog.NewTextHandler(h.log, nil)), Register: prometheus.NewRegistry()})
	return h
}

type chooser func(context.Context, *Config, []string) (*Choice, error)

func (h *holder) put(choose chooser) error {
	c, err := choose(context.Background(), h.cfg, h.pools)
	if err != nil {
		return err
	}
	h.engine = c.Engine
	h.feed.Commit(c)
	return nil
}

func (h *holder) reload(cfg Config) error {
	old := h.cfg
	h.cfg = &cfg
	err := h.put(h.feed.Prepare)
	if err != nil {
		h.cfg = old
	}
	return err
}

// start is a reload that must succeed.
func (h *holder) start(cfg Config) {
	h.t.Helper()
	if err := h.reload(cfg); err != nil {
		h.t.Fatal(err)
	}
}

func (h *holder) poll() {
	h.feed.poll(context.Background(), h.cfg, func(context.Context) error {
		h.swaps++
		return h.put(h.feed.Prepare)
	})
}

// inForce is the pool that the policy in force sends calls to.
func (h *holder) inForce() string {
	h.t.Helper()
	c := newCall(h.t, chatBody)
	if _, err := h.engine.Stage(Env{}).Handle(h.t.Context(), c, passed); err != nil || len(c.Decision.Targets) != 1 {
		h.t.Fatalf("got %+v, %v", c.Decision, err)
	}
	return c.Decision.Targets[0].Pool
}

func (h *holder) want(pool string) {
	h.t.Helper()
	if got := h.inForce(); got != pool {
		h.t.Errorf("%s is in force, want %s: %+v", got, pool, h.feed.Status())
	}
}

// version is a good bundle whose revision is the pool it sends calls to.
func version(t testing.TB, pool string) []byte {
	return packed(t, pool, signer{}, "mine.rego", to(pool), dataFile, why)
}

func TestBundleIsPolled(t *testing.T) {
	s, h := newBundleServer(t), newHolder(t)
	s.put(version(t, "one"), `"1"`)
	h.start(s.config())
	h.want("one")
	if r := h.engine.Revision(); r != "one" {
		t.Errorf("revision %q", r)
	}
	for range 3 {
		h.poll()
	}
	if s.sent != 1 || s.spared != 3 || h.swaps != 0 {
		t.Errorf("sent %d times, %d 304s, %d swaps; want 1, 3 and 0", s.sent, s.spared, h.swaps)
	}
	s.put(version(t, "two"), `"2"`)
	h.poll()
	h.want("two")
	s.put(version(t, "two"), `"3"`) // the same under another tag
	h.poll()
	if h.swaps != 1 || h.feed.Status().Poll.Result != "unchanged" {
		t.Errorf("%d swaps, %+v", h.swaps, h.feed.Status().Poll)
	}
	s.put(version(t, "two"), "") // a server without tags
	h.poll()
	h.poll()
	if h.swaps != 1 {
		t.Errorf("%d swaps for a bundle that did not change", h.swaps)
	}
	if strings.Contains(h.log.String(), "secret") {
		t.Errorf("the log holds the address's query: %s", h.log)
	}
	if n := strings.Count(h.log.String(), "policy in force"); n != 2 {
		t.Errorf("%d lines about what came into force, want 2: %s", n, h.log)
	}
}

// Whatever is wrong with what comes, the running policy stays, the reason is told, and a good bundle is taken next.
func TestBadBundlesAreRefused(t *testing.T) {
	key := newSigner(t, "ES256")
	good := func(pool string) []byte { return packed(t, pool, key, "mine.rego", to(pool), dataFile, why) }
	tests := []struct {
		name string
		raw  []byte
		want string
	}{
		{"not signed", version(t, "bad"), "missing .signatures.json"},
		{"another key", packed(t, "bad", newSigner(t, "ES256"), "mine.rego", to("bad")), "verify JWT signature"},
		{"cut off", good("bad")[:200], "nexus.tar.gz: read the archive: unexpected EOF"},
		{"too large", append(good("bad"), make([]byte, 1<<20)...), "larger than max_size, 1MiB"},
		{"another type", packed(t, "bad", key, "mine.rego", "package nexus.routes\n\na := {\"targets\": 1}"), "nexus.tar.gz/mine.rego:3"},
		{"unknown input", packed(t, "bad", key, "mine.rego", "package nexus.routes\n\na := {\"targets\": []} if input.tennant.id == 1"), "nexus.tar.gz/mine.rego:3: input.tennant.id is not in the input schema: did you mean input.principal.tenant?"},
		{"unknown pool", packed(t, "bad", key, "mine.rego", to("nowhere")), `there is no pool "nowhere"`},
		{"a test that fails", packed(t, "bad", key, "mine.rego", to("one"), "mine_test.rego", "package mine_test\n\ntest_it if {\n\tdata.nexus.decision.rule == \"x\"\n}"), "nexus.tar.gz/mine_test.rego:3: test test_it failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, h := newBundleServer(t), newHolder(t)
			h.pools = []string{"one", "two"}
			s.put(good("one"), `"1"`)
			cfg := s.config()
			cfg.Bundle.Keys = key.key()
			h.start(cfg)
			s.put(tt.raw, `"2"`)
			for range 3 {
				h.poll()
				h.want("one")
			}
			told := h.feed.Status().Poll.Error + strings.Join(h.feed.Status().Refused, "\n")
			if refused := len(h.feed.Status().Refused) > 0; refused != (tt.name != "too large") {
				t.Errorf("refused: %v", refused)
			}
			s.put(good("one"), `"1"`) // as it was: nothing is refused
			if h.poll(); len(h.feed.Status().Refused) > 0 {
				t.Errorf("still refused: %v", h.feed.Status().Refused)
			}
			s.put(tt.raw, `"2"`)
			h.poll()
			if !strings.Contains(told, tt.want) {
				t.Errorf("status says %q, want %q", told, tt.want)
			}
			if n := strings.Count(h.log.String(), "the running policy stays"); n != 2 {
				t.Errorf("told %d times in the log, want once each time: %s", n, h.log)
			}
			if err := h.reload(cfg); err != nil {
				t.Errorf("a reload is refused with it: %v", err)
			}
			h.want("one")
			s.put(good("two"), `"3"`)
			h.poll()
			h.want("two")
			if st := h.feed.Status(); len(st.Refused) > 0 || st.Poll.Error != "" || st.Offered != "" {
				t.Errorf("still refused: %+v", st)
			}
		})
	}
}

// A bundle that is whole but wrong is not downloaded again and again; one that may be half of a good one is.
func TestWhatIsDownloadedAgain(t *testing.T) {
	s, h := newBundleServer(t), newHolder(t)
	s.put(version(t, "one"), `"1"`)
	h.start(s.config())
	s.put(packed(t, "bad", signer{}, "mine.rego", "package nexus.routes\n\na := {\"targets\": 1}"), `"2"`)
	for range 3 {
		h.poll()
	}
	if s.sent != 2 || h.feed.failures != 0 {
		t.Errorf("sent %d times, %d failures; want 2 and 0", s.sent, h.feed.failures)
	}
	s.put(version(t, "two")[:100], `"3"`)
	for range 3 {
		h.poll()
	}
	if s.sent != 5 || h.feed.failures != 3 {
		t.Errorf("sent %d times, %d failures; want 5 and 3", s.sent, h.feed.failures)
	}
}

func TestServersThatMisbehave(t *testing.T) {
	elsewhere := newBundleServer(t)
	elsewhere.put(version(t, "evil"), `"9"`)
	tests := []struct {
		name string
		edit func(*bundleServer)
		want string
	}{
		{"500", func(s *bundleServer) { s.status = 500 }, "answered 500"},
		{"304 that nobody asked for", func(s *bundleServer) { s.status = 304; s.etag = "" }, "answered 304"},
		{"a redirect", func(s *bundleServer) { s.redirect = elsewhere.URL }, "answered 302"},
		{"no credential taken", func(s *bundleServer) { s.token = "another" }, "answered 401"},
		{"a connection that breaks", func(s *bundleServer) { s.cut = 100 }, "unexpected EOF"},
		{"a slow one", func(s *bundleServer) { s.stall = make(chan struct{}) }, "deadline exceeded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, h := newBundleServer(t), newHolder(t)
			s.put(version(t, "one"), "")
			cfg := s.config()
			cfg.Bundle.Token = setting.NewSecret("t0ken-t0ken")
			cfg.Bundle.Timeout = 5 * time.Second
			s.token = "t0ken-t0ken"
			h.start(cfg)
			cfg.Bundle.Timeout = 300 * time.Millisecond
			h.start(cfg)
			s.put(version(t, "two"), "")
			s.set(tt.edit)
			h.poll()
			h.want("one")
			poll := h.feed.Status().Poll
			if poll.Result != "failed" || !strings.Contains(poll.Error, tt.want) || h.feed.failures != 1 {
				t.Errorf("got %+v, %d failures", poll, h.feed.failures)
			}
			if strings.Contains(h.log.String()+poll.Error, "t0ken") || strings.Contains(h.log.String()+poll.Error, "secret=1") {
				t.Errorf("a secret is told: %s", h.log)
			}
		})
	}
	if elsewhere.asked != 0 {
		t.Error("a redirect was followed")
	}
}

func TestFlapping(t *testing.T) {
	s, h := newBundleServer(t), newHolder(t)
	pools := []string{"a", "b"}
	versions := [][]byte{version(t, "a"), version(t, "b")}
	s.put(versions[0], `"0"`)
	h.start(s.config())
	for i := range 20 {
		s.put(versions[i%2], fmt.Sprintf(`"%d"`, i))
		if i%3 == 0 {
			s.set(func(s *bundleServer) { s.status = 503 })
			h.poll()
			s.set(func(s *bundleServer) { s.status = 0 })
		}
		h.poll()
		h.want(pools[i%2])
	}
	if n := len(h.feed.previous); n != maxPrevious {
		t.Errorf("%d earlier policies are kept, want %d", n, maxPrevious)
	}
	if err := h.put(h.feed.Back); err != nil {
		t.Fatal(err)
	}
	for i, r := range h.feed.previous[:cap(h.feed.previous)] {
		if i >= len(h.feed.previous) && r != nil {
			t.Errorf("one that no rollback goes to is still held: %s, at %d", r.revision, i)
		}
	}
}

// A gateway starts on the bundle it kept when the server is away, if it is still good, and goes on asking.
func TestStartWithoutServer(t *testing.T) {
	key := newSigner(t, "EdDSA")
	s := newBundleServer(t)
	s.put(packed(t, "one", key, "mine.rego", to("one"), dataFile, why), `"1"`)
	cfg := s.config()
	cfg.Bundle.Keys, cfg.Bundle.Keep = key.key(), t.TempDir()
	first := newHolder(t)
	first.start(cfg)
	s.set(func(s *bundleServer) { s.status = 503 })

	second := newHolder(t)
	second.start(cfg)
	second.want("one")
	if second.feed.failures == 0 || second.feed.interval() > 2*time.Second || !strings.Contains(second.log.String(), "the bundle kept on disk takes its place") {
		t.Errorf("next poll in %v: %s", second.feed.interval(), second.log)
	}
	s.set(func(s *bundleServer) { s.status = 0 })
	s.put(packed(t, "two", key, "mine.rego", to("two"), dataFile, why), `"2"`)
	second.poll()
	second.want("two")

	s.set(func(s *bundleServer) { s.status = 503 })
	third := newHolder(t)
	third.start(cfg)
	third.want("two")

	file := cfg.Bundle.kept()
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kept as %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"damaged": func() error {
			return os.WriteFile(file, append(raw[:len(raw)/2:len(raw)/2], raw[len(raw)/2+1:]...), 0o600)
		},
		"not signed":     func() error { return os.WriteFile(file, version(t, "evil"), 0o600) },
		"open to others": func() error { return errors.Join(os.WriteFile(file, raw, 0o600), os.Chmod(filepath.Dir(file), 0o777)) },
		"gone":           func() error { return errors.Join(os.Chmod(filepath.Dir(file), 0o700), os.Remove(file)) },
	} {
		_ = os.Chmod(filepath.Dir(file), 0o700)
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := newHolder(t).reload(cfg); err == nil || !strings.Contains(err.Error(), "answered 503") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A reload that says where to keep the bundle has it kept there, though the bundle itself did not change.
func TestReloadSaysWhereToKeep(t *testing.T) {
	key, next := newSigner(t, "ES256"), newSigner(t, "ES256")
	signed := func(pool string, by signer) []byte { return packed(t, pool, by, "mine.rego", to(pool), dataFile, why) }
	s, h := newBundleServer(t), newHolder(t)
	s.put(signed("one", key), `"1"`)
	cfg := s.config()
	cfg.Bundle.Keys = key.key()
	h.start(cfg)
	startsWith := func(what, pool string) {
		t.Helper()
		s.set(func(s *bundleServer) { s.status = 503 })
		defer s.set(func(s *bundleServer) { s.status = 0 })
		again := newHolder(t)
		if err := again.reload(cfg); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		again.want(pool)
	}
	cfg.Bundle.Keep = t.TempDir()
	h.start(cfg)
	startsWith("keep is set", "one")
	cfg.Bundle.Keep = t.TempDir()
	h.start(cfg)
	startsWith("keep is another folder", "one")
	s.put(signed("one", next), `"2"`)
	cfg.Bundle.Keys = next.key()
	h.start(cfg)
	startsWith("the same is signed with another key", "one")
	s.put(signed("two", next), `"3"`)
	h.poll()
	if err := h.put(h.feed.Back); err != nil {
		t.Fatal(err)
	}
	cfg.Bundle.Keep = t.TempDir()
	h.start(cfg)
	startsWith("keep is set after a rollback", "one")

	written, err := os.Stat(cfg.Bundle.kept())
	if err != nil {
		t.Fatal(err)
	}
	h.start(cfg)
	if now, err := os.Stat(cfg.Bundle.kept()); err != nil || !os.SameFile(written, now) {
		t.Errorf("a reload that changes nothing writes it again: %v", err)
	}
}

func TestReadOnlyKeepsNothing(t *testing.T) {
	s := newBundleServer(t)
	s.put(version(t, "one"), "")
	cfg := s.config()
	cfg.Bundle.Keep = t.TempDir()
	h := newHolder(t)
	h.feed = NewFeed(FeedOptions{Role: "policy", Log: slog.New(slog.DiscardHandler), Register: prometheus.NewRegistry(), ReadOnly: true})
	h.start(cfg)
	if list, _ := os.ReadDir(cfg.Bundle.Keep); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
}

func TestRollback(t *testing.T) {
	s, h := newBundleServer(t), newHolder(t)
	s.put(version(t, "a"), `"a"`)
	h.start(s.config())
	if err := h.put(h.feed.Back); !errors.Is(err, ErrNoPrevious) {
		t.Errorf("with nothing before: %v", err)
	}
	if err := h.put(h.feed.Forward); !errors.Is(err, ErrNotHeld) {
		t.Errorf("resume with nothing rolled back: %v", err)
	}
	for _, pool := range []string{"b", "c"} {
		s.put(version(t, pool), `"`+pool+`"`)
		h.poll()
	}
	do := func(choose chooser, pool string, held bool, previous ...string) {
		t.Helper()
		if err := h.put(choose); err != nil {
			t.Fatal(err)
		}
		h.want(pool)
		if st := h.feed.Status(); st.Held != held || !slices.Equal(st.Previous, previous) || st.Revision != pool {
			t.Errorf("got %+v", st)
		}
	}
	do(h.feed.Back, "b", true, "a")
	h.poll() // the source still holds c
	h.want("b")
	h.start(*h.cfg) // and so it does on a reload
	h.want("b")
	do(h.feed.Back, "a", true)
	if err := h.put(h.feed.Back); !errors.Is(err, ErrNoPrevious) {
		t.Errorf("further back: %v", err)
	}
	do(h.feed.Forward, "c", false, "a")
	do(h.feed.Back, "a", true)
	s.put(version(t, "d"), `"d"`) // the source changes: that is taken
	h.poll()
	h.want("d")
	if st := h.feed.Status(); st.Held || !slices.Equal(st.Previous, []string{"a"}) {
		t.Errorf("got %+v", st)
	}
	h.pools = []string{"d"} // a pool that an earlier policy needs is gone
	if err := h.put(h.feed.Back); err == nil || !strings.Contains(err.Error(), `there is no pool "a"`) {
		t.Errorf("to a policy that fits no more: %v", err)
	}
	h.want("d")
	for _, want := range []string{"revision=b was=c", `revision=c was=a source=` + s.URL + `/nexus.tar.gz by="a resume"`, `by="a rollback"`} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("the log does not say %s: %s", want, h.log)
		}
	}
}

// What stays in force through a reload is in force since it came, whatever else the reload changes.
func TestReloadDoesNotSetTheTimeBack(t *testing.T) {
	s := newBundleServer(t)
	s.put(version(t, "one"), `"1"`)
	bundle, folder := s.config(), testConfig()
	folder.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(folder.Dir, "a.rego"), []byte(to("one")), 0o600); err != nil {
		t.Fatal(err)
	}
	moved := bundle
	moved.Bundle.Poll = time.Hour
	for _, tt := range []struct {
		name         string
		first, again Config
	}{{"a folder", folder, folder}, {"a bundle", bundle, bundle}, {"a bundle with other settings", bundle, moved}} {
		h := newHolder(t)
		h.start(tt.first)
		since := h.feed.Status().Since
		h.start(tt.again)
		h.start(tt.again)
		if now := h.feed.Status().Since; since.IsZero() || now != since {
			t.Errorf("%s: in force since %v, after a reload since %v", tt.name, since, now)
		}
	}
}

func TestRollbackOfAFolder(t *testing.T) {
	h, cfg := newHolder(t), testConfig()
	cfg.Dir = t.TempDir()
	write := func(pool string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(cfg.Dir, "a.rego"), []byte(to(pool)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cfg.Dir, dataFile), []byte(why), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	h.start(cfg)
	write("b")
	h.start(cfg)
	if err := h.put(h.feed.Back); err != nil {
		t.Fatal(err)
	}
	h.want("a")
	h.start(cfg) // another file changed
	h.want("a")
	write("c")
	h.start(cfg)
	h.want("c")
	if err := os.WriteFile(filepath.Join(cfg.Dir, "a.rego"), []byte("package nexus.routes\n\na := {"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.reload(cfg); err == nil {
		t.Error("a broken folder was taken")
	}
	if err := h.put(h.feed.Back); err != nil {
		t.Errorf("a folder that is broken now is in the way of a rollback: %v", err)
	}
	h.want("a")
}

// A reload may change where the bundle comes from and how it is verified.
func TestReloadOfABundlesSettings(t *testing.T) {
	key := newSigner(t, "ES256")
	s, other, h := newBundleServer(t), newBundleServer(t), newHolder(t)
	s.put(packed(t, "one", key, "mine.rego", to("one"), dataFile, why), `"1"`)
	other.put(version(t, "two"), `"2"`)
	cfg := s.config()
	cfg.Bundle.Keys = key.key()
	h.start(cfg)
	cfg.Bundle.Keys = newSigner(t, "ES256").key()
	if err := h.reload(cfg); err == nil || !strings.Contains(err.Error(), "verify JWT signature") {
		t.Errorf("with a key that fits no bundle: %v", err)
	}
	h.want("one")
	h.start(other.config())
	h.want("two")
	none := other.config()
	none.Bundle.URL = "http://" + nobodyAt(t) + "/b.tar.gz"
	if err := h.reload(none); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("from a server that is away: %v", err)
	}
	h.want("two")
}

// nobodyAt is an address where nobody listens.
func nobodyAt(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// What a server says that is asked no more is nobody's fault: a reload came while it answered.
func TestAnswersToAFormerConfiguration(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(http.ResponseWriter)
	}{
		{"a damaged bundle", func(w http.ResponseWriter) { _, _ = w.Write(version(t, "two")[:100]) }},
		{"a bundle that is wrong", func(w http.ResponseWriter) {
			_, _ = w.Write(packed(t, "bad", signer{}, "mine.rego", "package nexus.routes\n\na := {\"targets\": 1}"))
		}},
		{"a good bundle", func(w http.ResponseWriter) { _, _ = w.Write(version(t, "two")) }},
		{"an error", func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			var times atomic.Int32
			former := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if times.Add(1) == 1 {
					_, _ = w.Write(version(t, "one"))
					return
				}
				close(asked)
				<-answer
				tt.answer(w)
			}))
			defer former.Close()
			other, h := newBundleServer(t), newHolder(t)
			other.put(version(t, "three"), `"3"`)
			cfg := testConfig()
			cfg.Bundle = testBundle(former.URL + "/former.tar.gz")
			h.start(cfg)
			polled, in := make(chan struct{}), h.cfg
			go func() {
				defer close(polled)
				h.feed.poll(context.Background(), in, func(context.Context) error {
					t.Error("it is put in force")
					return nil
				})
			}()
			<-asked
			h.start(other.config())
			close(answer)
			<-polled
			h.want("three")
			if st := h.feed.Status(); len(st.Refused) > 0 || st.Offered != "" || st.Poll.Error != "" || h.feed.failures != 0 {
				t.Errorf("the present bundle is blamed: %+v, %+v, %d failures", st, st.Poll, h.feed.failures)
			}
		})
	}
}

func TestBundleByTLS(t *testing.T) {
	s := &bundleServer{raw: version(t, "one")}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	defer s.Close()
	h := newHolder(t)
	cfg := s.config()
	if err := h.reload(cfg); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody's: %v", err)
	}
	cfg.Bundle.TLS.CA = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(cfg.Bundle.TLS.CA, pemOf(s.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.reload(cfg); err == nil {
		t.Error("without a certificate of its own it is served")
	}
	cfg.Bundle.TLS.Cert, cfg.Bundle.TLS.Key = pair(t)
	h.start(cfg)
	h.want("one")
}

// pair is a certificate and its key, in files.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	err = errors.Join(os.WriteFile(cert, pemOf(der), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestIntervals(t *testing.T) {
	h := newHolder(t)
	if d := h.feed.interval(); d < 50*time.Minute {
		t.Errorf("without a bundle it is asked for every %v", d)
	}
	cfg := testConfig()
	cfg.Bundle = testBundle("https://h/b")
	h.feed.cfg = &cfg
	for failures, want := range map[int]time.Duration{0: time.Minute, 1: time.Second, 2: 2 * time.Second, 8: 128 * time.Second, 9: 256 * time.Second, 10: maxBackoff, 1000: maxBackoff} {
		h.feed.failures = failures
		seen := map[time.Duration]bool{}
		for range 100 {
			d := h.feed.interval()
			if seen[d] = true; d < want*9/10 || d > want*11/10 {
				t.Errorf("after %d failures: %v, want about %v", failures, d, want)
			}
		}
		if len(seen) < 50 {
			t.Errorf("after %d failures: always the same", failures)
		}
	}
}

// Run asks when its time has come and when it is poked, and ends with its context.
func TestRun(t *testing.T) {
	s, h := newBundleServer(t), newHolder(t)
	s.put(version(t, "one"), `"1"`)
	h.start(s.config())
	s.put(version(t, "two"), `"2"`)
	ctx, cancel := context.WithCancel(t.Context())
	swapped := make(chan struct{}, 1)
	done := make(chan error)
	go func() {
		done <- h.feed.Run(ctx, func(context.Context) error {
			swapped <- struct{}{}
			return h.put(h.feed.Prepare)
		})
	}()
	h.feed.Poke()
	<-swapped
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	h.want("two")
}

// Off forgets what was in force: a policy that is turned on again begins anew.
func TestOff(t *testing.T) {
	s, h := newBundleServer(t), newHolder(t)
	s.put(version(t, "one"), `"1"`)
	cfg := s.config()
	h.start(cfg)
	h.feed.Off()
	if st := h.feed.Status(); st.Revision != "" || st.Poll != nil {
		t.Errorf("got %+v", st)
	}
	s.put(version(t, "two"), `"2"`)
	h.start(cfg)
	h.want("two")
}

// With a least revision, an old bundle does not come back for being signed rightly: not while the gateway runs, nor at its
// next start, where the one that was kept decides. An operator may still go back.
func TestOldBundlesAreRefused(t *testing.T) {
	key := newSigner(t, "ES256")
	signed := func(revision, pool string) []byte {
		return packed(t, revision, key, "mine.rego", to(pool), dataFile, why)
	}
	s, h := newBundleServer(t), newHolder(t)
	s.put(signed("b9", "nine"), `"9"`)
	cfg := s.config()
	cfg.Bundle.Keys, cfg.Bundle.Keep, cfg.Bundle.MinRevision = key.key(), t.TempDir(), "b9"
	h.start(cfg)
	s.put(signed("b10", "ten"), `"10"`)
	h.poll()
	h.want("ten")
	refuses := func(raw []byte, tag, want string) {
		t.Helper()
		s.put(raw, tag)
		for range 2 {
			h.poll()
			h.want("ten")
		}
		if told := h.feed.Status().Refused; len(told) != 1 || !strings.Contains(told[0], want) {
			t.Errorf("refused for %q, want %q", told, want)
		}
		h.start(cfg) // nor does a reload take it, or fail for it
		h.want("ten")
	}
	refuses(signed("b9", "nine"), `"9"`, "nexus.tar.gz: its revision b9 comes before b10, which was in force")
	refuses(signed("", "none"), `"?"`, "has no revision, which bundle.min_revision asks for")
	if n := strings.Count(h.log.String(), "bundle refused"); n != 2 {
		t.Errorf("told %d times in the log: %s", n, h.log)
	}

	s.put(signed("b9", "nine"), `"9"`)
	again := newHolder(t)
	again.start(cfg)
	again.want("ten")
	if poll := again.feed.Status().Poll; poll.Result != pollRefused || !strings.Contains(poll.Error, "b9 comes before b10") || !strings.Contains(again.log.String(), "the bundle kept on disk takes its place") {
		t.Errorf("at a start: %+v, %s", poll, again.log)
	}
	bare := cfg
	bare.Bundle.Keep = ""
	bare.Bundle.MinRevision = "b9.1"
	if err := newHolder(t).reload(bare); err == nil || !strings.Contains(err.Error(), "its revision b9 comes before b9.1, bundle.min_revision") {
		t.Errorf("at a start with nothing kept: %v", err)
	}

	if err := h.put(h.feed.Back); err != nil {
		t.Fatal(err)
	}
	h.want("nine")
	s.put(signed("b9.5", "between"), `"9.5"`)
	h.poll()
	h.want("nine")
	s.put(signed("b11", "eleven"), `"11"`)
	h.poll()
	h.want("eleven")

	free := cfg // without a least revision everything is as it was
	free.Bundle.MinRevision = ""
	h.start(free)
	s.put(signed("b9", "nine"), `"9"`)
	h.poll()
	h.want("nine")
	other := newBundleServer(t) // whose revisions are others
	other.put(signed("b1", "one"), `"1"`)
	next := other.config()
	next.Bundle.Keys, next.Bundle.MinRevision = key.key(), "b0"
	h.start(next)
	h.want("one")
}

func TestByRevision(t *testing.T) {
	rising := []string{"", "0", "1", "9", "10", "10-1", "10.9", "10.10", "10.10.1", "2026-11-30", "2026-12-01T08:00:00Z", "b1", "r", "r9", "r010", "r11", "v1.9.0", "v1.10.0"}
	for i, a := range rising {
		for j, b := range rising {
			if got := byRevision(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%q and %q: %d", a, b, got)
			}
		}
	}
	if got := byRevision("r007", "r7"); got != 0 {
		t.Errorf("r007 and r7: %d", got)
	}
}
