package telemetry

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// appendLine appends the access-log line of a call: one JSON object whose members are always all there and in
// this order, so that the log can be read by column too. Milliseconds that do not apply are null.
func appendLine(b []byte, e *entry) []byte {
	c, out := e.call, &e.call.Outcome
	b = append(b, `{"time":"`...)
	b = c.Start.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	b = appendString(b, "request_id", c.ID)
	b = appendString(b, "trace_id", c.Trace.ID)
	if p := c.Principal; p != nil {
		b = appendString(b, "principal", p.ID)
		b = appendString(b, "tenant", p.Tenant)
	} else {
		b = append(b, `,"principal":"","tenant":""`...)
	}
	b = appendString(b, "route", string(c.Route))
	b = appendString(b, "rule", c.Decision.Rule)
	b = appendString(b, "decision_id", c.Decision.ID)
	b = appendString(b, "policy_revision", c.Decision.Revision)
	b = appendString(b, "model", e.model)
	b = appendString(b, "served_model", out.Model)
	b = appendString(b, "backend", out.Backend)
	b = appendString(b, "server", out.Server)
	b = appendString(b, "pool", out.Pool)
	b = appendInt(b, "attempts", int64(out.Attempts))
	b = appendInt(b, "continued", int64(out.Continued))
	b = appendInt(b, "status", int64(e.status))
	b = appendString(b, "code", e.code)
	b = appendString(b, "stage", e.stage)
	b = appendMillis(b, "duration_ms", e.duration)
	b = appendMillis(b, "upstream_ms", e.upstream)
	b = appendMillis(b, "ttft_ms", e.first)
	b = appendInt(b, "tokens_in", out.Usage.Prompt)
	b = appendInt(b, "tokens_out", out.Usage.Completion)
	b = appendInt(b, "tokens_cached", out.Usage.Cached)
	b = appendString(b, "finish", out.Finish)
	b = appendBool(b, "client_gone", e.gone)
	b = appendInt(b, "bytes_out", e.bytes)
	b = appendBool(b, "stream", c.Request.Stream)
	b = appendInt(b, "pii_count", int64(c.PII.Count))
	b = appendString(b, "remote", c.Remote)
	return append(b, '}', '\n')
}

func appendKey(b []byte, key string) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	return append(b, '"', ':')
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(appendKey(b, key), n, 10)
}

func appendBool(b []byte, key string, v bool) []byte {
	return strconv.AppendBool(appendKey(b, key), v)
}

// appendMillis writes d with three decimals, or null if it is below 0.
func appendMillis(b []byte, key string, d time.Duration) []byte {
	b = appendKey(b, key)
	if d < 0 {
		return append(b, "null"...)
	}
	us := d.Microseconds()
	b = strconv.AppendInt(b, us/1000, 10)
	us %= 1000
	return append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}

const maxField = 1 << 10 // bytes of one field's text, before escaping

// appendString writes text cut to maxField. Everything that could break a line, a terminal or a JSON reader is
// escaped: quotes, C0 and C1 controls, DEL, and the invisible characters that end or turn round a line.
func appendString(b []byte, key, text string) []byte {
	b = append(appendKey(b, key), '"')
	text = clip(text)
	plain := 0 // start of the run not yet copied
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = appendEscaped(append(b, text[plain:i]...), rune(c))
			i++
			plain = i
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if (r != utf8.RuneError || size > 1) && !hidden(r) {
			i += size
			continue
		}
		b = appendEscaped(append(b, text[plain:i]...), r)
		i += size
		plain = i
	}
	return append(append(b, text[plain:]...), '"')
}

// clip cuts text to maxField without splitting a character.
func clip(text string) string {
	if len(text) <= maxField {
		return text
	}
	end := maxField
	for end > maxField-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// hidden reports whether r is a C1 control, a line or paragraph separator, or changes the direction of text.
func hidden(r rune) bool {
	switch {
	case r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff:
		return true
	case r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x2069:
		return true
	}
	return false
}

func appendEscaped(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	if r == '"' || r == '\\' {
		return append(b, '\\', byte(r))
	}
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
