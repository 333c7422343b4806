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

	"github.com/nexus-gateway/nexus/core/pipeline"
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
	c := newCall(t, chatBody)
	c.Labels = map[string]string{"confidential": strings.Repeat("x", 1000)}
	calls := make([]*pipeline.Call, 1000)
	for i := range calls {
		calls[i] = c
	}
	decideFor(t, l, threeLines, calls...)
	if l.dropped.Load() == 0 {
		t.Error("a pipe took all that it was given: the test shows nothing")
	}
	s := l.sink.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.stop(ctx); err == nil {
		t.Error("a pipe that nobody reads took what was left")
	}
	<-s.done
}
