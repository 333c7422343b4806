package upstream

import (
	"sync"
	"sync/atomic"
)

// A commons is the memory that the transcripts of all streams share beyond what each has of its own, so that a thousand
// callers who do not read cannot make each stream keep the most that one may. A stream that ends gives back what it took.
type commons struct {
	streams atomic.Int64
	taken   atomic.Int64 // bytes
}

// Bounds of what is kept, in bytes: on average privateKept and commonKept for each stream, and basicKept for all. A stream
// whose answer is long has what the many whose answers are short leave.
const (
	privateKept = 8 << 10 // of each stream
	commonKept  = 8 << 10 // that each stream adds to the commons
	basicKept   = 4 << 20 // that the commons has without any
	keptStep    = 4 << 10 // taken at a time
)

// A loan is what one stream has of the commons; nil has no bound. Its methods may be called concurrently: a stream can be
// closed while it is read.
type loan struct {
	from *commons

	mu    sync.Mutex
	taken int64
	over  bool
}

func (c *commons) lend() *loan {
	c.streams.Add(1)
	return &loan{from: c}
}

// cover sees to it that size bytes may be kept, and returns how many may; fewer than size: there is no more to be had.
func (l *loan) cover(size int) int {
	if l == nil {
		return size
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0
	}
	for int64(size) > privateKept+l.taken {
		limit := basicKept + commonKept*l.from.streams.Load()
		if l.from.taken.Add(keptStep) > limit {
			l.from.taken.Add(-keptStep)
			break
		}
		l.taken += keptStep
	}
	return int(privateKept + l.taken)
}

// end gives everything back. It may be called twice.
func (l *loan) end() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	l.from.taken.Add(-l.taken)
	l.from.streams.Add(-1)
}
