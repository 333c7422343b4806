package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// held is what the process holds of the kernel: files, mappings, and KiB of memory of its own share.
func held(t testing.TB) (files, maps, kib int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	m, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	rollup, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(rollup)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) > 1 && f[0] == "Pss:" {
			kib, _ = strconv.Atoi(f[1])
		}
	}
	return len(fds), bytes.Count(m, []byte{'\n'}), kib
}

// TestNothingLeaks: instances that come and go leave no file, no mapping and no memory behind.
func TestNothingLeaks(t *testing.T) {
	round := func(n int) {
		p, err := sharedEngine().Load(context.Background(), hoarder(true), Options{Name: "leak", Isolate: true, Instances: 4})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			swapFor(t, p, function(t, p, "swap"), i%7)
		}
		if _, err := sharedEngine().Load(context.Background(), failing(), Options{Isolate: true}); err == nil {
			t.Fatal("a segment out of bounds was taken")
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	round(50)
	files, maps, kib := held(t)
	for range 5 {
		round(400)
	}
	afterFiles, afterMaps, afterKiB := held(t)
	if afterFiles > files || afterMaps > maps+20 || afterKiB > kib+64<<10 {
		t.Errorf("%d files, %d mappings, %d KiB became %d, %d, %d", files, maps, kib, afterFiles, afterMaps, afterKiB)
	}
}

func failing() []byte {
	d := &draft{}
	d.memory(1, 1)
	d.data = [][]byte{cat(u(0), i32c(-1), ops(opEnd), str("x"))}
	return d.bytes()
}

// BenchmarkMemory tells what 32 instances of a Go guest hold, each of its own share.
func BenchmarkMemory(b *testing.B) {
	const n = 32
	for _, isolate := range []bool{false, true} {
		b.Run(fmt.Sprintf("isolate=%v", isolate), func(b *testing.B) {
			var each float64
			for b.Loop() {
				p := load(b, goGuest(b), Options{WASI: true, Isolate: isolate, Instances: n})
				g := get(b, p)
				_, _, before := held(b)
				guests := []*Guest{}
				for range n - 1 {
					guests = append(guests, get(b, p))
				}
				_, _, after := held(b)
				each = float64(after-before) / (n - 1)
				for _, g := range append(guests, g) {
					p.Put(g)
				}
			}
			b.ReportMetric(each, "KiB/instance")
		})
	}
}
