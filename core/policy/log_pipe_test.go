//go:build unix

package policy

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A named pipe that nobody reads cannot be opened, rather than hold up a reload; one whose reader has stopped
// holds up nobody, and its writer ends with the log.
func TestNamedPipes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := NewLog(nil).Open(LogConfig{To: name, Size: 8}); err == nil {
		t.Fatal("a pipe that nobody reads was opened")
	}
	reader, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	l := NewLog(nil)
	use(t, l, LogConfig{To: name, Size: 8})
	for still := 0; still < 20; still++ { // until nothing has been written for a while: all that is added is dropped
		before := l.dropped.Load()
		for range 8 {
			l.add(&entry{call: identity{decision: strings.Repeat("x", 1000)}})
		}
		if l.dropped.Load() != before+8 {
			still = 0
		}
		time.Sleep(5 * time.Millisecond)
	}
	s := l.sink.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.stop(ctx); err == nil {
		t.Error("a pipe that nobody reads took what was left")
	}
	<-s.done
}
