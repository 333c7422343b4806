package plugin

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestTap(t *testing.T) {
	var p tap
	var through, lost atomic.Int64
	var all sync.WaitGroup
	draw := func(second int64) {
		open, n := p.draw(second)
		if open {
			through.Add(1)
		}
		lost.Add(int64(n))
	}
	for range 8 {
		all.Go(func() {
			for range 1000 {
				draw(1)
			}
		})
	}
	all.Wait()
	if through.Load() != maxLogLines || lost.Load() != 0 {
		t.Errorf("in one second %d lines passed, want %d; %d said to be lost", through.Load(), maxLogLines, lost.Load())
	}
	draw(2)
	draw(2)
	if through.Load() != maxLogLines+2 || lost.Load() != 8000-maxLogLines {
		t.Errorf("in the next second %d passed, %d said to be lost", through.Load()-maxLogLines, lost.Load())
	}
}
