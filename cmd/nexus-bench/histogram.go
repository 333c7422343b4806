package main

import (
	"math/bits"
	"time"
)

// A histogram counts durations within 1/64 of their size, in fixed memory. Its zero value is empty.
type histogram struct {
	counts [64 * (fine + 1)]uint32
	total  uint64
	most   time.Duration
}

const (
	fineBits = 6
	fine     = 1 << fineBits // steps in each power of two
)

func slot(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < fine {
		return int(n)
	}
	shift := bits.Len64(n) - fineBits - 1
	return (shift+1)*fine + int(n>>shift) - fine
}

// floor is the least duration of a slot.
func floor(i int) time.Duration {
	if i < fine {
		return time.Duration(i)
	}
	shift := i/fine - 1
	return time.Duration(i%fine+fine) << shift
}

func (h *histogram) add(d time.Duration) {
	h.counts[slot(d)]++
	h.total++
	h.most = max(h.most, d)
}

// at is the duration that a share of all does not exceed.
func (h *histogram) at(share float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	want := uint64(share * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); seen > want {
			return min((floor(i)+floor(i+1))/2, h.most)
		}
	}
	return h.most
}
