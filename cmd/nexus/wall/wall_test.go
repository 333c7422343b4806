package wall

import (
	"cmp"
	"context"
	"testing"
	"time"
)

// A row of the wall is one fault: what the backends do, and what must come of it.
type row struct {
	name        string
	kind        string        // of the backends; openai unless said otherwise
	request     string        // streamed unless said otherwise
	main, spare script        // spare answers well unless said otherwise
	deaf        bool          // main takes connections and never reads
	patience    time.Duration // of the caller; longest unless said otherwise
	judge       func(v *view)
}

// run plays one row in a gateway of its own.
func (r row) run(t *testing.T) {
	t.Parallel()
	if r.spare == nil {
		r.spare = well
	}
	if r.request == "" {
		r.request = streamed
	}
	if r.kind == "" {
		r.kind = "openai"
	}
	v := &view{T: t, main: newBackend(t, "main", r.main), spare: newBackend(t, "spare", r.spare), streaming: r.request != plain}
	v.main.deaf = r.deaf
	v.gateway = start(t, r.kind, v.main, v.spare, "")
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(r.patience, longest))
	defer cancel()
	v.answer = v.gateway.call(ctx, r.request)
	defer func() {
		if t.Failed() {
			t.Logf("the caller got: %v", v.answer)
			t.Logf("main was asked: %s", v.main.log())
			t.Logf("spare was asked: %s", v.spare.log())
		}
	}()
	if testing.Verbose() {
		defer func() { t.Log(v.answer) }()
	}
	r.judge(v)
	v.settled()
}

// longest is as long as any caller waits, so that a fault that is not dealt with shows within a run.
const longest = 50 * time.Second

func play(t *testing.T, rows []row) {
	for _, r := range rows {
		t.Run(r.name, r.run)
	}
}

// both makes two rows of one, for a call that is streamed and one that is not.
func both(r row) []row {
	r.request = streamed
	other := r
	other.request = plain
	other.name += ", not streamed"
	return []row{r, other}
}

// TestFaultWall plays the 16 faults of the public scorecard, judged as it judges them.
func TestFaultWall(t *testing.T) {
	t.Parallel()
	var rows []row
	rows = append(rows, both(row{
		name: "S01 429 with Retry-After of 2 s, then well",
		main: inTurn(status(429, "rate_limit_error", "rate_limit_exceeded", "Retry-After: 2"), well),
		judge: func(v *view) {
			v.answered("main")
			v.asks(2, 0)
			if calls := v.main.calls(); len(calls) == 2 && calls[1].at.Sub(calls[0].at) < 1900*time.Millisecond {
				v.Errorf("asked again after %v, though told to wait 2 s", calls[1].at.Sub(calls[0].at))
			}
		},
	})...)
	for _, header := range []string{"Retry-After: 1", "X-Nothing: 1"} {
		rows = append(rows, both(row{
			name: "S02 429 for ever, " + header,
			main: status(429, "rate_limit_error", "rate_limit_exceeded", header),
			judge: func(v *view) {
				v.answered("spare")
				v.patient(v.main)
			},
		})...)
	}
	rows = append(rows, row{
		name:  "S02 429 for ever, everywhere",
		main:  status(429, "rate_limit_error", "rate_limit_exceeded", "Retry-After: 1"),
		spare: status(429, "rate_limit_error", "rate_limit_exceeded", "Retry-After: 1"),
		judge: func(v *view) {
			v.failed()
			v.patient(v.main)
			v.patient(v.spare)
			if v.status != 429 || v.failure.Code != "rate_limit_exceeded" || v.header.Get("Retry-After") == "" {
				v.Errorf("the caller is not told of the limit: %v", v.answer)
			}
		},
	})
	rows = append(rows, both(row{
		name:  "S03 500 once",
		main:  inTurn(status(500, "server_error", "internal"), well),
		judge: func(v *view) { v.answered("main"); v.asks(2, 0) },
	})...)
	rows = append(rows, both(row{
		name:  "S04 503 for ever",
		main:  status(503, "service_unavailable_error", "overloaded"),
		judge: func(v *view) { v.answered("spare"); v.asksAtMost(4, 1); v.within(10 * time.Second) },
	})...)
	rows = append(rows, both(row{
		name:  "S05 connection reset",
		main:  (*asked).reset,
		judge: func(v *view) { v.answered("spare"); v.asksAtMost(4, 1); v.within(10 * time.Second) },
	})...)
	rows = append(rows, both(row{
		name:  "S05 connection reset once",
		main:  inTurn((*asked).reset, well),
		judge: func(v *view) { v.complete(); v.asksAtMost(2, 1); v.within(10 * time.Second) },
	})...)
	rows = append(rows, row{
		name:  "S06 accepted and silent",
		main:  (*asked).silent,
		judge: func(v *view) { v.answered("spare"); v.asks(1, 1); v.within(15 * time.Second) },
	}, row{
		name: "S06 accepted and never read",
		main: well, deaf: true,
		judge: func(v *view) { v.answered("spare"); v.asks(0, 1); v.within(15 * time.Second) },
	})
	slow := func(x *asked) {
		if x.wait(20 * time.Second) {
			well(x)
		}
	}
	rows = append(rows, row{
		name:  "S07 headers and first token after 20 s",
		main:  slow,
		judge: func(v *view) { v.answered("spare"); v.asks(1, 1); v.within(15 * time.Second) },
	}, row{
		name:  "S07 headers, and the first token after 20 s",
		main:  at(first, later(20*time.Second)),
		judge: func(v *view) { v.answered("spare"); v.asks(1, 1); v.within(15 * time.Second) },
	})
	rows = append(rows, row{
		name: "S07 whole after 20 s, not streamed", request: plain, // which may well be how long it takes to write
		main:  slow,
		judge: func(v *view) { v.answered("main"); v.asks(1, 0) },
	})
	if thorough {
		rows = append(rows, row{
			name: "S06 accepted and silent, not streamed", request: plain, patience: 120 * time.Second,
			main:  (*asked).silent,
			judge: func(v *view) { v.answered("spare"); v.asks(1, 1); v.within(100 * time.Second) },
		})
	}
	for _, kind := range []string{"openai", "vllm", "sglang"} {
		rows = append(rows, row{
			name: "S08 cut after 40 of 60 tokens, " + kind,
			kind: kind,
			main: at(40, cut),
			judge: func(v *view) {
				v.complete()
				v.asksAtMost(3, 1)
			},
		}, row{
			name: "S08 cut after 40 of 60 tokens once, " + kind,
			kind: kind,
			main: inTurn(at(40, cut), well),
			judge: func(v *view) {
				v.complete()
				v.asksAtMost(2, 1)
			},
		}, row{
			name: "S09 stalls after 20 tokens, " + kind,
			kind: kind,
			main: at(20, later(30*time.Second)),
			judge: func(v *view) {
				v.completeOrFailed()
				v.within(45 * time.Second)
				v.asksAtMost(2, 1)
			},
		})
	}
	rows = append(rows, row{
		name: "S08 cut after 40 of 60 tokens by a reset",
		main: at(40, broken),
		judge: func(v *view) {
			v.complete()
			v.asksAtMost(3, 1)
		},
	})
	malformed := func(v *view) { v.answered("main"); v.counted(7, 60); v.asks(1, 0) }
	rows = append(rows, row{
		name:  "S10 one malformed chunk",
		main:  at(30, func(v *telling) bool { return v.event(`{"id":"chatcmpl-main-1","choices":[{"ind`) }),
		judge: malformed,
	}, row{
		name:  "S10 one malformed chunk, the first",
		main:  at(first, func(v *telling) bool { return v.event(`{{{`) }),
		judge: malformed,
	})
	silentEnd := tell(func(v *telling) {
		v.ending = ""
		v.before[atTheEnd] = func() bool { v.silent(); return false }
	})
	rows = append(rows, row{
		name:  "S11 no [DONE]",
		main:  tell(func(v *telling) { v.ending = "" }),
		judge: func(v *view) { v.answered("main"); v.counted(7, 60); v.within(8 * time.Second); v.asks(1, 0) },
	}, row{
		name:  "S11 no [DONE], and the connection stays open",
		main:  silentEnd,
		judge: func(v *view) { v.answered("main"); v.counted(7, 60); v.within(8 * time.Second); v.asks(1, 0) },
	})
	rows = append(rows, both(row{
		name:  "S12 the prompt is longer than the context",
		main:  overflow("This model's maximum context length is 4096 tokens. However, you requested 9000 tokens.", "context_length_exceeded"),
		judge: func(v *view) { v.answered("spare"); v.asks(1, 1); v.within(5 * time.Second) },
	})...)
	rows = append(rows, row{
		name:  "S12 the prompt is longer than vLLM's context",
		kind:  "vllm",
		main:  overflow("Input length (9000) exceeds model's maximum context length (4096).", ""),
		judge: func(v *view) { v.answered("spare"); v.asks(1, 1); v.within(5 * time.Second) },
	})
	refused := func(v *view) {
		v.failed()
		v.asks(1, 0)
		if v.status != 400 || v.failure.Code != "content_filter" {
			v.Errorf("the refusal does not reach the caller: %v", v.answer)
		}
	}
	rows = append(rows, both(row{
		name:  "S13 content filter",
		main:  status(400, "invalid_request_error", "content_filter"),
		judge: refused,
	})...)
	rows = append(rows, row{
		name: "S13 content filter in the answer",
		main: tell(func(v *telling) { v.words, v.finish = v.words[:5], "content_filter" }),
		judge: func(v *view) {
			v.asks(1, 0)
			if !v.ok() || v.finish[0] != "content_filter" || v.dones != 1 {
				v.Errorf("the refusal does not reach the caller: %v", v.answer)
			}
		},
	})
	for _, kind := range []string{"openai", "vllm", "sglang"} {
		rows = append(rows, row{
			name:  "S14 cut, and the fallback takes no assistant's turn at the end, " + kind,
			kind:  kind,
			main:  inTurn(at(40, cut), status(503, "service_unavailable_error", "overloaded")),
			spare: noPrefill(tell(nil)),
			judge: func(v *view) {
				v.completeOrFailed()
				v.asksAtMost(4, 3)
			},
		}, row{
			name:  "S14 cut, and the fallback says something else, " + kind,
			kind:  kind,
			main:  inTurn(at(40, cut), status(503, "service_unavailable_error", "overloaded")),
			spare: noPrefill(tell(func(v *telling) { v.words[39] = "other " })),
			judge: func(v *view) {
				v.failed()
				v.asksAtMost(4, 3)
			},
		})
	}
	rows = append(rows, both(row{
		name: "S16 accounting after a fallback",
		main: status(503, "service_unavailable_error", "overloaded"),
		judge: func(v *view) {
			v.answered("spare")
			v.counted(7, 60)
		},
	})...)
	play(t, rows)
}

// patient wants what the scorecard allows under 429: 4 attempts in 3 s, 6 in all.
func (v *view) patient(b *backend) {
	v.Helper()
	calls := b.calls()
	early := 0
	for _, x := range calls {
		if x.at.Sub(calls[0].at) <= 3*time.Second {
			early++
		}
	}
	if early > 4 || len(calls) > 6 {
		v.Errorf("%s was asked %d times in 3 s and %d in all", b.name, early, len(calls))
	}
}
