package plugin

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// handle sends a request through a stage and returns the call and the body as a backend would get it.
func handle(t testing.TB, s *Stage, e llm.Endpoint, body string) (*pipeline.Call, string, error) {
	t.Helper()
	c := newCall(t, e, body)
	_, err := s.Handle(context.Background(), c, pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		return &llm.Reply{Status: 200, Header: http.Header{}, Stream: llm.One(llm.Chunk{})}, nil
	}))
	var p llm.Patch
	for _, edits := range c.Edits {
		if err := p.EditText(c.Request.Body, c.Request.Texts[edits.Text], edits.Edits); err != nil {
			t.Fatal(err)
		}
	}
	out, applied := p.Apply(nil, c.Request.Body)
	if applied != nil {
		t.Fatal(applied)
	}
	return c, string(out), err
}

func TestRequestTexts(t *testing.T) {
	long := strings.Repeat("가나다 라마바 ", 20000)
	tests := []struct {
		name, body, want string
		route            llm.Endpoint
		count            int
		kinds            []string
	}{
		{"nothing", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, llm.Chat, 0, nil},
		{"messages", `{"model":"m","messages":[{"role":"system","content":"kim@x.io"},{"role":"user","content":[{"type":"text","text":"\u003010-1234-5678 kim@x.io"}]}]}`,
			`{"model":"m","messages":[{"role":"system","content":"[EMAIL]"},{"role":"user","content":[{"type":"text","text":"[PHONE] [EMAIL]"}]}]}`,
			llm.Chat, 3, []string{"EMAIL", "PHONE"}},
		{"prompt", `{"model":"m","prompt":"call 010-1234-5678"}`, `{"model":"m","prompt":"call [PHONE]"}`, llm.Completions, 1, []string{"PHONE"}},
		{"input", `{"model":"m","input":["a kim@x.io","b"]}`, `{"model":"m","input":["a [EMAIL]","b"]}`, llm.Embeddings, 1, []string{"EMAIL"}},
		{"longer than the guest's buffer", `{"model":"m","prompt":"` + long + "010-1234-5678" + long + `kim@x.io"}`, `{"model":"m","prompt":"` + long + "[PHONE]" + long + `[EMAIL]"}`, llm.Completions, 2, []string{"EMAIL", "PHONE"}},
	}
	s := stage(t, Entry{Name: "pii-mask"})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, got, err := handle(t, s, tt.route, tt.body)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %.300s, want %.300s", got, tt.want)
			}
			if c.PII.Count != tt.count || !reflect.DeepEqual(c.PII.Kinds, tt.kinds) {
				t.Errorf("got %+v, want %d of %v", c.PII, tt.count, tt.kinds)
			}
		})
	}
}

// TestRequestCutAnywhere moves an address over every place where a long text is cut to fit the buffer.
func TestRequestCutAnywhere(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask"})
	for shift := range 40 {
		text := strings.Repeat("x", 1<<10)[:shift] + " " + strings.Repeat("가나다 라. kim@example.com 010-1234-5678, ", 2000)
		_, got, err := handle(t, s, llm.Completions, `{"model":"m","prompt":`+quote(text)+`}`)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(got, "kim") || strings.Contains(got, "010") || strings.Count(got, "[EMAIL] [PHONE]") != 2000 {
			t.Fatalf("shifted by %d: something was missed", shift)
		}
	}
}

func TestRequestChain(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask", Config: map[string]any{"kinds": []string{"EMAIL"}, "placeholder": "010-2345-6789"}},
		Entry{Name: "second", Config: map[string]any{"placeholder": "<{kind}>"}})
	c, got, err := handle(t, s, llm.Completions, `{"model":"m","prompt":"a \u006bim@x.io, 010-1111-2222 b"}`)
	if want := `{"model":"m","prompt":"a <PHONE>, <PHONE> b"}`; err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if c.PII.Count != 3 {
		t.Errorf("found %d, want 3: one by the first, two by the second", c.PII.Count)
	}
}

func TestDirections(t *testing.T) {
	body := `{"model":"m","stream":true,"messages":[{"role":"user","content":"kim@x.io"}]}`
	stream := content(0, "lee@x.io ") + done
	for _, tt := range []struct {
		directions  []string
		edits       int
		replyMasked bool
	}{{nil, 1, true}, {[]string{"request"}, 1, false}, {[]string{"reply"}, 0, true}} {
		s := stage(t, Entry{Name: "pii-mask", Directions: tt.directions})
		c := newCall(t, llm.Chat, body)
		reply, err := s.Handle(context.Background(), c, answers(llm.Chat, strings.NewReader(stream)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := drain(reply.Stream)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Edits) != tt.edits || strings.Contains(got, "lee") == tt.replyMasked {
			t.Errorf("%v: %d edits, reply %q", tt.directions, len(c.Edits), got)
		}
	}
}

// order makes a request that tells the hostile guest what to do when it is asked about the request.
func order(what string) string {
	return `{"model":` + quote("!!"+what+"!!") + `,"messages":[{"role":"user","content":"x"}]}`
}

// result is an order to return r, with edits and an out buffer.
func result(r uint64, edits, out string) string {
	b := []byte{'R'}
	for i := range 8 {
		b = append(b, byte(r>>(8*i)))
	}
	return string(append(b, byte(len(edits)/4))) + edits + out
}

func le(words ...uint32) string {
	var b []byte
	for _, w := range words {
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	return string(b)
}

func record(id uint16, name, value string) string {
	return string(appendRecord(nil, id, name, value))
}

// TestHostile asks a guest that breaks every promise. What it says is refused, the call ends by the failure
// rule, and the next call is answered by another instance.
func TestHostile(t *testing.T) {
	const refuse, failed = 1 << 32, 1 << 40
	tests := []struct {
		name, order, cause string
	}{
		{"endless loop", "L", "deadline"},
		{"trap", "T", "trap"},
		{"deep recursion", "D", ""},
		{"out of memory", "M", ""},
		{"holds what is final", "H", "bad_hold"},
		{"holds more than there is", result(1<<31, "", ""), "bad_hold"},
		{"holds a negative length", result(0xffffffff, "", ""), "bad_hold"},
		{"unknown verdict", result(9<<32, "", ""), "bad_result"},
		{"says it failed", result(failed|3, "", "why"), "declared"},
		{"says it failed, at length", result(failed|0xffffffff, "", "why"), "declared"},
		{"more edits than fit", result(0xffff<<48, "", ""), "bad_edit"},
		{"edit beyond the end", result(1<<48, le(0, 999, 0, 0, 0), ""), "bad_edit"},
		{"edit backwards", result(1<<48, le(3, 2, 0, 0, 0), ""), "bad_edit"},
		{"edits out of order", result(2<<48, le(3, 4, 0, 0, 0, 0, 1, 0, 0, 0), ""), "bad_edit"},
		{"edit within a character", result(1<<48, le(30, 31, 0, 0, 0), "가나다"), "bad_edit"},
		{"hold within a character", result(1, "", "가나다"), "bad_hold"},
		{"replacement outside the buffer", result(1<<48, le(0, 1, 4000, 4000, 0), ""), "bad_edit"},
		{"replacement of 1 GiB", result(1<<48, le(0, 1, 0, 1<<30, 0), ""), "bad_edit"},
		{"replacement at the end of memory", result(1<<48, le(0, 1, 0xffffffff, 0xfffffffe, 0), ""), "bad_edit"},
		{"replacement is no text", result(1<<48, le(0, 1, 0, 2, 0), "\xff\xfe"), "bad_edit"},
		{"unknown kind", result(1<<48, le(0, 1, 0, 0, 77), ""), "bad_edit"},
		{"refuses with records that run over", result(refuse|100, "", le(5, 0xffffffff)), "bad_record"},
		{"refuses with half a record", result(refuse|3, "", "abc"), "bad_record"},
		{"refuses beyond its buffer", result(refuse|0xffffffff, "", ""), "bad_record"},
		{"refuses with status 200", result(refuse|11, "", record(4, "", "200")), "bad_record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := stage(t, Entry{Name: "hostile"})
			err := s.inward[0].run(context.Background(), &window{}, []byte(tt.order), abi.FlagFinal, &pass{})
			var f *failure
			if !errors.As(err, &f) || tt.cause != "" && f.cause != tt.cause {
				t.Fatalf("got %v, want a failure of cause %q", err, tt.cause)
			}
			_, _, err = handle(t, s, llm.Completions, `{"model":"m","prompt":"fine"}`)
			if err != nil {
				t.Errorf("the next call fails: %v", err)
			}
		})
	}
}

func TestFailureRules(t *testing.T) {
	body := `{"model":"m","stream":true,"messages":[{"role":"user","content":"T"}]}`
	stream := role + content(0, "N hold this,") + content(0, " and this") + finish(0) + done
	trapping := role + content(0, "T") + content(0, " more") + finish(0) + done
	t.Run("request, deny", func(t *testing.T) {
		_, _, err := handle(t, stage(t, Entry{Name: "hostile"}), llm.Chat, body)
		wantRefusal(t, err, pipeline.Unavailable, 0, "plugin_failed", "plugin hostile failed")
	})
	t.Run("request, allow", func(t *testing.T) {
		_, got, err := handle(t, stage(t, Entry{Name: "hostile", OnError: "allow"}), llm.Chat, body)
		if err != nil || got != body {
			t.Errorf("got %s, %v", got, err)
		}
	})
	t.Run("reply, deny", func(t *testing.T) {
		got, err := throughErr(t, stage(t, Entry{Name: "hostile", Directions: []string{"reply"}}), llm.Chat, trapping)
		wantRefusal(t, err, pipeline.Unavailable, 0, "plugin_failed", "plugin hostile failed")
		if strings.Contains(got, "more") || strings.Contains(got, "DONE") {
			t.Errorf("the stream went on: %s", got)
		}
	})
	t.Run("reply, allow", func(t *testing.T) {
		s := stage(t, Entry{Name: "hostile", OnError: "allow", Directions: []string{"reply"}})
		if got := through(t, s, llm.Chat, trapping); got != trapping {
			t.Errorf("got %s", got)
		}
	})
	t.Run("held beyond the bound, allow", func(t *testing.T) {
		s := stage(t, Entry{Name: "hostile", OnError: "allow", MaxHold: 8, Directions: []string{"reply"}})
		endless := role + content(0, "H"+strings.Repeat("x", 20)) + content(0, "y") + finish(0) + done
		if got := texts(t, llm.Chat, through(t, s, llm.Chat, endless))[content0]; got != "H"+strings.Repeat("x", 20)+"y" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("held beyond the bound, must decide", func(t *testing.T) {
		s := stage(t, Entry{Name: "hostile", MaxHold: 8, Directions: []string{"reply"}})
		if got := texts(t, llm.Chat, through(t, s, llm.Chat, stream))[content0]; got != "N hold this, and this" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("refused reply", func(t *testing.T) {
		s := stage(t, Entry{Name: "hostile", Directions: []string{"reply"}})
		no := result(1<<32|uint64(len(record(5, "", "bad_words"))), "", record(5, "", "bad_words"))
		_, err := throughErr(t, s, llm.Chat, content(0, no)+content(0, "more")+done)
		wantRefusal(t, err, pipeline.Forbidden, 0, "bad_words", "The request was refused by the plugin hostile.")
	})
	t.Run("caller left", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		c := newCall(t, llm.Chat, body)
		_, err := stage(t, Entry{Name: "hostile", OnError: "allow"}).Handle(ctx, c, answers(llm.Chat, strings.NewReader("")))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

func wantRefusal(t *testing.T, err error, kind pipeline.Kind, status int, code, reason string) {
	t.Helper()
	var r *pipeline.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if r.Kind != kind || r.Status != status || r.Code != code || r.Reason != reason || r.Stage != "plugin" {
		t.Errorf("got %+v", r)
	}
}

func TestOnRequest(t *testing.T) {
	say := func(verdict uint64, records ...string) string {
		all := strings.Join(records, "")
		return result(verdict<<32|uint64(len(all)), "", all)
	}
	tests := []struct {
		name, order string
		check       func(t *testing.T, c *pipeline.Call, err error)
	}{
		{"label", say(0, record(1, "topic", "law")), func(t *testing.T, c *pipeline.Call, err error) {
			if err != nil || c.Labels["topic"] != "law" {
				t.Errorf("got %v, %v", c.Labels, err)
			}
		}},
		{"refusal", say(1, record(4, "", "451"), record(5, "", "law"), record(6, "", "Not here.")), func(t *testing.T, _ *pipeline.Call, err error) {
			wantRefusal(t, err, pipeline.Forbidden, 451, "law", "Not here.")
		}},
		{"header without the capability", say(0, record(2, "X-A", "b")), wantFailed},
		{"model without the capability", say(0, record(3, "", "m2")), wantFailed},
		{"label with a line break", say(0, record(1, "a", "b\r\nc")), wantFailed},
		{"label without a name", say(0, record(1, "", "b")), wantFailed},
		{"edits", result(1<<48, le(0, 0, 0, 0, 0), ""), wantFailed},
		{"record of a later version", say(0, record(99, "a", "b"), record(1, "a", "b")), func(t *testing.T, c *pipeline.Call, err error) {
			if err != nil || len(c.Labels) != 1 {
				t.Errorf("got %v, %v", c.Labels, err)
			}
		}},
		{"too many records", say(0, strings.Repeat(record(1, "a", "b"), 65)), wantFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := stage(t, Entry{Name: "hostile", Directions: []string{"reply"}})
			c := newCall(t, llm.Chat, order("P"))
			c.Request.Model = "!!" + tt.order + "!!"
			_, err := s.Handle(context.Background(), c, answers(llm.Chat, strings.NewReader("")))
			tt.check(t, c, err)
		})
	}
}

func wantFailed(t *testing.T, _ *pipeline.Call, err error) {
	t.Helper()
	wantRefusal(t, err, pipeline.Unavailable, 0, "plugin_failed", "plugin hostile failed")
}

func TestHeaderAndModel(t *testing.T) {
	p := &plugin{granted: map[string]bool{"headers": true, "model": true}}
	tests := []struct {
		id          uint16
		name, value string
		ok          bool
	}{
		{2, "X-Team", "a", true}, {2, "X-Team", "a\r\nX-B: c", false}, {2, "X Team", "a", false}, {2, "X_Team", "a", false},
		{2, "", "a", false}, {2, "Content-Length", "3", false}, {2, "x-ratelimit-limit-requests", "3", false}, {2, "X-A", strings.Repeat("x", 2000), false},
		{3, "", "m2", true}, {3, "", "", false}, {3, "", "a\x00", false},
	}
	for _, tt := range tests {
		var s said
		if err := p.record(&s, tt.id, tt.name, tt.value); (err == nil) != tt.ok {
			t.Errorf("%d %q %q: got %v", tt.id, tt.name, tt.value, err)
		}
	}
}

// TestNoTextStays looks in the guest's buffer for what an earlier caller sent, and finds nothing (S-23).
func TestNoTextStays(t *testing.T) {
	s := stage(t, Entry{Name: "hostile", Directions: []string{"request"}, Instances: 1})
	for range 100 {
		if _, _, err := handle(t, s, llm.Completions, `{"model":"m","prompt":"P canary canary canary"}`); err != nil {
			t.Fatal(err)
		}
		if _, _, err := handle(t, s, llm.Completions, `{"model":"m","prompt":"C"}`); err != nil {
			t.Fatalf("an earlier caller's text is still there: %v", err)
		}
	}
}

// FuzzResult lets a guest return anything with anything in its buffers. The host never panics, and whatever
// it believes is a list of edits that fit.
func FuzzResult(f *testing.F) {
	f.Add(uint64(0), []byte{}, []byte{})
	f.Add(uint64(1<<48), []byte(le(0, 1, 0, 1, 1)), []byte("x"))
	f.Add(uint64(2<<48|3), []byte(le(0, 1, 0, 1, 1, 1, 1, 1, 1, 2)), []byte("xy"))
	f.Add(uint64(1<<32|8), []byte{}, []byte(record(6, "", "")))
	f.Add(uint64(1<<40|8), []byte{}, []byte("\x00\xffwhy"))
	f.Fuzz(func(t *testing.T, r uint64, edits, out []byte) {
		edits = edits[:min(len(edits), 200)/4*4]
		text := []byte(result(r, string(edits), string(out)))
		if len(text) > 2000 {
			return
		}
		s := stage(t, Entry{Name: "hostile"})
		for _, flags := range []uint32{0, 2} {
			var p pass
			if err := s.inward[0].run(context.Background(), &window{}, text, flags, &p); err != nil || p.answer.refused != nil {
				continue
			}
			last := 0
			for _, e := range p.edits {
				if e.Start < last || e.End < e.Start || e.End > len(text)-p.hold {
					t.Fatalf("believed %v, of %d bytes with %d held", p.edits, len(text), p.hold)
				}
				last = e.End
			}
		}
	})
}

func BenchmarkStream(b *testing.B) {
	s := stage(b, Entry{Name: "pii-mask"})
	for _, bb := range []struct {
		name   string
		events []string
	}{
		{"passed", []string{content(0, "안녕하세요, 반갑습니다. ")}},
		{"held", []string{content(0, " and"), content(0, " then")}},
		{"masked", []string{content(0, "to kim@example.com. ")}},
		{"no text", []string{usage}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			next := repeat(b, s, bb.events...)
			b.ReportAllocs()
			for b.Loop() {
				next()
			}
		})
	}
	b.Run("guest alone", func(b *testing.B) {
		p, a := s.outward[0], answer{}
		q := piece{text: []byte("안녕하세요, 반갑습니다. ")}
		b.ReportAllocs()
		for b.Loop() {
			if err := p.ask(context.Background(), q, &a); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	s := stage(b, Entry{Name: "pii-mask"})
	text := strings.Repeat("The quick brown fox 빠른 갈색 여우가 jumps over the lazy dog. ", 16)[:1000]
	for i := len(text); i > 0; i-- {
		if strings.ToValidUTF8(text[:i], "") == text[:i] {
			text = text[:i]
			break
		}
	}
	c := newCall(b, llm.Chat, `{"model":"m","messages":[{"role":"user","content":`+quote(text)+`}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.in(context.Background(), c); err != nil {
			b.Fatal(err)
		}
	}
}
