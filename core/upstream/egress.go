package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/nexus-gateway/nexus/core/setting"
)

// EgressConfig says where the gateway may go for its backends.
type EgressConfig struct {
	Hosts []string `yaml:"hosts" doc:"Hosts of backends and proxies that may be reached: names, *.DOMAIN, addresses and networks such as 10.0.0.0/8; empty: all that are configured. Link-local, metadata and unspecified addresses are never reached unless an address or network here holds them, whatever name leads there."`
}

// An egress is an EgressConfig in force: it judges hosts as they are configured, and again, by the address, as they
// are connected to, for what a name leads to is its owner's to say.
type egress struct {
	names []string
	nets  []netip.Prefix
}

var errEgress = errors.New("the address may not be reached")

// newEgress reads a list that validate has found well.
func newEgress(c EgressConfig) *egress {
	e := new(egress)
	for _, host := range c.Hosts {
		if n, ok := network(host); ok {
			e.nets = append(e.nets, n)
		} else {
			e.names = append(e.names, strings.ToLower(host))
		}
	}
	return e
}

func network(host string) (netip.Prefix, bool) {
	if n, err := netip.ParsePrefix(host); err == nil {
		return n.Masked(), true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

func (c EgressConfig) validate(p setting.Problems) {
	for i, host := range c.Hosts {
		name := strings.TrimPrefix(host, "*.")
		if _, ok := network(host); !ok && (name == "" || strings.ContainsAny(name, "*/:@ ")) {
			p.Addf(fmt.Sprintf("hosts[%d]", i), "%q is no host: write a name, *.DOMAIN, an address or a network, without scheme and port", host)
		}
	}
}

// allows reports whether a configured host may be reached, as far as can be told before it is looked up; named says
// that it may be for its name's sake, whichever ordinary address that leads to.
func (e *egress) allows(host string) (named, ok bool) {
	if n, literal := network(host); literal {
		return false, e.reaches(n.Addr(), false)
	}
	if e.open() || e.lists(strings.ToLower(host)) {
		return true, true
	}
	return false, len(e.nets) > 0
}

func (e *egress) open() bool { return len(e.names)+len(e.nets) == 0 }

func (e *egress) lists(name string) bool {
	name = strings.TrimSuffix(name, ".")
	return slices.ContainsFunc(e.names, func(listed string) bool {
		domain, wild := strings.CutPrefix(listed, "*")
		return listed == name || wild && strings.HasSuffix(name, domain)
	})
}

// reaches reports whether an address may be connected to.
func (e *egress) reaches(a netip.Addr, named bool) bool {
	a = plainAddr(a)
	if slices.ContainsFunc(e.nets, func(n netip.Prefix) bool { return n.Contains(a) }) {
		return true
	}
	return !forbidden(a) && (named || e.open())
}

// control is for net.Dialer: it is asked about each address before it is connected to.
func (e *egress) control(named bool) func(string, string, syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !e.reaches(at.Addr(), named) {
			return errEgress
		}
		return nil
	}
}

// metadata are addresses at which clouds tell a machine its secrets, beside those that are link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

var thisNetwork = netip.MustParsePrefix("0.0.0.0/8")

// forbidden are addresses where no backend lives.
func forbidden(a netip.Addr) bool {
	return a.IsUnspecified() || thisNetwork.Contains(a) || a.IsLinkLocalUnicast() || a.IsMulticast() ||
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || slices.Contains(metadata, a)
}

var (
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
	sixTo = netip.MustParsePrefix("2002::/16")
)

// plainAddr takes an IPv4 address out of the IPv6 ones that stand for it, and a zone off.
func plainAddr(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixTo.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}
