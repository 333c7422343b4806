package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// S-13: where no backend lives, nobody goes, however it is written; and where one may live, only who is listed.
func TestEgressReaches(t *testing.T) {
	never := []string{
		"169.254.169.254", "169.254.0.1", "169.254.255.255", "169.254.170.2", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe",
		"fe80::1", "fe80::a9fe:a9fe", "febf::1", "0.0.0.0", "0.0.0.1", "0.255.255.255", "::", "::ffff:0.0.0.0",
		"224.0.0.1", "239.255.255.255", "ff02::1", "ff05::2", "255.255.255.255", "fd00:ec2::254", "fd20:ce::254",
		"100.100.100.200", "192.0.0.192", "168.63.129.16", "64:ff9b::a9fe:a9fe", "64:ff9b::169.254.169.254",
		"2002:a9fe:a9fe::1", "64:ff9b::0.0.0.0", "2002:6464:64c8::",
	}
	ordinary := []string{"127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "172.16.0.9", "8.8.8.8", "2001:db8::1", "fd00::1", "::ffff:10.1.2.3", "64:ff9b::8.8.8.8"}
	for _, tt := range []struct {
		name            string
		hosts           []string
		named           bool
		never, ordinary bool
	}{
		{"nothing listed", nil, true, false, true},
		{"nothing listed, an address", nil, false, false, true},
		{"a listed name", []string{"gpu.internal"}, true, false, true},
		{"an address that is not listed", []string{"gpu.internal"}, false, false, false},
		{"all networks listed", []string{"0.0.0.0/0", "::/0"}, false, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEgress(EgressConfig{Hosts: tt.hosts})
			for _, a := range never {
				if got := e.reaches(netip.MustParseAddr(a), tt.named); got != tt.never {
					t.Errorf("%s is reached: %v", a, got)
				}
			}
			for _, a := range ordinary {
				if got := e.reaches(netip.MustParseAddr(a), tt.named); got != tt.ordinary {
					t.Errorf("%s is reached: %v", a, got)
				}
			}
		})
	}
}

func TestEgressAllows(t *testing.T) {
	hosts := []string{"gpu.internal", "*.Example.com", "10.1.0.0/16", "192.168.7.7", "169.254.7.7", "fd00:1::/32"}
	for _, tt := range []struct {
		host      string
		named, ok bool
	}{
		{"gpu.internal", true, true}, {"GPU.internal", true, true}, {"gpu.internal.", true, true},
		{"a.example.com", true, true}, {"a.b.example.com", true, true}, {"example.com", false, true},
		{"other.internal", false, true}, // its address will tell
		{"10.1.2.3", false, true}, {"10.2.2.3", false, false}, {"192.168.7.7", false, true}, {"192.168.7.8", false, false},
		{"169.254.7.7", false, true}, {"169.254.169.254", false, false}, {"fd00:1::9", false, true}, {"fd00:2::9", false, false},
		{"127.0.0.1", false, false},
	} {
		named, ok := newEgress(EgressConfig{Hosts: hosts}).allows(tt.host)
		if named != tt.named || ok != tt.ok {
			t.Errorf("%s: named %v, allowed %v", tt.host, named, ok)
		}
	}
	if _, ok := newEgress(EgressConfig{Hosts: []string{"gpu.internal"}}).allows("other.internal"); ok {
		t.Error("a name that is not listed is allowed where no network is")
	}
}

func TestEgressConfig(t *testing.T) {
	for _, tt := range []struct {
		name  string
		url   string
		proxy string
		hosts []string
		want  string
	}{
		{"open", "http://gpu:8000", "", nil, ""},
		{"metadata", "http://169.254.169.254", "", nil, "may not be reached"},
		{"metadata in IPv6", "http://[::ffff:169.254.169.254]/", "", nil, "may not be reached"},
		{"unspecified", "http://0.0.0.0:8000", "", nil, "may not be reached"},
		{"listed", "http://gpu:8000", "", []string{"gpu"}, ""},
		{"not listed", "http://gpu:8000", "", []string{"other"}, "the host gpu may not be reached"},
		{"metadata listed", "http://169.254.169.254", "", []string{"169.254.169.254"}, ""},
		{"a proxy that is not listed", "http://gpu:8000", "http://u:geheim@proxy:3128", []string{"gpu"}, "the proxy's host may not be reached"},
		{"a proxy", "http://gpu:8000", "http://u:geheim@proxy:3128", []string{"gpu", "proxy"}, ""},
		{"behind a proxy by network", "http://gpu:8000", "http://u:geheim@proxy:3128", []string{"10.0.0.0/8", "proxy"}, "behind a proxy"},
		{"no proxy", "http://gpu:8000", "geheim", nil, "is not an address"},
		{"a scheme", "http://gpu:8000", "", []string{"http://gpu"}, "is no host"},
		{"a port", "http://gpu:8000", "", []string{"gpu:8000"}, "is no host"},
		{"a star in the middle", "http://gpu:8000", "", []string{"a.*.b"}, "is no host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setting.NewProblems()
			c := Config{Egress: EgressConfig{Hosts: tt.hosts}, Backends: map[string]BackendConfig{"b": {
				URL: tt.url, Proxy: setting.NewSecret(tt.proxy), Health: usualHealth, Discovery: DiscoveryConfig{Interval: time.Second},
			}}}
			c.Validate(p)
			var told []string
			for _, problem := range p.All() {
				if !strings.Contains(problem.Path, "discovery") {
					told = append(told, problem.Path+": "+problem.Text)
				}
			}
			got := strings.Join(told, "; ")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) || strings.Contains(got, "geheim") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A name that leads elsewhere than it did (DNS rebinding), or is an odd way to write an address: the address that
// is connected to decides.
func TestEgressWhenConnecting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "x")
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, tt := range []struct {
		host  string
		hosts []string
		want  bool
	}{
		{"localhost", nil, true},
		{"localhost", []string{"localhost"}, true},
		{"localhost", []string{"10.0.0.0/8"}, false},
		{"localhost", []string{"127.0.0.0/8", "::1"}, true},
		{"127.0.0.1", []string{"10.0.0.0/8"}, false},
		{"0.0.0.0", nil, false},
		{"169.254.169.254", nil, false},
		{"::ffff:169.254.169.254", nil, false},
		{"2852039166", nil, false}, // decimal: where the resolver takes it for an address
		{"0xa9fea9fe", nil, false},
		{"0", nil, false},
	} {
		e := newEgress(EgressConfig{Hosts: tt.hosts})
		link := &link{protocol: "http1", egress: e}
		link.named, _ = e.allows(tt.host)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		way, _, err := link.dial(ctx, net.JoinHostPort(tt.host, port))
		cancel()
		if way != nil {
			_ = way.Close()
		}
		if (err == nil) != tt.want {
			t.Errorf("%s with %v: %v", tt.host, tt.hosts, err)
		}
		if tt.host == "169.254.169.254" && !errors.Is(err, errEgress) {
			t.Errorf("%s: %v", tt.host, err)
		}
	}
}

// Whatever is written as a host: what is refused when configured is never reached, and what is forbidden is reached only
// where the list holds the address itself.
func FuzzEgress(f *testing.F) {
	for _, host := range []string{"gpu.internal", "169.254.169.254", "[::1]", "::ffff:169.254.169.254", "0x7f.1", "2852039166", "*.a", "10.0.0.0/8", "fe80::1%eth0", ""} {
		f.Add(host, host)
	}
	f.Fuzz(func(t *testing.T, listed, host string) {
		p := setting.NewProblems()
		c := EgressConfig{Hosts: []string{listed}}
		c.validate(p)
		e := newEgress(c)
		named, ok := e.allows(host)
		if named && !ok {
			t.Errorf("%q is named and not allowed", host)
		}
		n, literal := network(host)
		if !literal {
			return
		}
		if named || ok != e.reaches(n.Addr(), false) {
			t.Errorf("%q: named %v, allowed %v", host, named, ok)
		}
		if ok && forbidden(plainAddr(n.Addr())) && len(e.nets) == 0 {
			t.Errorf("%q is reached with %q listed", host, listed)
		}
	})
}
