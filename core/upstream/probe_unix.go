//go:build unix

package upstream

import (
	"net"
	"syscall"
)

// A probe looks at a socket without waiting.
type probe struct{ *look }

type look struct {
	socket syscall.RawConn
	ask    func(fd uintptr) // made once, so that looking allocates nothing
	room   [1]byte
	still  bool
}

func newProbe(c net.Conn) probe {
	s, ok := c.(syscall.Conn)
	if !ok {
		return probe{}
	}
	socket, err := s.SyscallConn()
	if err != nil {
		return probe{}
	}
	l := &look{socket: socket}
	l.ask = func(fd uintptr) {
		_, err := syscall.Read(int(fd), l.room[:])
		l.still = err == syscall.EAGAIN
	}
	return probe{l}
}

// quiet reports whether the socket is open and has nothing to read. It takes what there is, so a socket
// that is not quiet is of no more use.
func (p probe) quiet() bool {
	if p.look == nil {
		return true
	}
	p.still = false
	return p.socket.Control(p.ask) == nil && p.still
}
