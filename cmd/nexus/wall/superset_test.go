package wall

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// streamed2 asks for two choices, toolCall for a call of a function.
const (
	streamed2 = `{"model":"chat","stream":true,"n":2,"messages":[{"role":"user","content":"tell me"}]}`
	toolCall  = `{"model":"chat","stream":true,"messages":[{"role":"user","content":"call it"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]}`
)

// TestBeyondTheWall plays what the scorecard leaves out.
func TestBeyondTheWall(t *testing.T) {
	t.Parallel()
	var rows []row
	for _, kind := range []string{"openai", "vllm", "sglang"} {
		rows = append(rows, row{
			name: "cut inside a tool call, " + kind, kind: kind, request: toolCall,
			main: func(x *asked) { calling(x, 6) },
			judge: func(v *view) { // parser state is lost: going on would turn the call into prose, or begin it again
				v.failed()
				v.asksAtMost(1, 0)
				if v.calls == "" || !strings.HasPrefix(arguments, v.calls) || v.texts[0] != "" {
					v.Errorf("the call's arguments are %q, the text %q", v.calls, v.texts[0])
				}
			},
		})
	}
	rows = append(rows, row{
		name: "a tool call to its end", request: toolCall,
		main: func(x *asked) { calling(x, 1000) },
		judge: func(v *view) {
			if !v.ok() || v.calls != arguments || v.finish[0] != "tool_calls" || v.dones != 1 {
				v.Errorf("got %v", v.answer)
			}
		},
	})
	for _, size := range []int{1, 3, 1000} {
		rows = append(rows, row{
			name: fmt.Sprintf("UTF-8 split over packets of %d bytes", size),
			main: tell(func(v *telling) { v.words, v.frame = strings.SplitAfter(hangul, " "), v.bytewise(size) }),
			judge: func(v *view) {
				if !v.ok() || v.texts[0] != hangul || v.dones != 1 {
					v.Errorf("got %v with %q", v.answer, v.texts[0])
				}
			},
		})
	}
	rows = append(rows, both(row{
		name: "usage missing",
		main: tell(func(v *telling) { v.noUsage = true }),
		judge: func(v *view) {
			v.answered("main")
			v.asks(1, 0)
		},
	})...)
	rows = append(rows, row{
		name: "one byte a second, from the first",
		main: func(x *asked) {
			drip(x, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"+strings.Repeat("data: {", 100))
		},
		judge: func(v *view) {
			v.answered("spare")
			v.asks(1, 1)
			v.within(15 * time.Second)
		},
	}, row{
		name: "one byte a second, after 20 tokens",
		main: at(20, func(v *telling) bool {
			for range 100 {
				if !v.send("1\r\nx\r\n") || !v.wait(time.Second) {
					return false
				}
			}
			return false
		}),
		judge: func(v *view) {
			v.completeOrFailed()
			v.within(45 * time.Second)
			v.asksAtMost(2, 1)
		},
	})
	rows = append(rows, row{
		name: "one byte a second at the end, not streamed", request: plain,
		main:  func(x *asked) { dripEnd(x, 8) },
		judge: func(v *view) { v.answered("main"); v.counted(7, 60); v.asks(1, 0) },
	})
	if thorough {
		rows = append(rows, row{
			name: "one byte a second, not streamed", request: plain, patience: 120 * time.Second,
			main:  func(x *asked) { dripEnd(x, len(fullText)) },
			judge: func(v *view) { v.answered("spare"); v.counted(7, 60); v.asks(1, 1); v.within(100 * time.Second) },
		})
	}
	for _, tt := range []struct{ name, text string }{
		{"nested", `{"error":{"message":"The engine is out.","type":"InternalServerError","param":null,"code":500}}`},
		{"flat", `{"object":"error","message":"The engine is out.","type":"InternalServerError","param":null,"code":500}`},
	} {
		rows = append(rows, row{
			name: "200 with an error body, not streamed, " + tt.name, request: plain,
			main:  func(x *asked) { x.json(200, tt.text) },
			judge: func(v *view) { v.complete(); v.asksAtMost(3, 1) },
		}, row{
			name:  "200 with an error as the first event, " + tt.name,
			main:  at(first, func(v *telling) bool { v.event(tt.text); v.frame(v.ending); v.send("0\r\n\r\n"); return false }),
			judge: func(v *view) { v.complete(); v.asksAtMost(3, 1) },
		}, row{
			name:  "200 with an error as a body where a stream was asked for, " + tt.name,
			main:  func(x *asked) { x.json(200, tt.text) },
			judge: func(v *view) { v.complete(); v.asksAtMost(3, 1) },
		})
	}
	for _, kind := range []string{"openai", "vllm"} {
		for _, code := range []string{"429", "500", `"rate_limit_exceeded"`} {
			rows = append(rows, row{
				name: "error " + code + " in mid-stream, " + kind, kind: kind,
				main: at(30, func(v *telling) bool {
					v.event(`{"error":{"message":"In the middle.","type":"rate_limit_error","param":null,"code":` + code + `}}`)
					v.frame(v.ending)
					v.send("0\r\n\r\n")
					return false
				}),
				judge: func(v *view) {
					v.completeOrFailed()
					v.asksAtMost(3, 3)
					v.within(10 * time.Second)
				},
			}, row{
				name: "error " + code + " in mid-stream, and everywhere after, " + kind, kind: kind,
				main:  inTurn(at(30, func(v *telling) bool { v.close(); return false }), status(429, "rate_limit_error", "rate_limit_exceeded")),
				spare: status(429, "rate_limit_error", "rate_limit_exceeded"),
				judge: func(v *view) {
					v.failed()
					v.asksAtMost(6, 6)
					v.within(20 * time.Second)
				},
			})
		}
	}
	rows = append(rows, row{
		name: "an abort in mid-stream", kind: "vllm",
		main: at(30, func(v *telling) bool {
			v.event(v.choice("{}", "abort", nil))
			v.frame(v.ending)
			v.send("0\r\n\r\n")
			return false
		}),
		judge: func(v *view) { v.completeOrFailed(); v.asksAtMost(3, 3) },
	}, row{
		name:  "[DONE] before the finish",
		main:  at(30, func(v *telling) bool { v.frame(v.ending); v.send("0\r\n\r\n"); return false }),
		judge: func(v *view) { v.completeOrFailed(); v.asksAtMost(3, 3) },
	}, row{
		name:  "the body's end before the finish",
		main:  at(30, func(v *telling) bool { v.send("0\r\n\r\n"); return false }),
		judge: func(v *view) { v.completeOrFailed(); v.asksAtMost(3, 3) },
	})
	rows = append(rows, row{
		name: "gzip that nobody asked for, not streamed", request: plain,
		main:  func(x *asked) { x.json(200, zip(wholeAnswer("main")), "Content-Encoding: gzip") },
		judge: func(v *view) { v.complete(); v.asksAtMost(3, 1) },
	}, row{
		name: "gzip that nobody asked for, streamed",
		main: func(x *asked) {
			x.whole(200, "text/event-stream", zip("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"), "Content-Encoding: gzip")
		},
		judge: func(v *view) {
			if !v.ok() || v.texts[0] != "x" && v.texts[0] != fullText || v.dones != 1 {
				v.Errorf("got %v", v.answer)
			}
			v.asksAtMost(3, 1)
		},
	}, row{
		name: "a gzip bomb", request: plain,
		main: func(x *asked) {
			x.json(200, strings.Repeat(zip(strings.Repeat(" ", 1<<23)), 64), "Content-Encoding: gzip")
		},
		judge: func(v *view) { v.answered("spare"); v.asksAtMost(3, 1); v.light() },
	}, row{
		name:  "two [DONE]",
		main:  tell(func(v *telling) { v.ending = "data: [DONE]\n\ndata: [DONE]\n\n" }),
		judge: func(v *view) { v.answered("main"); v.counted(7, 60); v.asks(1, 0) },
	}, row{
		name: "trailing garbage after [DONE]",
		main: tell(func(v *telling) {
			v.ending = "data: [DONE]\n\ngarbage\n\ndata: {\"more\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"more\"}}]}\n\n"
		}),
		judge: func(v *view) { v.answered("main"); v.counted(7, 60); v.asks(1, 0) },
	}, row{
		name:  "chatter after [DONE] that does not end",
		main:  tell(func(v *telling) { v.before[atTheEnd] = v.chatter("data: {\"choices\":[]}\n\n") }),
		judge: func(v *view) { v.answered("main"); v.counted(7, 60); v.asks(1, 0); v.within(8 * time.Second) },
	}, row{
		name:  "comments and nothing else",
		main:  tell(func(v *telling) { v.before[first] = v.chatter(": keep-alive\n\n") }),
		judge: func(v *view) { v.answered("spare"); v.asks(1, 1); v.within(15 * time.Second) },
	})
	rows = append(rows, row{
		name: "two choices", request: streamed2,
		main: func(x *asked) { choices(x, 1000) },
		judge: func(v *view) {
			if !v.ok() || v.texts[0] != fullText || v.texts[1] != fullText || v.finish[0] != "stop" || v.finish[1] != "stop" || v.dones != 1 {
				v.Errorf("got %v", v.answer)
			}
		},
	}, row{
		name: "two choices, cut", request: streamed2,
		main:  func(x *asked) { choices(x, 40) },
		judge: func(v *view) { v.failed(); v.asks(1, 0) },
	}, row{
		name: "two choices, one without its end", request: streamed2,
		main:  func(x *asked) { choices(x, 59) },
		judge: func(v *view) { v.failed(); v.asks(1, 0) },
	}, row{
		name: "two choices, of which one never begins before [DONE]", request: streamed2,
		main: well,
		judge: func(v *view) {
			v.failed()
			v.asks(1, 0)
			if v.texts[0] != fullText || v.texts[1] != "" {
				v.Errorf("got %v", v.answer)
			}
		},
	})
	for _, tt := range []struct {
		name string
		main script
	}{
		{"an empty 200", func(x *asked) { x.send(streamHead + "0\r\n\r\n") }},
		{"an empty 200 without chunks", func(x *asked) { x.whole(200, "text/event-stream", "") }},
		{"[DONE] and nothing else", func(x *asked) { x.send(streamHead + chunk("data: [DONE]\n\n") + "0\r\n\r\n") }},
		{"a 200 that is HTML", func(x *asked) { x.whole(200, "text/html", page) }},
		{"a 502 that is HTML", func(x *asked) { x.whole(502, "text/html", page) }},
		{"HTML called an event stream", func(x *asked) { x.whole(200, "text/event-stream", page) }},
	} {
		rows = append(rows, row{name: tt.name, main: tt.main, judge: func(v *view) { v.answered("spare"); v.asksAtMost(3, 1); v.within(10 * time.Second) }})
	}
	rows = append(rows, row{
		name: "a 200 that is HTML, not streamed", request: plain,
		main:  func(x *asked) { x.whole(200, "text/html", page) },
		judge: func(v *view) { v.answered("spare"); v.asksAtMost(3, 1) },
	}, row{
		name: "HTML called JSON, not streamed", request: plain,
		main:  func(x *asked) { x.json(200, page) },
		judge: func(v *view) { v.answered("spare"); v.asksAtMost(3, 1) },
	}, row{
		name: "a 404 that is HTML", request: plain,
		main:  func(x *asked) { x.whole(404, "text/html", page) },
		judge: func(v *view) { v.failed(); v.asks(1, 0) },
	}, row{
		name:  "headers and then nothing",
		main:  func(x *asked) { x.send(streamHead); x.silent() },
		judge: func(v *view) { v.answered("spare"); v.asks(1, 1); v.within(15 * time.Second) },
	}, row{
		name:  "headers and then the end of the connection",
		main:  func(x *asked) { x.send(streamHead); x.close() },
		judge: func(v *view) { v.complete(); v.asksAtMost(3, 1); v.within(10 * time.Second) },
	})
	play(t, rows)
}

// light wants the gateway's memory to be bounded, whatever it was sent.
func (v *view) light() {
	v.Helper()
	if n := v.gateway.number(v.T, "process_resident_memory_bytes"); n > 200<<20 {
		v.Errorf("the gateway takes %.0f MiB", n/(1<<20))
	}
}

const (
	hangul    = "안녕하세요, 세계! 이모지 👩‍👩‍👧‍👦 와 한글, ñandú, 漢字, \U0001F680 끝까지 전부."
	arguments = `{"city":"Seoul","unit":"celsius","days":3}`
	page      = "<!DOCTYPE html>\n<html><head><title>502</title></head>\n<body><h1>Bad Gateway</h1>\n\n<p>nginx</p></body></html>\n"
)

// bytewise sends each event in chunks of so many bytes, each in a packet of its own where the kernel lets it.
func (v *telling) bytewise(size int) func(string) bool {
	return func(event string) bool {
		for len(event) > 0 {
			n := min(size, len(event))
			if !v.send(chunk(event[:n])) {
				return false
			}
			event = event[n:]
		}
		return true
	}
}

// chatter sends text again and again until the gateway goes.
func (v *telling) chatter(text string) func() bool {
	return func() bool {
		for v.wait(50*time.Millisecond) && v.frame(text) {
		}
		return false
	}
}

// drip sends a byte a second.
func drip(x *asked, text string) {
	for i := range len(text) {
		if !x.send(text[i:i+1]) || !x.wait(time.Second) {
			return
		}
	}
}

// dripEnd sends an answer that is not streamed, the last bytes of it one a second.
func dripEnd(x *asked, bytes int) {
	body := wholeAnswer("main")
	x.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body)))
	x.send(body[:len(body)-bytes])
	drip(x, body[len(body)-bytes:])
}

func zip(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

func wholeAnswer(by string) string {
	text, err := json.Marshal(fullText)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"%s-model","choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":60,"total_tokens":67}}`, by, text)
}

// calling calls a function, of whose arguments it says so many pieces of three bytes.
func calling(x *asked, pieces int) {
	v := &telling{asked: x}
	v.frame = func(event string) bool { return x.send(chunk(event)) }
	if !x.send(streamHead) || !v.event(v.choice(`{"role":"assistant","content":""}`, "", nil)) ||
		!v.event(v.choice(`{"tool_calls":[{"id":"call_1","type":"function","index":0,"function":{"name":"f","arguments":""}}]}`, "", nil)) {
		return
	}
	for i, rest := 0, arguments; len(rest) > 0; i++ {
		if i == pieces {
			x.close()
			return
		}
		n := min(3, len(rest))
		v.event(v.choice(`{"tool_calls":[{"index":0,"function":{"arguments":`+quote(rest[:n])+`}}]}`, "", nil))
		rest = rest[n:]
	}
	v.event(v.choice(`{}`, "tool_calls", nil))
	v.frame("data: [DONE]\n\n")
	x.send("0\r\n\r\n")
}

// choices answers twice at the same time, and is cut at a word of the second.
func choices(x *asked, at int) {
	v := &telling{asked: x}
	v.frame = func(event string) bool { return x.send(chunk(event)) }
	event := func(i int, delta, finish string) {
		v.event(fmt.Sprintf(`{"id":"chatcmpl-main-1","object":"chat.completion.chunk","created":1,"model":"main-model","choices":[{"index":%d,"delta":%s,"finish_reason":%s}]}`, i, delta, finish))
	}
	x.send(streamHead)
	event(0, `{"role":"assistant"}`, "null")
	event(1, `{"role":"assistant"}`, "null")
	for i, word := range words() {
		event(0, `{"content":`+quote(word)+`}`, "null")
		if i == at {
			event(0, `{}`, `"stop"`)
			v.frame("data: [DONE]\n\n")
			x.close()
			return
		}
		event(1, `{"content":`+quote(word)+`}`, "null")
	}
	event(0, `{}`, `"stop"`)
	event(1, `{}`, `"stop"`)
	v.frame("data: [DONE]\n\n")
	x.send("0\r\n\r\n")
}
