package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var buildGuest = sync.OnceValues(func() ([]byte, error) { return buildGo("./testdata/guest") })

// buildGo builds a folder of Go into a module.
func buildGo(dir string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "sandbox-guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "guest.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", out, dir)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return nil, &exec.Error{Name: stderr.String(), Err: err}
	}
	return os.ReadFile(out)
}

var buildCGuest = sync.OnceValues(func() ([]byte, error) {
	tmp, err := os.MkdirTemp("", "sandbox-guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "scan.wasm")
	cmd := exec.Command("clang", "--target=wasm32", "-O2", "-nostdlib", "-fno-builtin", "-Wl,--no-entry", "-o", out, "testdata/c/scan.c")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(out)
})

// cGuest is the module of testdata/c. Without a C compiler for Wasm the test is skipped, and says so.
func cGuest(t testing.TB) []byte {
	t.Helper()
	wasm, err := buildCGuest()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skipf("SKIPPED %s: clang is not installed (Debian: clang lld)", t.Name())
	}
	if err != nil {
		t.Fatalf("build testdata/c: %v", err)
	}
	return wasm
}

// goGuest is the module of testdata/guest, built by the Go toolchain once.
func goGuest(t testing.TB) []byte {
	t.Helper()
	wasm, err := buildGuest()
	if err != nil {
		t.Fatalf("build testdata/guest: %v", err)
	}
	return wasm
}

var sharedEngine = sync.OnceValue(func() *Engine {
	e, err := NewEngine("")
	if err != nil {
		panic(err)
	}
	return e
})

// keptCode is where the code of large modules is kept for the run: a pool that closes forgets it, and to compile a Go
// guest under the race detector takes ten seconds.
var keptCode = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "sandbox-code")
	if err != nil {
		panic(err)
	}
	return dir
})

var keepingEngine = sync.OnceValue(func() *Engine {
	e, err := NewEngine(keptCode())
	if err != nil {
		panic(err)
	}
	return e
})

// load makes a pool that is closed with the test.
func load(t testing.TB, wasm []byte, o Options) *Pool {
	t.Helper()
	o.Name = t.Name()
	engine := sharedEngine
	if len(wasm) > 1<<20 {
		engine = keepingEngine
	}
	p, err := engine().Load(context.Background(), wasm, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func get(t testing.TB, p *Pool) *Guest {
	t.Helper()
	g, err := p.Get(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func function(t testing.TB, p *Pool, name string) Func {
	t.Helper()
	f, ok := p.Func(name)
	if !ok {
		t.Fatalf("no export %s", name)
	}
	return f
}

const sampleText = "Dear Ms Kim, your card 4111-1111-1111-1111 and mail jane@example.com are on file, call 010-1234-5678. "

func TestGoGuest(t *testing.T) {
	p := load(t, goGuest(t), Options{WASI: true, Limits: Limits{Deadline: 5 * time.Second}})
	g := get(t, p)
	defer p.Put(g)
	ctx := context.Background()

	if got, err := g.Call(ctx, function(t, p, "add"), 40, 2); got != 42 || err != nil {
		t.Errorf("add(40, 2) = %d, %v", got, err)
	}
	at, err := g.Call(ctx, function(t, p, "buffer"))
	if err != nil {
		t.Fatal(err)
	}
	g.Write(uint32(at), []byte(sampleText))
	if got, err := g.Call(ctx, function(t, p, "scan"), uint64(len(sampleText))); got != 3 || err != nil {
		t.Errorf("scan = %d, %v", got, err)
	}
	text, _ := g.Read(uint32(at), uint32(len(sampleText)))
	want := "Dear Ms Kim, your card " + strings.Repeat("*", 19) + " and mail " + strings.Repeat("*", 16) + " are on file, call " + strings.Repeat("*", 13) + ". "
	if string(text) != want {
		t.Errorf("scanned text is %q", text)
	}
}
