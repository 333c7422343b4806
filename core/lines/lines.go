// Package lines appends lines to a log that others read while it is written.
package lines

import (
	"errors"
	"fmt"
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
