package telemetry

import (
	"net/http"
	"strings"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// incoming reads the caller's W3C trace context. What is malformed is treated as absent, as the recommendation
// asks; a valid context is kept as it came, so that it can be passed on unchanged without a copy.
func incoming(h http.Header) pipeline.Trace {
	parents := h["Traceparent"]
	if len(parents) != 1 || !validParent(parents[0]) {
		return pipeline.Trace{}
	}
	t := pipeline.Trace{ID: parents[0][3:35], Parent: parents[0]}
	states := h["Tracestate"]
	if len(states) == 0 {
		return t
	}
	state := states[0]
	if len(states) > 1 {
		state = strings.Join(states, ",")
	}
	if validState(state) {
		t.State = state
	}
	return t
}

const parentLen = 55 // of version-traceid-parentid-flags: 2+1+32+1+16+1+2

func validParent(s string) bool {
	if len(s) < parentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, span, flags := s[:2], s[3:35], s[36:52], s[53:55]
	if !isHex(version) || !isHex(trace) || !isHex(span) || !isHex(flags) {
		return false
	}
	if allZero(trace) || allZero(span) || version == "ff" {
		return false
	}
	if version == "00" {
		return len(s) == parentLen
	}
	return len(s) == parentLen || s[parentLen] == '-' // later versions may add fields
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func allZero(s string) bool { return strings.Trim(s, "0") == "" }

const maxStateMembers = 32

// validState checks the list form of a tracestate: key=value members, no key twice.
func validState(s string) bool {
	members := 0
	for rest, more := s, true; more; {
		var member string
		member, rest, more = strings.Cut(rest, ",")
		member = strings.Trim(member, " \t")
		if member == "" {
			continue // empty members are allowed
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || !validStateKey(key) || !validStateValue(value) || hasStateKey(rest, key) {
			return false
		}
		members++
	}
	return members <= maxStateMembers
}

func hasStateKey(s, key string) bool {
	for s != "" {
		var member string
		member, s, _ = strings.Cut(s, ",")
		if k, _, _ := strings.Cut(strings.Trim(member, " \t"), "="); k == key {
			return true
		}
	}
	return false
}

func validStateKey(key string) bool {
	tenant, system, multi := strings.Cut(key, "@")
	if !multi {
		return len(key) <= 256 && isStateName(key, false)
	}
	return len(tenant) <= 241 && len(system) <= 14 && isStateName(tenant, true) && isStateName(system, false)
}

// isStateName reports whether s is a letter, or a digit if that is allowed, and then letters, digits, _-*/.
func isStateName(s string, digitFirst bool) bool {
	for i := range len(s) {
		c := s[i]
		letter, digit := 'a' <= c && c <= 'z', '0' <= c && c <= '9'
		if !letter && !(digit && (i > 0 || digitFirst)) && !(i > 0 && strings.IndexByte("_-*/", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func validStateValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return v != "" && len(v) <= 256 && v[len(v)-1] != ' '
}
