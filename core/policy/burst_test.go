package policy

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// Five hundred callers at once are many turns to wait for, but no reason to deny one of them.
func TestABurstIsNotTimedOut(t *testing.T) {
	cfg := testConfig()
	cfg.Deadline = 20 * time.Millisecond
	src := Shipped()
	src.Pools = []string{"default"}
	e, err := Compile(t.Context(), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := e.Stage(Env{})
	var bad, worst atomic.Int64
	var reasons sync.Map
	var wg sync.WaitGroup
	for range 500 {
		c := newCall(t, chatBody)
		wg.Go(func() {
			for range 4 {
				start := time.Now()
				if _, err := s.Handle(t.Context(), c, passed); err != nil {
					bad.Add(1)
					reasons.LoadOrStore(errors.Unwrap(err).Error(), true)
				}
				if took := time.Since(start).Nanoseconds(); took > worst.Load() {
					worst.Store(took)
				}
			}
		})
	}
	wg.Wait()
	// A machine that is busy with other work may stop even an evaluation that has its turn.
	if bad.Load() > 20 {
		t.Errorf("%d of 2000 calls were denied", bad.Load())
	}
	reasons.Range(func(k, _ any) bool { t.Log(k); return true })
	t.Logf("%d of 2000 denied, the slowest took %v", bad.Load(), time.Duration(worst.Load()))
}

// A container that has used up its share of the processor stands still as a whole; no evaluation is to
// blame for that.
func TestAStallOfTheProcessIsNotATimeout(t *testing.T) {
	turns := 2 * runtime.GOMAXPROCS(0)
	tests := []struct {
		name      string
		used      time.Duration // by the process since the evaluation began
		sharing   int           // evaluations that run
		stalls    int
		cancelled bool
	}{
		{"the machine was with others", 0, 1, 0, false},
		{"half the time", 30 * time.Minute, 1, 0, false},
		{"all of it", time.Hour, 1, 0, true},
		{"too many stalls", 0, 1, maxStalls, true},
		{"as much for each processor, and two evaluations on each", time.Duration(turns) * 30 * time.Minute, turns, 0, false},
		{"all of it for each of them", time.Duration(turns) * time.Hour, turns, 0, true},
	}
	for _, tt := range tests {
		q := &queue{turns: make(chan struct{}, turns)}
		for range tt.sharing {
			q.turns <- struct{}{}
		}
		r := &evaluation{
			engine: &Engine{queue: q}, deadline: time.Hour, cancel: topdown.NewCancel(),
			begun: processTime() - tt.used, stalls: tt.stalls,
		}
		if r.expire(); r.cancel.Cancelled() != tt.cancelled {
			t.Errorf("%s: cancelled %v, want %v", tt.name, r.cancel.Cancelled(), tt.cancelled)
		}
	}
}

// In Wasm, what an evaluation has done tells whether it had a processor, whatever else the process did meanwhile.
func TestAStallInWasmIsNotATimeout(t *testing.T) {
	const little, much = leastPerMicro*3_600_000_000 - 1, leastPerMicro * 3_600_000_000
	tests := []struct {
		name   string
		run    run
		fuel   uint64
		passed time.Duration // of the process's time since the deadline
		over   bool
	}{
		{"it did nothing", run{}, 0, 0, false},
		{"it did little, and the process all it could", run{late: 1}, little, 2 * time.Hour, false},
		{"it did little for too long", run{idle: maxWait}, little, 2 * time.Hour, true},
		{"it did enough, for the first time", run{}, much, 0, false},
		{"it did enough, and the process half", run{late: 1}, much, 30 * time.Minute, false},
		{"it did enough, and the process too", run{late: 1}, much, time.Hour, true},
		{"it did enough, and stalled too often", run{late: 1, stalls: maxStalls}, much, 0, true},
	}
	for _, tt := range tests {
		if tt.passed > 0 || tt.run.late > 0 {
			tt.run.late = processTime() - tt.passed
		}
		if more := tt.run.more(time.Hour, tt.fuel, 1); (more == 0) != tt.over {
			t.Errorf("%s: %v more, over is %v", tt.name, more, tt.over)
		}
	}
}

// Nor is it the evaluations that a call waits for, when others have the machine.
func TestAStallOfTheProcessIsNoWait(t *testing.T) {
	processors := time.Duration(runtime.GOMAXPROCS(0))
	e := &Engine{cfg: Config{Deadline: time.Second}, queue: calls}
	for _, tt := range []struct {
		name  string
		ticks int // of two deadlines each
		used  time.Duration
		over  bool
	}{
		{"not yet", maxWait/2 - 1, maxWait * time.Second * processors, false},
		{"all the time", maxWait / 2, maxWait * time.Second * processors, true},
		{"with others for half of it", maxWait / 2, maxWait / 2 * time.Second * processors, false},
		{"in twice the time", maxWait, maxWait * time.Second * processors, true},
		{"with others for ever", maxBusy * maxWait / 2, 0, true},
	} {
		if got := e.waited(tt.ticks, tt.used); got != tt.over {
			t.Errorf("%s: over %v, want %v", tt.name, got, tt.over)
		}
	}
}

// An evaluation that was given up and has ended is no longer counted as adrift when its turn is another's: a queue of
// no room keeps the turn until somebody takes it.
func TestAnEvaluationIsNotAdriftPastItsTurn(t *testing.T) {
	r := &evaluation{engine: &Engine{queue: &queue{turns: make(chan struct{})}}, over: make(chan struct{})}
	r.state.Store(givenUp)
	q := r.engine.queue
	q.adrift.Store(1)
	done := make(chan struct{})
	go func() { r.end(); close(done) }()
	for range 1000 {
		if q.adrift.Load() == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := q.adrift.Load(); n != 0 {
		t.Errorf("%d evaluations are adrift, want none while the turn is still held", n)
	}
	q.turns <- struct{}{}
	<-done
}
