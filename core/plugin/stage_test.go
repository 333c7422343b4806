package plugin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
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

// TestOnRequestFromGo asks a guest written with the SDK, which says again what it was told.
func TestOnRequestFromGo(t *testing.T) {
	var log bytes.Buffer
	l, err := NewLoader(Options{Decode: decode, Log: slog.New(slog.NewTextHandler(&log, nil)), Shipped: fstest.MapFS{
		"echo.wasm": {Data: guest(t, echo)}, "echo.yaml": {Data: []byte("name: echo\nhooks: [on_request]\ncapabilities: [headers, log, model]\ndeadline: 1s")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "echo", Capabilities: []string{"headers", "log", "model"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	body := `{"model":"m","n":2,"max_tokens":77,"messages":[{"role":"user","content":"hi"},{"role":"user","content":"ho"}],"tools":[{"type":"function","function":{"name":"send"}}]}`
	ask := func(tier, body string) (*pipeline.Call, error) {
		c := newCall(t, llm.Chat, body)
		c.Labels = map[string]string{"earlier": "yes"}
		c.Principal = &pipeline.Principal{ID: "k1", Tenant: "t1", Team: "team1", Tier: tier, Labels: map[string]string{"grade": "a"}}
		_, err := s.Stage().Handle(context.Background(), c, answersWhole(llm.Chat, `{}`))
		return c, err
	}
	c, err := ask("gold", body)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"earlier": "yes", "choices": "2", "turns": "2", "tools": "1", "texts": "2", "max_tokens": "77", "id": "req-1", "route": "chat",
		"model": "m", "principal": "k1", "tenant": "t1", "team": "team1", "tier": "gold", "label": "yes", "grade": "a", "tool": "send"}
	if !reflect.DeepEqual(c.Labels, want) {
		t.Errorf("got labels %v, want %v", c.Labels, want)
	}
	if c.Headers.Get("X-Echo") != "heard" || c.Request.Model != "m2" {
		t.Errorf("got headers %v, model %q", c.Headers, c.Request.Model)
	}
	if !strings.Contains(log.String(), "heard\ufffdit") || !strings.Contains(log.String(), "plugin=echo") {
		t.Errorf("got log %q", log.String())
	}
	_, err = ask("none", body)
	wantRefusal(t, err, pipeline.Forbidden, 402, "unpaid", "Pay first.")
	_, err = ask("gold", bodies[llm.Chat])
	wantRefusal(t, err, pipeline.Unavailable, 0, "plugin_failed", "plugin echo failed")
	if !strings.Contains(err.Error(), "no streams") {
		t.Errorf("the cause is lost: %v", err)
	}
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
