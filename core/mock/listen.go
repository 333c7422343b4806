package mock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Port is a server on one address.
type Port struct {
	URL  string // http://127.0.0.1:port
	Addr string // 127.0.0.1:port

	s      *Server
	http   *http.Server
	served sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]bool
}

// Listen starts serving on addr, "127.0.0.1:0" for any free port; one server can listen on many. The
// caller closes the port, or the server.
func (s *Server) Listen(addr string) (*Port, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("mock: listen on %s: %w", addr, err)
	}
	p := &Port{URL: "http://" + l.Addr().String(), Addr: l.Addr().String(), s: s, conns: map[net.Conn]bool{}}
	p.http = &http.Server{
		Handler:           s,
		IdleTimeout:       s.opts.KeepAlive,
		ReadHeaderTimeout: 30 * time.Second,
		ConnState:         p.track,
		MaxHeaderBytes:    64 << 10,
	}
	s.mu.Lock()
	s.ports[p] = true
	s.mu.Unlock()
	p.served.Go(func() { _ = p.http.Serve(l) }) // it ends by Close
	return p, nil
}

func (p *Port) track(c net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		p.conns[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(p.conns, c)
	}
}

// Close stops listening and closes every connection at once, as a killed engine does.
func (p *Port) Close() error {
	p.s.mu.Lock()
	delete(p.s.ports, p)
	p.s.mu.Unlock()
	err := p.http.Close()
	p.served.Wait()
	return err
}

// Kill is Close with a TCP reset on every connection.
func (p *Port) Kill() error {
	p.mu.Lock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	p.mu.Unlock()
	return p.Close()
}

// Close closes every port of the server. It may be called twice.
func (s *Server) Close() error {
	s.mu.Lock()
	ports := make([]*Port, 0, len(s.ports))
	for p := range s.ports {
		ports = append(ports, p)
	}
	s.mu.Unlock()
	var errs []error
	for _, p := range ports {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Run serves on all addrs until ctx ends. Ready, if not nil, is told the addresses once all listen.
func (s *Server) Run(ctx context.Context, addrs []string, ready func([]string)) error {
	defer s.Close()
	var bound []string
	for _, a := range addrs {
		p, err := s.Listen(a)
		if err != nil {
			return err
		}
		bound = append(bound, p.Addr)
	}
	if ready != nil {
		ready(bound)
	}
	<-ctx.Done()
	return nil
}
