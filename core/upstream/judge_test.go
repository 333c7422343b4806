package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Whose fault a failure is, and which, is told from the error that a refusal carries.
func TestCauses(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &os.SyscallError{Syscall: "socket", Err: err}}
	}
	for _, tt := range []struct {
		name string
		err  error
		want cause
		ours bool
	}{
		{"refused", dial(syscall.ECONNREFUSED), causeConnect, false},
		{"no route", dial(syscall.EHOSTUNREACH), causeConnect, false},
		{"no such name", &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, causeConnect, false},
		{"no connection in time", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, causeTimeout, false},
		{"no first token in time", errFirstToken, causeTimeout, false},
		{"cut off", io.ErrUnexpectedEOF, causeAnswer, false},
		{"reset", syscall.ECONNRESET, causeAnswer, false},
		{"no descriptors", dial(syscall.EMFILE), causeConnect, true},
		{"no ports", dial(syscall.EADDRNOTAVAIL), causeConnect, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := &pipeline.Refusal{Err: fmt.Errorf("wrapped: %w", tt.err)}
			if got := causeOf(err); got != tt.want || ours(err) != tt.ours {
				t.Errorf("got %s, ours %v, want %s, ours %v", got, ours(err), tt.want, tt.ours)
			}
		})
	}
}
