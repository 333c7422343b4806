package wall

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestBadInput sends what no backend should: whatever it is, it is bounded, and the caller gets a whole answer
// or an error in OpenAI's shape.
func TestBadInput(t *testing.T) {
	t.Parallel()
	var rows []row
	always := func(name, request string, main script) row {
		return row{name: name, request: request, main: main, judge: func(v *view) {
			v.answered("spare")
			v.asksAtMost(3, 1)
			v.within(12 * time.Second)
			v.light()
		}}
	}
	for _, tt := range []struct {
		name string
		main script
	}{
		{"an endless header", func(x *asked) {
			for x.send("HTTP/1.1 200 OK\r\n") {
				for i := 0; x.send(fmt.Sprintf("X-A-%d: %s\r\n", i, strings.Repeat("a", 1000))); i++ {
				}
			}
		}},
		{"an endless line of a header", func(x *asked) {
			x.send("HTTP/1.1 200 OK\r\nX-A: ")
			for x.send(strings.Repeat("a", 4096)) {
			}
		}},
		{"1xx without end", func(x *asked) {
			for x.send("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n") {
			}
		}},
		{"no HTTP", func(x *asked) { x.send("SSH-2.0-OpenSSH_9.2\r\n"); x.close() }},
		{"no HTTP and no end", func(x *asked) { x.send("\x16\x03\x01\x00"); x.silent() }},
		{"HTTP/0.9", func(x *asked) { x.send("<html>hello</html>\r\n"); x.close() }},
		{"half a head", func(x *asked) { x.send("HTTP/1.1 200 OK\r\nContent-Ty"); x.close() }},
		{"a NUL in a header", func(x *asked) { x.send("HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n") }},
		{"a negative length", func(x *asked) {
			x.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: -1\r\n\r\n")
		}},
		{"two lengths", func(x *asked) { x.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}") }},
		{"a length and chunks that are none", func(x *asked) {
			x.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nno chunk\r\n")
		}},
		{"a chunk larger than the world", func(x *asked) {
			x.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\ndata")
		}},
		{"switching protocols", func(x *asked) {
			x.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		}},
		{"no content", func(x *asked) { x.send("HTTP/1.1 204 No Content\r\n\r\n") }},
		{"a length that is cut short", func(x *asked) {
			x.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{\"choices\":[")
			x.close()
		}},
		{"JSON nested without end", func(x *asked) { x.json(200, strings.Repeat(`{"a":[`, 100000)) }},
	} {
		rows = append(rows, always(tt.name, streamed, tt.main), always(tt.name+", not streamed", plain, tt.main))
	}
	rows = append(rows,
		always("a body that says it is larger than any may be", plain, func(x *asked) {
			x.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999999999999\r\n\r\n{")
			x.silent()
		}),
		always("an event of 5 MB, the first", streamed, at(first, func(v *telling) bool { return v.event(`{"big":` + quote(strings.Repeat("a", 5<<20)) + `}`) })),
		always("an event without end, the first", streamed, func(x *asked) {
			x.send(streamHead + chunk("data: "))
			for x.send(chunk(strings.Repeat("a", 4096))) {
			}
		}),
	)
	bounded := func(v *view) {
		v.completeOrFailed()
		v.asksAtMost(3, 3)
		v.within(12 * time.Second)
		v.light()
	}
	rows = append(rows, row{
		name:  "an event of 5 MB in mid-stream",
		main:  at(30, func(v *telling) bool { return v.event(`{"big":` + quote(strings.Repeat("a", 5<<20)) + `}`) }),
		judge: bounded,
	}, row{
		name: "an event without end in mid-stream",
		main: at(30, func(v *telling) bool {
			v.send(chunk("data: "))
			for v.send(chunk(strings.Repeat("a", 4096))) {
			}
			return false
		}),
		judge: bounded,
	}, row{
		name:  "a chunk that is none in mid-stream",
		main:  at(30, func(v *telling) bool { v.send("zz\r\nno chunk\r\n"); return true }),
		judge: bounded,
	}, row{
		name: "an answer that does not end", patience: 3 * time.Second,
		main: tell(func(v *telling) {
			v.before[atFinish] = v.chatter("data: " + v.choice(`{"content":""}`, "", nil) + "\n\n")
		}),
		judge: func(v *view) { // nothing is wrong with it; the caller's patience, here 3 s, is what ends it
			if v.texts[0] != fullText || v.answer.err == nil {
				v.Errorf("got %v", v.answer)
			}
		},
	})
	for _, tt := range []struct{ name, text string }{
		{"a lone byte", "a\xffb"}, {"half a rune", "a\xc3(b"}, {"a surrogate", "a\xed\xa0\x80b"}, {"an overlong", "a\xc0\xafb"},
	} {
		rows = append(rows, row{
			name: "invalid UTF-8, " + tt.name,
			main: at(30, func(v *telling) bool { return v.event(v.choice(`{"content":"`+tt.text+`"}`, "", nil)) }),
			judge: func(v *view) { // the caller's text is valid, and nothing that was is lost
				if !v.ok() || v.dones != 1 || !utf8.ValidString(v.texts[0]) || len(v.texts[0]) < len(fullText) || !strings.HasPrefix(v.texts[0], fullText[:210]) || !strings.HasSuffix(v.texts[0], fullText[210:]) {
					v.Errorf("got %v: %q", v.answer, v.texts[0])
				}
				v.asks(1, 0)
			},
		}, row{
			name: "invalid UTF-8, not streamed, " + tt.name, request: plain,
			main: func(x *asked) { x.json(200, strings.Replace(wholeAnswer("main"), "word30", tt.text, 1)) },
			judge: func(v *view) { // it is no JSON, and so no answer: another one is had, whole
				if !utf8.ValidString(v.body) {
					v.Errorf("got %v: %q", v.answer, v.body)
				}
				v.answered("spare")
				v.asks(3, 1)
			},
		})
	}
	play(t, rows)
}

// S-36: a redirect is not followed, and no credential goes where it points.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	trap := newBackend(t, "trap", well)
	var rows []row
	for _, code := range []int{301, 302, 303, 307, 308} {
		rows = append(rows, row{
			name: fmt.Sprint(code),
			main: func(x *asked) { x.whole(code, "text/plain", "", "Location: "+trap.url()+"/v1/chat/completions") },
			judge: func(v *view) {
				v.answered("spare")
				v.asksAtMost(3, 1)
				if trap.open() != 0 || len(trap.calls()) != 0 {
					v.Error("the redirect was followed")
				}
			},
		})
	}
	play(t, rows)
}
