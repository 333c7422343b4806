package plugin

import (
	"context"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

// TestRealReloads swaps one module for another ten thousand times, or a thousand without NEXUS_E2E, each asked once while
// it is the one: memory, goroutines, files and mappings are given back.
func TestRealReloads(t *testing.T) {
	reloads := 1000
	if os.Getenv("NEXUS_E2E") != "" {
		reloads = 10_000
	}
	files := fstest.MapFS{"parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]\nmemory: 128KiB")}}
	modules := [][]byte{parrot(), append(parrot(), 0, 2, 1, 'x')} // the second has a section more
	dir := t.TempDir()
	for name, f := range files {
		write(t, dir+"/"+name, f.Data)
	}
	l := loader(t, nil)
	var current *Set
	swap := func(i int) {
		write(t, dir+"/parrot.wasm", modules[i%len(modules)])
		next, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Dir: dir, Chain: []Entry{{Name: "parrot", Instances: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		if current != nil {
			if next.plugins[0] == current.plugins[0] {
				t.Fatal("another module is the same plugin")
			}
			if err := current.Close(); err != nil {
				t.Fatal(err)
			}
		}
		current = next
		var a answer
		if err := current.plugins[0].ask(context.Background(), &turn{}, piece{text: make([]byte, 300), flags: abi.FlagFinal}, &a); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		swap(i)
	}
	goroutines, heap, resident := settled()
	open, maps := listed("fd"), mapped()
	began := time.Now()
	for i := range reloads {
		swap(i)
	}
	took := time.Since(began)
	now, heapNow, residentNow := settled()
	t.Logf("%d reloads in %v; goroutines %d → %d, heap %d → %d KiB, resident %d → %d MiB, files %d → %d, mappings %d → %d", reloads, took,
		goroutines, now, heap>>10, heapNow>>10, resident>>20, residentNow>>20, open, listed("fd"), maps, mapped())
	if now > goroutines+2 || heapNow > heap+4<<20 || residentNow > resident+32<<20 || listed("fd") > open+4 || mapped() > maps+50 {
		t.Error("what the old ones had is not given back")
	}
	if len(l.live) != 1 || len(l.closing) != 0 || len(l.gone) != 1 {
		t.Errorf("%d plugins live, %d are being closed, %d names are remembered", len(l.live), len(l.closing), len(l.gone))
	}
	if err := current.Close(); err != nil {
		t.Error(err)
	}
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// listed is how many entries a folder of the process has.
func listed(name string) int {
	all, _ := os.ReadDir("/proc/self/" + name)
	return len(all)
}

// mapped is how many stretches of memory the process has.
func mapped() (n int) {
	b, _ := os.ReadFile("/proc/self/maps")
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	return n
}
