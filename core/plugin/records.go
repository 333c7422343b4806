package plugin

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
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
	maxSystem     = 64 << 10
	maxText       = 256 << 10
	maxArguments  = 1 << 20
)

// said is what a guest said of a call, checked.
type said struct {
	route llm.Endpoint // of the call

	labels       [][2]string
	headers      []change // of the reply
	forward      []change // of the request to the backend
	model, pool  string
	system       []prompt
	text         string
	hasText      bool
	arguments    string
	hasArguments bool
	refusal      refusal
}

// readRefusal reads why a guest refuses.
func (p *plugin) readRefusal(g *sandbox.Guest, r abi.Result, a *answer) error {
	var s said
	if err := p.readRecords(g, r, textHook, &s); err != nil {
		return err
	}
	a.refused = &s.refusal
	return nil
}

// readRecords copies the records out of the out buffer, checks each, and wipes them away.
func (p *plugin) readRecords(g *sandbox.Guest, r abi.Result, h *hook, s *said) error {
	if r.Hold() > p.buffers.outCap {
		return fail(badRecord, "%d bytes of records do not fit the out buffer of %d", r.Hold(), p.buffers.outCap)
	}
	b, ok := g.Read(p.buffers.out, r.Hold())
	if !ok {
		return fail(badRecord, "the out buffer is outside the guest's memory")
	}
	defer clear(b)
	return eachRecord(b, func(id uint16, name, value []byte) error {
		if !h.may(id, r.Verdict()) {
			return fail(badRecord, "record %d means nothing there", id)
		}
		return p.record(s, id, string(name), string(value))
	})
}

// eachRecord calls f for every record of b.
func eachRecord(b []byte, f func(id uint16, name, value []byte) error) error {
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
		if err := f(id, b[abi.RecordHeader:name], b[name:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}

// record takes one record. Ids that are not known are from a later version and mean nothing here.
func (p *plugin) record(s *said, id uint16, name, value string) (err error) {
	switch id {
	case abi.OutLabel:
		if name == "" || len(name) > maxLabelName || len(value) > maxLabelValue || !plainText(name) || !plainText(value) {
			return fail(badRecord, "label %q: a name of up to %d bytes and a value of up to %d without control characters are wanted", name, maxLabelName, maxLabelValue)
		}
		s.labels = append(s.labels, [2]string{name, value})
	case abi.OutHeader, abi.OutDropHeader, abi.OutRequestHeader:
		return p.headerRecord(s, id, name, value)
	case abi.OutModel:
		s.model, err = p.chosen("model", value)
	case abi.OutPool:
		s.pool, err = p.chosen("pool", value)
	case abi.OutSystem:
		return p.systemRecord(s, name, value)
	case abi.OutText:
		if len(value) > maxText || !utf8.ValidString(value) {
			return fail(badRecord, "a text of %d bytes: up to %d of UTF-8 are wanted", len(value), maxText)
		}
		s.text, s.hasText = value, true
	case abi.OutArguments:
		if len(value) > maxArguments || !utf8.ValidString(value) || !llm.Valid([]byte(value)) {
			return fail(badRecord, "arguments of %d bytes: up to %d of JSON are wanted", len(value), maxArguments)
		}
		s.arguments, s.hasArguments = value, true
	default:
		return s.refusal.record(id, value)
	}
	return err
}

func (p *plugin) headerRecord(s *said, id uint16, name, value string) error {
	list, own := &s.headers, ofReply
	switch {
	case id == abi.OutRequestHeader:
		list, own = &s.forward, ofRequest
	case id == abi.OutDropHeader && value != "":
		return fail(badRecord, "header %q is to be taken out and to have a value", name)
	}
	c, err := p.header(name, value, own)
	c.out = id == abi.OutDropHeader || id == abi.OutRequestHeader && value == ""
	if err == nil {
		*list = append(*list, c)
	}
	return err
}

// chosen checks the name of a model or pool.
func (p *plugin) chosen(what, name string) (string, error) {
	if !p.granted[what] {
		return "", fail(badRecord, "it chose a %s without the capability %q", what, what)
	}
	if name == "" || len(name) > maxModel || !plainText(name) {
		return "", fail(badRecord, "%s %q", what, name)
	}
	return name, nil
}

func (p *plugin) systemRecord(s *said, where, text string) error {
	size := len(text)
	for _, earlier := range s.system {
		size += len(earlier.text)
	}
	switch {
	case !p.granted["system"]:
		return fail(badRecord, `it changed the system prompt without the capability "system"`)
	case where != abi.SystemBefore && where != abi.SystemAfter && where != abi.SystemReplace:
		return fail(badRecord, "a system prompt goes before, after or replace, not %q", where)
	case text == "" || size > maxSystem || !utf8.ValidString(text):
		return fail(badRecord, "a system prompt of %d bytes: up to %d of UTF-8 are wanted", size, maxSystem)
	case s.route != llm.Chat && s.route != llm.Responses:
		return fail(badRecord, "calls of %s have no system prompt", s.route)
	}
	s.system = append(s.system, prompt{where, text})
	return nil
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
	case abi.OutRetry:
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil || seconds > abi.MaxRetry {
			return fail(badRecord, "to retry after %q seconds: 0 to %d are wanted", value, abi.MaxRetry)
		}
		r.retry = time.Duration(seconds) * time.Second
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
