package upstream

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// usualHealth are the defaults of the configuration.
var usualHealth = HealthConfig{
	Interval: 5 * time.Second, Timeout: 3 * time.Second, Models: "auto", ModelsInterval: 15 * time.Second,
	Failures: failuresToEject, ErrorRate: 50, MinCalls: 20, Window: 30 * time.Second, Slow: 10,
	Ejection: time.Second, Longest: 8 * time.Second, SlowStart: 10 * time.Second,
}

const failuresToEject = 3

// heal makes b's health new.
func heal(b *backend) {
	h := &b.peer.health
	h.mu.Lock()
	defer h.mu.Unlock()
	h.close(time.Now())
	h.joined.Store(0)
}

// A step is something that happens to a backend's health, at a time in seconds.
type step struct {
	at   float64
	do   func(h *health, now time.Time) any
	want any
}

func at(began time.Time, seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

func failNow(why cause) func(*health, time.Time) any {
	return func(h *health, now time.Time) any { return h.fail(now, now, why) }
}

func taken(h *health, now time.Time) any      { return h.take(now) }
func succeedNow(h *health, now time.Time) any { h.succeed(now, now); return nil }
func abandonNow(h *health, now time.Time) any { h.abandon(now); return nil }
func shareNow(h *health, now time.Time) any   { return h.share(now) }
func stumbleNow(h *health, now time.Time) any { return h.stumble(now, now) }
func dueNow(h *health, now time.Time) any     { return h.due(now) }
func stateNow(h *health, now time.Time) any   { return h.standing(now).state }
func deadNow(h *health, _ time.Time) any      { return h.dead.Load() }
func stateCause(h *health, now time.Time) any { return h.standing(now).cause }
func foundNow(f finding) func(*health, time.Time) any {
	return func(h *health, now time.Time) any { return h.probed(now, now, f) }
}

// down are three failures in a row, the third of which takes the backend out.
func down(at float64, why cause) []step {
	return []step{{at, failNow(why), false}, {at, failNow(why), false}, {at, failNow(why), true}}
}

func TestBreaker(t *testing.T) {
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a success in between", []step{
			{0, failNow(causeAnswer), false}, {0, failNow(causeAnswer), false}, {0, succeedNow, nil},
			{0, failNow(causeAnswer), false}, {0, failNow(causeAnswer), false}, {0, taken, true},
		}},
		{"one call tries it after the pause", append(down(0, causeAnswer),
			step{0.5, taken, false}, step{0.5, shareNow, int64(0)}, step{0.5, dueNow, false}, step{0.5, stateNow, stateOpen}, step{0.5, stateCause, causeAnswer},
			step{1.1, dueNow, true}, step{1.1, stateNow, stateHalfOpen}, step{1.1, taken, true}, step{1.2, taken, false},
			step{1.3, succeedNow, nil}, step{1.3, taken, true}, step{1.3, stateNow, stateSlow},
		)},
		{"a failed trial doubles the pause, up to the longest", append(down(0, causeAnswer),
			step{1.1, taken, true}, step{1.1, failNow(causeTimeout), false}, step{3, taken, false}, step{3.2, taken, true}, step{3.2, failNow(causeTimeout), false},
			step{7.1, taken, false}, step{7.3, taken, true}, step{7.3, failNow(causeTimeout), false}, step{15.2, taken, false}, step{15.4, taken, true},
			step{15.4, failNow(causeTimeout), false}, step{23.3, taken, false}, step{23.5, taken, true},
		)},
		{"the pauses are short again after a while in traffic", append(append(down(0, causeAnswer),
			step{1.1, taken, true}, step{1.1, failNow(causeAnswer), false}, step{3.2, taken, true}, step{3.2, succeedNow, nil}),
			append(down(40, causeAnswer), step{40.9, taken, false}, step{41.1, taken, true})...)},
		{"and long while it flaps", append(append(down(0, causeAnswer),
			step{1.1, taken, true}, step{1.1, succeedNow, nil}), append(down(3, causeAnswer), step{4.9, taken, false}, step{5.1, taken, true})...)},
		{"a trial that is abandoned makes room", append(down(0, causeAnswer),
			step{1.1, taken, true}, step{1.2, taken, false}, step{1.3, abandonNow, nil}, step{1.4, taken, true},
		)},
		{"a trial without an outcome makes room for another", append(down(0, causeAnswer),
			step{1.1, taken, true}, step{3, taken, false}, step{3, dueNow, false}, step{3.2, dueNow, true}, step{3.2, taken, true}, step{3.3, taken, false},
		)},
		{"an old success says nothing of an open backend", append(down(1, causeAnswer),
			step{1.5, func(h *health, now time.Time) any { h.succeed(now, now.Add(-time.Second)); return nil }, nil}, step{1.5, taken, false},
		)},
		{"nor an old failure of one that came back", append(append(down(0, causeAnswer), step{1.1, taken, true}, step{1.1, succeedNow, nil}),
			step{1.2, func(h *health, now time.Time) any {
				for range 5 {
					if h.fail(now, now.Add(-time.Second), causeTimeout) {
						return true
					}
				}
				return false
			}, false},
		)},
		{"slow start", append(down(0, causeAnswer), step{1.1, taken, true}, step{1.1, succeedNow, nil},
			step{1.1, shareNow, int64(100)}, step{6.1, shareNow, int64(500)}, step{9.1, shareNow, int64(800)}, step{11.1, shareNow, int64(1000)}, step{11.2, stateNow, stateHealthy},
		)},
		{"single 500s are borne", []step{{0, stumbleNow, false}, {0, stumbleNow, false}, {0, stumbleNow, false}, {0, stumbleNow, false}, {0, taken, true}}},
		{"nobody tries it: back on probation", append(down(0, causeAnswer),
			step{5.9, shareNow, int64(0)}, step{6.1, shareNow, int64(100)}, step{6.2, failNow(causeAnswer), true}, step{6.3, shareNow, int64(0)},
		)},
		{"nobody tries it, and then it is well", append(down(0, causeAnswer),
			step{6.1, shareNow, int64(100)}, step{6.2, succeedNow, nil}, step{6.3, failNow(causeAnswer), false}, step{16.2, shareNow, int64(1000)},
		)},
		{"one that is being tried is not untried", append(down(0, causeAnswer), step{1.1, taken, true}, step{20, shareNow, int64(0)})},
		{"nor one that a probe must find well", []step{{0, foundNow(foundSick), true}, {100, shareNow, int64(0)}}},
		{"nobody listens", append(down(0, causeConnect), step{0, deadNow, true}, step{1.1, taken, true}, step{1.1, succeedNow, nil}, step{1.1, deadNow, false})},
		{"suspicion is not certainty", append(down(0, causeTimeout), step{0, deadNow, false})},
		{"its probe says that it is ill", []step{
			{0, foundNow(foundSick), true}, {0, deadNow, true}, {30, taken, false}, {30, stateNow, stateOpen}, {31, foundNow(foundSick), false},
			{60, foundNow(foundWell), false}, {60, deadNow, false}, {60, stateNow, stateHalfOpen}, {60, taken, true}, {60, succeedNow, nil}, {60, stateNow, stateSlow},
		}},
		{"a call that tried it is no trial of one that a probe found ill since", append(down(0, causeAnswer),
			step{1.1, taken, true}, step{1.2, foundNow(foundSick), false}, step{1.3, foundNow(foundWell), false}, step{1.3, dueNow, true}, step{6.4, shareNow, int64(100)},
		)},
		{"one silent probe is no sign", []step{{0, foundNow(foundSilent), false}, {1, foundNow(foundSilent), false}, {1, taken, true}, {2, foundNow(foundSilent), true}}},
		{"nor many while calls go well", []step{
			{0, foundNow(foundSilent), false}, {1, foundNow(foundSilent), false},
			{5, func(h *health, now time.Time) any {
				h.succeed(now, now)
				return h.probed(now, now.Add(-time.Second), foundSilent)
			}, false},
		}},
		{"a success does not heal what its probe calls ill", []step{{0, foundNow(foundSick), true}, {1, succeedNow, nil}, {1, taken, false}}},
		{"a good probe ends the pause of one where nobody listened", append(down(0, causeConnect), step{0.2, foundNow(foundWell), false}, step{0.2, taken, true})},
		{"but not of one that answers badly", append(down(0, causeAnswer), step{0.2, foundNow(foundWell), false}, step{0.2, taken, false})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, began := new(health), time.Now()
			h.agree(usualHealth)
			for i, s := range tt.steps {
				if got := s.do(h, at(began, s.at)); got != s.want {
					t.Fatalf("step %d at %v s: got %v, want %v", i, s.at, got, s.want)
				}
			}
		})
	}
}

// Half of the calls fail, never two in a row: the rate tells, once there are enough.
func TestErrorRate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fails int // of three
		apart time.Duration
		out   int // which call takes it out; 0: none does
	}{
		{"two of three", 2, 10 * time.Millisecond, 21},
		{"one of three", 1, 10 * time.Millisecond, 0},
		{"too few in the window", 2, 2 * time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, now, out := new(health), time.Now(), 0
			h.agree(usualHealth)
			for i := 1; i <= 100 && out == 0; i++ {
				now = now.Add(tt.apart)
				if i%3 >= tt.fails {
					h.succeed(now, now)
				} else if h.stumble(now, now) {
					out = i
				}
			}
			if out != tt.out || out > 0 && h.standing(now).cause != causeErrorRate {
				t.Errorf("call %d took it out, want %d", out, tt.out)
			}
		})
	}
}

// The window forgets: failures of long ago do not add up with those of now.
func TestWindowForgets(t *testing.T) {
	var w window
	now, length := time.Now(), 8*time.Second
	for i := range 40 {
		w.add(now.Add(time.Duration(i)*time.Second), length, i%2 == 0)
		if _, all := w.sum(now.Add(time.Duration(i)*time.Second), length); all > 9 {
			t.Fatalf("%d calls of the last 8 s at second %d", all, i)
		}
	}
	if failed, all := w.sum(now.Add(100*time.Second), length); failed != 0 || all != 0 {
		t.Errorf("%d of %d", failed, all)
	}
}

// Health is read by every picker while calls end: nothing tears, and a half-open backend takes one call.
func TestHealthHammer(t *testing.T) {
	h, now := new(health), time.Now()
	h.agree(usualHealth)
	for range failuresToEject {
		h.fail(now, now, causeAnswer)
	}
	later := now.Add(1100 * time.Millisecond)
	var trials atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 1000 {
				h.share(later)
				h.standing(later)
				h.firstToken(time.Millisecond)
				h.due(later)
				if h.take(later) {
					trials.Add(1)
				}
			}
		})
	}
	callers.Wait()
	if trials.Load() != 1 {
		t.Errorf("%d trials, want 1", trials.Load())
	}
}

// pooled is a pool of n servers without an Upstream round it.
func pooled(n int, panicAt int) *pool {
	p := &pool{name: "p", panicAt: panicAt, editions: new(atomic.Uint64), balance: newBalancer(PoolConfig{Balance: "least-inflight"}, NewFleet(), nil)}
	var members []*backend
	for i := range n {
		b := &backend{id: string(rune('a' + i)), name: "x", weight: 1, peer: &peer{replica: balance.NewReplica(string(rune('a' + i)))}}
		b.peer.health.agree(usualHealth)
		members = append(members, b)
	}
	p.setMembers(members)
	return p
}

func ids(all []candidate) (s string) {
	for _, c := range all {
		s += c.id
	}
	return s
}

func (b *backend) out(now time.Time, why cause) {
	for range failuresToEject {
		b.peer.health.fail(now, now, why)
	}
}

func TestCandidates(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name         string
		members      int
		suspect, bad string // out on suspicion; out for sure
		tried        string
		panicAt      int
		want, due    string
		after        time.Duration
		trial        string        // a call tries these
		wait         time.Duration // that a caller is told; 0: any that is allowed
	}{
		{name: "all well", members: 3, panicAt: 50, want: "abc"},
		{name: "none of those tried", members: 3, tried: "b", panicAt: 50, want: "ac"},
		{name: "one out", members: 3, suspect: "b", panicAt: 50, want: "ac"},
		{name: "half out", members: 4, suspect: "bc", panicAt: 50, want: "ad"},
		{name: "more than half out", members: 3, suspect: "bc", panicAt: 50, want: "abc"},
		{name: "more than half out, one for sure", members: 3, suspect: "b", bad: "c", panicAt: 50, want: "ab"},
		{name: "more than half out, one tried", members: 3, suspect: "bc", tried: "b", panicAt: 50, want: "ac"},
		{name: "all out", members: 2, suspect: "ab", panicAt: 50, want: "ab"},
		{name: "all out for sure", members: 2, bad: "ab", panicAt: 50, want: ""},
		{name: "all out for sure, the pause is over", members: 2, bad: "ab", panicAt: 50, want: "", due: "a", after: 2 * time.Second, wait: time.Second},
		{name: "one of them is being tried", members: 3, bad: "abc", panicAt: 50, want: "", due: "b", after: 2 * time.Second, trial: "a", wait: time.Second},
		{name: "all of them are", members: 2, bad: "ab", panicAt: 50, want: "", after: 2 * time.Second, trial: "ab", wait: time.Second},
		{name: "a turn behind one that is being tried", members: 5, suspect: "bd", panicAt: 50, want: "ace", due: "d", after: 2 * time.Second, trial: "b"},
		{name: "one alone", members: 1, suspect: "a", panicAt: 50, want: ""},
		{name: "one alone, the pause is over", members: 1, suspect: "a", panicAt: 50, want: "", due: "a", after: 2 * time.Second, wait: time.Second},
		{name: "no panic", members: 3, suspect: "abc", want: ""},
		{name: "a turn to be tried", members: 3, suspect: "b", panicAt: 50, want: "ac", due: "b", after: 2 * time.Second},
		{name: "not one that was tried", members: 3, suspect: "b", tried: "b", panicAt: 50, want: "ac", after: 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pooled(tt.members, tt.panicAt)
			var tried []*backend
			for _, b := range p.members() {
				if strings.Contains(tt.suspect, b.id) {
					b.out(now, causeTimeout)
				}
				if strings.Contains(tt.bad, b.id) {
					b.out(now, causeConnect)
				}
				if strings.Contains(tt.tried, b.id) {
					tried = append(tried, b)
				}
			}
			for _, b := range p.members() {
				if strings.Contains(tt.trial, b.id) && !b.peer.health.take(now.Add(tt.after)) {
					t.Fatalf("%s cannot be tried", b.id)
				}
			}
			all, due, wait := p.candidates(now.Add(tt.after), "m", tried, nil)
			got := ""
			if due != nil {
				got = due.id
			}
			if ids(all) != tt.want || got != tt.due {
				t.Errorf("got %q and %q, want %q and %q", ids(all), got, tt.want, tt.due)
			}
			if wait <= 0 || wait > longestWait || tt.wait > 0 && wait != tt.wait {
				t.Errorf("wait %v", wait)
			}
		})
	}
}

// A backend whose turn it is goes first, once; a call that has failed before is not risked for it.
func TestPickTriesTheOneWhoseTurnItIs(t *testing.T) {
	now := time.Now()
	p := pooled(3, 50)
	one := p.members()[0]
	one.out(now, causeAnswer)
	later := now.Add(1100 * time.Millisecond)
	if b, _ := p.pick(later, &query{model: "m"}, p.members()[1]); b != p.members()[2] {
		t.Errorf("a failed call went to %s", b.id)
	}
	if b, _ := p.pick(later, &query{model: "m"}); b != one {
		t.Errorf("picked %s", b.id)
	}
	if b, _ := p.pick(later, &query{model: "m"}); b == one {
		t.Error("picked twice")
	}
}

// A server in its slow start gets its share, not all there is because nothing is in flight there.
func TestSlowStartTakesLess(t *testing.T) {
	now := time.Now()
	p := pooled(2, 50)
	one, two := p.members()[0], p.members()[1]
	one.peer.health.join(now)
	for range 100 {
		b, _ := p.pick(now, &query{model: "m"})
		new(balance.Lease).Begin(b.peer.replica, 0)
	}
	if a, b := one.peer.replica.Active(), two.peer.replica.Active(); a < 5 || a > 12 {
		t.Errorf("%d and %d of 100 calls, want a tenth", a, b)
	}
}

func TestSlowestIsTakenOut(t *testing.T) {
	for _, tt := range []struct {
		name  string
		times []time.Duration
		want  string
	}{
		{"ten times the rest", []time.Duration{100 * time.Millisecond, 6 * time.Second, 120 * time.Millisecond, 90 * time.Millisecond}, "b"},
		{"not slow enough to matter", []time.Duration{10 * time.Millisecond, 4 * time.Second, 12 * time.Millisecond, 9 * time.Millisecond}, ""},
		{"slower, but not by far", []time.Duration{time.Second, 9 * time.Second, time.Second, time.Second}, ""},
		{"two cannot tell", []time.Duration{100 * time.Millisecond, 60 * time.Second}, ""},
		{"all slow", []time.Duration{60 * time.Second, 61 * time.Second, 62 * time.Second}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, now := pooled(len(tt.times), 50), time.Now()
			for i, b := range p.members() {
				for range enoughFirstTokens {
					b.peer.health.firstToken(tt.times[i])
				}
			}
			got := ""
			if b := p.slowest(now); b != nil {
				got = b.id
			}
			if got != tt.want {
				t.Errorf("took out %q, want %q", got, tt.want)
			}
			if p.slowest(now) != nil {
				t.Error("looked twice at once")
			}
		})
	}
}

// The median is of the last times alone, up to date after each, and not taken anew for each who asks.
func TestFirstTokenMedian(t *testing.T) {
	var h health
	for i := 1; i <= 100; i++ {
		h.firstToken(time.Duration(i) * time.Second)
		want := time.Duration(i-min(i, 32)+min(i, 32)/2+1) * time.Second
		if i < enoughFirstTokens {
			want = 0
		}
		if got := h.firstTokenMedian(); got != want {
			t.Fatalf("after %d: %v, want %v", i, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.firstTokenMedian() }); n != 0 {
		t.Errorf("%v allocations to tell a median that is known", n)
	}
}

// One more out would make the pool panic: a slow server is better than that.
func TestSlowestIsSparedWhereFewAreLeft(t *testing.T) {
	p, now := pooled(6, 50), time.Now()
	for i, b := range p.members() {
		for range enoughFirstTokens {
			b.peer.health.firstToken(100 * time.Millisecond)
		}
		if i < 3 {
			b.out(now, causeAnswer)
		}
	}
	for range 32 {
		p.members()[5].peer.health.firstToken(time.Minute)
	}
	if b := p.slowest(now); b != nil {
		t.Errorf("took out %s", b.id)
	}
	p.panicAt = 80
	if b := p.slowest(now.Add(2 * slowEvery)); b != p.members()[5] {
		t.Error("took out nobody where many may be out")
	}
}

func TestListing(t *testing.T) {
	p := pooled(3, 50)
	list := func(i int, names ...string) {
		m := make(models)
		for _, n := range names {
			m[n] = struct{}{}
		}
		p.members()[i].peer.models.Store(&m)
		p.editions.Add(1)
	}
	check := func(model, want string) {
		t.Helper()
		all, _, _ := p.candidates(time.Now(), model, nil, nil)
		if ids(all) != want {
			t.Errorf("%q: got %q, want %q", model, ids(all), want)
		}
	}
	check("m", "abc")
	list(0, "m", "lora-1")
	check("m", "abc") // the others do not say
	check("lora-2", "bc")
	list(1, "m")
	list(2, "m", "lora-2")
	check("m", "abc")
	check("lora-1", "a")
	check("lora-2", "c")
	check("lora-3", "abc") // nobody lists it: their answer says so
	p.members()[1].kind = "sglang"
	check("m:lora-9", "b")
	p.setMembers(p.members()[1:])
	check("lora-2", "c")
	for i := range 2 * maxShelf {
		check(fmt.Sprint("any", i), "bc")
	}
	if n := len(p.shelf.Load().of); n > maxShelf {
		t.Errorf("%d models on the shelf", n)
	}
}

func BenchmarkCandidates64(b *testing.B) {
	p, now := pooled(64, 50), time.Now()
	m := models{"m": {}}
	for _, member := range p.members() {
		member.peer.models.Store(&m)
	}
	var room [64]candidate
	b.ReportAllocs()
	for b.Loop() {
		all, _, _ := p.candidates(now, "m", nil, room[:0])
		if len(all) != 64 {
			b.Fatal(len(all))
		}
	}
}
