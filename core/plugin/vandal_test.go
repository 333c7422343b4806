package plugin

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// vandals loads the vandal.
func vandals(t *testing.T, onError string) *Set {
	t.Helper()
	l := loader(t, fstest.MapFS{
		"vandal.wasm": {Data: guest(t, "./testdata/vandal")},
		"vandal.yaml": {Data: []byte("name: vandal\nhooks: [on_tool_call, on_usage, on_end]\ndeadline: 100ms")},
	})
	s, err := l.Load(t.Context(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "vandal", OnError: onError}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestVandal: whatever a guest answers to a tool call or to usage, the call ends by the failure rule, the cause is
// named, and the next call is well.
func TestVandal(t *testing.T) {
	say := func(r abi.Result, out string) string { return fmt.Sprintf("R%016x%x", uint64(r), out) }
	with := func(v abi.Verdict, records ...string) string {
		all := strings.Join(records, "")
		return say(abi.Pack(uint32(len(all)), v, 0, 0), all)
	}
	tests := []struct{ name, order, cause string }{
		{"endless loop", "L", "deadline"},
		{"trap", "T", "trap"},
		{"unknown verdict", with(9), badResult},
		{"verdict beyond all", with(200), badResult},
		{"answers", with(abi.Answer, record(8, "", "x")), badResult},
		{"edits", say(abi.Pack(0, 0, 0, 1), ""), badResult},
		{"says it failed", say(abi.Pack(3, 0, 1, 0), "why"), declared},
		{"records beyond its buffer", say(abi.Pack(0xffffffff, 0, 0, 0), ""), badRecord},
		{"half a record", say(abi.Pack(3, 0, 0, 0), "abc"), badRecord},
		{"a record that runs over", with(abi.Pass, le(7, 0xffffffff)), badRecord},
		{"a label", with(abi.Pass, record(1, "a", "b")), badRecord},
		{"a model", with(abi.Pass, record(3, "", "m2")), badRecord},
		{"text without dropping", with(abi.Pass, record(8, "", "x")), badRecord},
		{"text with a refusal", with(abi.Refuse, record(8, "", "x")), badRecord},
		{"arguments that are no JSON", with(abi.Pass, record(7, "", "{")), badRecord},
		{"refuses with status 200", with(abi.Refuse, record(4, "", "200")), badRecord},
	}
	set, allowing := vandals(t, ""), vandals(t, "allow")
	ask := func(s *Set, model, arguments string) (string, error) {
		c := newCall(t, llm.Chat, `{"model":`+quote(model)+`,"stream":true,"messages":[{"role":"user","content":"x"}]}`)
		reply, err := s.Stage().Handle(t.Context(), c, answers(llm.Chat, strings.NewReader(content(0, "a")+begin(0, 0, "f", arguments)+finishTools(0)+usage+done)))
		if err != nil {
			t.Fatal(err)
		}
		return drain(reply.Stream)
	}
	for _, tt := range tests {
		for hook, told := range map[string][2]string{"on_tool_call": {"m", "!!" + tt.order + "!!"}, "on_usage": {"??" + tt.order + "??", "{}"}} {
			t.Run(tt.name+", "+hook, func(t *testing.T) {
				_, err := ask(set, told[0], told[1])
				var no *pipeline.Refusal
				var f *failure
				if !errors.As(err, &no) || no.Code != "plugin_failed" || !errors.As(err, &f) || f.cause != tt.cause {
					t.Fatalf("got %v, want a failure of cause %s", err, tt.cause)
				}
				if got, err := ask(allowing, told[0], told[1]); err != nil || !strings.HasSuffix(got, done) || len(client(t, got)[0].calls) != 1 {
					t.Errorf("allowed, got %s, %v", got, err)
				}
				if _, err := ask(set, "m", "{}"); err != nil {
					t.Errorf("the next call fails: %v", err)
				}
			})
		}
	}
	for _, order := range []string{"T", "L"} {
		if got, err := ask(set, "##"+order, "{}"); err != nil || !strings.HasSuffix(got, done) {
			t.Errorf("%s in the end: got %s, %v", order, got, err)
		}
		set.stage.last.wait()
	}
}

// TestNothingStaysInTheBuffers: what one call put in and what the guest said to it is gone before the next.
func TestNothingStaysInTheBuffers(t *testing.T) {
	s := stage(t, Entry{Name: "pii-mask", Instances: 1, MaxHold: 200})
	p := s.inward[0]
	clean := func() {
		t.Helper()
		g, err := p.enter(t.Context(), &turn{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.leave(g, nil)
		b := p.buffers
		for what, at := range map[string][2]uint32{"in": {b.in, b.inCap}, "edit": {b.edit, b.editCap}, "out": {b.out, b.outCap}} {
			raw, ok := g.Read(at[0], at[1])
			if !ok {
				t.Fatal("no buffer")
			}
			for i, c := range raw {
				if c != 0 {
					t.Fatalf("the %s buffer holds %q at %d", what, raw[i:min(i+20, len(raw))], i)
				}
			}
		}
	}
	var a answer
	if err := p.ask(t.Context(), &turn{}, piece{text: []byte("to kim@x.io and lee@x.io, "), flags: abi.FlagFinal}, &a); err != nil || len(a.edits) != 2 {
		t.Fatalf("%v, %d edits", err, len(a.edits))
	}
	clean()
	set, _ := judges(t, Entry{Name: "judge", Instances: 1})
	p = set.plugins[0]
	for _, do := range []string{"set=X-A:1", "refuse=x", "answer=hi"} {
		reply, err := set.Stage().Handle(t.Context(), bidden(t, llm.Chat, bodies[llm.Chat], do), answers(llm.Chat, strings.NewReader(begin(0, 0, "drop", "{}")+usage+done)))
		if err == nil {
			_, err = drain(reply.Stream)
		}
		if (err != nil) != strings.HasPrefix(do, "refuse") {
			t.Fatal(err)
		}
		set.stage.last.wait()
		clean()
	}
}

// TestLastUser: the flag stands on every text of the last message of the user's, and on no other.
func TestLastUser(t *testing.T) {
	tests := []struct {
		route llm.Endpoint
		body  string
		want  string // the texts that are flagged
	}{
		{llm.Chat, `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"system","content":"b"},{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}],"name":"n"},{"role":"assistant","content":"e"}]}`, "cd"},
		{llm.Chat, `{"model":"m","messages":[{"role":"system","content":"b"}]}`, ""},
		{llm.Responses, `{"model":"m","instructions":"i","input":"a"}`, "a"},
		{llm.Responses, `{"model":"m","input":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"input_text","text":"b"}]},{"type":"function_call_output","call_id":"c","output":"c"}]}`, "b"},
		{llm.Completions, `{"model":"m","prompt":"a"}`, ""},
	}
	for _, tt := range tests {
		c := newCall(t, tt.route, tt.body)
		got, last := "", lastUser(c.Request)
		for _, x := range c.Request.Texts {
			if flagsIn(x, last)&abi.FlagLastUser != 0 {
				got += string(llm.AppendText(nil, c.Request.Body, x))
			}
		}
		if got != tt.want {
			t.Errorf("%s: flagged %q, want %q", tt.body, got, tt.want)
		}
	}
}

// TestChainOfTexts: texts of one request do not run into each other between plugins that make them longer.
func TestChainOfTexts(t *testing.T) {
	longer := Entry{Name: "pii-mask", Config: map[string]any{"placeholder": "<the place of {kind} that was here before>"}}
	s := stage(t, longer, Entry{Name: "second"})
	text := "kim@x.io and 010-1111-2222 or lee@x.io"
	want := "<the place of EMAIL that was here before> and <the place of PHONE that was here before> or <the place of EMAIL that was here before>"
	body := func(text string) string {
		return `{"model":"m","input":["` + text + `","` + text + `","` + text + `"]}`
	}
	if _, got, err := handle(t, s, llm.Embeddings, body(text)); err != nil || got != body(want) {
		t.Errorf("%v\n got %s\nwant %s", err, got, body(want))
	}
}
