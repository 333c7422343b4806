package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// delta is a chat chunk of one choice.
func delta(choice int, text, finish string) string {
	reason := "null"
	if finish != "" {
		reason = `"` + finish + `"`
	}
	return eventText(fmt.Sprintf(`{"choices":[{"index":%d,"delta":{"content":%q},"finish_reason":%s}]}`, choice, text, reason))
}

const doneText = "data: [DONE]\n\n"

// Only a finish reason of every choice makes an answer whole; backends.md section 4.1.
func TestWhatEndsAnAnswer(t *testing.T) {
	role := eventText(`{"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}`)
	tool := eventText(`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\":"}}]}}]}`)
	toolEnd := eventText(`{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`)
	usage := eventText(`{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}`)
	failed := eventText(`{"error":{"message":"Gone.","code":500}}`)
	for _, tt := range []struct {
		name, members, sent string
		hold                bool // the connection stays open
		code                string
		dones               int
	}{
		{"plain", "", delta(0, "a", "") + delta(0, "", "stop") + doneText, false, "", 1},
		{"role first", "", role + delta(0, "a", "stop") + doneText, false, "", 1},
		{"no text at all", "", role + delta(0, "", "stop") + doneText, false, "", 1},
		{"finish alone", "", toolEnd + doneText, false, "", 1},
		{"tool call", "", role + tool + toolEnd + doneText, false, "", 1},
		{"tool call cut", "", role + tool, false, "bad_backend_answer", 0},
		{"tool call, [DONE] before its finish", "", role + tool + doneText, false, "bad_backend_answer", 0},
		{"n=2", `"n":2,`, delta(0, "a", "") + delta(1, "b", "") + delta(1, "", "stop") + delta(0, "", "length") + doneText, false, "", 1},
		{"n=2, one after the other", `"n":2,`, delta(0, "a", "stop") + delta(1, "b", "stop") + doneText, false, "", 1},
		{"n=2, one cut", `"n":2,`, delta(0, "a", "") + delta(1, "b", "") + delta(1, "", "stop") + doneText, false, "bad_backend_answer", 0},
		{"n=2, [DONE] before the other began", `"n":2,`, delta(0, "a", "stop") + doneText, false, "bad_backend_answer", 0},
		{"n=2, the other's role alone", `"n":2,`, delta(0, "a", "stop") + strings.ReplaceAll(role, `"index":0`, `"index":1`) + doneText, false, "bad_backend_answer", 0},
		{"n=2, cut before the other began", `"n":2,`, delta(0, "a", "stop"), false, "bad_backend_answer", 0},
		{"n=2, the other aborted", `"n":2,`, delta(0, "a", "stop") + delta(1, "b", "abort") + doneText, false, "bad_backend_answer", 0},
		{"n=2, a pause before the other", `"n":2,`, delta(0, "a", "stop") + ": wait\n\n" + delta(1, "b", "stop") + doneText, true, "", 1},
		{"error", "", delta(0, "a", "") + failed + doneText, false, "*", 0},
		{"error after the finish of one", `"n":2,`, delta(0, "a", "stop") + failed + doneText, false, "*", 0},
		{"[DONE] alone", "", doneText, false, "bad_backend_answer", 0},
		{"[DONE] too early", "", delta(0, "a", "") + doneText, false, "bad_backend_answer", 0},
		{"no [DONE]", "", delta(0, "a", "stop"), false, "", 1},
		{"no [DONE], held open", "", delta(0, "a", "stop") + usage, true, "", 1},
		{"held open after [DONE]", "", delta(0, "a", "stop") + usage + doneText, true, "", 1},
		{"twice [DONE] and more", "", delta(0, "a", "stop") + doneText + doneText + delta(0, "b", "") + failed + "garbage\n\n", false, "", 1},
		{"CR LF and no space", "", strings.ReplaceAll(strings.ReplaceAll(delta(0, "a", "stop")+doneText, "\n", "\r\n"), "data: ", "data:"), false, "", 1},
		{"malformed first, then an error", "", "data: {oops\n\n" + failed, false, "status 500", 0},
		{"comments, then an error", "", ": a\n\n: b\n\n" + failed, false, "status 500", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) {
				_, _ = io.WriteString(c, streamHead+chunked(tt.sent))
				if !tt.hold {
					_, _ = io.WriteString(c, "0\r\n\r\n")
				}
			})
			u := single(t, b.url)
			began := time.Now()
			status, text, err := ask(t, u, `{"model":"mock","stream":true,`+tt.members+`"messages":[{"role":"user","content":"x"}]}`)
			code := ""
			var r *pipeline.Refusal
			if errors.As(err, &r) {
				code = r.Code
			} else if err != nil {
				t.Fatal(err)
			}
			if status >= 400 {
				code = fmt.Sprint("status ", status)
			}
			if code != tt.code && (tt.code != "*" || err == nil) {
				t.Errorf("got %q (%v), want %q", code, err, tt.code)
			}
			if n := strings.Count(text, "[DONE]"); n != tt.dones || tt.dones == 1 && !strings.HasSuffix(text, "data: [DONE]\n\n") && !strings.Contains(text, "\r\n") {
				t.Errorf("%d times [DONE], want %d:\n%s", n, tt.dones, text)
			}
			if took := time.Since(began); took > time.Second || inflight(u) != 0 {
				t.Errorf("took %v, %d in flight", took, inflight(u))
			}
		})
	}
}

// Chatter after the end holds nobody up (S11): not comments, not events, not as fast as they can come.
func TestChatterAfterTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name, sent, again string
		every             time.Duration
	}{
		{"comments after the finish", delta(0, "a", "stop"), ": wait\n\n", 10 * time.Millisecond},
		{"comments after [DONE]", delta(0, "a", "stop") + doneText, ": wait\n\n", 5 * time.Millisecond},
		{"a flood after [DONE]", delta(0, "a", "stop") + doneText, strings.Repeat("garbage\n\n", 1000), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) {
				_, _ = io.WriteString(c, streamHead+chunked(tt.sent))
				for {
					if _, err := io.WriteString(c, chunked(tt.again)); err != nil {
						return
					}
					time.Sleep(tt.every)
				}
			})
			u := single(t, b.url)
			began := time.Now()
			_, text, err := ask(t, u, chat("x", true))
			if took := time.Since(began); err != nil || took > time.Second || strings.Count(text, "[DONE]") != 1 {
				t.Errorf("%v after %v: %.200s", err, took, text)
			}
		})
	}
}

// An error that comes before the answer is a real status, whatever the engine wraps it in; backends.md 1.2.
func TestErrorInPlaceOfAnAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, payload string
		status        int
		code          string
	}{
		{"vLLM", `{"error":{"message":"Internal server error","type":"InternalServerError","param":null,"code":500}}`, 500, ""},
		{"vLLM, caller's", `{"error":{"message":"bad","type":"BadRequestError","param":null,"code":400}}`, 400, ""},
		{"SGLang in a stream", `{"error":{"object":"error","message":"The request queue is full.","type":"SERVICE_UNAVAILABLE","param":null,"code":503}}`, 503, ""},
		{"SGLang flat", `{"object":"error","message":"longer than the model's context length","type":"BadRequestError","param":null,"code":400}`, 400, "context_length_exceeded"},
		{"a word for a code", `{"error":{"message":"m","code":"some_code"}}`, 502, "some_code"},
		{"a string", `{"error":"Unauthorized"}`, 502, ""},
		{"backend's credential", `{"error":{"message":"m","code":401}}`, 0, "bad_backend_answer"},
		{"too many", `{"error":{"message":"m","code":429}}`, 429, "rate_limit_exceeded"},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " stream ", stream), func(t *testing.T) {
				b := rawBackend(t, func(c net.Conn, _ int64) {
					if !stream {
						send200(c, "", tt.payload)
						return
					}
					_, _ = io.WriteString(c, streamHead+chunked(eventText(tt.payload)+doneText)+"0\r\n\r\n")
				})
				u := single(t, b.url)
				status, text, err := ask(t, u, chat("x", stream))
				var r *pipeline.Refusal
				if errors.As(err, &r) {
					if tt.status != 0 || r.Code != tt.code {
						t.Errorf("got %v, want status %d", err, tt.status)
					}
					return
				}
				var got struct {
					Error struct{ Message, Type, Code string }
				}
				if status != tt.status || json.Unmarshal([]byte(text), &got) != nil || got.Error.Message == "" || got.Error.Type == "" || got.Error.Code != tt.code {
					t.Errorf("got %d %s, want %d and code %q", status, text, tt.status, tt.code)
				}
				if h := &u.pools[0].members()[0].peer.health; (h.failed > 0) != (tt.status > 500) {
					t.Errorf("health %+v", h)
				}
			})
		}
	}
}

// Field note 4.10 (SGLang #25822): a caller who provokes refusals does not take the backend from the others,
// and what a 429 says of when to come back is passed on.
func TestRefusalsDoNotEject(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 422, 429, 500} {
		b := rawBackend(t, func(c net.Conn, _ int64) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\nRetry-After: 7\r\nRetry-After-Ms: 6500\r\nWww-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", status)
		})
		u := single(t, b.url)
		for range failuresToEject + 2 {
			reply, err := u.Handle(t.Context(), newCall(t, llm.Chat, chat("x", false)))
			var r *pipeline.Refusal
			if errors.As(err, &r) {
				if r.HTTPStatus() != 502 || status > 403 {
					t.Errorf("%d: %v", status, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if reply.Status != status || reply.Header.Get("Retry-After") != "7" || reply.Header.Get("Retry-After-Ms") != "6500" || reply.Header.Get("Www-Authenticate") != "" {
				t.Errorf("%d: %d %v", status, reply.Status, reply.Header)
			}
			_, _ = drain(t, reply)
		}
		if b.calls.Load() != failuresToEject+2 || b.conns.Load() != 1 {
			t.Errorf("%d: %d calls on %d connections", status, b.calls.Load(), b.conns.Load())
		}
	}
}

// What is not in the form that was asked for is no answer: an SDK would find it empty, or throw.
func TestAnswersInTheWrongForm(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream bool
		head   string
		body   string
	}{
		{"JSON for a stream", true, "Content-Type: application/json", answerJSON},
		{"a stream for JSON", false, "Content-Type: text/event-stream", eventText(finished) + doneText},
		{"HTML", false, "Content-Type: text/html", "<html>"},
		{"HTML for a stream", true, "Content-Type: text/html", "<html>"},
		{"HTML that says it is a stream", true, "Content-Type: text/event-stream", "<html>\n\n<body>\n\n"},
		{"gzip", false, "Content-Type: application/json\r\nContent-Encoding: gzip", "\x1f\x8b\x08\x00\x00"},
		{"gzip for a stream", true, "Content-Type: text/event-stream\r\nContent-Encoding: gzip", "\x1f\x8b\x08\x00\x00"},
		{"nothing", false, "Content-Type: application/json", ""},
		{"nothing for a stream", true, "Content-Type: text/event-stream", ""},
		{"aborted", false, "Content-Type: application/json", strings.Replace(answerJSON, "stop", "abort", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) {
				_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s", tt.head, len(tt.body), tt.body)
			})
			_, text, err := ask(t, single(t, b.url), chat("x", tt.stream))
			var r *pipeline.Refusal
			if !errors.As(err, &r) || r.HTTPStatus() != http.StatusBadGateway || text != "" {
				t.Errorf("got %q, %v; want 502", text, err)
			}
		})
	}
}

// Wherever usage stands in a chunk, taking it out leaves JSON, the texts are where the view says, and the
// event is one line.
func TestUsageIsTakenOutWhole(t *testing.T) {
	const choices = `"choices":[{"index":0,"delta":{"content":"h\u00e9 \"x\""},"finish_reason":"stop"}]`
	const usage = `"usage":{"prompt_tokens":3,"completion_tokens":1}`
	for _, tt := range []struct{ name, event string }{
		{"last", eventText("{" + choices + "," + usage + "}")},
		{"first", eventText("{" + usage + "," + choices + "}")},
		{"in the middle", eventText(`{"id":"a",` + usage + "," + choices + "}")},
		{"with space", eventText("{ " + choices + " , " + usage + " }")},
		{"several lines", "data: {" + choices + ",\ndata: " + usage + "\ndata: }\n\n"},
		{"several lines, first", "data: {" + usage + ",\ndata: " + choices + "}\n\n"},
		{"CR LF", strings.ReplaceAll(eventText("{"+choices+","+usage+"}"), "\n", "\r\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) {
				_, _ = io.WriteString(c, streamHead+chunked(tt.event+doneText)+"0\r\n\r\n")
			})
			c := newCall(t, llm.Chat, chat("x", true))
			c.Metered = true
			reply, err := single(t, b.url).Handle(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			defer reply.Stream.Close()
			chunk, err := reply.Stream.Next()
			if err != nil {
				t.Fatal(err)
			}
			raw := string(chunk.Raw)
			if !json.Valid(chunk.Data) || bytes.Contains(chunk.Data, []byte("usage")) || raw != "data: "+string(chunk.Data)+"\n\n" || strings.Count(raw, "\n") != 2 {
				t.Errorf("got %q", raw)
			}
			texts := chunk.View.Texts
			if len(texts) != 1 || string(llm.AppendText(nil, chunk.Data, texts[0])) != `hé "x"` {
				t.Errorf("texts %v of %s", texts, chunk.Data)
			}
			if !c.Outcome.Counted || c.Outcome.Usage.Completion != 1 {
				t.Errorf("outcome %+v", c.Outcome)
			}
		})
	}
}

// The Responses API ends without [DONE]; a failed or unfinished one is no success.
func TestResponsesEvents(t *testing.T) {
	const created = `event: response.created` + "\n" + `data: {"type":"response.created","response":{"status":"in_progress","error":null}}` + "\n\n"
	const text = `event: response.output_text.delta` + "\n" + `data: {"type":"response.output_text.delta","output_index":1,"delta":"a"}` + "\n\n"
	end := func(status, more string) string {
		return "event: response." + status + "\ndata: {\"type\":\"response." + status + "\",\"response\":{\"status\":\"" + status + "\"" + more + "}}\n\n"
	}
	for _, tt := range []struct {
		name, sent string
		ok         bool
	}{
		{"completed", created + text + end("completed", `,"usage":{"input_tokens":3,"output_tokens":1}`), true},
		{"incomplete", created + text + end("incomplete", `,"incomplete_details":{"reason":"max_output_tokens"}`), true},
		{"failed", created + text + end("failed", `,"error":{"message":"m"}`), false},
		{"cancelled", created + text + end("cancelled", ""), false},
		{"cut", created + text, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) {
				_, _ = io.WriteString(c, streamHead+chunked(tt.sent)+"0\r\n\r\n")
			})
			reply, err := single(t, b.url).Handle(t.Context(), newCall(t, llm.Responses, `{"model":"mock","input":"x","stream":true}`))
			if err != nil {
				t.Fatal(err)
			}
			got, err := drain(t, reply)
			if (err == nil) != tt.ok || tt.ok && got != tt.sent {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// What a stream cost is known although its backend never said, and although its caller left: prompt and
// what was delivered.
func TestUncountedStreamCostsItsPrompt(t *testing.T) {
	for name, sent := range map[string]string{"role only": delta(0, "", ""), "text": delta(0, "some words", "")} {
		b := rawBackend(t, func(c net.Conn, _ int64) { _, _ = io.WriteString(c, streamHead+chunked(sent)) })
		c := newCall(t, llm.Chat, chat("a prompt of several words", true))
		reply, err := single(t, b.url).Handle(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = reply.Stream.Next()
		_ = reply.Stream.Close()
		if u := c.Outcome.Usage; u.Prompt == 0 || (u.Completion > 0) != (name == "text") || c.Outcome.Counted {
			t.Errorf("%s: %+v", name, c.Outcome)
		}
	}
}

// A whole answer is one when every choice that was asked for has a finish reason; what answers otherwise is asked no more.
func TestWhatIsAWholeAnswer(t *testing.T) {
	stop := func(choice int, reason string) string {
		return fmt.Sprintf(`{"index":%d,"message":{"role":"assistant","content":"a"},"finish_reason":%s}`, choice, reason)
	}
	for _, tt := range []struct {
		name  string
		route llm.Endpoint
		body  string
		sent  string
		good  bool
	}{
		{"one", llm.Chat, chat("x", false), `{"choices":[` + stop(0, `"stop"`) + `]}`, true},
		{"an unusual reason", llm.Chat, chat("x", false), `{"choices":[` + stop(0, `"eos"`) + `]}`, true},
		{"no reason", llm.Chat, chat("x", false), `{"choices":[` + stop(0, `null`) + `]}`, false},
		{"aborted", llm.Chat, chat("x", false), `{"choices":[` + stop(0, `"abort"`) + `]}`, false},
		{"no choice", llm.Chat, chat("x", false), `{"choices":[]}`, false},
		{"nothing", llm.Chat, chat("x", false), `{}`, false},
		{"two", llm.Chat, `{"model":"mock","n":2,"messages":[{"role":"user","content":"x"}]}`, `{"choices":[` + stop(0, `"stop"`) + "," + stop(1, `"length"`) + `]}`, true},
		{"one of two", llm.Chat, `{"model":"mock","n":2,"messages":[{"role":"user","content":"x"}]}`, `{"choices":[` + stop(0, `"stop"`) + `]}`, false},
		{"a completion", llm.Completions, `{"model":"mock","prompt":"x"}`, `{"choices":[{"index":0,"text":"a","finish_reason":"length"}]}`, true},
		{"a response", llm.Responses, `{"model":"mock","input":"x"}`, `{"status":"completed","output":[]}`, true},
		{"a response to be fetched later", llm.Responses, `{"model":"mock","input":"x","background":true}`, `{"status":"queued","output":[]}`, true},
		{"a response that was to come at once", llm.Responses, `{"model":"mock","input":"x","background":false}`, `{"status":"queued","output":[]}`, false},
		{"vectors have none", llm.Embeddings, `{"model":"mock","input":"x"}`, `{"data":[]}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawBackend(t, func(c net.Conn, _ int64) { send200(c, "", tt.sent) })
			u := single(t, b.url)
			reply, err := u.Handle(t.Context(), newCall(t, tt.route, tt.body))
			if err == nil {
				_, err = drain(t, reply)
			}
			var r *pipeline.Refusal
			if good := err == nil; good != tt.good || !good && (!errors.As(err, &r) || r.Code != "bad_backend_answer") {
				t.Errorf("got %v, want good %t", err, tt.good)
			}
		})
	}
}
