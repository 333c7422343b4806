package telemetry

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/lines"
)

// A sink writes access-log lines from a goroutine of its own, so that no call waits for the log. Lines that do
// not fit the buffer while a write is stuck, and lines that a write loses, are dropped and counted. A nil *sink
// drops everything unseen.
type sink struct {
	out     lines.Writer // the writer's own
	file    io.Closer    // nil: out is not ours to close
	limit   int          // bytes held
	dropped prometheus.Counter
	buffers sync.Pool // *[]byte
	wake    chan struct{}
	done    chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	pending []byte
	started bool
	closed  bool
}

// openLog opens what Config.AccessLog names.
func openLog(name string, limit int, dropped prometheus.Counter) (*sink, error) {
	if name == "off" {
		return nil, nil
	}
	f, err := openFile(name)
	if err != nil {
		return nil, err
	}
	return newSink(f, f, limit, dropped), nil
}

func openFile(name string) (*os.File, error) {
	if name == "stdout" {
		return Stdout()
	}
	return lines.Open(name)
}

func newSink(out io.Writer, file io.Closer, limit int, dropped prometheus.Counter) *sink {
	s := &sink{out: lines.Writer{Out: out}, file: file, limit: limit, dropped: dropped}
	s.buffers.New = func() any { return new(make([]byte, 0, 1<<10)) }
	s.wake = make(chan struct{}, 1)
	s.done = make(chan struct{})
	return s
}

const maxPooledLine = 16 << 10 // bytes; a longer line's buffer is let go

func (s *sink) write(e *entry) {
	if s == nil {
		return
	}
	buf := s.buffers.Get().(*[]byte)
	*buf = appendLine((*buf)[:0], e)
	if !s.add(*buf) {
		s.dropped.Inc()
	}
	if cap(*buf) <= maxPooledLine {
		s.buffers.Put(buf)
	}
}

// add holds line for the writer and reports whether there was room.
func (s *sink) add(line []byte) bool {
	s.mu.Lock()
	if s.closed || len(s.pending)+len(line) > s.limit {
		s.mu.Unlock()
		return false
	}
	s.pending = append(s.pending, line...)
	if !s.started {
		s.started = true
		go s.run()
	}
	s.mu.Unlock()
	s.nudge()
	return true
}

func (s *sink) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes what is held, as much at a time as has gathered, until the sink is closed and nothing is left.
func (s *sink) run() {
	defer close(s.done)
	var batch []byte
	for range s.wake {
		s.mu.Lock()
		batch, s.pending = s.pending, batch[:0]
		closed := s.closed
		s.mu.Unlock()
		s.flush(batch)
		if closed {
			s.dropped.Add(float64(s.out.Torn()))
			return
		}
	}
}

func (s *sink) flush(batch []byte) { s.dropped.Add(float64(s.out.Put(batch))) }

// close writes what is held and ends the writer. A writer still stuck when ctx ends is left behind with what
// it holds, unless closing the file interrupts it, as it does for a named pipe: nothing interrupts a write to a standard
// output that nobody reads.
func (s *sink) close(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	s.closed = true
	started := s.started
	s.mu.Unlock()
	if started {
		s.nudge()
		select {
		case <-s.done:
		case <-ctx.Done():
			_ = s.letGo()
			return fmt.Errorf("telemetry: write what is left of the access log: %w", context.Cause(ctx))
		}
	}
	return s.letGo()
}

func (s *sink) letGo() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
