package llm

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

func BenchmarkParseRequest(b *testing.B) {
	ascii := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("plain text without anything odd ", 8<<10) + `"}]}`)
	korean := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("한국어로 쓴 긴 글입니다. ", 8<<10) + `"}]}`)
	for _, bb := range []struct {
		name string
		body []byte
	}{{"1KB", chatBody(1 << 10)}, {"256KB", chatBody(256 << 10)}, {"256KB-ascii", ascii}, {"256KB-korean", korean}} {
		b.Run(bb.name, func(b *testing.B) {
			var r Request
			b.SetBytes(int64(len(bb.body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := ParseRequest(Chat, bb.body, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const benchChunk = `{"id":"chatcmpl-1234567890abcdef","object":"chat.completion.chunk","created":1763700000,"model":"qwen2.5-7b","choices":[{"index":0,"delta":{"content":" 안녕하세요 there"},"logprobs":null,"finish_reason":null,"stop_reason":null}]}`

func BenchmarkViewScan(b *testing.B) {
	floats := []byte(`{"object":"list","model":"e","data":[{"object":"embedding","index":0,"embedding":[` + strings.Repeat("-0.012345678901234567,", 1535) + `0.5]}],"usage":{"prompt_tokens":9,"total_tokens":9}}`)
	for _, bb := range []struct {
		name string
		e    Endpoint
		p    []byte
	}{{"chunk", Chat, []byte(benchChunk)}, {"embedding", Embeddings, floats}} {
		b.Run(bb.name, func(b *testing.B) {
			var v View
			b.SetBytes(int64(len(bb.p)))
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Scan(bb.e, true, bb.p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// loop yields the same bytes for ever, up to size at a time.
type loop struct {
	data []byte
	at   int
	size int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), l.size)], l.data[l.at:])
	l.at = (l.at + n) % len(l.data)
	return n, nil
}

func BenchmarkReader(b *testing.B) {
	event := "data: " + benchChunk + "\n\n"
	for _, size := range []int{len(event), 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r := NewReader(&loop{data: []byte(event), size: size}, Chat, 0)
			defer r.Release()
			b.SetBytes(int64(len(event)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReaderBigEvents(b *testing.B) {
	event := []byte(`data: {"choices":[],"x":"` + strings.Repeat("x", 20<<10) + "\"}\n\n")
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	r := NewReader(&loop{data: event, size: 4 << 10}, Chat, 0)
	defer r.Release()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatch(b *testing.B) {
	body := chatBody(1 << 10)
	var r Request
	if err := ParseRequest(Chat, body, &r); err != nil {
		b.Fatal(err)
	}
	var p Patch
	var dst []byte
	edits := []Edit{{Start: 10, End: 20, With: []byte("[MASKED]")}}
	b.ReportAllocs()
	for b.Loop() {
		p.Reset()
		if err := p.EditText(body, r.Texts[1], edits); err != nil {
			b.Fatal(err)
		}
		p.SetField(&r, "model", []byte(`"other"`))
		p.SetField(&r, "cache_salt", []byte(`"t1"`))
		p.DropField(&r, "user")
		var err error
		if dst, err = p.Apply(dst[:0], body); err != nil {
			b.Fatal(err)
		}
	}
}

var _ io.Reader = (*loop)(nil)
var _ = bytes.MinRead
