package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// begin is the event in which a call begins.
func begin(choice, tool int, name, arguments string) string {
	return event(choice, fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":"call_%d","type":"function","function":{"name":%q,"arguments":%s}}]}`, tool, tool, name, quote(arguments)))
}

func more(choice, tool int, arguments string) string {
	return event(choice, fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}`, tool, quote(arguments)))
}

func finishTools(choice int) string {
	return strings.Replace(finish(choice), `"stop"`, `"tool_calls"`, 1)
}

// A said is what a client makes of one choice: its text, its calls in order, and why it ended.
type choiceSaid struct {
	text, finish string
	calls        []string // index, id, name and arguments
}

// client reads a stream as an SDK does.
func client(t testing.TB, body string) map[int]*choiceSaid {
	t.Helper()
	type call struct{ id, name, arguments string }
	calls := map[[2]int]*call{}
	order := map[int][]int{}
	all := map[int]*choiceSaid{}
	r := llm.NewReader(strings.NewReader(body), llm.Chat, 4<<20)
	for {
		c, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil || c.Kind == llm.Malformed {
			t.Fatalf("the client got what it cannot read: %v\n%.2000s", err, body)
		}
		if c.Kind != llm.Event {
			continue
		}
		var e struct {
			Choices []struct {
				Index int
				Delta struct {
					Content   *string
					ToolCalls []struct {
						Index    int
						ID       *string
						Function struct{ Name, Arguments *string }
					} `json:"tool_calls"`
				}
				Finish *string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal(c.Data, &e); err != nil {
			t.Fatal(err)
		}
		for _, ch := range e.Choices {
			s := all[ch.Index]
			if s == nil {
				s = &choiceSaid{}
				all[ch.Index] = s
			}
			add := func(to *string, what *string) {
				if what != nil {
					*to += *what
				}
			}
			add(&s.text, ch.Delta.Content)
			add(&s.finish, ch.Finish)
			for _, tc := range ch.Delta.ToolCalls {
				k := [2]int{ch.Index, tc.Index}
				if calls[k] == nil {
					calls[k] = &call{}
					order[ch.Index] = append(order[ch.Index], tc.Index)
				}
				add(&calls[k].id, tc.ID)
				add(&calls[k].name, tc.Function.Name)
				add(&calls[k].arguments, tc.Function.Arguments)
			}
		}
	}
	for ch, indices := range order {
		for _, i := range indices {
			c := calls[[2]int{ch, i}]
			all[ch].calls = append(all[ch].calls, fmt.Sprintf("%d %s %s %s", i, c.id, c.name, c.arguments))
		}
	}
	return all
}

func (s *choiceSaid) String() string {
	return fmt.Sprintf("%q %v %s", s.text, s.calls, s.finish)
}

func TestToolCallStreams(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"passed", role + begin(0, 0, "send", `{"a"`) + more(0, 0, `:1}`) + finishTools(0) + done, `"" [0 call_0 send {"a":1}] tool_calls`},
		{"in one event, with its finish", strings.Replace(begin(0, 0, "send", `{}`), `"finish_reason":null`, `"finish_reason":"tool_calls"`, 1) + done, `"" [0 call_0 send {}] tool_calls`},
		{"two, and text meanwhile", begin(0, 0, "send", `{"a"`) + content(0, "x") + more(0, 0, `:1}`) + begin(0, 1, "read", ``) + content(0, "y") + more(0, 1, `[]`) + finishTools(0) + done,
			`"xy" [0 call_0 send {"a":1} 1 call_1 read []] tool_calls`},
		{"no finish", begin(0, 0, "send", `{}`) + done, `"" [0 call_0 send {}] `},
		{"no end", begin(0, 0, "send", `{}`), `"" [0 call_0 send {}] `},
		{"rewritten", begin(0, 0, "rewrite", `{"a"`) + more(0, 0, `:1}`) + finishTools(0) + done, `"" [0 call_0 rewrite {"was":7}] tool_calls`},
		{"dropped", begin(0, 0, "drop", `{"a"`) + more(0, 0, `:1}`) + finishTools(0) + done, `"[dropped]" [] stop`},
		{"dropped without a word", begin(0, 0, "vanish", `{}`) + finishTools(0) + done, `"" [] stop`},
		{"dropped, but for another", begin(0, 0, "drop", `{}`) + begin(0, 1, "send", `{}`) + finishTools(0) + done, `"[dropped]" [1 call_1 send {}] tool_calls`},
		{"two dropped", content(0, "a") + begin(0, 0, "drop", `{}`) + begin(0, 1, "drop", `{}`) + finishTools(0) + done, `"a[dropped][dropped]" [] stop`},
		{"dropped behind the text of its last event", begin(0, 0, "drop", `{}`) + strings.Replace(content(0, "a"), `"finish_reason":null`, `"finish_reason":"tool_calls"`, 1) + done, `"a[dropped]" [] stop`},
		{"dropped at its length", begin(0, 0, "drop", `{"a`) + strings.Replace(finish(0), `"stop"`, `"length"`, 1) + done, `"[dropped]" [] length`},
		{"whole calls in one event", event(0, `{"tool_calls":[{"index":0,"id":"a","function":{"name":"send","arguments":"{}"}},{"index":1,"id":"b","function":{"name":"drop","arguments":"{}"}},{"index":2,"id":"c","function":{"name":"rewrite","arguments":"{}"}}]}`) + finishTools(0) + done,
			`"[dropped]" [0 a send {} 2 c rewrite {"was":2}] tool_calls`},
		{"the name comes late", event(0, `{"tool_calls":[{"index":0,"id":"a","function":{}}]}`) + event(0, `{"tool_calls":[{"index":0,"function":{"name":"send","arguments":"{}"}}]}`) + finishTools(0) + done, `"" [0 a send {}] tool_calls`},
		{"facts", begin(0, 2, "facts", `{"k":[1]}`) + finishTools(0) + done,
			`"" [2 call_2 facts {"stream":true,"choice":0,"index":2,"id":"call_2","route":"chat","schema":{"type":"object"},"arguments":{"k":[1]}}] tool_calls`},
		{"nothing said late of one that was judged", begin(0, 0, "send", `{}`) + begin(0, 1, "send", `{}`) + more(0, 0, "") + finishTools(0) + done, `"" [0 call_0 send {} 1 call_1 send {}] tool_calls`},
	}
	set, _ := judges(t, Entry{Name: "judge"})
	body := `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"facts","parameters":{"type":"object"}}}]}`
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reply, err := set.Stage().Handle(t.Context(), newCall(t, llm.Chat, body), answers(llm.Chat, strings.NewReader(tt.in)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := drain(reply.Stream)
			if err != nil {
				t.Fatal(err)
			}
			if said := client(t, got)[0].String(); said != tt.want {
				t.Errorf("\n got %s\nwant %s\nof %s", said, tt.want, got)
			}
			if strings.Contains(got, "tool_calls\":[]") {
				t.Errorf("an empty list is left: %s", got)
			}
		})
	}
}

// TestToolCallBytes: nothing of a call leaves before it is judged, then one event does, in the likeness of its first.
func TestToolCallBytes(t *testing.T) {
	set, _ := judges(t, Entry{Name: "judge"})
	withRole := event(0, `{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_0","type":"function","function":{"name":"send","arguments":""},"extra":{"sig":"s"}}]}`)
	got := through(t, set.Stage(), llm.Chat, withRole+more(0, 0, `{}`)+content(0, "x")+finishTools(0)+usage+done)
	want := event(0, `{"role":"assistant","content":null,"tool_calls":null}`) + content(0, "x") +
		event(0, `{"role":null,"content":null,"tool_calls":[{"index":0,"id":"call_0","type":"function","function":{"name":"send","arguments":"{}"},"extra":{"sig":"s"}}]}`) +
		finishTools(0) + usage + done
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestToolCallSwallowed: an event with nothing left to say goes, but its place in the stream stays.
func TestToolCallSwallowed(t *testing.T) {
	set, _ := judges(t, Entry{Name: "judge"})
	reply, err := set.Stage().Handle(t.Context(), newCall(t, llm.Chat, bodies[llm.Chat]), answers(llm.Chat, strings.NewReader(begin(0, 0, "send", `{`)+more(0, 0, `}`)+finishTools(0)+done)))
	if err != nil {
		t.Fatal(err)
	}
	var raws []string
	for {
		c, err := reply.Stream.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := checkView(c); err != nil {
			t.Error(err)
		}
		raws = append(raws, string(c.Raw))
	}
	if len(raws) != 5 || raws[0] != "" || raws[1] != "" || raws[2] != begin(0, 0, "send", `{}`) || raws[3] != finishTools(0) || raws[4] != done {
		t.Errorf("got %q", raws)
	}
	if err := reply.Stream.Close(); err != nil {
		t.Error(err)
	}
}

func TestToolCallEnds(t *testing.T) {
	tests := []struct {
		name, in, onError string
		code              string // "" : it goes on
		want              string
	}{
		{"refused", begin(0, 0, "refuse", `{}`) + content(0, "x") + finishTools(0) + done, "", "no_tools", ""},
		{"failed, deny", begin(0, 0, "fail", `{}`) + finishTools(0) + done, "", "plugin_failed", ""},
		{"failed, allow", begin(0, 0, "fail", `{}`) + finishTools(0) + done, "allow", "", `"" [0 call_0 fail {}] tool_calls`},
		{"arguments that are no JSON", begin(0, 0, "nonsense", `{}`) + finishTools(0) + done, "", "plugin_failed", ""},
		{"too long for the guest, deny", begin(0, 0, "send", quote(strings.Repeat("x", 300<<10))) + finishTools(0) + done, "", "plugin_failed", ""},
		{"goes back to one that was judged", begin(0, 0, "send", `{}`) + begin(0, 1, "send", `{}`) + more(0, 0, "x") + done, "allow", "bad_backend_answer", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, _ := judges(t, Entry{Name: "judge", OnError: tt.onError})
			got, err := throughErr(t, set.Stage(), llm.Chat, tt.in)
			if tt.code != "" {
				var no *pipeline.Refusal
				if !errors.As(err, &no) || no.Code != tt.code {
					t.Fatalf("got %v and %s, want %s", err, got, tt.code)
				}
				if strings.Contains(got, "call_0") && tt.code != "bad_backend_answer" || strings.Contains(got, "DONE") {
					t.Errorf("it went on: %s", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if said := client(t, got)[0].String(); said != tt.want {
				t.Errorf("\n got %s\nwant %s", said, tt.want)
			}
		})
	}
}

// TestToolCallTooLong: what is longer than anybody may judge is not kept in memory; the failure rule decides.
func TestToolCallTooLong(t *testing.T) {
	var b strings.Builder
	b.WriteString(begin(0, 0, "send", `"`))
	piece := strings.Repeat("x", 100<<10)
	for range 12 {
		b.WriteString(more(0, 0, piece))
	}
	b.WriteString(more(0, 0, `"`) + begin(0, 1, "drop", "{}") + finishTools(0) + done)
	deny, _ := judges(t, Entry{Name: "judge"})
	got, err := throughErr(t, deny.Stage(), llm.Chat, b.String())
	if wantRefusal(t, err, pipeline.Unavailable, 0, "plugin_failed", "plugin judge failed"); strings.Contains(got, "xxx") {
		t.Error("it got through")
	}
	allow, _ := judges(t, Entry{Name: "judge", OnError: "allow"})
	said := client(t, through(t, allow.Stage(), llm.Chat, b.String()))[0]
	if want := `0 call_0 send "` + strings.Repeat(piece, 12) + `"`; len(said.calls) != 1 || said.calls[0] != want || said.text != "[dropped]" || said.finish != "tool_calls" {
		t.Errorf("got %d calls, %q, %s", len(said.calls), said.text, said.finish)
	}
}

// TestToolCallAfterText: text plugins mask a call's arguments before it is judged.
func TestToolCallAfterText(t *testing.T) {
	set, _ := judges(t, Entry{Name: "judge"}, Entry{Name: "pii-mask"}, Entry{Name: "other"})
	got := through(t, set.Stage(), llm.Chat, content(0, "to kim")+begin(0, 0, "facts", `{"to":"kim@`)+more(0, 0, `x.io"}`)+finishTools(0)+done)
	said := client(t, got)[0]
	if said.text != "to kim" || len(said.calls) != 1 || !strings.Contains(said.calls[0], `"arguments":{"to":"[EMAIL]"}`) || strings.Count(said.calls[0], "schema") != 2 {
		t.Errorf("got %v", said)
	}
}

func TestToolCallTokens(t *testing.T) {
	set, _ := judges(t, Entry{Name: "judge"})
	tokens := strings.Replace(content(0, ""), `"finish_reason"`, `"logprobs":{"content":[{"token":"secret"}]},"token_ids":[7],"finish_reason"`, 1)
	got := through(t, set.Stage(), llm.Chat, begin(0, 0, "drop", `{"secret`)+tokens+more(0, 0, `":1}`)+finishTools(0)+done)
	if strings.Contains(got, "secret") || strings.Contains(got, "[7]") {
		t.Errorf("its tokens say what was dropped: %s", got)
	}
}

// TestToolCallResponses: calls that the gate cannot hold yet end by the failure rule, and never slip through.
func TestToolCallResponses(t *testing.T) {
	item := `data: {"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"send","arguments":""}}` + "\n\n"
	text := `data: {"type":"response.output_text.delta","output_index":0,"delta":"a \"function_call\""}` + "\n\n"
	set, _ := judges(t, Entry{Name: "judge"})
	_, err := throughErr(t, set.Stage(), llm.Responses, text+item)
	wantRefusal(t, err, pipeline.Unavailable, 0, "plugin_failed", "plugin judge failed")
	if got := through(t, set.Stage(), llm.Responses, text); got != text {
		t.Errorf("got %s", got)
	}
	for _, kind := range []string{"custom_tool_call", "local_shell_call", "shell_call", "computer_call", "apply_patch_call"} {
		_, err := throughErr(t, set.Stage(), llm.Responses, strings.Replace(item, "function_call", kind, 1))
		wantRefusal(t, err, pipeline.Unavailable, 0, "plugin_failed", "plugin judge failed")
	}
	allow, _ := judges(t, Entry{Name: "judge", OnError: "allow"})
	if got := through(t, allow.Stage(), llm.Responses, text+item); got != text+item {
		t.Errorf("got %s", got)
	}
}

func TestToolCallWhole(t *testing.T) {
	call := func(id, name, args string) string {
		return fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`, id, name, quote(args))
	}
	body := func(content, calls, finish string) string {
		return fmt.Sprintf(`{"id":"c","choices":[{"index":0,"message":{"role":"assistant",%s"tool_calls":[%s]},"finish_reason":%q}]}`, content, calls, finish)
	}
	tests := []struct{ name, in, want string }{
		{"passed", body(`"content":null,`, call("a", "send", `{}`), "tool_calls"), ""},
		{"rewritten", body(`"content":null,`, call("a", "send", `{}`)+","+call("b", "rewrite", `{"x":1}`), "tool_calls"), body(`"content":null,`, call("a", "send", `{}`)+","+call("b", "rewrite", `{"was":7}`), "tool_calls")},
		{"dropped", body(`"content":null,`, call("a", "drop", `{}`), "tool_calls"), body(`"content":"[dropped]",`, "", "stop")},
		{"dropped, no content", body(``, call("a", "drop", `{}`), "tool_calls"), strings.Replace(body(``, "", "stop"), `{"role"`, `{"content":"[dropped]","role"`, 1)},
		{"dropped behind text", body(`"content":"say \"x\"",`, call("a", "drop", `{}`)+", "+call("b", "drop", `{}`), "tool_calls"), body(`"content":"say \"x\"[dropped][dropped]",`, "", "stop")},
		{"dropped, but for one", body(`"content":null,`, call("a", "vanish", `{}`)+","+call("b", "send", `{}`), "tool_calls"), body(`"content":null,`, call("b", "send", `{}`), "tool_calls")},
		{"legacy", `{"choices":[{"message":{"content":null,"function_call":{"name":"drop","arguments":"{}"}},"finish_reason":"function_call"}]}`, `{"choices":[{"message":{"content":"[dropped]","function_call":null},"finish_reason":"stop"}]}`},
		{"said twice", body(`"content":null,`, `{"id":"a","function":{"name":"send","arguments":"1","arguments":"2"}}`, "tool_calls"), body(`"content":null,`, `{"index":0,"id":"a","type":"function","function":{"name":"send","arguments":"2"}}`, "tool_calls")},
	}
	set, _ := judges(t, Entry{Name: "judge"})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "" {
				tt.want = tt.in
			}
			reply, err := set.Stage().Handle(t.Context(), newCall(t, llm.Chat, `{"model":"m","messages":[{"role":"user","content":"x"}]}`), answersWhole(llm.Chat, tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := drain(reply.Stream); err != nil || got != tt.want {
				t.Errorf("%v\n got %s\nwant %s", err, got, tt.want)
			}
		})
	}
	reply, err := set.Stage().Handle(t.Context(), newCall(t, llm.Chat, `{"model":"m","messages":[{"role":"user","content":"x"}]}`), answersWhole(llm.Chat, body("", call("a", "refuse", "{}"), "tool_calls")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = drain(reply.Stream)
	wantRefusal(t, err, pipeline.Forbidden, 451, "no_tools", "Not this tool.")
}

// FuzzToolCalls holds the law of cut invariance for tool calls: in choices that interleave, with arguments cut
// anywhere, a client ends up with the same text, calls and reasons.
func FuzzToolCalls(f *testing.F) {
	f.Add(`{"to":"kim@x.io","n":1}`, "hello", []byte{1, 2, 3}, uint8(0))
	f.Add(`{"a":"\"\\"}`, "안녕", []byte{9, 1}, uint8(1))
	f.Add(``, ``, []byte{}, uint8(2))
	f.Add(`[1,2,3]`, "x", []byte{1, 1, 1, 1, 1, 1, 1, 1}, uint8(3))
	set, _ := judges(f, Entry{Name: "judge"}, Entry{Name: "pii-mask"})
	f.Fuzz(func(t *testing.T, arguments, text string, cuts []byte, which uint8) {
		if !utf8.ValidString(arguments) || !utf8.ValidString(text) || len(arguments)+len(text) > 2000 || len(cuts) > 32 {
			return
		}
		name := [...]string{"send", "drop", "rewrite", "vanish"}[which%4]
		one := content(0, text) + content(1, text)
		for choice := range 2 {
			one += begin(choice, 0, name, arguments) + begin(choice, 1, "send", arguments)
		}
		ends := finishTools(1) + finishTools(0) + done
		want := client(t, through(t, set.Stage(), llm.Chat, one+ends))
		got := client(t, through(t, set.Stage(), llm.Chat, cutCalls(name, arguments, text, cuts)+ends))
		if got[0].String() != want[0].String() || got[1].String() != want[1].String() {
			t.Fatalf("cut by %v:\n got %v %v\nwant %v %v", cuts, got[0], got[1], want[0], want[1])
		}
	})
}

// cutCalls says the same in more events: two choices interleave, and text comes between the parts of a call.
func cutCalls(name, arguments, text string, cuts []byte) string {
	rnd := rand.New(rand.NewPCG(uint64(len(cuts)), 1))
	parts := split(arguments, cuts)
	words := split(text, cuts)
	lanes := [2][]string{}
	for choice := range 2 {
		var all []string
		for _, w := range words {
			all = append(all, content(choice, w))
		}
		for tool, n := range []string{name, "send"} {
			all = append(all, begin(choice, tool, n, parts[0]))
			for _, p := range parts[1:] {
				all = append(all, more(choice, tool, p))
			}
		}
		lanes[choice] = all
	}
	var b strings.Builder
	for len(lanes[0])+len(lanes[1]) > 0 {
		i := rnd.IntN(2)
		if len(lanes[i]) == 0 {
			i = 1 - i
		}
		b.WriteString(lanes[i][0])
		lanes[i] = lanes[i][1:]
	}
	return b.String()
}

func split(s string, cuts []byte) (parts []string) {
	for _, c := range cuts {
		n := min(int(c), len(s))
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n++
		}
		parts, s = append(parts, s[:n]), s[n:]
	}
	return append(parts, s)
}
