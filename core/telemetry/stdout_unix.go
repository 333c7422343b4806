//go:build unix

package telemetry

import (
	"os"
	"syscall"
)

// Stdout is the standard output under a descriptor of its own: Go ends the process when a write to descriptor
// 1 finds that its reader is gone, and a log shipper that dies must not take the gateway along.
func Stdout() (*os.File, error) {
	fd, err := syscall.Dup(int(os.Stdout.Fd()))
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "stdout"), nil
}
