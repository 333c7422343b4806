package llm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// piece is a chunk as tests write it.
type piece struct {
	kind Kind
	raw  string
	data string
	text string // of all texts
}

func pieces(r *Reader) (all []piece, err error) {
	for {
		c, err := r.Next()
		if err != nil {
			return all, err
		}
		_ = append(c.Raw, "overwritten"...) // must not reach the next event
		p := piece{kind: c.Kind, raw: string(c.Raw), data: string(c.Data)}
		if c.View != nil {
			for _, x := range c.View.Texts {
				p.text += string(AppendText(nil, c.Data, x))
			}
		}
		all = append(all, p)
	}
}

// chopped yields data in pieces of size bytes.
type chopped struct {
	data string
	size int
}

func (c *chopped) Read(p []byte) (int, error) {
	if c.data == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size)], c.data)
	c.data = c.data[n:]
	return n, nil
}

const (
	jsonA = `{"choices":[{"delta":{"content":"안녕 😀"}}]}`
	jsonB = `{"choices":[{"delta":{"content":"B"}}]}`
)

func TestReader(t *testing.T) {
	a := piece{Event, "data: " + jsonA + "\n\n", jsonA, "안녕 😀"}
	b := piece{Event, "data: " + jsonB + "\n\n", jsonB, "B"}
	done := piece{Done, "data: [DONE]\n\n", "[DONE]", ""}
	tests := []struct {
		name string
		in   string
		want []piece
		err  error
	}{
		{"nothing", "", nil, io.EOF},
		{"two and done", a.raw + b.raw + done.raw, []piece{a, b, done}, io.EOF},
		{"no space", "data:" + jsonA + "\n\n", []piece{{Event, "data:" + jsonA + "\n\n", jsonA, "안녕 😀"}}, io.EOF},
		{"CR LF", "data: " + jsonA + "\r\n\r\ndata: " + jsonB + "\r\n\r\n", []piece{{Event, "data: " + jsonA + "\r\n\r\n", jsonA, "안녕 😀"}, {Event, "data: " + jsonB + "\r\n\r\n", jsonB, "B"}}, io.EOF},
		{"CR", "data: " + jsonA + "\r\rdata: [DONE]\r\r", []piece{{Event, "data: " + jsonA + "\r\r", jsonA, "안녕 😀"}, {Done, "data: [DONE]\r\r", "[DONE]", ""}}, io.EOF},
		{"mixed line ends", "data: " + jsonA + "\r\r\n" + "data: " + jsonB + "\n\r\n" + done.raw, []piece{{Event, "data: " + jsonA + "\r\r", jsonA, "안녕 😀"}, {Event, "data: " + jsonB + "\n\r", jsonB, "B"}, done}, io.EOF},
		{"comments", ": keep-alive\n\n" + a.raw + ":\n\n", []piece{{Comment, ": keep-alive\n\n", "", ""}, a, {Comment, ":\n\n", "", ""}}, io.EOF},
		{"comment inside", ": c\ndata: " + jsonB + "\n\n", []piece{{Event, ": c\ndata: " + jsonB + "\n\n", jsonB, "B"}}, io.EOF},
		{"event line", "event: x\nid: 7\ndata: " + jsonB + "\n\nevent: ping\n\n", []piece{{Event, "event: x\nid: 7\ndata: " + jsonB + "\n\n", jsonB, "B"}, {Comment, "event: ping\n\n", "", ""}}, io.EOF},
		{"byte order mark", "\ufeff" + a.raw, []piece{a}, io.EOF},
		{"blank lines", "\n\r\n\n" + a.raw + "\n\n\n" + b.raw + "\n", []piece{a, b}, io.EOF},
		{"several data lines", "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"B\"}}]\ndata: }\n\n", []piece{{Event, "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"B\"}}]\ndata: }\n\n", "{\"choices\":[{\"delta\":\n{\"content\":\"B\"}}]\n}", "B"}}, io.EOF},
		{"done with spaces", "data:  [DONE]  \n\n", []piece{{Done, "data:  [DONE]  \n\n", " [DONE]  ", ""}}, io.EOF},
		{"two done and garbage", done.raw + done.raw + "garbage\n\n", []piece{done, done, {Comment, "garbage\n\n", "", ""}}, io.EOF},
		{"malformed", "data: {\"choices\":[\n\n" + a.raw, []piece{{Malformed, "data: {\"choices\":[\n\n", `{"choices":[`, ""}, a}, io.EOF},
		{"other field", "database: 1\ndata: " + jsonB + "\n\n", []piece{{Event, "database: 1\ndata: " + jsonB + "\n\n", jsonB, "B"}}, io.EOF},
		{"bare data", "data\n\ndata:\n\n", []piece{{Comment, "data\n\n", "", ""}, {Comment, "data:\n\n", "", ""}}, io.EOF},
		{"no blank line at the end", a.raw + "data: " + jsonB, []piece{a, b}, io.EOF},
		{"one line end at the end", a.raw + "data: " + jsonB + "\n", []piece{a, b}, io.EOF},
		{"done without a line end", "data: [DONE]", []piece{done}, io.EOF},
		{"half a CR LF at the end", "data: " + jsonB + "\r\n\r", []piece{{Event, "data: " + jsonB + "\r\n\r\n", jsonB, "B"}}, io.EOF},
		{"cut in an event", a.raw + "data: {\"choi", []piece{a}, io.ErrUnexpectedEOF},
		{"cut in a comment", a.raw + ": keep", []piece{a}, io.EOF},
		{"HTML", "<html>\n<body>\n\n", []piece{{Comment, "<html>\n<body>\n\n", "", ""}}, io.EOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for size := 1; size <= len(tt.in)+1; size++ {
				checkPieces(t, NewReader(&chopped{tt.in, size}, Chat, 0), tt.want, tt.err)
			}
			checkPieces(t, NewReader(iotest.DataErrReader(strings.NewReader(tt.in)), Chat, 0), tt.want, tt.err)
		})
	}
}

func checkPieces(t *testing.T, r *Reader, want []piece, end error) {
	t.Helper()
	defer r.Release()
	got, err := pieces(r)
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Fatalf("got\n%q, want\n%q", got, want)
	}
	if err != end {
		t.Fatalf("got error %v, want %v", err, end)
	}
	if _, again := r.Next(); again != end {
		t.Fatalf("got error %v the second time, want %v", again, end)
	}
}

// The source's own error comes after the events before it, and an event it cut is not an event.
func TestReaderSourceError(t *testing.T) {
	broken := errors.New("connection reset")
	in := io.MultiReader(strings.NewReader("data: "+jsonA+"\n\ndata: "+jsonB), iotest.ErrReader(broken))
	r := NewReader(in, Chat, 0)
	defer r.Release()
	got, err := pieces(r)
	if len(got) != 1 || err != broken {
		t.Errorf("got %d events, %v", len(got), err)
	}
}

// One read serves all events that are ready, and More says so.
func TestReaderMore(t *testing.T) {
	reads := 0
	src := readerFunc(func(p []byte) (int, error) {
		if reads++; reads > 2 {
			return 0, io.EOF
		}
		return copy(p, "data: {}\n\n: c\n\ndata: {}\n\ndata: "), nil
	})
	r := NewReader(src, Chat, 0)
	defer r.Release()
	for i, want := range []bool{true, true, false, true, true, false} {
		c, err := r.Next()
		if err != nil || c.More != want {
			t.Errorf("event %d: got more %v, %v; want %v", i, c.More, err, want)
		}
		if wantReads := i/3 + 1; reads != wantReads {
			t.Errorf("event %d: got %d reads, want %d", i, reads, wantReads)
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Over a real socket: an event is had as soon as its last byte is there, though more of the stream is
// to come; a lone CR ends one too.
func TestReaderDoesNotWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	steps := make(chan string)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for s := range steps {
			_, _ = io.WriteString(c, s)
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	r := NewReader(c, Chat, 0)
	defer r.Release()
	for _, s := range []string{"data: " + jsonA + "\n\n", "data: " + jsonA + "\r\r", "data: " + jsonA + "\r\n\r\n: next"} {
		steps <- s
		if chunk, err := r.Next(); err != nil || chunk.Kind != Event {
			t.Fatalf("%q: got %v, %v", s, chunk.Kind, err)
		}
	}
	close(steps)
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("got %v at the end", err)
	}
}

// S-32: an event without end costs no more memory than the bound.
func TestReaderEventTooLarge(t *testing.T) {
	const max = 1 << 20
	fits := "data: {\"x\":\"" + strings.Repeat("한", (max-16)/3) + "\"}\n\n"
	r := NewReader(strings.NewReader(fits), Chat, max)
	if c, err := r.Next(); err != nil || c.Kind != Event || string(c.Raw) != fits {
		t.Errorf("an event of %d bytes: got %v, %v", len(fits), c.Kind, err)
	}
	r.Release()

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	endless := &loop{data: bytes.Repeat([]byte("x"), 4096), size: 64 << 10}
	r = NewReader(endless, Chat, max)
	for range 2 {
		if _, err := r.Next(); err != ErrEventTooLarge {
			t.Errorf("got %v, want ErrEventTooLarge", err)
		}
	}
	r.Release()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 6*max {
		t.Errorf("an endless event cost %d bytes", grown)
	}
	whole := strings.NewReader("data: " + strings.Repeat(" ", 100) + "{}\n\n")
	if _, err := NewReader(whole, Chat, 64).Next(); err != ErrEventTooLarge {
		t.Errorf("got %v for a whole event over the bound", err)
	}
}

func TestReaderSourceThatNeverSpeaks(t *testing.T) {
	r := NewReader(readerFunc(func([]byte) (int, error) { return 0, nil }), Chat, 0)
	defer r.Release()
	if _, err := r.Next(); err != io.ErrNoProgress {
		t.Errorf("got %v, want io.ErrNoProgress", err)
	}
}

func TestReaderRelease(t *testing.T) {
	r := NewReader(strings.NewReader("data: {}\n\ndata: {}\n\n"), Chat, 0)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.Release()
	r.Release()
	if _, err := r.Next(); err == nil {
		t.Error("a released reader still reads")
	}
}

// An idle stream holds a small buffer, even after a large event.
func TestReaderShrinks(t *testing.T) {
	big := "data: {\"x\":\"" + strings.Repeat("x", 300<<10) + "\"}\n\n"
	r := NewReader(&loop{data: []byte(big + "data: {}\n\n"), size: 4 << 10}, Chat, 0)
	defer r.Release()
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	r.start, r.end = 0, 0
	r.fill() // what Next does before it waits
	if len(r.buf) != smallBuffer {
		t.Errorf("got a buffer of %d, want %d", len(r.buf), smallBuffer)
	}
}

func TestReaderIdleMemory(t *testing.T) {
	const streams, most = 500, 6 << 10 // bytes
	big := "data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("x", 20<<10) + "\"}}]}\n\n"
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	readers := make([]*Reader, streams)
	for i := range readers {
		readers[i] = NewReader(&loop{data: []byte(big), size: len(big)}, Chat, 0)
		if _, err := readers[i].Next(); err != nil {
			t.Fatal(err)
		}
		readers[i].fill()    // what Next does before it waits
		readers[i].src = nil // the source's memory is not the reader's
	}
	runtime.GC()
	runtime.GC() // the second empties the pools
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / streams; each > most {
		t.Errorf("an idle reader holds %d bytes, want at most %d", each, most)
	}
	for _, r := range readers {
		r.Release()
	}
}

func TestReaderAllocatesNothing(t *testing.T) {
	r := NewReader(&loop{data: []byte("event: e\ndata: " + benchChunk + "\n\ndata: {\"a\":\ndata: 1}\n\n"), size: 100}, Chat, 0)
	defer r.Release()
	if n := testing.AllocsPerRun(500, func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}); n > 0 && !raceEnabled {
		t.Errorf("got %v allocations an event", n)
	}
}

func TestAppendEvent(t *testing.T) {
	tests := []struct{ name, event, payload, want string }{
		{"plain", "", "{}", "data: {}\n\n"},
		{"named", "response.created", "{}", "event: response.created\ndata: {}\n\n"},
		{"lines", "", "{\n\"a\":\r\n1\r}", "data: {\ndata: \"a\":\ndata: 1\ndata: }\n\n"},
		{"ends in a line", "", "{}\n", "data: {}\ndata: \n\n"},
		{"nothing", "", "", "data: \n\n"},
	}
	for _, tt := range tests {
		if got := string(AppendEvent([]byte("x"), tt.event, []byte(tt.payload))); got != "x"+tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// FuzzReader: however the bytes arrive, the chunks are the same, and no byte but blank lines between
// events, a byte order mark and a cut-off tail is lost.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"data: {}\n\ndata: [DONE]\n\n", "data: {}\r\n\r\n: c\r\n\r\n", "data: {}\r\rdata: 1\r\r", "\ufeffevent: x\ndata: {\ndata: }\n\n", "data: {}\r\r\n\n\rdata", "data: \"한😀\"\n\ndata: {\"a\":1}"} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(5))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole, errWhole := pieces(NewReader(bytes.NewReader(in), Chat, 256))
		parts, errParts := pieces(NewReader(&chopped{string(in), int(size%17) + 1}, Chat, 256))
		if fmt.Sprintf("%q", whole) != fmt.Sprintf("%q", parts) || errWhole != errParts {
			t.Fatalf("in one piece\n%q %v, in pieces\n%q %v", whole, errWhole, parts, errParts)
		}
		at := 0
		for i, p := range whole {
			raw := strings.TrimRight(p.raw, "\r\n")
			j := bytes.Index(in[at:], []byte(raw))
			if j < 0 || strings.Trim(string(in[at:at+j]), "\r\n\ufeff") != "" {
				t.Fatalf("chunk %d: %q does not follow in %q", i, p.raw, in[at:])
			}
			at += j + len(raw)
		}
	})
}
