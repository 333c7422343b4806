package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// watched runs Watch on paths under a clock that stands still while anyone works, so that a sleep is
// exact however busy the machine is; synctest fails when a goroutine outlives the test.
func watched(t *testing.T, changed func(), body func(dir string), paths ...string) {
	t.Helper()
	dir := t.TempDir()
	full := func() []string {
		list := make([]string, len(paths))
		for i, p := range paths {
			list[i] = filepath.Join(dir, p)
		}
		return list
	}
	write(t, filepath.Join(dir, "nexus.yaml"), "ratio: 0")
	must(t, os.MkdirAll(filepath.Join(dir, "policies", "deep"), 0o700))
	write(t, filepath.Join(dir, "policies", "deep", "a.rego"), "package a")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go Watch(ctx, full, 0, changed)
		synctest.Wait()
		body(dir)
		rest(2 * time.Second)
	})
}

// rest sleeps, and lets everything that is due by then be done.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// replace does what editors and deployers do: write aside, then rename.
func replace(t testing.TB, path, text string) {
	t.Helper()
	write(t, path+".tmp", text)
	must(t, os.Rename(path+".tmp", path))
}

func TestWatchSees(t *testing.T) {
	tests := []struct {
		name string
		want int
		do   func(dir string)
	}{
		{"nothing", 0, func(string) {}},
		{"an edit in place", 1, func(dir string) { write(t, filepath.Join(dir, "nexus.yaml"), "ratio: 1") }},
		{"an edit of the same length", 1, func(dir string) { write(t, filepath.Join(dir, "nexus.yaml"), "ratio: 2") }},
		{"a rename over it", 1, func(dir string) { replace(t, filepath.Join(dir, "nexus.yaml"), "ratio: 1") }},
		{"the same text again", 0, func(dir string) { replace(t, filepath.Join(dir, "nexus.yaml"), "ratio: 0") }},
		{"there and back within an interval", 0, func(dir string) {
			write(t, filepath.Join(dir, "nexus.yaml"), "ratio: 1")
			write(t, filepath.Join(dir, "nexus.yaml"), "ratio: 0")
		}},
		{"deletion", 1, func(dir string) { must(t, os.Remove(filepath.Join(dir, "nexus.yaml"))) }},
		{"deletion and return", 2, func(dir string) {
			must(t, os.Remove(filepath.Join(dir, "nexus.yaml")))
			rest(2 * time.Second)
			write(t, filepath.Join(dir, "nexus.yaml"), "ratio: 0")
		}},
		{"a file deep in a directory", 1, func(dir string) { write(t, filepath.Join(dir, "policies", "deep", "a.rego"), "package b") }},
		{"a new file in a directory", 1, func(dir string) { write(t, filepath.Join(dir, "policies", "b.rego"), "package b") }},
		{"a renamed file in a directory", 1, func(dir string) {
			must(t, os.Rename(filepath.Join(dir, "policies", "deep", "a.rego"), filepath.Join(dir, "policies", "deep", "b.rego")))
		}},
		{"an editor's dot file", 0, func(dir string) { write(t, filepath.Join(dir, "policies", ".a.rego.swp"), "x") }},
		{"a file that did not exist", 1, func(dir string) { write(t, filepath.Join(dir, "later"), "x") }},
		{"a directory in a file's place", 1, func(dir string) {
			must(t, os.Remove(filepath.Join(dir, "nexus.yaml")))
			must(t, os.Mkdir(filepath.Join(dir, "nexus.yaml"), 0o700))
		}},
		{"a loop of symlinks", 1, func(dir string) { must(t, os.Symlink(dir, filepath.Join(dir, "policies", "loop"))) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := 0
			watched(t, func() { got++ }, tt.do, "nexus.yaml", "policies", "later")
			if got != tt.want {
				t.Errorf("changed was called %d times, want %d", got, tt.want)
			}
		})
	}
}

// C-32: a kubelet writes a directory, then renames a symlink to it over the old one. Files and
// folders that are mounted are symlinks through that symlink.
func TestWatchConfigMapSwaps(t *testing.T) {
	const swaps = 100
	for _, path := range []string{"volume/nexus.yaml", "volume/policies", "volume"} {
		t.Run(path, func(t *testing.T) {
			var last string
			calls := 0
			dir := ""
			swap := func(n int) {
				volume := filepath.Join(dir, "volume")
				version := fmt.Sprintf("..2026_%d", n)
				must(t, os.Mkdir(filepath.Join(volume, version), 0o700))
				write(t, filepath.Join(volume, version, "nexus.yaml"), fmt.Sprintf("ratio: %d", n))
				must(t, os.Mkdir(filepath.Join(volume, version, "policies"), 0o700))
				write(t, filepath.Join(volume, version, "policies", "a.rego"), fmt.Sprintf("package a%d", n))
				old, _ := os.Readlink(filepath.Join(volume, "..data"))
				must(t, os.Symlink(version, filepath.Join(volume, "..data_tmp")))
				must(t, os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")))
				if old != "" {
					must(t, os.RemoveAll(filepath.Join(volume, old)))
				}
			}
			changed := func() {
				calls++
				data, err := os.ReadFile(filepath.Join(dir, "volume", "nexus.yaml"))
				must(t, err)
				last = string(data)
			}
			watched(t, changed, func(d string) {
				dir = d
				must(t, os.Mkdir(filepath.Join(dir, "volume"), 0o700))
				must(t, os.Symlink("..data/nexus.yaml", filepath.Join(dir, "volume", "nexus.yaml")))
				must(t, os.Symlink("..data/policies", filepath.Join(dir, "volume", "policies")))
				for n := range swaps {
					swap(n)
					rest(2 * time.Second)
					if want := fmt.Sprintf("ratio: %d", n); last != want {
						t.Fatalf("2 s after swap %d: got %q", n, last)
					}
				}
			}, path)
			if calls != swaps {
				t.Errorf("changed was called %d times for %d swaps", calls, swaps)
			}
		})
	}
}

// C-31: a writer that sleeps between its halves is waited for; and when it sleeps too long, half a file
// is not a configuration.
func TestWatchPartialWrites(t *testing.T) {
	const rounds = 1000
	for _, pause := range []time.Duration{100 * time.Millisecond, 5 * time.Second} {
		t.Run(pause.String(), func(t *testing.T) {
			var now sample
			path, halves, applied := "", 0, 0
			changed := func() {
				data, err := os.ReadFile(path)
				must(t, err)
				var s sample
				if _, err := Decode(path, data, &s); err != nil {
					halves++
					return
				}
				now, applied = s, applied+1
			}
			watched(t, changed, func(dir string) {
				path = filepath.Join(dir, "nexus.yaml")
				for n := range rounds {
					text := fmt.Sprintf("requests: %d\nbackends:\n  a: {url: http://a}\n  b: {url: http://b}\n", n)
					write(t, path, text[:len(text)/2])
					rest(pause)
					write(t, path, text)
					rest(2 * time.Second)
					if now.Requests != int64(n) || len(now.Backends) != 2 {
						t.Fatalf("round %d: %+v stands", n, now)
					}
				}
			}, "nexus.yaml")
			if applied != rounds {
				t.Errorf("applied %d of %d", applied, rounds)
			}
			if long := pause > time.Second; long != (halves > 0) {
				t.Errorf("%d halves were seen", halves)
			}
		})
	}
}

// C-33: 50 writes a second for a minute are a handful of changes, and the last one wins within 2 s.
func TestWatchFlapping(t *testing.T) {
	calls, last, path := 0, "", ""
	changed := func() {
		calls++
		data, err := os.ReadFile(path)
		must(t, err)
		last = string(data)
	}
	watched(t, changed, func(dir string) {
		path = filepath.Join(dir, "nexus.yaml")
		for n := range 50 * 60 {
			replace(t, path, fmt.Sprintf("ratio: %d", n))
			rest(20 * time.Millisecond)
		}
		if calls == 0 || calls > 7 {
			t.Errorf("a minute of flapping was reported %d times; want one each %v", calls, maxUnsettled*defaultEvery)
		}
		rest(2 * time.Second)
		if want := "ratio: 2999"; last != want {
			t.Errorf("got %q, want %q", last, want)
		}
	}, "nexus.yaml")
}

func TestWatchOtherPaths(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "x")
	write(t, filepath.Join(dir, "b"), "x")
	var paths []string
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		calls := 0
		set := func(names ...string) {
			mu.Lock()
			defer mu.Unlock()
			paths = nil
			for _, n := range names {
				paths = append(paths, filepath.Join(dir, n))
			}
		}
		set("a")
		list := func() []string { mu.Lock(); defer mu.Unlock(); return paths }
		go Watch(ctx, list, time.Second, func() { calls++ })
		synctest.Wait()
		set("a", "b")
		rest(3 * time.Second)
		if calls != 1 {
			t.Errorf("another path: changed was called %d times", calls)
		}
		write(t, filepath.Join(dir, "b"), "y")
		rest(3 * time.Second)
		if calls != 2 {
			t.Errorf("a change at the new path: changed was called %d times in all", calls)
		}
	})
}

// The same on the machine's own clock, where digests of files that are old enough are kept.
func TestWatchOnTheRealClock(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, path, "ratio: 0")
	must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)))
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan struct{}, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		Watch(ctx, func() []string { return []string{path} }, 20*time.Millisecond, func() { changes <- struct{}{} })
	})
	defer wg.Wait()
	defer cancel()
	time.Sleep(200 * time.Millisecond)
	for n := range 3 {
		write(t, path, fmt.Sprintf("ratio: %d", n+1))
		select {
		case <-changes:
		case <-time.After(10 * time.Second):
			t.Fatalf("change %d was not seen", n)
		}
	}
}

// An unchanged tree costs a look at the names, not a read of every file.
func TestWatchKeepsDigests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin.wasm")
	write(t, path, strings.Repeat("x", 1<<20))
	must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)))
	w := watcher{known: map[string]seen{}}
	first := w.look([]string{path})
	at := w.known[path].at
	if again := w.look([]string{path}); again != first || w.known[path].at != at {
		t.Error("the digest was taken again")
	}
	write(t, path, strings.Repeat("y", 1<<20))
	if now := w.look([]string{path}); now == first {
		t.Error("a new content of the same length was not seen")
	}
}

// A tree without end is looked at within bounds, in a fraction of an interval.
func TestWatchIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		must(t, os.Symlink(dir, filepath.Join(dir, fmt.Sprint("loop", i))))
	}
	w := watcher{known: map[string]seen{}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w.look([]string{dir})
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("one look allocated %d MiB", grown>>20)
	}
	if w.left > 0 {
		t.Errorf("the bound was never met: %d left", w.left)
	}
}

// TestWatchSince: a file that was written after it had been read has changed, though no look saw it otherwise.
func TestWatchSince(t *testing.T) {
	for name, tt := range map[string]struct {
		age  time.Duration // when it was read
		want int
	}{"written before": {time.Second, 0}, "written since": {-time.Second, 1}} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "nexus.yaml")
			write(t, file, "ratio: 0")
			info, err := os.Stat(file)
			must(t, err)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				changes := 0
				go WatchSince(ctx, info.ModTime().Add(tt.age), func() []string { return []string{file} }, 0, func() { changes++ })
				rest(10 * time.Second)
				if changes != tt.want {
					t.Errorf("%d changes, want %d", changes, tt.want)
				}
			})
		})
	}
}
