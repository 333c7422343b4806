package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/nexus-gateway/nexus/core/setting"
)

// TLSConfig is how a backend and the gateway know each other. There is no way to leave the check out.
type TLSConfig struct {
	CA         string `yaml:"ca" doc:"PEM file of the authorities that may have signed the backend's certificate, in place of the system's. Watched, as are cert and key."`
	Cert       string `yaml:"cert" doc:"PEM file of the certificate by which the gateway names itself."`
	Key        string `yaml:"key" doc:"PEM file of its private key."`
	ServerName string `yaml:"server_name" doc:"Name that the backend's certificate must bear; empty: the url's host."`
}

// Files calls edit for each file that the backends' settings name, and takes what it returns in its place.
func (c *Config) Files(edit func(path string) string) {
	for id, b := range c.Backends {
		for _, path := range []*string{&b.TLS.CA, &b.TLS.Cert, &b.TLS.Key} {
			if *path != "" {
				*path = edit(*path)
			}
		}
		c.Backends[id] = b
	}
}

func (b BackendConfig) validateLink(p setting.Problems, e *egress) {
	u, err := url.Parse(b.URL)
	if err != nil || u.Host == "" {
		return // told already
	}
	secure := u.Scheme == "https"
	switch {
	case b.Protocol == "h2" && !secure:
		p.Addf("protocol", "h2 is for https addresses; without TLS it is h2c")
	case b.Protocol == "h2c" && secure:
		p.Addf("protocol", "h2c is for http addresses; with TLS it is h2")
	}
	t := b.TLS
	if !secure && t != (TLSConfig{}) {
		p.Addf("tls", "is for an https address; the url is %s", u.Scheme)
	}
	if (t.Cert == "") != (t.Key == "") {
		p.Addf("tls", "needs both cert and key")
	}
	if _, ok := e.allows(u.Hostname()); !ok {
		p.Addf("url", "the host %s may not be reached: add it to egress.hosts", u.Hostname())
	}
	if !b.Proxy.IsZero() {
		b.validateProxy(p, e)
	}
}

// validateProxy repeats nothing of the address, which has a password in it.
func (b BackendConfig) validateProxy(p setting.Problems, e *egress) {
	u, err := url.Parse(b.Proxy.Reveal())
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		p.Addf("proxy", "is not an address: write http://[USER:PASSWORD@]HOST:PORT, or https://")
		return
	}
	if _, ok := e.allows(u.Hostname()); !ok {
		p.Addf("proxy", "the proxy's host may not be reached: add it to egress.hosts")
	}
	if at, err := url.Parse(b.URL); err == nil && !e.open() {
		if named, ok := e.allows(at.Hostname()); ok && !named && net.ParseIP(at.Hostname()) == nil {
			p.Addf("url", "behind a proxy nobody sees which address a name leads to: list the name itself in egress.hosts")
		}
	}
}

// A link is how a backend is reached.
type link struct {
	protocol string      // http1, h2c or h2
	tls      *tls.Config // nil: none
	proxy    *url.URL    // nil: none
	egress   *egress
	resolver *net.Resolver // nil: the system's
	named    bool          // the host dialled, the proxy's if there is one, may be reached by its name
	print    string        // differs between links that differ, by what files say too
}

// newLink reads the files that c names.
func newLink(c BackendConfig, u *url.URL, e *egress) (*link, error) {
	l := &link{protocol: c.Protocol, egress: e}
	if l.protocol == "" {
		l.protocol = "http1"
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\x00%q\x00%v %v\x00", l.protocol, c.Proxy.Reveal(), e.names, e.nets)
	dialled := u
	if !c.Proxy.IsZero() {
		var err error
		if l.proxy, err = url.Parse(c.Proxy.Reveal()); err != nil {
			return nil, errors.New("the proxy's address cannot be read") // and not shown
		}
		dialled = l.proxy
	}
	l.named, _ = e.allows(dialled.Hostname())
	if u.Scheme == "https" {
		files, err := l.secure(c.TLS, u.Hostname())
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(sum, "%s\x00%x", l.tls.ServerName, files)
	}
	l.print = fmt.Sprintf("%x", sum.Sum(nil)[:8])
	return l, nil
}

// secure makes l's TLS, and returns what its files say.
func (l *link) secure(c TLSConfig, host string) (files []byte, err error) {
	l.tls = &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
	}
	if l.protocol == "h2" {
		l.tls.NextProtos = []string{"h2"}
	}
	if c.ServerName != "" {
		l.tls.ServerName = c.ServerName
	}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		l.tls.RootCAs = x509.NewCertPool()
		if !l.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s has no certificate in PEM", c.CA)
		}
		files = append(files, pem...)
	}
	if c.Cert == "" {
		return files, nil
	}
	cert, err := os.ReadFile(c.Cert)
	if err != nil {
		return nil, fmt.Errorf("tls.cert: %w", err)
	}
	key, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, fmt.Errorf("tls.key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls: %s and %s: %w", c.Cert, c.Key, err)
	}
	l.tls.Certificates = []tls.Certificate{pair}
	return append(append(files, cert...), key...), nil
}

// receiveBuffer is how many bytes of an answer the system may hold that the caller has not taken. Left to itself it
// grows to megabytes for each stream whose caller is slow, and the backend would generate that far ahead.
const receiveBuffer = 128 << 10

// dial opens a connection to address, through the proxy if there is one, and without the backend's own TLS. Errors
// are *net.OpError of a dial.
func (l *link) dial(ctx context.Context, address string) (way, socket net.Conn, err error) {
	dialer := net.Dialer{KeepAlive: keepAlive, Resolver: l.resolver, Control: l.egress.control(l.named)}
	to := address
	if l.proxy != nil {
		to = hostPort(l.proxy)
	}
	socket, err = dialer.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, nil, err
	}
	if tcp, ok := socket.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(receiveBuffer) // a hint: what is larger only takes memory
	}
	if l.proxy == nil {
		return socket, socket, nil
	}
	way, err = l.tunnel(ctx, socket, address)
	if err != nil {
		_ = socket.Close()
		return nil, nil, &net.OpError{Op: "dial", Net: "tcp", Addr: socket.RemoteAddr(), Err: fmt.Errorf("proxy: %w", err)}
	}
	return way, socket, nil
}

func hostPort(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Host
	case u.Scheme == "https":
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}
