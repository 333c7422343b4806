//go:build unix

package telemetry

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A named pipe that nobody reads does not hold up the start: it is refused. One whose reader stops holds up no stop either.
func TestLogToANamedPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{ServiceName: "nexus", AccessLog: name, LogBuffer: minLogBuffer}
	refused := make(chan error, 1)
	go func() {
		_, err := New(cfg, "test")
		refused <- err
	}()
	select {
	case err := <-refused:
		if err == nil || !strings.Contains(err.Error(), "a named pipe that nobody reads") {
			t.Fatalf("without a reader: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a pipe that nobody reads is waited for")
	}
	reader, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	tel, err := New(cfg, "test")
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 1<<10) + "\n")
	for tel.log.add(line) { // until the pipe is full, and the buffer too
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tel.Close(ctx); err == nil {
		t.Error("a pipe that nobody reads took what was left")
	}
	<-tel.log.done
}
