// Package lines writes logs that others read while they are written: whole lines, whatever becomes of a write.
package lines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Open opens the file of that name to append to, and makes it, for its owner alone, where there is none. Nothing is waited
// for: a named pipe that nobody reads is an error. Closing the file interrupts a write to a pipe whose reader has stopped.
func Open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) && isPipe(name) {
		return nil, fmt.Errorf("%s is a named pipe that nobody reads: start its reader first", name)
	}
	return f, err
}

func isPipe(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode()&fs.ModeNamedPipe != 0
}

// A Writer writes batches of whole lines. It serves one goroutine.
type Writer struct {
	Out  io.Writer
	torn []byte // the end of a line whose beginning is written
}

// Put writes batch and reports how many lines are lost for good. What a failed write leaves of a line already begun is
// written first next time, so that no line ever follows half of another.
func (w *Writer) Put(batch []byte) (lost int) {
	if len(w.torn) > 0 {
		n, err := w.Out.Write(w.torn)
		w.torn = append(w.torn[:0], w.torn[n:]...)
		if err != nil {
			return count(batch)
		}
	}
	if len(batch) == 0 {
		return 0
	}
	n, err := w.Out.Write(batch)
	if err == nil {
		return 0
	}
	rest := batch[n:]
	if n > 0 && batch[n-1] != '\n' {
		end := bytes.IndexByte(rest, '\n') + 1
		w.torn = append(w.torn[:0], rest[:end]...)
		rest = rest[end:]
	}
	return count(rest)
}

// Torn is how many lines are begun and not ended, 0 or 1: they are lost if nothing more is put.
func (w *Writer) Torn() int { return min(len(w.torn), 1) }

func count(batch []byte) int { return bytes.Count(batch, []byte{'\n'}) }
