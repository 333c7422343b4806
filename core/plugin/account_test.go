package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// counted is an event with running usage, as vLLM sends it.
func counted(text string, n int) string {
	return strings.Replace(content(0, text), `}]}`, fmt.Sprintf(`}],"usage":{"prompt_tokens":3,"completion_tokens":%d}}`, n), 1)
}

// TestUsage: a plugin is told of usage each time, and once in the end.
func TestUsage(t *testing.T) {
	final := strings.Replace(usage, `"completion_tokens":5`, `"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":4}`, 1)
	tests := []struct {
		name, in string
		want     []string
	}{
		{"ticking", counted("a", 1) + counted("b", 2) + finish(0) + final + done, []string{
			"usage 3 1 0 0 final=false estimated=false backend=b1", "usage 3 2 0 0 final=false estimated=false backend=b1",
			"usage 3 9 2 4 final=false estimated=false backend=b1", "usage 3 9 2 4 final=true estimated=false backend=b1"}},
		{"never counted", content(0, "a") + finish(0) + done, []string{"usage 7 11 0 0 final=true estimated=true backend=b1"}},
		{"no end", content(0, "a"), []string{"usage 7 11 0 0 final=true estimated=true backend=b1"}},
	}
	set, log := judges(t, Entry{Name: "judge"})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCall(t, llm.Chat, bodies[llm.Chat])
			reply, err := set.Stage().Handle(t.Context(), c, pipeline.HandlerFunc(func(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
				if !c.Metered {
					t.Error("running usage was not asked for")
				}
				c.Outcome.Backend, c.Outcome.Usage = "b1", llm.Usage{Prompt: 7, Completion: 11}
				return answers(llm.Chat, strings.NewReader(tt.in)).Handle(ctx, c)
			}))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := drain(reply.Stream); err != nil || got != tt.in {
				t.Errorf("got %s, %v", got, err)
			}
			if got := only(log.lines(set), "usage"); !slices.Equal(got, tt.want) {
				t.Errorf("\n got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func only(lines []string, begin string) (some []string) {
	for _, l := range lines {
		if strings.HasPrefix(l, begin) {
			some = append(some, l)
		}
	}
	return some
}

// TestUsageRefused: a stream ends where a plugin says that it is enough, and a whole reply is not given at all.
func TestUsageRefused(t *testing.T) {
	set, log := judges(t, Entry{Name: "judge"}, Entry{Name: "pii-mask"})
	got, err := throughErr(t, set.Stage(), llm.Chat, counted("a kim", 999)+counted("@x.io", 1000)+content(0, "never")+finish(0)+done)
	wantRefusal(t, err, pipeline.Forbidden, 429, "spent", "That is enough.")
	if strings.Contains(got, "never") || strings.Contains(got, "DONE") {
		t.Errorf("it went on: %s", got)
	}
	if end := only(log.lines(set), "end"); len(end) != 1 || !strings.Contains(end[0], "200 complete=false") || !strings.Contains(end[0], "why=spent") {
		t.Errorf("got %q", end)
	}
	for _, in := range []string{counted("a", 1) + finish(0) + strings.Replace(usage, `"completion_tokens":5`, `"completion_tokens":5000`, 1) + done} {
		got, err := throughErr(t, set.Stage(), llm.Chat, in)
		if wantRefusal(t, err, pipeline.Forbidden, 429, "spent", "That is enough."); strings.Contains(got, "DONE") {
			t.Errorf("it ended well: %s", got)
		}
	}
	log.lines(set)
	reply, err := set.Stage().Handle(t.Context(), newCall(t, llm.Chat, `{"model":"m","messages":[{"role":"user","content":"x"}]}`),
		answersWhole(llm.Chat, `{"choices":[{"message":{"content":"never"}}],"usage":{"prompt_tokens":1,"completion_tokens":1000}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err = drain(reply.Stream)
	if wantRefusal(t, err, pipeline.Forbidden, 429, "spent", "That is enough."); got != "" {
		t.Errorf("got %s", got)
	}
	lines := log.lines(set)
	if used := only(lines, "usage"); len(used) != 1 || !strings.Contains(used[0], "final=true") {
		t.Errorf("got %q", used)
	}
	if end := only(lines, "end"); len(end) != 1 || !strings.Contains(end[0], " 429 complete=false") {
		t.Errorf("got %q", end)
	}
}

// TestEnd: a plugin is told of every call's end once, whatever it was.
func TestEnd(t *testing.T) {
	set, log := judges(t, Entry{Name: "judge"})
	stream := content(0, "a") + finish(0) + done
	tests := []struct {
		name, do string
		next     pipeline.Handler
		read     int // chunks; -1: all
		want     string
	}{
		{"well", "see=x-seen", answers(llm.Chat, strings.NewReader(stream)), -1, "end req-1 200 complete=true stream=true completion=0 timed=true backend= why= label=a, b"},
		{"left in the middle", "", answers(llm.Chat, strings.NewReader(stream)), 1, "end req-1 200 complete=false stream=true completion=0 timed=true backend= why=client_gone label="},
		{"left before it began", "", answers(llm.Chat, strings.NewReader(stream)), 0, "end req-1 499 complete=false stream=true completion=0 timed=false backend= why=client_gone label="},
		{"refused by the plugin", "refuse=teapot", nil, -1, "end req-1 418 complete=false stream=true completion=0 timed=false backend= why=teapot label="},
		{"answered by the plugin", "answer=hi", nil, -1, "end req-1 200 complete=true stream=true completion=0 timed=true backend= why= label="},
		{"refused below", "", fails(&pipeline.Refusal{Kind: pipeline.Exhausted, Code: "no_tokens"}), -1, "end req-1 429 complete=false stream=true completion=0 timed=false backend= why=no_tokens label="},
		{"broken below", "", fails(errors.New("x")), -1, "end req-1 500 complete=false stream=true completion=0 timed=false backend= why=error label="},
		{"caller left below", "", fails(context.Canceled), -1, "end req-1 499 complete=false stream=true completion=0 timed=false backend= why=client_gone label="},
		{"an error reply", "", errorReply{}, -1, "end req-1 400 complete=false stream=true completion=0 timed=true backend= why=error label="},
		{"broken off", "", answers(llm.Chat, &breaking{text: content(0, "a")}), -1, "end req-1 200 complete=false stream=true completion=0 timed=true backend= why=error label="},
		{"broken before the first chunk", "", answers(llm.Chat, &breaking{}), -1, "end req-1 500 complete=false stream=true completion=0 timed=false backend= why=error label="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log.lines(set)
			c := bidden(t, llm.Chat, bodies[llm.Chat], tt.do)
			c.Start = time.Now()
			reply, err := set.Stage().Handle(t.Context(), c, tt.next)
			if err == nil {
				if tt.read < 0 {
					_, _ = drain(reply.Stream)
				}
				for range tt.read {
					if _, err := reply.Stream.Next(); err != nil {
						t.Fatal(err)
					}
				}
				_, _ = reply.Stream.Close(), reply.Stream.Close()
			}
			if got := only(log.lines(set), "end"); len(got) != 1 || got[0] != tt.want {
				t.Errorf("\n got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func fails(err error) pipeline.Handler {
	return pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) { return nil, err })
}

type errorReply struct{}

func (errorReply) Handle(context.Context, *pipeline.Call) (*llm.Reply, error) {
	body := []byte(`{"error":{}}`)
	return &llm.Reply{Status: 400, Header: http.Header{}, Stream: llm.One(llm.Chunk{Raw: body, Data: body})}, nil
}

// breaking is a body that breaks off.
type breaking struct{ text string }

func (b *breaking) Read(p []byte) (int, error) {
	n := copy(p, b.text)
	if b.text = b.text[n:]; n > 0 {
		return n, nil
	}
	return 0, errors.New("broke off")
}

// TestEndOfTheCancelled: a caller who has left takes nothing away from who counts.
func TestEndOfTheCancelled(t *testing.T) {
	set, log := judges(t, Entry{Name: "judge"})
	ctx, cancel := context.WithCancel(t.Context())
	reply, err := set.Stage().Handle(ctx, newCall(t, llm.Chat, bodies[llm.Chat]), answers(llm.Chat, strings.NewReader(counted("a", 5)+counted("b", 6)+done)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reply.Stream.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := reply.Stream.Close(); err != nil {
		t.Error(err)
	}
	lines := log.lines(set)
	if used := only(lines, "usage"); len(used) != 2 || used[1] != "usage 3 5 0 0 final=true estimated=false backend=" {
		t.Errorf("got %q", used)
	}
	if end := only(lines, "end"); len(end) != 1 || !strings.Contains(end[0], "why=client_gone") {
		t.Errorf("got %q", end)
	}
}

// TestEndFails: what fails in the end harms nobody.
func TestEndFails(t *testing.T) {
	set, _ := judges(t, Entry{Name: "judge"})
	for range 3 {
		c := newCall(t, llm.Chat, bodies[llm.Chat])
		c.Principal = &pipeline.Principal{Tenant: "trap"}
		reply, err := set.Stage().Handle(t.Context(), c, answers(llm.Chat, strings.NewReader(content(0, "a")+finish(0)+done)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := drain(reply.Stream); err != nil || !strings.HasSuffix(got, done) {
			t.Errorf("got %s, %v", got, err)
		}
		set.stage.last.wait()
	}
}

// TestEndingIsBounded: when too many wait to be told of, the call itself tells.
func TestEndingIsBounded(t *testing.T) {
	var l last
	l.init()
	hold := make(chan struct{})
	for range maxEnding {
		l.do(func() { <-hold })
	}
	told := false
	l.do(func() { told = true })
	if !told {
		t.Error("it waits too")
	}
	close(hold)
	l.wait()
}

// TestScopeOfEveryHook: only plugins whose scope fits are asked, in every hook.
func TestScopeOfEveryHook(t *testing.T) {
	set, log := judges(t, Entry{Name: "judge", Only: Scope{Tenants: []string{"in"}}}, Entry{Name: "pii-mask", Except: Scope{Tenants: []string{"in"}}})
	for _, tenant := range []string{"in", "out"} {
		c := bidden(t, llm.Chat, bodies[llm.Chat], "see=x-seen")
		c.Principal = &pipeline.Principal{Tenant: tenant}
		reply, err := set.Stage().Handle(t.Context(), c, answers(llm.Chat, strings.NewReader(content(0, "kim@x.io")+begin(0, 0, "drop", "{}")+finishTools(0)+done)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := drain(reply.Stream)
		if err != nil {
			t.Fatal(err)
		}
		in := tenant == "in"
		if lines := log.lines(set); (len(lines) > 0) != in || (c.Labels["seen"] != "") != in || strings.Contains(got, "[dropped]") != in || strings.Contains(got, "kim@x.io") != in || c.Metered != in {
			t.Errorf("%s: %q, labels %v, %s", tenant, lines, c.Labels, got)
		}
	}
}
