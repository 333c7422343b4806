package upstream

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/setting"
)

// An authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	der := a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	a.key = der.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// sign makes a certificate, by itself if a has none yet.
func (a *authority) sign(t *testing.T, template, parent *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) names(t *testing.T, name string) tls.Certificate {
	return a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert)
}

// save writes a certificate and its key as PEM files.
func (a *authority) save(t *testing.T, name string, c tls.Certificate) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	savePEM(t, cert, "CERTIFICATE", c.Certificate[0])
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	savePEM(t, key, "PRIVATE KEY", der)
	return cert, key
}

func savePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Both sides know each other by certificates of their own authority, and by the name that is configured.
func TestMutualTLS(t *testing.T) {
	for _, protocol := range []string{"http1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			a, other := newAuthority(t), newAuthority(t)
			ca := filepath.Join(a.dir, "ca.pem")
			savePEM(t, ca, "CERTIFICATE", a.cert.Raw)
			cert, key := a.save(t, "nexus", a.names(t, "nexus"))
			strange, strangeKey := other.save(t, "nexus", other.names(t, "nexus"))
			otherCA := filepath.Join(other.dir, "ca.pem")
			savePEM(t, otherCA, "CERTIFICATE", other.cert.Raw)
			var peer atomic.Value
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				peer.Store(r.TLS.PeerCertificates[0].Subject.CommonName + " " + r.TLS.ServerName + " " + r.Proto)
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, answerJSON)
			}))
			s.EnableHTTP2 = protocol == "h2"
			s.TLS = &tls.Config{Certificates: []tls.Certificate{a.names(t, "gpu.internal")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool()}
			s.Config.ErrorLog = quietLog()
			s.StartTLS()
			defer s.Close()
			for _, tt := range []struct {
				name string
				tls  TLSConfig
				ok   bool
			}{
				{"well", TLSConfig{CA: ca, Cert: cert, Key: key, ServerName: "gpu.internal"}, true},
				{"another name", TLSConfig{CA: ca, Cert: cert, Key: key, ServerName: "other.internal"}, false},
				{"the url's name", TLSConfig{CA: ca, Cert: cert, Key: key}, false},
				{"no certificate of ours", TLSConfig{CA: ca, ServerName: "gpu.internal"}, false},
				{"one that a stranger signed", TLSConfig{CA: ca, Cert: strange, Key: strangeKey, ServerName: "gpu.internal"}, false},
				{"the system's authorities", TLSConfig{Cert: cert, Key: key, ServerName: "gpu.internal"}, false},
				{"another authority", TLSConfig{CA: otherCA, Cert: cert, Key: key, ServerName: "gpu.internal"}, false},
			} {
				u := linked(t, BackendConfig{URL: s.URL, TLS: tt.tls, Protocol: protocol})
				status, _, err := ask(t, u, chat("x", false))
				if (status == 200) != tt.ok {
					t.Errorf("%s: %d, %v", tt.name, status, err)
				}
			}
			proto := map[string]string{"http1": "HTTP/1.1", "h2": "HTTP/2.0"}[protocol]
			if got := peer.Load(); got != "nexus gpu.internal "+proto {
				t.Errorf("the backend saw %q", got)
			}
		})
	}
}

func linked(t *testing.T, b BackendConfig) *Upstream {
	t.Helper()
	return newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": b},
		Pools:    map[string]PoolConfig{"default": {Models: []string{"mock*"}, Backends: []string{"one"}}},
	})
}

// A file that cannot be used is an error before anything is swapped, and names the setting.
func TestBadTLSFiles(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.save(t, "one", a.names(t, "one"))
	_, otherKey := a.save(t, "two", a.names(t, "two"))
	empty := filepath.Join(a.dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		tls  TLSConfig
		want string
	}{
		{TLSConfig{CA: "none.pem"}, "tls.ca"}, {TLSConfig{CA: empty}, "has no certificate"},
		{TLSConfig{Cert: "none.pem", Key: key}, "tls.cert"}, {TLSConfig{Cert: cert, Key: "none.pem"}, "tls.key"},
		{TLSConfig{Cert: cert, Key: otherKey}, "does not match"},
	} {
		u, _ := url.Parse("https://one")
		if _, err := newLink(BackendConfig{TLS: tt.tls}, u, new(egress)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.tls, err, tt.want)
		}
	}
}

// What files say makes another link of the same settings, so that a reload takes a renewed certificate and gives old
// connections up; what has not changed keeps them.
func TestLinksAreToldApart(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.save(t, "one", a.names(t, "one"))
	u, _ := url.Parse("https://one")
	print := func(c BackendConfig, hosts ...string) string {
		t.Helper()
		l, err := newLink(c, u, newEgress(EgressConfig{Hosts: hosts}))
		if err != nil {
			t.Fatal(err)
		}
		return l.print
	}
	b := BackendConfig{TLS: TLSConfig{Cert: cert, Key: key}}
	first := print(b)
	if print(b) != first {
		t.Error("the same link differs from itself")
	}
	seen := map[string]bool{first: true}
	for _, other := range []func() string{
		func() string { return print(b, "one") },
		func() string { o := b; o.Protocol = "h2"; return print(o) },
		func() string { o := b; o.TLS.ServerName = "x"; return print(o) },
		func() string { o := b; o.Proxy = setting.NewSecret("http://u:a@p:1"); return print(o) },
		func() string { o := b; o.Proxy = setting.NewSecret("http://u:b@p:1"); return print(o) },
		func() string { a.save(t, "one", a.names(t, "one")); return print(b) },
	} {
		p := other()
		if seen[p] {
			t.Errorf("two links have the print %s", p)
		}
		seen[p] = true
	}
}

// A gate is a proxy that knows CONNECT and passwords.
type gate struct {
	url           string
	asked, opened atomic.Int64
	seen          atomic.Value // of the last request: its host and credential
}

func newGate(t *testing.T, secure *tls.Config, answer string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{url: "http://" + l.Addr().String()}
	if secure != nil {
		l, g.url = tls.NewListener(l, secure), "https://"+l.Addr().String()
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.serve(c, answer)
		}
	}()
	return g
}

func (g *gate) serve(c net.Conn, answer string) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	g.asked.Add(1)
	g.seen.Store(r.Method + " " + r.Host + " " + r.Header.Get("Proxy-Authorization"))
	if answer != "" {
		_, _ = io.WriteString(c, answer)
		return
	}
	if r.Header.Get("Proxy-Authorization") != "Basic dXNlcjpnZWhlaW0=" {
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	out, err := net.Dial("tcp", r.Host)
	if err != nil {
		return
	}
	defer out.Close()
	g.opened.Add(1)
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(out, c); _ = out.Close() }()
	_, _ = io.Copy(c, out)
}

func TestProxy(t *testing.T) {
	reply := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Proxy-Authorization") != "" {
			w.WriteHeader(400)
		}
		_, _ = io.WriteString(w, answerJSON)
	})
	backend := httptest.NewServer(reply)
	defer backend.Close()
	a := newAuthority(t)
	secure := httptest.NewUnstartedServer(reply)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{a.names(t, "gpu.internal")}}
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = quietLog()
	secure.StartTLS()
	defer secure.Close()
	ca := filepath.Join(a.dir, "ca.pem")
	savePEM(t, ca, "CERTIFICATE", a.cert.Raw)
	trust := TLSConfig{CA: ca, ServerName: "gpu.internal"}
	with := func(g *gate, credential string) setting.Secret {
		return setting.NewSecret(strings.Replace(g.url, "://", "://"+credential+"@", 1))
	}
	for _, tt := range []struct {
		name    string
		backend BackendConfig
		answer  string // of the proxy
		user    string
		want    string // of the error
	}{
		{"plain", BackendConfig{URL: backend.URL}, "", "user:geheim", ""},
		{"TLS inside", BackendConfig{URL: secure.URL, TLS: trust}, "", "user:geheim", ""},
		{"HTTP/2 inside", BackendConfig{URL: secure.URL, TLS: trust, Protocol: "h2"}, "", "user:geheim", ""},
		{"a wrong password", BackendConfig{URL: backend.URL}, "", "user:falsch", "it refuses the gateway's credential"},
		{"refused", BackendConfig{URL: backend.URL}, "HTTP/1.1 403 Forbidden\r\n\r\n", "user:geheim", "it answers 403"},
		{"not HTTP", BackendConfig{URL: backend.URL}, "SSH-2.0\r\n", "user:geheim", "proxy: "},
		{"an endless head", BackendConfig{URL: backend.URL}, "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 1<<20), "user:geheim", "proxy: "},
		{"an answer before the question", BackendConfig{URL: backend.URL}, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "user:geheim", "before anything was asked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, nil, tt.answer)
			tt.backend.Proxy = with(g, tt.user)
			u := linked(t, tt.backend)
			for range 3 {
				status, _, err := ask(t, u, chat("x", false))
				if (status == 200) != (tt.want == "") || tt.want != "" && !strings.Contains(fmt.Sprint(errors.Unwrap(err)), tt.want) {
					t.Fatalf("%d, %v: %v", status, err, errors.Unwrap(err))
				}
				if strings.Contains(fmt.Sprint(err, errors.Unwrap(err)), "falsch") {
					t.Errorf("the error tells the password: %v", err)
				}
				if tt.want != "" {
					break // it is out now
				}
			}
			if tt.want == "" && g.opened.Load() != 1 {
				t.Errorf("%d tunnels for three calls", g.opened.Load())
			}
			address := strings.TrimPrefix(strings.TrimPrefix(tt.backend.URL, "http://"), "https://")
			if got := fmt.Sprint(g.seen.Load()); !strings.HasPrefix(got, "CONNECT "+address+" Basic ") {
				t.Errorf("the proxy was asked %q", got)
			}
		})
	}
}

// A proxy or a server that is silent ends with the time to connect, and with the caller's leaving: nothing waits for it
// any longer, be it called or not.
func TestSilentProxy(t *testing.T) {
	for _, tt := range []struct{ name, protocol, scheme string }{
		{"HTTP/1.1 by a proxy", "http1", "http"}, {"HTTP/2 by a proxy", "h2c", "http"}, {"HTTP/2 in TLS by a proxy", "h2", "https"},
		{"TLS", "http1", "https"}, {"HTTP/2 in TLS", "h2", "https"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			silent := rawConns(t, func(_ *raw, c net.Conn) { _, _ = io.Copy(io.Discard, c) })
			b := BackendConfig{URL: strings.Replace(silent.url, "http", tt.scheme, 1), Protocol: tt.protocol}
			if strings.Contains(tt.name, "proxy") {
				b.URL, b.Proxy = tt.scheme+"://gpu:1", setting.NewSecret(silent.url)
			}
			u := newUpstream(t, Config{
				Backends: map[string]BackendConfig{"one": b},
				Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: TimeoutsConfig{Connect: 100 * time.Millisecond}}},
			})
			w := u.pools[0].members()[0].peer.wire
			if w.longest != 30*time.Second {
				t.Errorf("HTTP/2 connects for %v", w.longest)
			}
			w.longest = 200 * time.Millisecond
			began := time.Now()
			if _, _, err := ask(t, u, chat("x", false)); err == nil || time.Since(began) > 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			waitUntil(t, func() bool { return silent.conns.Load() > 0 && silent.closed.Load() == silent.conns.Load() })
		})
	}
}

// HTTP/2 in clear and over TLS: bodies, streams, their end, and each way in which one ends early.
func TestSecond(t *testing.T) {
	for _, protocol := range []string{"h2c", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			var left atomic.Int64
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.ProtoMajor != 2 || r.ContentLength != int64(len(body)) || r.Header.Get("X-Request-Id") == "" || r.Host == "" {
					t.Errorf("the backend saw %v with %d bytes of %d and %v", r.Proto, len(body), r.ContentLength, r.Header)
				}
				switch {
				case strings.Contains(string(body), "silent"):
					<-r.Context().Done()
					left.Add(1)
				case strings.Contains(string(body), "hang"):
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, eventText(`{"choices":[{"index":0,"delta":{"content":"a"}}]}`))
					w.(http.Flusher).Flush()
					<-r.Context().Done()
					left.Add(1)
				case strings.Contains(string(body), `"stream":true`):
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, eventText(finished)+"data: [DONE]\n\n")
				default:
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, answerJSON)
				}
			})
			s := httptest.NewUnstartedServer(h)
			var opened atomic.Int64
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened.Add(1)
				}
			}
			b := BackendConfig{Protocol: protocol}
			if protocol == "h2" {
				a := newAuthority(t)
				s.TLS = &tls.Config{Certificates: []tls.Certificate{a.names(t, "gpu.internal")}}
				s.EnableHTTP2 = true
				s.StartTLS()
				b.TLS = TLSConfig{CA: filepath.Join(a.dir, "ca.pem"), ServerName: "gpu.internal"}
				savePEM(t, b.TLS.CA, "CERTIFICATE", a.cert.Raw)
			} else {
				p := new(http.Protocols)
				p.SetUnencryptedHTTP2(true)
				s.Config.Protocols = p
				s.Start()
			}
			defer s.Close()
			b.URL = s.URL
			u := newUpstream(t, Config{
				Backends: map[string]BackendConfig{"one": b},
				Pools: map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: TimeoutsConfig{
					Connect: 2 * time.Second, Headers: 2 * time.Second, FirstToken: 2 * time.Second, Between: 300 * time.Millisecond,
				}}},
			})
			for range 3 {
				if status, text, err := ask(t, u, chat("x", false)); status != 200 || text != answerJSON {
					t.Fatalf("%d, %q, %v", status, text, err)
				}
				if status, text, err := ask(t, u, chat("x", true)); status != 200 || !strings.HasSuffix(text, "data: [DONE]\n\n") {
					t.Fatalf("%d, %q, %v", status, text, err)
				}
			}
			if status, _, err := ask(t, u, chat(strings.Repeat("x", 256<<10), false)); status != 200 {
				t.Errorf("a large body: %d, %v", status, err)
			}
			if _, _, err := ask(t, u, chat("silent", false)); !errors.Is(err, errHeaders) {
				t.Errorf("silent: %v", err)
			}
			u.pools[0].members()[0].peer.health.succeed(time.Now(), time.Now())
			if _, text, err := ask(t, u, chat("hang", true)); !errors.Is(err, errBetween) || !strings.Contains(text, `"a"`) {
				t.Errorf("hang: %q, %v", text, err)
			}
			ctx, leave := context.WithCancel(context.Background())
			time.AfterFunc(50*time.Millisecond, leave)
			if _, err := u.Handle(ctx, newCall(t, llm.Chat, chat("silent", false))); !errors.Is(err, context.Canceled) {
				t.Errorf("leaving: %v", err)
			}
			waitUntil(t, func() bool { return left.Load() == 3 && inflight(u) == 0 })
			if n := opened.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// Who cannot be reached over HTTP/2 is told apart from who does not answer, as over HTTP/1.1.
func TestSecondUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	u := linked(t, BackendConfig{URL: "http://" + l.Addr().String(), Protocol: "h2c"})
	_, _, err = ask(t, u, chat("x", false))
	if err == nil || !strings.Contains(fmt.Sprint(err), "reach") {
		t.Errorf("got %v", err)
	}
}

// What is compressed though nobody asked for it is refused at once.
func TestEncodedAnswers(t *testing.T) {
	for _, stream := range []bool{false, true} {
		b := rawBackend(t, func(c net.Conn, n int64) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: GZip\r\nContent-Length: 1000\r\n\r\nxx")
		})
		began := time.Now()
		_, _, err := ask(t, single(t, b.url), chat("x", stream))
		if !errors.Is(err, errEncoded) || time.Since(began) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	}
}

// Whatever a proxy answers, it is read to the end of a head and no further, and only a plain 200 opens a way.
func FuzzTunnel(f *testing.F) {
	for _, answer := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 407 No\r\n\r\n", "HTTP/1.0 200\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "\x16\x03", ""} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		here, there := net.Pipe()
		defer here.Close()
		go func() {
			defer there.Close()
			if _, err := http.ReadRequest(bufio.NewReader(there)); err == nil {
				_, _ = there.Write(answer)
			}
		}()
		l := &link{proxy: &url.URL{Scheme: "http", Host: "proxy", User: url.UserPassword("user", "geheim")}}
		err := l.connect(here, "gpu:1")
		if err == nil && (!strings.HasPrefix(string(answer), "HTTP/") || !strings.Contains(string(answer), "200")) {
			t.Errorf("%q opens a way", answer)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error tells the password: %v", err)
		}
	})
}

// A caller that does not read holds up its own stream of a shared connection, within its window, and no other.
func TestSecondSlowCaller(t *testing.T) {
	var wrote atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), "flood") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answerJSON)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		text := eventText(`{"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 900) + `"}}]}`)
		for {
			n, err := io.WriteString(w, text)
			if err != nil {
				return
			}
			wrote.Add(int64(n))
		}
	}))
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	s.Config.Protocols = p
	s.Start()
	defer s.Close()
	u := linked(t, BackendConfig{URL: s.URL, Protocol: "h2c"})
	var replies []*llm.Reply
	for range 20 {
		reply, err := u.Handle(context.Background(), newCall(t, llm.Chat, chat("flood", true)))
		if err != nil {
			t.Fatal(err)
		}
		replies = append(replies, reply)
	}
	for before := int64(-1); before != wrote.Load(); time.Sleep(100 * time.Millisecond) {
		before = wrote.Load()
	}
	if per := wrote.Load() / 20; per > 4*streamWindow {
		t.Errorf("%d bytes of each stream went out that nobody read", per)
	}
	if status, _, err := ask(t, u, chat("x", false)); status != 200 {
		t.Errorf("another call: %d, %v", status, err)
	}
	for _, r := range replies {
		_ = r.Stream.Close()
	}
	waitUntil(t, func() bool { return inflight(u) == 0 })
}
