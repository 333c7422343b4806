package upstream

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
)

// appendForward appends the lines of the headers that plugins send to the backend. What the operator's own
// configuration sends, and what the gateway itself does, stands above them: own is its lines.
func appendForward(dst []byte, forward http.Header, own []byte) []byte {
	for _, name := range slices.Sorted(maps.Keys(forward)) {
		if says(own, name) {
			continue
		}
		for _, value := range forward[name] {
			dst = append(append(dst, "\r\n"...), name...)
			dst = append(append(dst, ": "...), value...)
		}
	}
	return dst
}

// says reports whether a line of lines is the header called name.
func says(lines []byte, name string) bool {
	for line := range bytes.Lines(lines) {
		said, _, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(said, []byte(name)) {
			return true
		}
	}
	return false
}
