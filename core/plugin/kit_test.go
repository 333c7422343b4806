package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// modules are guests built from source once per test run, by their package's path.
var built = struct {
	sync.Mutex
	byPath map[string][]byte
}{byPath: map[string][]byte{}}

const (
	piiMask = "../../plugins/pii-mask"
	hostile = "./testdata/hostile"
	echo    = "./testdata/echo"
)

// guest builds the module of a package.
func guest(t testing.TB, path string) []byte {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if wasm, ok := built.byPath[path]; ok {
		return wasm
	}
	out := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", out, path)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", path, err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	built.byPath[path] = wasm
	return wasm
}

// decode reads a manifest as the gateway does: strictly and with its defaults.
func decode(name string, data []byte, into any) error {
	m := into.(*Manifest)
	*m = Manifest{ABI: 1, OnError: onDeny, Memory: 32 << 20, Deadline: 50 * time.Millisecond, MaxHold: 256}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(m); err != nil && err != io.EOF {
		return fmt.Errorf("%s: %w", name, err)
	}
	p := setting.NewProblems()
	m.Validate(p)
	if all := p.All(); len(all) > 0 {
		return fmt.Errorf("%s: %v", name, all)
	}
	return nil
}

const hostileManifest = `
name: hostile
hooks: [on_request, on_text]
kinds: [A, B]
deadline: 100ms
`

// folder holds the shipped plugin, under two names, and the hostile one.
func folder(t testing.TB) fstest.MapFS {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(piiMask, "manifest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.Replace(manifest, []byte("name: pii-mask"), []byte("name: second"), 1)
	return fstest.MapFS{
		"pii-mask.wasm": {Data: guest(t, piiMask)}, "pii-mask.yaml": {Data: manifest},
		"second.wasm": {Data: guest(t, piiMask)}, "second.yaml": {Data: second},
		"hostile.wasm": {Data: guest(t, hostile)}, "hostile.yaml": {Data: []byte(hostileManifest)},
	}
}

func loader(t testing.TB, files fstest.MapFS) *Loader {
	t.Helper()
	l, err := NewLoader(Options{Shipped: files, Decode: decode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// cacheDir is where all loaders of the test run keep compiled code.
func cacheDir(t testing.TB) string {
	t.Helper()
	dir, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var compiled = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "nexus-plugin-test") })

// kept is one loader for the tests that need none of their own, and the sets it has loaded: compiling
// takes a second. TestMain closes them.
var kept = struct {
	sync.Mutex
	loader *Loader
	sets   map[string]*Set
}{sets: map[string]*Set{}}

func TestMain(m *testing.M) {
	if os.Getenv(asWatch) != "" {
		watchMain()
		return
	}
	code := m.Run()
	time.AfterFunc(time.Minute, func() { panic("a set does not close: a test ended while it had an instance") })
	for _, s := range kept.sets {
		if err := s.Close(); err != nil {
			panic(err)
		}
	}
	if err := closeJudges(); err != nil {
		panic(err)
	}
	if kept.loader != nil {
		if err := kept.loader.Close(); err != nil {
			panic(err)
		}
	}
	if dir, err := compiled(); err == nil {
		_ = os.RemoveAll(dir)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// set loads a chain.
func set(t testing.TB, chain ...Entry) *Set {
	t.Helper()
	files := folder(t)
	kept.Lock()
	defer kept.Unlock()
	name := fmt.Sprint(chain)
	if s := kept.sets[name]; s != nil {
		return s
	}
	if kept.loader == nil {
		l, err := NewLoader(Options{Shipped: files, Decode: decode})
		if err != nil {
			t.Fatal(err)
		}
		kept.loader = l
	}
	s, err := kept.loader.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	kept.sets[name] = s
	return s
}

// stage loads a chain and returns its stage.
func stage(t testing.TB, chain ...Entry) *Stage {
	t.Helper()
	return set(t, chain...).Stage()
}

// newCall makes a call of a body.
func newCall(t testing.TB, e llm.Endpoint, body string) *pipeline.Call {
	t.Helper()
	r := &llm.Request{Endpoint: e}
	if err := llm.ParseRequest(e, []byte(body), r); err != nil {
		t.Fatal(err)
	}
	return &pipeline.Call{ID: "req-1", Route: e, Request: r}
}

// answers is a handler that answers with a stream.
func answers(e llm.Endpoint, body io.Reader) pipeline.Handler {
	return pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		return &llm.Reply{Status: 200, Header: http.Header{}, Stream: &backend{r: llm.NewReader(body, e, 0)}}, nil
	})
}

// answersWhole answers with one body.
func answersWhole(e llm.Endpoint, body string) pipeline.Handler {
	return pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		v := &llm.View{}
		if err := v.Scan(e, false, []byte(body)); err != nil {
			return nil, err
		}
		c := llm.Chunk{Raw: []byte(body), Data: []byte(body), Kind: llm.Body, View: v}
		return &llm.Reply{Status: 200, Header: http.Header{"Content-Length": {"1"}}, Stream: llm.One(c)}, nil
	})
}

type backend struct {
	r      *llm.Reader
	closed int
}

func (s *backend) Next() (llm.Chunk, error) { return s.r.Next() }
func (s *backend) Close() error             { s.closed++; return nil }

// drain reads a reply to its end as a client does, and returns the bytes it got.
func drain(s llm.Stream) (string, error) {
	var b strings.Builder
	for {
		c, err := s.Next()
		if err == io.EOF {
			return b.String(), s.Close()
		}
		if err != nil {
			return b.String(), errors.Join(err, s.Close())
		}
		b.Write(c.Raw)
		if err := checkView(c); err != nil {
			return b.String(), err
		}
	}
}

// checkView compares what a chunk's view says with what its payload does.
func checkView(c llm.Chunk) error {
	if c.View == nil {
		return nil
	}
	endpoint := llm.Chat
	if c.View.Type != "" {
		endpoint = llm.Responses
	}
	var v llm.View
	if err := v.Scan(endpoint, c.Kind != llm.Body, c.Data); err != nil {
		return err
	}
	if got, want := fmt.Sprintf("%+v", *c.View), fmt.Sprintf("%+v", v); got != want {
		return fmt.Errorf("the view of %s is\n%s, not\n%s", c.Data, got, want)
	}
	return nil
}

// through sends a stream through a stage and returns what the client gets.
func through(t testing.TB, s *Stage, e llm.Endpoint, body string) string {
	t.Helper()
	text, err := throughErr(t, s, e, body)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return text
}

func throughErr(t testing.TB, s *Stage, e llm.Endpoint, body string) (string, error) {
	t.Helper()
	c := newCall(t, e, bodies[e])
	reply, err := s.Handle(context.Background(), c, answers(e, strings.NewReader(body)))
	if err != nil {
		return "", err
	}
	return drain(reply.Stream)
}

var bodies = map[llm.Endpoint]string{
	llm.Chat:        `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`,
	llm.Completions: `{"model":"m","stream":true,"prompt":"hi"}`,
	llm.Responses:   `{"model":"m","stream":true,"input":"hi"}`,
}

// texts gathers what a client's streams of text say, lane by lane.
func texts(t testing.TB, e llm.Endpoint, body string) map[key]string {
	t.Helper()
	all := map[key]string{}
	r := llm.NewReader(strings.NewReader(body), e, 0)
	for {
		c, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil || c.Kind == llm.Malformed {
			t.Fatalf("the client got what it cannot read: %v\n%s", err, body)
		}
		if c.View == nil {
			continue
		}
		for _, x := range c.View.Texts {
			if !x.Whole {
				all[keyOf(x)] += string(llm.AppendText(nil, c.Data, x))
			}
		}
	}
}

func quote(s string) string { return string(llm.AppendString(nil, s)) }
