//go:build unix

package policy

import (
	"syscall"
	"time"
)

// processTime is the processor time that this process has used.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return time.Since(started) // never on a system that has getrusage
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
