package upstream

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A zone is a DNS server on loopback that answers from a table.
type zone struct {
	conn net.PacketConn
	asks atomic.Int64

	mu        sync.Mutex
	askers    []net.Conn // of the resolver
	addresses map[string][]netip.Addr
	services  map[string][]net.SRV
	rcode     byte // of every answer; 0: as the table says
	mute      bool
}

const (
	rcodeFailed  = 2
	rcodeUnknown = 3

	typeA    = 1
	typeAAAA = 28
	typeSRV  = 33
)

func newZone(t *testing.T) *zone {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{conn: conn, addresses: make(map[string][]netip.Addr), services: make(map[string][]net.SRV)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		z.serve()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
		z.mu.Lock()
		defer z.mu.Unlock()
		for _, c := range z.askers {
			_ = c.Close() // a lookup that was given up reads on for its own five seconds
		}
	})
	return z
}

// resolver asks the zone alone.
func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "udp", z.conn.LocalAddr().String())
		if err == nil {
			z.mu.Lock()
			defer z.mu.Unlock()
			z.askers = append(z.askers, c)
		}
		return c, err
	}}
}

func (z *zone) set(name string, addresses ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	z.addresses[name+"."] = all
}

func (z *zone) setServices(name string, services ...net.SRV) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.services[name+"."] = services
}

// fail has every question answered with rcode, or not at all.
func (z *zone) fail(rcode byte, mute bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rcode, z.mute = rcode, mute
}

func (z *zone) serve() {
	for {
		b := make([]byte, 1500)
		n, from, err := z.conn.ReadFrom(b)
		if err != nil {
			return
		}
		if answer := z.answer(b[:n]); answer != nil {
			_, _ = z.conn.WriteTo(answer, from)
		}
		z.asks.Add(1)
	}
}

// answer reads the one question of a query (RFC 1035, section 4) and writes what the table says.
func (z *zone) answer(query []byte) []byte {
	z.mu.Lock()
	defer z.mu.Unlock()
	name, end := "", 12
	for query[end] != 0 {
		n := int(query[end])
		name += string(query[end+1:end+1+n]) + "."
		end += 1 + n
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	end += 5
	if z.mute {
		return nil
	}
	var records [][]byte
	for _, a := range z.addresses[name] {
		if a.Is4() == (kind == typeA) && kind != typeSRV {
			records = append(records, a.AsSlice())
		}
	}
	for _, s := range z.services[name] {
		if kind == typeSRV {
			records = append(records, serviceData(s))
		}
	}
	rcode := z.rcode
	_, isHost := z.addresses[name]
	_, isService := z.services[name]
	if rcode == 0 && !isHost && !isService {
		rcode = rcodeUnknown
	}
	if rcode != 0 {
		records = nil
	}
	out := append([]byte{query[0], query[1], 0x81, 0x80 | rcode, 0, 1, 0, byte(len(records)), 0, 0, 0, 0}, query[12:end]...)
	for _, r := range records {
		out = append(out, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 1, 0, byte(len(r)))
		out = append(out, r...)
	}
	return out
}

func serviceData(s net.SRV) []byte {
	out := binary.BigEndian.AppendUint16(nil, s.Priority)
	out = binary.BigEndian.AppendUint16(out, s.Weight)
	out = binary.BigEndian.AppendUint16(out, s.Port)
	for label := range strings.SplitSeq(strings.TrimSuffix(s.Target, "."), ".") {
		out = append(append(out, byte(len(label))), label...)
	}
	return append(out, 0)
}
