package policy

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/nexus-gateway/nexus/core/lines"
)

// A sink writes entries from a goroutine of its own, so that no call waits for a disk or a reader. It holds
// at most so many of them as the configuration says.
type sink struct {
	cfg     LogConfig
	mask    *masks
	out     lines.Writer // the writer's own
	file    *os.File     // nil: out is not ours to close
	dropped *atomic.Int64
	wake    chan struct{}
	done    chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	pending []*entry
	started bool
	closed  bool
}

func newSink(out io.Writer, file *os.File, cfg LogConfig, dropped *atomic.Int64) *sink {
	return &sink{
		cfg: cfg, mask: newMasks(cfg), out: lines.Writer{Out: out}, file: file, dropped: dropped,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// inPlace reports whether the file is still the one that its name leads to.
func (s *sink) inPlace() bool {
	if s.cfg.To == toStdout || s.file == nil {
		return true
	}
	mine, err := s.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(s.cfg.To)
	return err == nil && os.SameFile(mine, there)
}

// What became of an entry that was added.
const (
	queued = iota
	full
	over
)

func (s *sink) add(e *entry) int {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return over
	case len(s.pending) >= s.cfg.Size:
		s.mu.Unlock()
		return full
	}
	s.pending = append(s.pending, e)
	if !s.started {
		s.started = true
		go s.run()
	}
	s.mu.Unlock()
	s.nudge()
	return queued
}

func (s *sink) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// maxBatch is how much is written at once, in bytes.
const maxBatch = 64 << 10

// run writes what is queued until the sink has ended and nothing is left.
func (s *sink) run() {
	defer close(s.done)
	var batch []byte
	for range s.wake {
		for {
			e, last := s.next()
			if e != nil {
				batch = s.mask.appendLine(batch, e)
			}
			if len(batch) >= maxBatch || e == nil {
				s.flush(batch)
				batch = batch[:0]
			}
			if last {
				s.drop(s.out.Torn())
				s.close()
				return
			}
			if e == nil {
				break
			}
		}
	}
}

// next takes the oldest entry; nil: there is none. last says that there will be no other.
func (s *sink) next() (e *entry, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return nil, s.closed
	}
	e = s.pending[0]
	s.pending[0] = nil
	if s.pending = s.pending[1:]; len(s.pending) == 0 {
		s.pending = nil
	}
	return e, false
}

// flush writes batch, whole lines.
func (s *sink) flush(batch []byte) { s.drop(s.out.Put(batch)) }
func (s *sink) drop(n int)         { s.dropped.Add(int64(n)) }

func (s *sink) close() {
	if s.file != nil && s.file != os.Stdout {
		_ = s.file.Close()
	}
}

// end lets the writer write what is left and end.
func (s *sink) end() {
	s.mu.Lock()
	s.closed = true
	started := s.started
	if !started {
		s.started = true // nobody starts it any more
		close(s.done)
	}
	s.mu.Unlock()
	if !started {
		s.close()
	}
	s.nudge()
}

// stop ends the sink and waits for it. A writer that is still stuck when ctx ends is left behind, unless closing
// the file interrupts it, as it does for a named pipe that nobody reads.
func (s *sink) stop(ctx context.Context) error {
	s.end()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		s.close()
		return fmt.Errorf("policy: write what is left of the decision log: %w", context.Cause(ctx))
	}
}
