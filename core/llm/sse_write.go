package llm

import "bytes"

// AppendEvent appends payload framed as one SSE event, with the `event:` line when name is not empty.
// A payload of several lines becomes several data lines, which a reader joins again.
func AppendEvent(dst []byte, name string, payload []byte) []byte {
	if name != "" {
		dst = append(append(dst, "event: "...), name...)
		dst = append(dst, '\n')
	}
	for more := true; more; {
		var line []byte
		if bytes.IndexByte(payload, '\n') < 0 && bytes.IndexByte(payload, '\r') < 0 {
			line, more = payload, false
		} else {
			line, payload = cutLine(payload)
		}
		dst = append(append(dst, "data: "...), line...)
		dst = append(dst, '\n')
	}
	return append(dst, '\n')
}
