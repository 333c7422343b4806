package plugin

import (
	"encoding/binary"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// Bounds of what a guest may say of one request, in bytes and numbers.
const (
	maxRecords    = 64
	maxLabelName  = 64
	maxLabelValue = 256
	maxHeader     = 1024
	maxModel      = 256
	maxCode       = 64
	maxMessage    = 1024
)

// said is what a guest said of a request, checked.
type said struct {
	labels  [][2]string
	headers [][2]string
	model   string
	refusal refusal
}

// readRefusal reads why a guest refuses.
func (p *plugin) readRefusal(g *sandbox.Guest, r abi.Result, a *answer) error {
	var s said
	if err := p.readRecords(g, r, &s); err != nil {
		return err
	}
	a.refused = &s.refusal
	return nil
}

// readRecords copies the records out of the out buffer and checks each.
func (p *plugin) readRecords(g *sandbox.Guest, r abi.Result, s *said) error {
	if r.Hold() > p.buffers.outCap {
		return fail(badRecord, "%d bytes of records do not fit the out buffer of %d", r.Hold(), p.buffers.outCap)
	}
	b, ok := g.Read(p.buffers.out, r.Hold())
	if !ok {
		return fail(badRecord, "the out buffer is outside the guest's memory")
	}
	for n := 0; len(b) > 0; n++ {
		if n == maxRecords {
			return fail(badRecord, "more than %d records", maxRecords)
		}
		if len(b) < abi.RecordHeader {
			return fail(badRecord, "a record of %d bytes", len(b))
		}
		id := binary.LittleEndian.Uint16(b[abi.RecordID:])
		name := abi.RecordHeader + uint64(binary.LittleEndian.Uint16(b[abi.RecordName:]))
		end := name + uint64(binary.LittleEndian.Uint32(b[abi.RecordValue:]))
		if end > uint64(len(b)) {
			return fail(badRecord, "a record of %d bytes where %d are left", end, len(b))
		}
		if err := p.record(s, id, string(b[abi.RecordHeader:name]), string(b[name:end])); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}

// record takes one record. Ids that are not known are from a later version and mean nothing here.
func (p *plugin) record(s *said, id uint16, name, value string) error {
	switch id {
	case abi.OutLabel:
		if name == "" || len(name) > maxLabelName || len(value) > maxLabelValue || !plainText(name) || !plainText(value) {
			return fail(badRecord, "label %q: a name of up to %d bytes and a value of up to %d without control characters are wanted", name, maxLabelName, maxLabelValue)
		}
		s.labels = append(s.labels, [2]string{name, value})
	case abi.OutHeader:
		if err := p.header(name, value); err != nil {
			return err
		}
		s.headers = append(s.headers, [2]string{http.CanonicalHeaderKey(name), value})
	case abi.OutModel:
		if !p.granted["model"] {
			return fail(badRecord, `it chose a model without the capability "model"`)
		}
		if value == "" || len(value) > maxModel || !plainText(value) {
			return fail(badRecord, "model %q", value)
		}
		s.model = value
	default:
		return s.refusal.record(id, value)
	}
	return nil
}

func (p *plugin) header(name, value string) error {
	switch {
	case !p.granted["headers"]:
		return fail(badRecord, `it set the header %q without the capability "headers"`, name)
	case len(name)+len(value) > maxHeader || !token(name) || !plainText(value):
		return fail(badRecord, "header %q is not one that HTTP knows", name)
	case reserved(name):
		return fail(badRecord, "header %q is the gateway's own", name)
	}
	return nil
}

// reserved are headers that frame the reply or carry the gateway's own word.
func reserved(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "content-encoding", "content-length", "content-type", "date", "keep-alive", "proxy-authenticate",
		"proxy-connection", "retry-after", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id":
		return true
	}
	return strings.HasPrefix(strings.ToLower(name), "x-ratelimit-")
}

func (r *refusal) record(id uint16, value string) error {
	switch id {
	case abi.OutStatus:
		if len(value) != 3 || value[0] != '4' && value[0] != '5' || !digits(value) {
			return fail(badRecord, "status %q is not 400 to 599", value)
		}
		r.status = int(value[0]-'0')*100 + int(value[1]-'0')*10 + int(value[2]-'0')
	case abi.OutCode:
		if len(value) > maxCode || !plainText(value) {
			return fail(badRecord, "code %q", value)
		}
		r.code = value
	case abi.OutMessage:
		if len(value) > maxMessage || !plainText(value) {
			return fail(badRecord, "message %q", value)
		}
		r.message = value
	}
	return nil
}

// token reports whether s is a header's name as RFC 9110 has it, less the underscore, which proxies drop.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// plainText reports whether s is UTF-8 without control characters.
func plainText(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return false
		}
	}
	return utf8.ValidString(s)
}
