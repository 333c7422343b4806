package plugin

import (
	"encoding/binary"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A change is what becomes of one header.
type change struct {
	name, value string
	out         bool // it is taken out
}

// applyChanges makes the changes in order, in h or in a new header.
func applyChanges(h http.Header, changes []change) http.Header {
	if h == nil && len(changes) > 0 {
		h = http.Header{}
	}
	for _, c := range changes {
		if c.out {
			h[c.name] = []string{}
			continue
		}
		h[c.name] = []string{c.value}
	}
	return h
}

// header checks a change of a header. own says which headers are not a plugin's to change.
func (p *plugin) header(name, value string, own func(lower string) bool) (change, error) {
	switch {
	case !p.granted["headers"]:
		return change{}, fail(badRecord, `it changed the header %q without the capability "headers"`, name)
	case len(name)+len(value) > maxHeader || !token(name) || !plainText(value):
		return change{}, fail(badRecord, "header %q is not one that HTTP knows", name)
	case own(strings.ToLower(name)):
		return change{}, fail(badRecord, "header %q is the gateway's own", name)
	}
	return change{name: http.CanonicalHeaderKey(name), value: value}, nil
}

// ofReply are the headers that frame the reply or carry the gateway's own word.
func ofReply(lower string) bool {
	switch lower {
	case "connection", "content-encoding", "content-length", "content-type", "date", "keep-alive", "proxy-authenticate",
		"proxy-connection", "retry-after", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id":
		return true
	}
	return strings.HasPrefix(lower, "x-ratelimit-")
}

// ofRequest are the headers that frame the request to a backend, say who asks, or are traced by.
func ofRequest(lower string) bool {
	switch lower {
	case "accept-encoding", "authorization", "connection", "cookie", "date", "expect", "host", "keep-alive", "te", "traceparent",
		"tracestate", "trailer", "upgrade", "x-request-id":
		return true
	}
	return strings.HasPrefix(lower, "content-") || strings.HasPrefix(lower, "transfer-") || strings.HasPrefix(lower, "proxy-")
}

// Bounds of the caller's headers that a plugin is shown.
const (
	maxShown      = 64      // headers
	maxShownBytes = 8 << 10 // of them together
)

// shown reports whether plugins may see a header of the caller's: not if its name says that it is a credential. auth
// takes out those that it knows; this keeps what it does not.
func shown(lower string) bool {
	for _, part := range [...]string{"auth", "cookie", "api-key", "apikey", "api_key", "access-key", "subscription-key", "jwt", "session", "token", "secret", "password", "credential", "signature"} {
		if strings.Contains(lower, part) {
			return false
		}
	}
	return true
}

// appendHeaders appends the caller's headers that may be seen, by name, as far as they go.
func appendHeaders(dst []byte, h http.Header) []byte {
	count, size := 0, 0
	for _, name := range slices.Sorted(maps.Keys(h)) {
		lower, value := strings.ToLower(name), strings.Join(h[name], ", ")
		if !shown(lower) || len(name)+len(value) > maxHeader || !plainText(value) {
			continue
		}
		count, size = count+1, size+len(name)+len(value)
		if count > maxShown || size > maxShownBytes {
			break
		}
		dst = appendRecord(dst, abi.InHeader, lower, value)
	}
	return dst
}

// appendRaw is appendRecord of bytes.
func appendRaw(dst []byte, id uint16, value []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, id)
	dst = binary.LittleEndian.AppendUint16(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	return append(dst, value...)
}
