package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const scarceEnv = "NEXUS_SANDBOX_SCARCE"

// TestScarce: where the kernel refuses files, memory or address space, owners stay apart or get an error, and the
// process lives. Each case runs in a process of its own, as a limit cannot be taken back.
func TestScarce(t *testing.T) {
	for name := range scarcities {
		if racing && name != "no files" && name != "few files" {
			continue // see racing
		}
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestScarceChild$", "-test.v")
			cmd.Env = append(os.Environ(), scarceEnv+"="+name)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestScarceChild") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func limit(t *testing.T, resource int, most uint64) {
	t.Helper()
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		t.Fatal(err)
	}
}

var scarcities = map[string]func(*testing.T){
	"no files":   func(t *testing.T) { limit(t, unix.RLIMIT_NOFILE, 0) },
	"few files":  func(t *testing.T) { files, _, _ := held(t); limit(t, unix.RLIMIT_NOFILE, uint64(files)) },
	"no space":   func(t *testing.T) { limit(t, unix.RLIMIT_AS, statm(t, 0)+64<<20) },
	"no memory":  func(t *testing.T) { limit(t, unix.RLIMIT_DATA, statm(t, 5)+48<<20) },
	"all locked": func(*testing.T) { _ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE) },
}

// statm is a number of bytes that the kernel tells of this process: all of its address space, or its data.
func statm(t *testing.T, field int) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var n [6]uint64
	if _, err := fmt.Sscan(string(b), &n[0], &n[1], &n[2], &n[3], &n[4], &n[5]); err != nil {
		t.Fatal(err)
	}
	return n[field] * uint64(os.Getpagesize())
}

func TestScarceChild(t *testing.T) {
	name := os.Getenv(scarceEnv)
	if name == "" {
		t.Skip("it is run by TestScarce")
	}
	o := Options{Hosts: narrowHost, Isolate: true, Instances: 64, Limits: Limits{Memory: 100}}
	early := load(t, hoarder(false), o) // has its image before anything is scarce
	scarcities[name](t)
	late, err := sharedEngine().Load(context.Background(), hoarder(false), o)
	if err != nil {
		t.Logf("no pool: %v", err)
		late = early
	} else {
		defer late.Close()
	}
	for _, p := range []*Pool{early, late} {
		crowd(t, p)
	}
	if name == "all locked" { // all of a large guest would be
		return
	}
	large, err := sharedEngine().Load(context.Background(), mover(8000), Options{Isolate: true, Instances: 3, Limits: Limits{Memory: 8000}})
	if err != nil {
		t.Logf("no large guest: %v", err)
		return
	}
	crowd(t, large)
	if err := large.Close(); err != nil {
		t.Error(err)
	}
}

// crowd has many owners on as many guests as there may be, and owner after owner on one.
func crowd(t *testing.T, p *Pool) {
	swap, ok := p.Func("swap")
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			g, err := p.GetFor(context.Background(), fmt.Sprint(n))
			if err != nil {
				var fault *Fault
				t.Logf("no guest: %v (%v)", err, errors.As(err, &fault))
				return
			}
			p.Put(g)
		})
	}
	wg.Wait()
	for owner := range 50 {
		if g, err := p.GetFor(context.Background(), fmt.Sprint("owner ", owner%5)); err == nil && ok {
			saw, err := g.Call(context.Background(), swap, secret(owner%5))
			if err != nil || saw != 0 && saw != own(owner%5) {
				t.Errorf("owner %d sees %#x, %v", owner, saw, err)
			}
			p.Put(g)
		} else if err == nil {
			p.Put(g)
		}
	}
	if s := p.Stats(); s.Waiting != 0 || p.free != p.options.Instances {
		t.Errorf("stats are %+v, %d free", s, p.free)
	}
}
