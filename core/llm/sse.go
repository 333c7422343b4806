package llm

import (
	"bytes"
	"errors"
	"io"
)

// ErrEventTooLarge says that an SSE event is larger than the reader's bound.
var ErrEventTooLarge = errors.New("llm: SSE event too large")

const defaultMaxEvent = 1 << 20 // bytes

// A Reader cuts an SSE body into chunks. It reads what is there and never waits for more than one event.
// It is for one goroutine. Blank lines before an event and a byte order mark are dropped.
type Reader struct {
	src      io.Reader
	endpoint Endpoint
	max      int // bytes of one event

	box    *[]byte // where buf comes from
	buf    []byte  // len is the whole room
	start  int     // first unread byte
	end    int     // end of what was read
	cursor eventCursor
	idle   int   // empty reads in a row
	begun  bool  // the byte order mark, if any, is behind
	err    error // of src, once everything before it was returned: of Next

	joined []byte // payload of an event with several data lines
	view   View
}

// NewReader returns a reader of r for endpoint e; maxEvent bounds one event in bytes.
func NewReader(r io.Reader, e Endpoint, maxEvent int) *Reader {
	if maxEvent <= 0 {
		maxEvent = defaultMaxEvent
	}
	return &Reader{src: r, endpoint: e, max: maxEvent}
}

// Next returns the next event, scanned. io.EOF after the last; io.ErrUnexpectedEOF when the body ends
// inside an event; ErrEventTooLarge; or the source's own error, after all events before it. An event
// whose data is not JSON is a chunk of Kind Malformed, not an error.
func (r *Reader) Next() (Chunk, error) {
	for {
		size, err := r.find()
		if size > 0 {
			end := r.start + size
			c := r.chunk(r.buf[r.start:end:end]) // whoever appends to it must not write over what follows
			r.take(size)
			c.More = r.ready()
			return c, nil
		}
		if err != nil {
			return Chunk{}, err
		}
		if r.err != nil {
			return r.last()
		}
		r.fill()
	}
}

// Release gives the reader's buffers back; nothing it returned may be used afterwards.
func (r *Reader) Release() {
	r.swap(0)
	r.start, r.end, r.joined = 0, 0, nil
	r.src, r.err = nil, io.ErrClosedPipe
}

// find returns the size of the event at r.start, 0 if it is not complete.
func (r *Reader) find() (int, error) {
	if !r.skipBlank() {
		return 0, nil
	}
	size := r.cursor.find(r.buf[r.start:r.end])
	if size > r.max || size == 0 && r.end-r.start > r.max {
		r.start, r.end, r.err = 0, 0, ErrEventTooLarge
		return 0, r.err
	}
	return size, nil
}

// ready reports whether another whole event lies behind the one just taken.
func (r *Reader) ready() bool {
	return r.skipBlank() && r.cursor.find(r.buf[r.start:r.end]) > 0
}

// take steps over the event of the given size.
func (r *Reader) take(size int) {
	r.start += size
	r.cursor = eventCursor{}
}

// skipBlank drops line ends that belong to no event, and the byte order mark at the very start; false
// when nothing is left, or not enough to tell.
func (r *Reader) skipBlank() bool {
	if !r.begun {
		const mark = "\ufeff"
		head := r.buf[r.start:min(r.end, r.start+len(mark))]
		if len(head) < len(mark) && string(head) == mark[:len(head)] && r.err == nil {
			return false
		}
		if string(head) == mark {
			r.start += len(mark)
		}
		r.begun = true
	}
	for r.start < r.end && (r.buf[r.start] == '\n' || r.buf[r.start] == '\r') {
		r.start++
	}
	return r.start < r.end
}

// last deals with what the source left without a blank line behind it.
func (r *Reader) last() (Chunk, error) {
	tail := r.buf[r.start:r.end]
	if len(tail) == 0 || r.err != io.EOF {
		return Chunk{}, r.err
	}
	r.grow(len(tail) + 2)
	end := append(r.buf[r.start:r.end], '\n')
	if tail[len(tail)-1] != '\n' && tail[len(tail)-1] != '\r' {
		end = append(end, '\n')
	}
	r.start, r.end = 0, 0
	switch c := r.chunk(end); c.Kind {
	case Comment:
		return Chunk{}, r.err
	case Malformed:
		r.err = io.ErrUnexpectedEOF
		return Chunk{}, r.err
	default:
		return c, nil
	}
}

// chunk makes a chunk of one whole event.
func (r *Reader) chunk(raw []byte) Chunk {
	data := r.payload(raw)
	switch text := bytes.TrimSpace(data); {
	case len(text) == 0:
		return Chunk{Raw: raw, Kind: Comment}
	case string(text) == "[DONE]":
		return Chunk{Raw: raw, Data: data, Kind: Done}
	}
	if r.view.Scan(r.endpoint, true, data) != nil {
		return Chunk{Raw: raw, Data: data, Kind: Malformed}
	}
	return Chunk{Raw: raw, Data: data, Kind: Event, View: &r.view}
}

// payload returns an event's data: a part of raw, or the several data lines joined.
func (r *Reader) payload(raw []byte) []byte {
	var data []byte
	lines := 0
	for len(raw) > 0 {
		line, rest := cutLine(raw)
		raw = rest
		value, ok := bytes.CutPrefix(line, []byte("data"))
		if !ok || len(value) > 0 && value[0] != ':' {
			continue
		}
		if len(value) > 0 {
			value = value[1:]
		}
		if len(value) > 0 && value[0] == ' ' {
			value = value[1:]
		}
		switch lines++; lines {
		case 1:
			data = value
			continue
		case 2:
			r.joined = append(r.joined[:0], data...)
		}
		r.joined = append(append(r.joined, '\n'), value...)
		data = r.joined
	}
	return data
}

// cutLine cuts the first line off b, without its end: LF, CR LF or CR.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		i = len(b)
	}
	if j := bytes.IndexByte(b[:i], '\r'); j >= 0 && j+1 < i || j >= 0 && i == len(b) {
		return b[:j], b[j+1:]
	} else if j >= 0 {
		return b[:j], b[i+1:]
	}
	return b[:i], b[min(i+1, len(b)):]
}

// An eventCursor looks for the blank line that ends an event and remembers how far it looked, so that
// each byte is looked at once however the event arrives.
type eventCursor struct {
	line int  // where the current line begins
	seen int  // no line end before this
	crlf bool // the line before ended in CR LF
	size int  // of the event with its blank line, once found
}

// find returns the size of the event at the start of b with its blank line, or 0 if it is not complete.
// A CR that ends b may be half of a CR LF. In a blank line the LF is counted as part of it only if the
// line before ended in CR LF too: then it is sure to come. Otherwise it is a blank line of its own, so
// that a stream of bare CRs is never kept waiting and the answer is the same wherever b was cut.
func (c *eventCursor) find(b []byte) int {
	for c.size == 0 && c.seen < len(b) {
		i := lineEnd(b, c.seen)
		c.seen = i
		if i == len(b) {
			return 0
		}
		blank := i == c.line
		pair := b[i] == '\r' && (c.crlf || !blank)
		if pair && i+1 == len(b) {
			return 0
		}
		c.crlf = pair && b[i+1] == '\n'
		if c.line = i + 1; c.crlf {
			c.line++
		}
		if c.seen = c.line; blank {
			c.size = c.line
		}
	}
	return c.size
}

// lineEnd returns the index of the first line end of b at or after i, or len(b).
func lineEnd(b []byte, i int) int {
	end := len(b)
	if j := bytes.IndexByte(b[i:], '\n'); j >= 0 {
		end = i + j
	}
	if j := bytes.IndexByte(b[i:end], '\r'); j >= 0 {
		return i + j
	}
	return end
}
