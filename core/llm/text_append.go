package llm

import (
	"bytes"
	"unicode/utf8"
)

// AppendText appends the decoded text t of body to dst.
func AppendText(dst, body []byte, t Text) []byte {
	return appendDecoded(dst, body[t.At.Start:t.At.End])
}

// appendDecoded appends the text of a JSON string's inside. Half of a surrogate pair becomes U+FFFD.
func appendDecoded(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:i]...)
		r, size := unescape(raw[i:])
		if size == 0 { // never in scanned text
			return append(dst, raw[i:]...)
		}
		dst = utf8.AppendRune(dst, r) // a negative rune is written as U+FFFD
		raw = raw[i+size:]
	}
}

// AppendString appends s as a JSON string, with quotes. Bytes that are not UTF-8 become U+FFFD; < > and
// & are left alone.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	dst = appendEscaped(dst, s)
	return append(dst, '"')
}

// appendEscaped appends s as the inside of a JSON string.
func appendEscaped[T string | []byte](dst []byte, s T) []byte {
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			if size = runeLen(s, i); size > 0 {
				i += size
				continue
			}
			size = 1
		}
		dst = append(dst, s[from:i]...)
		dst = appendSpecial(dst, c)
		i += size
		from = i
	}
	return append(dst, s[from:]...)
}

// runeLen is the length of the rune at s[i], 0 if there is none.
func runeLen[T string | []byte](s T, i int) int {
	var b [utf8.UTFMax]byte
	n := copy(b[:], s[i:min(i+utf8.UTFMax, len(s))])
	r, size := utf8.DecodeRune(b[:n])
	if r == utf8.RuneError && size == 1 {
		return 0
	}
	return size
}

func appendSpecial(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c == '\n':
		return append(dst, '\\', 'n')
	case c == '\r':
		return append(dst, '\\', 'r')
	case c == '\t':
		return append(dst, '\\', 't')
	case c >= utf8.RuneSelf:
		return append(dst, "\ufffd"...)
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}
