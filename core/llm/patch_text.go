package llm

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrEdit says that an edit does not fit its text: out of order, out of bounds, or inside a rune.
var ErrEdit = errors.New("llm: edit does not fit its text")

// EditText maps edits on the decoded text onto the raw bytes of body and adds them; on an error it adds
// none. The replacement is escaped as the inside of a JSON string.
//
// The text of ToolArguments is itself JSON, so there the replacement is escaped once more for the inner
// string it lands in. If the text is whole, only where the edit begins inside an inner string; if it is
// a delta, whose beginning is unknown, always. An edit that begins inside an inner escape sequence
// begins after it instead, and one that ends inside one ends after it: the sequence stands for one
// character, and half of it would break the inner JSON.
func (p *Patch) EditText(body []byte, t Text, edits []Edit) error {
	if t.At.Start < 0 || t.At.End < t.At.Start || t.At.End > len(body) {
		return fmt.Errorf("%w: text at %d to %d in a body of %d bytes", ErrEdit, t.At.Start, t.At.End, len(body))
	}
	e := editor{raw: body[t.At.Start:t.At.End]}
	if t.Channel == ToolArguments && len(edits) > 0 {
		p.text = appendDecoded(p.text[:0], e.raw)
		e.inner = lexer{text: p.text, whole: t.Whole}
	}
	mark, kept := len(p.splices), len(p.buf)
	for _, edit := range edits {
		if err := p.edit(&e, t.At.Start, edit); err != nil {
			p.splices, p.buf = p.splices[:mark], p.buf[:kept]
			return err
		}
	}
	return nil
}

func (p *Patch) edit(e *editor, base int, edit Edit) error {
	if edit.Start < e.last || edit.End < edit.Start {
		return fmt.Errorf("%w: [%d, %d) is out of order", ErrEdit, edit.Start, edit.End)
	}
	e.last = edit.End
	start, end, quoted := e.inner.widen(edit.Start, edit.End)
	if start < e.decoded { // the edit before was widened over this one's beginning
		start = e.decoded
		end = max(start, end)
	}
	var at Span
	var ok, fits bool
	if at.Start, ok = e.seek(start); ok {
		at.End, fits = e.seek(end)
	}
	if !ok || !fits {
		return fmt.Errorf("%w: [%d, %d) is out of bounds or inside a character", ErrEdit, edit.Start, edit.End)
	}
	from := len(p.buf)
	if quoted {
		p.buf = appendEscapedTwice(p.buf, edit.With)
	} else {
		p.buf = appendEscaped(p.buf, edit.With)
	}
	p.splices = append(p.splices, splice{Span{base + at.Start, base + at.End}, Span{from, len(p.buf)}})
	return nil
}

// An editor walks a raw string and knows how much decoded text lies behind it.
type editor struct {
	raw     []byte
	at      int // in raw
	decoded int // the same place in the decoded text
	last    int // end of the last edit
	inner   lexer
}

// seek goes forward to the decoded offset and returns its place in raw; false if there is no such place
// or it is inside a character.
func (e *editor) seek(offset int) (int, bool) {
	for e.decoded < offset && e.at < len(e.raw) {
		if e.raw[e.at] != '\\' {
			e.at++
			e.decoded++
			continue
		}
		r, size := unescape(e.raw[e.at:])
		if size == 0 {
			return 0, false
		}
		e.at += size
		e.decoded += runeSize(r)
	}
	if e.decoded != offset || e.at < len(e.raw) && !utf8.RuneStart(e.raw[e.at]) {
		return 0, false
	}
	return e.at, true
}

// runeSize is the length of r in the decoded text.
func runeSize(r rune) int {
	if n := utf8.RuneLen(r); n > 0 {
		return n
	}
	return len("\ufffd")
}

// A lexer follows JSON text forward and knows whether it is inside a string. The zero value, for texts
// that are not JSON, does nothing.
type lexer struct {
	text  []byte
	whole bool
	at    int
	in    bool // inside a string
}

// widen moves an edit's ends out of inner escape sequences and reports whether it begins inside an
// inner string.
func (l *lexer) widen(start, end int) (int, int, bool) {
	if l.text == nil || end > len(l.text) {
		return start, end, false
	}
	start = l.seek(start)
	quoted := l.in || !l.whole
	return start, max(start, l.seek(end)), quoted
}

// seek goes forward to offset, or to the end of the escape sequence that offset is inside of. Outside a
// string there are no escapes, but of a delta it is not known what is outside.
func (l *lexer) seek(offset int) int {
	for l.at < offset {
		switch c := l.text[l.at]; {
		case c == '\\' && (l.in || !l.whole):
			l.at = min(l.at+l.escape(), len(l.text))
			continue
		case c == '"':
			l.in = !l.in
		}
		l.at++
	}
	return max(l.at, offset)
}

// escape is the length of the escape sequence at hand.
func (l *lexer) escape() int {
	if _, size := unescape(l.text[l.at:]); size > 0 {
		return size
	}
	return 2 // cut off, or not JSON
}

// appendEscapedTwice appends s as the inside of a JSON string inside a JSON string.
func appendEscapedTwice(dst, s []byte) []byte {
	var small [256]byte
	return appendEscaped(dst, appendEscaped(small[:0], s))
}
