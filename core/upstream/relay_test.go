package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// altered is a server that changes requests before another one at url answers them.
func altered(t *testing.T, url string, change func(body map[string]json.RawMessage)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		change(body)
		data, _ := json.Marshal(body)
		response, err := http.Post(url+r.URL.Path, "application/json", bytes.NewReader(data))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer response.Body.Close()
		w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return s.URL
}

// sees are the requests' bodies that a mock got.
func sees(s *mock.Server, member string) (n int) {
	for _, r := range s.Requests() {
		if strings.Contains(r.Body, `"`+member+`"`) {
			n++
		}
	}
	return n
}

// An engine that reads the messages whatever tokens it is given would begin anew. Its first event shows it, nothing of it
// is handed out, and the next call does not ask it again.
func TestTokensThatAreNotReadAreNoticed(t *testing.T) {
	given := 0
	u, _, good := pair(t, "vllm", "fault=die-after=7", func(c *Config) {
		b := c.Backends["good"]
		b.URL = altered(t, b.URL, func(body map[string]json.RawMessage) {
			if body["kv_transfer_params"] != nil {
				given++
				delete(body, "kv_transfer_params")
			}
		})
		c.Backends["good"] = b
	})
	well, _, _ := pair(t, "vllm", "", nil)
	want, _, _ := listen(t, well, llm.Chat, fmt.Sprintf(chatBody, ""))
	for range 2 {
		got, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, ""))
		if err != nil || got.text != want.text || c.Outcome.Continued != 1 {
			t.Errorf("%q, %v, want %q", got.text, err, want.text)
		}
	}
	if given != 1 || sees(good, "continue_final_message") != 2 {
		t.Errorf("given tokens %d times and text %d times, want 1 and 2", given, sees(good, "continue_final_message"))
	}
}

// S14: a backend that refuses a prefilled turn writes the answer anew, and what agrees is not told twice.
func TestPrefillRefused(t *testing.T) {
	u, _, good := pair(t, "vllm", "fault=die-after=7", func(c *Config) {
		p := c.Pools["a"]
		p.Continue.TokenIDs = false
		c.Pools["a"] = p
	})
	if err := good.SetScript("fault=no-prefill"); err != nil {
		t.Fatal(err)
	}
	well, _, _ := pair(t, "vllm", "", nil)
	want, _, _ := listen(t, well, llm.Chat, fmt.Sprintf(chatBody, ""))
	got, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, ""))
	if err != nil || got.text != want.text || got.dones != 1 || c.Outcome.Attempts != 3 || c.Outcome.Continued != 1 {
		t.Errorf("%q, %v, %+v, want %q", got.text, err, c.Outcome, want.text)
	}
}

// An answer written anew that is another one is not spliced on, be it another from the first letter or the last.
func TestAnotherAnswerIsNotSplicedOn(t *testing.T) {
	for _, other := range []string{
		delta(0, "", "") + delta(0, "No.", "stop"),
		delta(0, "Once up", "") + delta(0, "side down", "stop"),
		delta(0, "Once upon", "stop"),
		delta(0, "Once upon", "") + doneText,
		eventText(`{"choices":[{"index":0,"delta":{"reasoning":"Hm"}}]}`) + delta(0, "Once upon a time.", "stop"),
		eventText(`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}}]}`),
	} {
		bad := rawBackend(t, func(c net.Conn, _ int64) {
			_, _ = io.WriteString(c, streamHead+chunked(delta(0, "Once", "")+delta(0, " upon a", "")))
			_ = c.Close()
		})
		good := rawBackend(t, func(c net.Conn, _ int64) { _, _ = io.WriteString(c, streamHead+chunked(other+doneText)+"0\r\n\r\n") })
		u, _, _ := pair(t, "openai", "", func(c *Config) {
			c.Backends = map[string]BackendConfig{"bad": {URL: bad.url, Kind: "openai"}, "good": {URL: good.url, Kind: "openai"}}
		})
		got, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, ""))
		var r *pipeline.Refusal
		if !errors.As(err, &r) || r.Code != "bad_backend_answer" || got.text != "Once upon a" || got.dones != 0 || c.Outcome.Finish != "error" {
			t.Errorf("%s: %q, %v, finish %q", other, got.text, err, c.Outcome.Finish)
		}
	}
}

// Field notes 4.3 and 4.14, backends.md 4.3: what never goes on elsewhere is asked of one backend once.
func TestWhatNeverGoesOn(t *testing.T) {
	tool := `"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{}}}}}],`
	for _, tt := range []struct{ name, script, members string }{
		{"two choices", "fault=die-after=7", `"n":2,`},
		{"probabilities", "fault=die-after=7", `"logprobs":true,`},
		{"JSON", "fault=die-after=7", `"response_format":{"type":"json_object"},`},
		{"a schema", "fault=die-after=7", `"response_format":{"type":"json_schema","json_schema":{}},`},
		{"a schema of a text", "fault=die-after=7", `"response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"text":{"type":"text"}}}}},`},
		{"probabilities of the tokens alone", "fault=die-after=7", `"prompt_logprobs":0,`},
		{"a grammar", "fault=die-after=7", `"structured_outputs":{"regex":"a+"},`},
		{"SGLang's grammar", "fault=die-after=7", `"ebnf":"a",`},
		{"a beam", "fault=die-after=7", `"use_beam_search":true,`},
		{"an answer the caller began", "fault=die-after=7", `"continue_final_message":true,"add_generation_prompt":false,`},
		{"a forced tool", "fault=die-after=7", tool + `"tool_choice":"required",`},
		{"a named tool", "fault=die-after=7", tool + `"tool_choice":{"type":"function","function":{"name":"f"}},`},
		{"an open tool call", "call=f fault=die-after=2", tool},
		{"a caller's mistake in mid-stream", "fault=error-in-band=7;code=400", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, bad, good := pair(t, "vllm", tt.script, nil)
			got, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, tt.members))
			if err == nil || got.dones != 0 || c.Outcome.Attempts != 1 || c.Outcome.Finish != "error" {
				t.Errorf("%v, %d [DONE], %+v", err, got.dones, c.Outcome)
			}
			if bad.Stats().Requests != 1 || good.Stats().Requests != 0 {
				t.Errorf("%d and %d requests, want 1 and 0", bad.Stats().Requests, good.Stats().Requests)
			}
		})
	}
}

// Members that ask for nothing, or bear going on.
func TestWhatMayGoOn(t *testing.T) {
	tool := `"tools":[{"type":"function","function":{"name":"f"}}],`
	for _, tt := range []struct{ members, by string }{
		{`"n":1,"logprobs":false,"top_logprobs":null,"response_format":{"type":"text"},"best_of":1,`, "kv_transfer_params"},
		{`"seed":1,"temperature":0.5,"presence_penalty":1,`, "kv_transfer_params"},
		{`"stop":["zzz"],`, "continue_final_message"},
		{`"stop":[],`, "kv_transfer_params"},
		{tool + `"tool_choice":"auto",`, "kv_transfer_params"},
		{tool + `"stop":"zzz",`, ""},
	} {
		u, _, good := pair(t, "vllm", "fault=die-after=7", nil)
		got, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, tt.members))
		if err != nil || got.dones != 1 || c.Outcome.Continued != 1 || tt.by != "" && sees(good, tt.by) != 1 {
			t.Errorf("%s: %v, %+v, %d by %s", tt.members, err, c.Outcome, sees(good, tt.by), tt.by)
		}
	}
}

// A text completion goes on from its tokens too, which take the prompt's place.
func TestLegacyGoesOnFromTokens(t *testing.T) {
	u, _, good := pair(t, "vllm", "fault=die-after=7", nil)
	well, _, _ := pair(t, "vllm", "", nil)
	want, _, _ := listen(t, well, llm.Completions, fmt.Sprintf(legacyBody, asksUsage))
	got, c, err := listen(t, u, llm.Completions, fmt.Sprintf(legacyBody, asksUsage))
	if err != nil || got.text != want.text || got.usage != want.usage || c.Outcome.Continued != 1 {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if b := good.Requests()[0].Body; !strings.Contains(b, `"prompt":[`) || strings.Contains(b, "upon") {
		t.Errorf("sent %s", b)
	}
	// What plugins edited in the prompt is in its tokens.
	c = newCall(t, llm.Completions, fmt.Sprintf(legacyBody, ""))
	c.Decision.Targets = []pipeline.Target{{Pool: "a"}, {Pool: "b"}}
	c.Edits = []pipeline.TextEdits{{Edits: []llm.Edit{{Start: 0, End: 4, With: []byte("ONCE")}}}}
	reply, err := u.Handle(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t, reply); err != nil || c.Outcome.Continued != 1 || c.Outcome.Attempts != 2 {
		t.Errorf("%v, %+v", err, c.Outcome)
	}
	if b := good.Requests()[1].Body; !strings.Contains(b, `"prompt":[`) {
		t.Errorf("an edited prompt: sent %s", b)
	}
}

// The log tells the server that answered in the end, not the one that broke off.
func TestServerOfAnAnswerThatGoesOn(t *testing.T) {
	u, _, _ := pair(t, "vllm", "fault=die-after=7", nil)
	for i, name := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		key := &u.pools[i].members()[0].peer.key
		was := *key
		key.dial = name // as discovery names them
		defer func() { *key = was }()
	}
	_, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, ""))
	if o := c.Outcome; err != nil || o.Backend != "good" || o.Server != "10.0.0.2:80" || o.Pool != "b" {
		t.Errorf("%v, %+v", err, o)
	}
}

// What was said to a pool that may see what plugins hide goes to no pool that may not, in whatever form: there the
// answer is written anew, of the edited request.
func TestAnswersGoOnMasked(t *testing.T) {
	for _, tt := range []struct {
		targets []pipeline.Target
		anew    bool
	}{
		{[]pipeline.Target{{Pool: "a", Mask: "none"}, {Pool: "b"}}, true},
		{[]pipeline.Target{{Pool: "a", Mask: "none"}, {Pool: "b", Mask: "none"}}, false},
		{[]pipeline.Target{{Pool: "a"}, {Pool: "b"}}, false},
	} {
		u, _, good := pair(t, "vllm", "fault=die-after=7", nil)
		c := newCall(t, llm.Chat, `{"model":"mock","stream":true,"messages":[{"role":"user","content":"secret"}]}`)
		c.Decision.Targets = tt.targets
		c.Edits = []pipeline.TextEdits{{Edits: []llm.Edit{{Start: 0, End: 6, With: []byte("[KIND]")}}}}
		reply, err := u.Handle(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = drain(t, reply) // the mock's answer to the edited request is another one
		b := good.Requests()[0].Body
		goesOn := strings.Contains(b, "kv_transfer_params") || strings.Contains(b, "continue_final_message")
		if hides := c.Decision.Hides("b"); goesOn == tt.anew || hides == strings.Contains(b, "secret") {
			t.Errorf("%v: sent %s", tt.targets, b)
		}
	}
}

// An answer goes on as often as may be, and then ends with the error; without continuation it costs one call.
func TestHowOftenAnAnswerGoesOn(t *testing.T) {
	for _, most := range []int{0, 1, 2} {
		u, bad, good := pair(t, "vllm", "fault=die-after=4", func(c *Config) {
			for name, p := range c.Pools {
				p.Continue.Most = most
				c.Pools[name] = p
			}
		})
		if err := good.SetScript("fault=die-after=4"); err != nil {
			t.Fatal(err)
		}
		got, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, ""))
		requests := int(bad.Stats().Requests + good.Stats().Requests)
		if err == nil || got.dones != 0 || c.Outcome.Continued != most || c.Outcome.Attempts != 1+most || requests != 1+most {
			t.Errorf("at most %d: %v after %d requests, %+v", most, err, requests, c.Outcome)
		}
		if n := c.Outcome.Usage.Completion; n != int64(4*(1+most)) && most > 0 {
			t.Errorf("at most %d: %d tokens counted, want %d", most, n, 4*(1+most))
		}
	}
}

// What is kept of a stream stays within its room.
func TestTranscriptIsBounded(t *testing.T) {
	u, _, good := pair(t, "vllm", "fault=die-after=20", func(c *Config) {
		p := c.Pools["a"]
		p.Continue.Memory = 200
		c.Pools["a"] = p
	})
	if _, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, "")); err == nil || c.Outcome.Continued != 0 || good.Stats().Requests != 0 {
		t.Errorf("%v, %+v: an answer beyond its room went on", err, c.Outcome)
	}
	k := &transcript{room: 1000}
	chunk := llm.Chunk{Data: []byte(`{"id":"x","choices":[{"index":0,"delta":{"content":"` + strings.Repeat("a", 100) + `"},"token_ids":[1]}]}`), View: new(llm.View)}
	if err := chunk.View.Scan(llm.Chat, true, chunk.Data); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		k.note(&chunk)
		if size := k.lanes[0].size + len(k.tokens); size > 1000 {
			t.Fatalf("%d bytes kept", size)
		}
	}
	if !k.closed || k.lanes[0].pieces != nil {
		t.Error("the transcript is not closed")
	}
}

// An answer that was cut off behind its last token needs nobody else.
func TestAnswerThatIsFull(t *testing.T) {
	u, _, good := pair(t, "vllm", "fault=die-after=8", nil)
	got, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, `"max_tokens":8,`+asksUsage))
	if err != nil || got.finish != "length" || got.dones != 1 || got.usage.Completion != 8 || got.usage.Prompt == 0 || len(got.ids) != 1 || good.Stats().Requests != 0 {
		t.Errorf("%+v, %v, %d requests", got, err, good.Stats().Requests)
	}
	if c.Outcome.Finish != "length" || c.Outcome.Continued != 0 {
		t.Errorf("outcome %+v", c.Outcome)
	}
}

// Bounds on the answer's length hold over the seam.
func TestBoundsHoldOverTheSeam(t *testing.T) {
	for _, ids := range []bool{true, false} {
		u, _, good := pair(t, "vllm", "fault=die-after=5", func(c *Config) {
			p := c.Pools["a"]
			p.Continue.TokenIDs = ids
			c.Pools["a"] = p
		})
		body := `{"model":"mock","stream":true,"max_tokens":12,"min_tokens":7,"messages":[{"role":"user","content":"x"}]}`
		c := newCall(t, llm.Chat, body)
		c.Metered = true
		c.Decision.Targets = []pipeline.Target{{Pool: "a"}, {Pool: "b"}}
		reply, err := u.Handle(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		text, err := drain(t, reply)
		if got := hear(t, text); err != nil || got.finish != "length" || c.Outcome.Usage.Completion != 12 || !c.Outcome.Counted {
			t.Errorf("ids %v: %+v, %v, %+v", ids, got, err, c.Outcome)
		}
		if b := good.Requests()[0].Body; !strings.Contains(b, `"max_tokens":7`) || !strings.Contains(b, `"min_tokens":2`) {
			t.Errorf("ids %v: sent %s", ids, b)
		}
	}
}

// A caller who asks for the tokens' numbers gets them.
func TestNumbersThatTheCallerAskedFor(t *testing.T) {
	u, _, _ := pair(t, "vllm", "fault=die-after=5", nil)
	got, _, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, `"return_token_ids":true,`))
	prompts := slices.DeleteFunc(got.odd, func(e string) bool { return !strings.Contains(e, "prompt_token_ids") })
	if err != nil || len(got.odd) < 32 || len(prompts) != 1 {
		t.Errorf("%v: numbers in %d events, the prompt's in %d", err, len(got.odd), len(prompts))
	}
}

func TestSeam(t *testing.T) {
	for _, tt := range []struct {
		form            form
		delivered, next string
		want            string
		ok              bool
	}{
		{byText, "Hello, ", " world", "world", true},
		{byText, "Hello, ", "world", "world", true},
		{byText, "Hello,", " world", " world", true},
		{byText, "one\n\n", "\n\ntwo", "two", true},
		{byText, "one\n\n", "\ntwo", "two", true},
		{byText, "one \u3000", " \u3000two", "two", true},
		{byIDs, "Hello, ", " world", " world", true},
		{anew, "Hello", "Hello world", " world", true},
		{anew, "Hello", "Hel", "", true},
		{anew, "Hello", "Help", "", false},
		{anew, "", "Hello", "Hello", true},
	} {
		k := &transcript{}
		k.lanes[content].add([]byte(strings.ReplaceAll(tt.delivered, "\n", `\n`)))
		s := newSeam(tt.form, k, nil)
		got := ""
		ok := true
		for _, r := range tt.next { // one by one, as bad as it comes
			fresh, is := s.take(content, []byte(string(r)))
			got, ok = got+string(fresh), ok && is
		}
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %q and %q: %q, %v, want %q, %v", tt.form, tt.delivered, tt.next, got, ok, tt.want, tt.ok)
		}
	}
}

// The caller leaves while the answer is being taken up: in each phase of the next attempt the backend sees it, and nothing
// is left behind.
func TestLeavingWhileAnAnswerGoesOn(t *testing.T) {
	for _, sent := range []string{"", "HTTP/1.1 200 OK\r\n", streamHead, streamHead + chunked(delta(0, "On", ""))} {
		for _, how := range []string{"leaves", "closes"} {
			before := runtime.NumGoroutine()
			bad := rawBackend(t, func(c net.Conn, _ int64) {
				_, _ = io.WriteString(c, streamHead+chunked(delta(0, "On", "")))
				_ = c.Close()
			})
			good := rawBackend(t, func(c net.Conn, _ int64) { _, _ = io.WriteString(c, sent) })
			slow := TimeoutsConfig{Connect: time.Second, FirstToken: time.Minute, Between: time.Minute}
			u, _, _ := pair(t, "openai", "", func(c *Config) {
				c.Backends = map[string]BackendConfig{"bad": {URL: bad.url, Kind: "openai"}, "good": {URL: good.url, Kind: "openai"}}
				for name, p := range c.Pools {
					p.Timeouts = slow
					c.Pools[name] = p
				}
			})
			ctx, cancel := context.WithCancel(context.Background())
			c := newCall(t, llm.Chat, fmt.Sprintf(chatBody, ""))
			c.Decision.Targets = []pipeline.Target{{Pool: "a"}, {Pool: "b"}}
			reply, err := u.Handle(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				var err error
				for err == nil {
					_, err = reply.Stream.Next()
				}
				done <- err
			}()
			waitUntil(t, func() bool { return good.calls.Load() == 1 })
			if how == "leaves" {
				cancel()
			} else {
				_ = reply.Stream.Close()
			}
			if err := <-done; err == io.EOF {
				t.Errorf("%q, %s: the answer ended as if it were whole", sent, how)
			}
			_ = reply.Stream.Close()
			cancel()
			waitUntil(t, func() bool { return good.closed.Load() == good.conns.Load() })
			waitUntil(t, func() bool { return inflight(u) == 0 && u.pools[1].members()[0].peer.replica.Active() == 0 })
			_ = u.Close()
			waitUntil(t, func() bool { return runtime.NumGoroutine() <= before+4 }) // the two listeners'
			if h := &u.fleet.peers; len(*h) != 0 {
				t.Errorf("%q, %s: %d peers held", sent, how, len(*h))
			}
		}
	}
}

// A content filter that refuses to let an answer go on ends it: nobody is asked to get round that, neither another backend nor
// another model, nor the same ones in another form.
func TestAFilterEndsAnAnswer(t *testing.T) {
	no := `{"error":{"message":"Filtered.","code":"content_filter"}}`
	for name, refuse := range map[string]func(net.Conn, int64){
		"by its status":                            status(400, "", no),
		"with a status that says busy":             status(503, "", no),
		"with a status that says wrong credential": status(401, "", no),
		"forbidden":                                status(403, "", ""),
		"in its first event": func(c net.Conn, _ int64) {
			_, _ = io.WriteString(c, streamHead+chunked(eventText(no))+chunked(doneText)+"0\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			filters := []*raw{rawBackend(t, refuse), rawBackend(t, refuse)}
			u, bad, good := pair(t, "vllm", "fault=die-after=7", func(c *Config) {
				c.Backends["f"], c.Backends["g"] = BackendConfig{URL: filters[0].url}, BackendConfig{URL: filters[1].url}
				c.Pools["c"] = PoolConfig{Models: []string{"mock*"}, Backends: []string{"f", "g"}, Continue: steady}
				c.Pools["d"] = PoolConfig{Models: []string{"other"}, Model: "mock-think", Backends: []string{"good"}, Continue: steady}
				for name, p := range c.Pools {
					p.Timeouts = unhurried
					c.Pools[name] = p
				}
			})
			c := newCall(t, llm.Chat, fmt.Sprintf(chatBody, ""))
			c.Decision.Targets = []pipeline.Target{{Pool: "a"}, {Pool: "c"}, {Pool: "b"}, {Pool: "d"}}
			reply, err := u.Handle(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			text, err := drain(t, reply)
			got := hear(t, text)
			if err == nil || got.text == "" || got.dones != 0 || c.Outcome.Continued != 0 || c.Outcome.Finish != "error" || c.Outcome.Attempts != 2 {
				t.Errorf("%q, %v, %d [DONE], outcome %+v", got.text, err, got.dones, c.Outcome)
			}
			if n := filters[0].calls.Load() + filters[1].calls.Load(); n != 1 || bad.Stats().Requests != 1 || good.Stats().Requests != 0 {
				t.Errorf("the filter was asked %d times, its caller's backend %d and another %d, want once, once and not at all", n, bad.Stats().Requests, good.Stats().Requests)
			}
		})
	}
}

// A backend that broke an answer off is asked once more, after a pause, and not a third time.
func TestTheSameBackendGetsOneMoreChance(t *testing.T) {
	u, bad, good := pair(t, "openai", "fault=die-after=7", func(c *Config) {
		p := c.Pools["b"]
		p.Model, p.Models = "mock-think", []string{"other"} // another model: it may write the answer anew, and this one does not agree
		c.Pools["b"] = p
		p = c.Pools["a"]
		p.Retry.Backoff = 250 * time.Millisecond
		c.Pools["a"] = p
	})
	pauses := unslept(u)
	_, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, ""))
	if err == nil || bad.Stats().Requests != 2 || good.Stats().Requests != 1 {
		t.Errorf("%v, %+v: %d and %d requests, want 2 and 1", err, c.Outcome, bad.Stats().Requests, good.Stats().Requests)
	}
	if len(*pauses) != 1 || (*pauses)[0].d != 250*time.Millisecond {
		t.Errorf("pauses %v, want one of 250 ms", *pauses)
	}
}

// A stop string that lies across the seam ends the answer, as it would have without one.
func TestStopStringAcrossTheSeam(t *testing.T) {
	for _, tt := range []struct{ stop, rest, text, finish string }{
		{`"STOP"`, "OP and on", "say STO", "stop"},
		{`["no","STOP"]`, "OP", "say STO", "stop"},
		{`"STOP"`, "ART", "say START", "length"},
		{`"STOP"`, "  STOP", "say ST  STOP", "length"}, // the engine's own to find
		{`"say"`, "x", "say STx", "length"},            // long past
	} {
		bad := rawBackend(t, func(c net.Conn, _ int64) {
			_, _ = io.WriteString(c, streamHead+chunked(delta(0, "say ", "")+delta(0, "ST", "")))
			_ = c.Close()
		})
		good := rawBackend(t, func(c net.Conn, _ int64) {
			var events string
			for _, r := range tt.rest {
				events += delta(0, string(r), "")
			}
			_, _ = io.WriteString(c, streamHead+chunked(events+delta(0, "", "length")+doneText)+"0\r\n\r\n")
		})
		u, _, _ := pair(t, "vllm", "", func(c *Config) {
			c.Backends = map[string]BackendConfig{"bad": {URL: bad.url, Kind: "vllm"}, "good": {URL: good.url, Kind: "vllm"}}
		})
		got, c, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, `"stop":`+tt.stop+`,`))
		if err != nil || got.text != tt.text || got.finish != tt.finish || got.dones != 1 || c.Outcome.Finish != tt.finish {
			t.Errorf("stop %s, rest %q: %q, finish %q, %v; want %q, %q", tt.stop, tt.rest, got.text, got.finish, err, tt.text, tt.finish)
		}
	}
}

// A role that comes with the first words of the second attempt is not told twice.
func TestTheRoleIsToldOnce(t *testing.T) {
	role := func(text, finish string) string {
		return eventText(fmt.Sprintf(`{"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":%q},"finish_reason":%s}]}`, text, finish))
	}
	bad := rawBackend(t, func(c net.Conn, _ int64) {
		_, _ = io.WriteString(c, streamHead+chunked(role("Once ", "null")))
		_ = c.Close()
	})
	good := rawBackend(t, func(c net.Conn, _ int64) {
		_, _ = io.WriteString(c, streamHead+chunked(role("Once upon", `"stop"`)+doneText)+"0\r\n\r\n")
	})
	u, _, _ := pair(t, "openai", "", func(c *Config) {
		c.Backends = map[string]BackendConfig{"bad": {URL: bad.url, Kind: "openai"}, "good": {URL: good.url, Kind: "openai"}}
	})
	got, _, err := listen(t, u, llm.Chat, fmt.Sprintf(chatBody, ""))
	if err != nil || got.text != "Once upon" || got.roles["assistant"] != 1 || len(got.ids) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
