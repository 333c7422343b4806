package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(keptCode())
		os.Exit(code)
	}))
}

// echo adds its two parameters by way of a host function that looks at them.
func echo() []byte {
	d := &draft{}
	pair := d.typ([]Type{I64}, []Type{I32})
	narrow := d.typ([]Type{I32}, []Type{I32})
	h := d.imp("test", "same", narrow)
	d.memory(1, 100)
	d.fn("run", pair, 0, ops(opLocalGet, 0, 0xa7, opCall), u(h)) // the upper half is garbage that wrapping need not clear
	t := d.typ(nil, nil)
	d.fn("trap", t, 0, ops(opUnreachable))
	d.fn("grow", narrow, 0, ops(opLocalGet, 0, opMemoryGrow, 0))
	return d.bytes()
}

var narrowHost = []HostFunc{{
	Module: "test", Name: "same", Signature: Signature{[]Type{I32}, []Type{I32}},
	Func: func(g *Guest, stack []uint64) {
		if stack[0]>>32 != 0 {
			g.Stop(errors.New("garbage in the upper half"))
		}
		if left := g.Remaining(); left <= 0 || left > time.Second {
			g.Stop(fmt.Errorf("%v remain", left))
		}
		g.Charge(1000)
		if stack[0] == 13 {
			panic("unlucky")
		}
		if stack[0] == 14 {
			g.Stop(errors.New("stopped"))
		}
	},
}}

func TestHostFunctions(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost})
	f := function(t, p, "run")
	for _, tt := range []struct {
		arg  uint64
		want string
	}{{0xdeadbeef00000007, ""}, {13, "host: host function test.same: unlucky"}, {14, "host: stopped"}} {
		g := get(t, p)
		got, err := g.Call(context.Background(), f, tt.arg)
		if used := g.Used(); used < 1000 || used > 1200 {
			t.Errorf("run(%#x) used %d units", tt.arg, used)
		}
		p.Put(g)
		if tt.want == "" && (err != nil || uint32(got) != uint32(tt.arg)) {
			t.Errorf("run(%#x) = %#x, %v", tt.arg, got, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("run(%#x): error is %v, want %q in it", tt.arg, err, tt.want)
		}
	}
}

func TestMisuse(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost})
	g := get(t, p)
	defer p.Put(g)
	for _, err := range []error{second(g.Call(context.Background(), Func{})), second(g.Call(context.Background(), function(t, p, "run")))} {
		var fault *Fault
		if !errors.As(err, &fault) || fault.Kind != Misuse {
			t.Errorf("error is %v", err)
		}
	}
	if _, err := g.Call(context.Background(), function(t, p, "run"), 5); err != nil {
		t.Errorf("the guest is broken by the caller's mistake: %v", err)
	}
	if _, ok := p.Func("no such"); ok {
		t.Error("an export that is not there was found")
	}
	if _, ok := g.Read(65530, 7); ok || g.Write(65535, []byte("ab")) || !g.Write(65534, []byte("ab")) {
		t.Error("memory's end is not where it should be")
	}
}

func second(_ uint64, err error) error { return err }

func TestRecycle(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost, Instances: 1, Limits: Limits{Memory: 100}})
	for _, tt := range []struct {
		pages    uint64
		recycled int64
	}{{10, 0}, {60, 0}, {10, 1}, {10, 1}} {
		g := get(t, p)
		if _, err := g.Call(context.Background(), function(t, p, "grow"), tt.pages); err != nil {
			t.Fatal(err)
		}
		p.Put(g)
		if got := p.Stats().Recycled; got != tt.recycled {
			t.Errorf("recycled %d after %d more pages, want %d", got, tt.pages, tt.recycled)
		}
	}
}

func TestGetWaits(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost, Instances: 1})
	g := get(t, p)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := p.Get(ctx)
	var fault *Fault
	if !errors.As(err, &fault) || fault.Kind != Canceled || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	p.Put(g)
	p.Put(g) // does nothing
	if s := p.Stats(); s.Idle != 1 || s.Instances != 1 {
		t.Errorf("stats are %+v", s)
	}
}

func TestCloseWaits(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost})
	g := get(t, p)
	var closed atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		closed.Store(true)
	})
	<-p.done
	if got, err := g.Call(context.Background(), function(t, p, "run"), 5); got != 5 || err != nil || closed.Load() {
		t.Errorf("a guest that is out gave %d, %v; closed: %v", got, err, closed.Load())
	}
	if _, err := p.Get(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Get gave %v", err)
	}
	p.Put(g)
	wg.Wait()
	if s := p.Stats(); s.Instances != 0 || s.Memory != 0 {
		t.Errorf("stats are %+v", s)
	}
}

func TestCanceled(t *testing.T) {
	p := load(t, single(0, ops(opLoop, blockEmpty, opBr, 0, opEnd)), Options{Limits: Limits{Deadline: time.Minute}})
	g := get(t, p)
	defer p.Put(g)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	_, err := g.Call(ctx, function(t, p, "run"))
	var fault *Fault
	if !errors.As(err, &fault) || fault.Kind != Canceled || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

// TestPoolHammer: many goroutines, few instances, some calls that trap: no guest is ever held twice, and every
// good call gets its own answer.
func TestPoolHammer(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost, Instances: 3, Limits: Limits{Deadline: time.Second}})
	run, trap := function(t, p, "run"), function(t, p, "trap")
	ctx := context.Background()
	var out atomic.Int64
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for i := range 200 {
				g, err := p.Get(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if held := out.Add(1); held > 3 || g.Data != nil {
					t.Errorf("%d guests are out; this one has data %v", held, g.Data)
				}
				g.Data = n
				want := uint64(100 + n*1000 + i)
				if got, err := g.Call(ctx, run, want); got != want || err != nil {
					t.Errorf("call gave %d, %v", got, err)
				}
				if i%10 == 0 {
					_, _ = g.Call(ctx, trap)
				}
				out.Add(-1)
				p.Put(g)
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.Calls != 16*220 || s.Faults[Trap] != 16*20 || s.Instances > 3 || s.Made < 16*20 {
		t.Errorf("stats are %+v", s)
	}
}

func TestNothingIsShared(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost, Instances: 2})
	a, b := get(t, p), get(t, p)
	defer p.Put(a)
	defer p.Put(b)
	a.Write(100, []byte("canary"))
	if got, _ := b.Read(100, 6); string(got) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("the other guest reads %q", got)
	}
}

func TestStart(t *testing.T) {
	var started atomic.Int64
	o := Options{Hosts: narrowHost, Start: func(ctx context.Context, g *Guest) error {
		f, _ := g.pool.Func("run")
		if _, err := g.Call(ctx, f, uint64(started.Add(1))); err != nil {
			return err
		}
		return nil
	}}
	p := load(t, echo(), o)
	if started.Load() != 1 || p.Stats().Made != 1 {
		t.Errorf("started %d times, stats are %+v", started.Load(), p.Stats())
	}
	started.Store(13)
	if _, err := sharedEngine().Load(context.Background(), echo(), o); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("a failing start gave %v", err)
	}
}

func TestEngineDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	for range 2 { // the second time code comes from the disk
		e, err := NewEngine(dir)
		if err != nil {
			t.Fatal(err)
		}
		p, err := e.Load(context.Background(), echo(), Options{Name: "echo", Hosts: narrowHost})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Close(), p.Close(), e.Close(), e.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory is %v, %v", info, err)
	}
	spoil := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := NewEngine(dir); err == nil || !strings.Contains(err.Error(), "others could put code there") {
			t.Errorf("%s with mode %v: error is %v", path, mode, err)
		}
	}
	spoil(dir, 0o770)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	if len(files) == 0 {
		t.Fatal("nothing was cached")
	}
	spoil(files[0], 0o606)
}

// TestEngineDirectoryInUse: another engine at work in the directory writes files there and renames them.
func TestEngineDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var other sync.WaitGroup
	other.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			sub := filepath.Join(dir, strconv.Itoa(i%2))
			_ = os.Mkdir(sub, 0o700)
			_ = os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), nil, 0o600)
			_ = os.RemoveAll(sub)
		}
	})
	for range 2000 {
		if err := privateDir(dir); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	other.Wait()
}

// TestDamagedCache: what a crash or a full disk has left in the cache costs a compilation, not the start.
func TestDamagedCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	spoil := []func([]byte) []byte{
		func(b []byte) []byte { return b },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return b[:20] },
		func([]byte) []byte { return nil },
	}
	for i, spoil := range spoil {
		files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, spoil(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		e, err := NewEngine(dir)
		if err != nil {
			t.Fatal(err)
		}
		p, err := e.Load(context.Background(), echo(), Options{Name: "echo", Hosts: narrowHost})
		if err != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		if err := errors.Join(p.Close(), e.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSameModuleTwice: a reload makes a second pool of the same module and closes the first; the second goes on.
func TestSameModuleTwice(t *testing.T) {
	old, err := sharedEngine().Load(context.Background(), echo(), Options{Name: "old", Hosts: narrowHost})
	if err != nil {
		t.Fatal(err)
	}
	p := load(t, echo(), Options{Hosts: narrowHost})
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	g := get(t, p)
	defer p.Put(g)
	if got, err := g.Call(context.Background(), function(t, p, "run"), 5); got != 5 || err != nil {
		t.Errorf("call gave %d, %v", got, err)
	}
	if err := second(g.Call(context.Background(), function(t, p, "trap"))); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("trap gave %v", err)
	}
}

// TestDefaultSize: where nothing is said of it, a pool has as many instances as Go has processors, and not one more.
func TestDefaultSize(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	p := load(t, echo(), Options{Hosts: narrowHost})
	var out []*Guest
	for range 3 {
		out = append(out, get(t, p))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if g, err := p.Get(ctx); err == nil {
		out = append(out, g)
		t.Error("a fourth guest of three processors")
	}
	if n := p.Stats().Instances; n != 3 {
		t.Errorf("%d instances, want 3", n)
	}
	for _, g := range out {
		p.Put(g)
	}
}
