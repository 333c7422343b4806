package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func newTestSink(out io.Writer, limit int) (*sink, func() float64) {
	dropped := prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"})
	r := prometheus.NewRegistry()
	r.MustRegister(dropped)
	return newSink(out, nil, limit, dropped), func() float64 {
		families, _ := r.Gather()
		return families[0].GetMetric()[0].GetCounter().GetValue()
	}
}

// TestLogBlocked is a standard output whose pipe nobody reads: no call waits, and lines written and lines
// counted as dropped are all there were.
func TestLogBlocked(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	tel := newTest(t, writer)
	const callers, each = 16, 500
	var slowest time.Duration
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				began := time.Now()
				drain(tel.Handle(context.Background(), newCall(), backendOf(events(io.EOF, "ab"))))
				mu.Lock()
				slowest = max(slowest, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if slowest > time.Second {
		t.Errorf("a call took %s while the log was stuck", slowest)
	}
	dropped := valueOf(t, tel, "gateway_access_log_dropped_total")
	if dropped == 0 {
		t.Error("nothing was dropped: the log was not stuck")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := tel.log.close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close of a stuck log: got %v, want the deadline's error", err)
	}
	// The pipe is read again: what was held comes out whole.
	lines := make(chan int)
	go func() {
		text, _ := io.ReadAll(reader)
		for line := range bytes.Lines(text) {
			if !json.Valid(line) {
				t.Errorf("bad line %q", line)
			}
		}
		lines <- bytes.Count(text, []byte("\n"))
	}()
	<-tel.log.done
	writer.Close()
	if n := <-lines; float64(n)+dropped != callers*each {
		t.Errorf("%d lines and %v dropped, want %d together", n, dropped, callers*each)
	}
}

func TestLogFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full here")
	}
	defer full.Close()
	s, dropped := newTestSink(full, 1<<20)
	for range 100 {
		s.add([]byte("{}\n"))
	}
	s.close(context.Background())
	if got := dropped(); got != 100 {
		t.Errorf("%v lines counted as dropped, want 100", got)
	}
}

// A limited writer takes so many bytes and then fails until more are allowed.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space")
	}
	return n, nil
}

// TestLogRecovers cuts the log at every byte of a batch: once there is room again the log goes on with whole
// lines, and lines written and lines dropped are all there were.
func TestLogRecovers(t *testing.T) {
	batch := []byte("{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n")
	for room := range len(batch) + 1 {
		for more := range 9 {
			out := &limited{left: room}
			s, dropped := newTestSink(out, 1<<20)
			s.flush(batch)
			out.left += more
			s.flush(batch)
			out.left = 1 << 20
			s.flush([]byte("{\"n\":4}\n"))
			written := strings.Count(out.String(), "\n")
			if float64(written)+dropped() != 7 {
				t.Errorf("room %d, then %d: %d lines and %v dropped, want 7 together", room, more, written, dropped())
			}
			for line := range strings.Lines(out.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("room %d, then %d: bad line %q", room, more, line)
				}
			}
		}
	}
}

// TestLogHammer: lines of many writers, a small buffer, a close in the middle.
func TestLogHammer(t *testing.T) {
	for round := range 20 {
		var out bytes.Buffer
		s, dropped := newTestSink(&out, 256)
		const writers, each = 8, 200
		var lost sync.Map
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				n := 0
				for i := range each {
					if !s.add(fmt.Appendf(nil, "{\"w\":%d,\"i\":%d}\n", w, i)) {
						n++
					}
				}
				lost.Store(w, n)
			})
		}
		if round%2 == 0 {
			wg.Wait()
		}
		if err := s.close(context.Background()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if err := s.close(context.Background()); err != nil {
			t.Fatal("closed twice:", err)
		}
		sum := strings.Count(out.String(), "\n") + int(dropped())
		lost.Range(func(_, n any) bool { sum += n.(int); return true })
		if sum != writers*each {
			t.Fatalf("%d lines written or lost, want %d", sum, writers*each)
		}
	}
}

func TestLogFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.log")
	for range 2 { // the second one appends
		tel, err := New(Config{AccessLog: name, LogBuffer: 1 << 20}, "test")
		if err != nil {
			t.Fatal(err)
		}
		drain(tel.Handle(context.Background(), newCall(), backendOf(events(io.EOF, "ab"))))
		closeNow(t, tel)
		closeNow(t, tel)
	}
	text, err := os.ReadFile(name)
	if err != nil || bytes.Count(text, []byte("\n")) != 2 {
		t.Errorf("got %q, %v; want two lines", text, err)
	}
	if info, _ := os.Stat(name); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	if _, err := New(Config{AccessLog: filepath.Join(name, "x")}, "test"); err == nil || !strings.HasPrefix(err.Error(), "telemetry: open access log: ") {
		t.Errorf("a log that cannot be opened: got %v", err)
	}
}

func TestLogOff(t *testing.T) {
	tel, err := New(Config{AccessLog: "off"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	drain(tel.Handle(context.Background(), newCall(), backendOf(events(io.EOF, "ab"))))
	closeNow(t, tel)
}

// orphanEnv makes this test binary a gateway whose standard output has lost its reader.
const orphanEnv = "NEXUS_TEST_ORPHAN"

func orphan() {
	tel, err := New(Config{AccessLog: "stdout", LogBuffer: 1 << 20}, "test")
	if err != nil {
		panic(err)
	}
	for range 3 {
		drain(tel.Handle(context.Background(), newCall(), backendOf(events(io.EOF, "ab"))))
		time.Sleep(20 * time.Millisecond) // let each line be a write of its own
	}
	_ = tel.Close(context.Background())
	fmt.Fprint(os.Stderr, "alive")
}

// TestLogReaderDies: a log shipper that dies does not take the gateway along.
func TestLogReaderDies(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no broken pipes of this kind")
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	var said bytes.Buffer
	child := exec.Command(os.Args[0])
	child.Env, child.Stdout, child.Stderr = append(os.Environ(), orphanEnv+"=1"), writer, &said
	err = child.Run()
	writer.Close()
	if err != nil || said.String() != "alive" {
		t.Errorf("got %v and %q, want a process that lives on", err, said.String())
	}
}
