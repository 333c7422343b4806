package plugin

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// TestUsageIsToldToAll: a plugin that refuses what was used keeps nothing from those behind it.
func TestUsageIsToldToAll(t *testing.T) {
	set, log := judges(t, Entry{Name: "judge"}, Entry{Name: "other"})
	for name, in := range map[string]string{
		"in the middle": counted("a", 1000) + content(0, "never") + finish(0) + done,
		"in the end":    content(0, "a") + finish(0) + strings.Replace(usage, `"completion_tokens":5`, `"completion_tokens":5000`, 1) + done,
	} {
		t.Run(name, func(t *testing.T) {
			log.lines(set)
			_, err := throughErr(t, set.Stage(), llm.Chat, in)
			wantRefusal(t, err, pipeline.Forbidden, 429, "spent", "That is enough.")
			final := 0
			lines := only(log.lines(set), "usage")
			for _, line := range lines {
				if strings.Contains(line, "final=true") {
					final++
				}
			}
			if final != 2 {
				t.Errorf("two plugins were told %d times what was used in the end: %q", final, lines)
			}
		})
	}
}

// TestEndKeepsToItself: what a plugin says of a call that is over is written to nothing that others still read.
func TestEndKeepsToItself(t *testing.T) {
	c := newCall(t, llm.Chat, bodies[llm.Chat])
	c.Labels = map[string]string{"a": "1"}
	late := turn{call: keepCall(c), reply: true}
	if err := late.setLabel("late", "1"); err != nil {
		t.Fatal(err)
	}
	late.wishes.grant(late.call)
	if len(c.Labels) != 1 || late.call.Labels["a"] != "1" || late.call.Labels["late"] != "1" {
		t.Errorf("the call's labels are %v, what is kept of them %v", c.Labels, late.call.Labels)
	}
}

// TestEndWaitsForAnInstance: a plugin whose instances are all busy is told of the end when one is free.
func TestEndWaitsForAnInstance(t *testing.T) {
	set, log := judges(t, Entry{Name: "judge", Instances: 1, Deadline: 250 * time.Millisecond})
	p := set.plugins[0]
	g, err := p.enter(t.Context(), &turn{})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() {
			c := newCall(t, llm.Chat, bodies[llm.Chat])
			e := &ending{ctx: t.Context(), call: c, plugins: []*plugin{p}, last: &set.stage.last, inner: answered(t)}
			_, _ = drain(e)
		})
	}
	waiting.Wait()
	time.Sleep(p.sandbox().Wait + 100*time.Millisecond)
	p.leave(g, nil)
	if got := only(log.lines(set), "end"); len(got) != 3 {
		t.Errorf("3 calls ended; after %v the plugin knew of %q", time.Since(began), got)
	}
}

// TestEndOfOneIsNotAnothers: a plugin that has no instance free for as long as is waited takes no end from the next one.
func TestEndOfOneIsNotAnothers(t *testing.T) {
	set, log := judges(t, Entry{Name: "judge", Instances: 1, Deadline: 250 * time.Millisecond}, Entry{Name: "other"})
	set.stage.last.most = 200 * time.Millisecond
	defer func() { set.stage.last.most = maxEnd }()
	g, err := set.plugins[0].enter(t.Context(), &turn{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.plugins[0].leave(g, nil)
	e := &ending{ctx: t.Context(), call: newCall(t, llm.Chat, bodies[llm.Chat]), plugins: set.stage.ends, last: &set.stage.last, inner: answered(t)}
	_, _ = drain(e)
	if got := only(log.lines(set), "end"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func answered(t *testing.T) llm.Stream {
	r, err := llm.Answer{Text: "x", Stream: true}.Reply(llm.Chat)
	if err != nil {
		t.Error(err)
	}
	return r.Stream
}

// bursting is a context that panics when it is asked for its end.
type bursting struct{ context.Context }

func (bursting) Err() error { panic("burst") }

// TestPanicGivesBack: an instance is given back even if the host panics over what it said.
func TestPanicGivesBack(t *testing.T) {
	s := stage(t, Entry{Name: "hostile", Instances: 1})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nothing panicked")
			}
		}()
		_ = s.inward[0].ask(bursting{t.Context()}, &turn{}, piece{text: []byte("T"), flags: abi.FlagFinal}, new(answer))
	}()
	if err := s.inward[0].ask(t.Context(), &turn{}, piece{text: []byte("x"), flags: abi.FlagFinal}, new(answer)); err != nil {
		t.Error(err)
	}
}

// TestRetry: a refusal says when to try again.
func TestRetry(t *testing.T) {
	for value, want := range map[string]time.Duration{"0": 0, "7": 7 * time.Second, "86400": 24 * time.Hour, "86401": -1, "-1": -1, "": -1, "1.5": -1, "+1": -1, "99999999999": -1} {
		var r refusal
		err := r.record(abi.OutRetry, value)
		if (err != nil) != (want < 0) || err == nil && r.retry != want {
			t.Errorf("%q: %v, %v", value, r.retry, err)
		}
	}
	set, _ := judges(t, Entry{Name: "judge"})
	_, err := set.Stage().Handle(t.Context(), bidden(t, llm.Chat, bodies[llm.Chat], "refuse=teapot;retry=30"), nil)
	var no *pipeline.Refusal
	if !errors.As(err, &no) || no.Retry != 30*time.Second {
		t.Errorf("got %+v", no)
	}
}

// TestHoldersAreTakenOut: to hold what may not be held is a failure like any other: the instance is not used again, and
// the plugin is taken out.
func TestHoldersAreTakenOut(t *testing.T) {
	l := loader(t, folder(t))
	s, err := l.Load(t.Context(), &Config{CacheDir: cacheDir(t), Breaker: Breaker{3, time.Minute, time.Minute}, Chain: []Entry{{Name: "hostile", Instances: 1, MaxHold: 8}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := s.stage.inward[0]
	var f *failure
	for range 3 {
		err := p.run(t.Context(), &window{}, []byte("H"), abi.FlagFinal, &pass{turn: &turn{}})
		if !errors.As(err, &f) || f.cause != badHold {
			t.Fatalf("got %v", err)
		}
	}
	if !p.breaker.open() {
		t.Error("it is still in")
	}
}
