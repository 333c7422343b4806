package balance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
	"github.com/nexus-gateway/nexus/core/upstream/balance/balancetest"
)

func alone(make func(balance.Dice) balance.Picker) balancetest.Maker {
	return func(d balance.Dice) (balance.Picker, func(*balance.Query, *balance.Replica)) { return make(d), nil }
}

func prefix(balance.Dice) (balance.Picker, func(*balance.Query, *balance.Replica)) {
	index := balance.NewIndex(balance.DefaultIndex)
	return balance.NewPrefix(index, balance.DefaultPrefix), func(q *balance.Query, r *balance.Replica) { index.Add(q.Blocks, r) }
}

var makers = []struct {
	name   string
	make   balancetest.Maker
	traits balancetest.Traits
}{
	{"round-robin", alone(func(d balance.Dice) balance.Picker { return balance.NewRoundRobin(d) }), balancetest.Traits{Unweighted: true}},
	{"weighted", alone(func(balance.Dice) balance.Picker { return new(balance.Weighted) }), balancetest.Traits{}},
	{"least-inflight", alone(func(d balance.Dice) balance.Picker { return balance.NewLeastInflight(d) }), balancetest.Traits{}},
	{"least-load", alone(func(d balance.Dice) balance.Picker { return balance.NewLeastLoad(d) }), balancetest.Traits{}},
	{"session", alone(func(d balance.Dice) balance.Picker { return balance.NewSession(balance.DefaultBound, d) }), balancetest.Traits{}},
	{"prefix", prefix, balancetest.Traits{}},
}

func TestPickers(t *testing.T) {
	for _, m := range makers {
		t.Run(m.name, func(t *testing.T) { balancetest.Run(t, m.make, m.traits) })
	}
}

// hold keeps n calls in flight at r.
func hold(r *balance.Replica, n int, tokens int64) {
	for range n {
		new(balance.Lease).Begin(r, tokens)
	}
}

func TestRoundRobinTakesTurns(t *testing.T) {
	p := balance.NewRoundRobin(nil)
	set := balancetest.Set(3)
	for i := range 9 {
		if got, _ := p.Pick(balancetest.Query(0), set); got != i%3 {
			t.Fatalf("call %d went to %d", i, got)
		}
	}
}

func TestWeightedIsEven(t *testing.T) {
	p := new(balance.Weighted)
	set := balancetest.Set(2)
	set[1].Weight = 3
	run := 0
	for i := range 400 {
		got, _ := p.Pick(balancetest.Query(0), set)
		if got == 0 {
			run = 0
		} else if run++; run > 5 {
			t.Fatalf("call %d: %d calls in a row past the replica of a fourth of the weight", i, run)
		}
	}
}

func TestLeastInflightAvoidsTheBusy(t *testing.T) {
	p := balance.NewLeastInflight(nil)
	set := balancetest.Set(2)
	hold(set[0].Replica, 1, 0)
	for range 50 {
		if got, _ := p.Pick(balancetest.Query(0), set); got != 1 {
			t.Fatal("picked the busy one of two")
		}
	}
}

func TestLeastLoadReadsReportsUntilTheyAreStale(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	tests := []struct {
		name string
		set  func(a, b *balance.Replica)
		want int
	}{
		{"waiting weighs more than running", func(a, b *balance.Replica) {
			a.Tell(balance.Report{Waiting: 3, Running: 1, KV: -1, At: now})
			b.Tell(balance.Report{Running: 10, KV: -1, At: now})
		}, 1},
		{"a full cache weighs", func(a, b *balance.Replica) {
			a.Tell(balance.Report{Running: 5, KV: 0.99, At: now})
			b.Tell(balance.Report{Running: 6, KV: 0.2, At: now})
		}, 1},
		{"what was sent since counts", func(a, b *balance.Replica) {
			a.Tell(balance.Report{Running: 5, KV: -1, At: now})
			b.Tell(balance.Report{Running: 9, KV: -1, At: now})
			hold(a, 6, 0)
		}, 1},
		{"a stale report is none", func(a, b *balance.Replica) {
			a.Tell(balance.Report{Running: 0, KV: -1, At: now.Add(-3 * balance.Stale)})
			b.Tell(balance.Report{Running: 99, KV: -1, At: now.Add(-3 * balance.Stale)})
			hold(a, 1, 0)
		}, 1},
		{"nor is one that speaks for the other", func(a, b *balance.Replica) {
			a.Tell(balance.Report{Running: 99, KV: -1, At: now.Add(-3 * balance.Stale)})
			b.Tell(balance.Report{Running: 0, KV: -1, At: now.Add(-3 * balance.Stale)})
			hold(a, 1, 0)
		}, 1},
		{"an ageing report is worth less", func(a, b *balance.Replica) {
			a.Tell(balance.Report{Running: 0, KV: -1, At: now.Add(-balance.Stale + time.Second)})
			b.Tell(balance.Report{Running: 9, KV: -1, At: now.Add(-balance.Stale + time.Second)})
			hold(a, 4, 0)
			a.Tell(balance.Report{Running: 0, KV: -1, At: now.Add(-balance.Stale + time.Second)})
		}, 1},
		{"no report is not an idle engine", func(a, b *balance.Replica) {
			hold(a, 3, 0)
			b.Tell(balance.Report{Running: 2, KV: -1, At: now})
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set := balancetest.Set(2)
			tt.set(set[0].Replica, set[1].Replica)
			q := &balance.Query{Now: now}
			if got, _ := balance.NewLeastLoad(nil).Pick(q, set); got != tt.want {
				t.Errorf("picked %d, want %d", got, tt.want)
			}
		})
	}
}

func TestSessionStaysUntilItsReplicaIsFull(t *testing.T) {
	p := balance.NewSession(1.25, nil)
	set := balancetest.Set(4)
	home := make(map[int]int)
	for i := range 100 {
		home[i], _ = p.Pick(balancetest.Query(i), set)
	}
	for i := range 100 {
		if got, _ := p.Pick(balancetest.Query(i), set); got != home[i] {
			t.Fatalf("session %d moved from %d to %d", i, home[i], got)
		}
	}
	for i := range set { // the mean is 4, the bound 5
		hold(set[i].Replica, 4, 0)
	}
	hold(set[home[0]].Replica, 3, 0)
	if got, _ := p.Pick(balancetest.Query(0), set); got == home[0] {
		t.Error("stayed where the bound is reached")
	}
	moved := 0
	fewer := set[:3]
	for i := range 100 {
		got, _ := balance.NewSession(1e9, nil).Pick(balancetest.Query(i), fewer)
		if home[i] != 3 && got != home[i] {
			moved++
		}
	}
	if moved > 0 {
		t.Errorf("%d sessions moved although their replica stayed", moved)
	}
}

func TestPrefixIsStickyUntilSaturated(t *testing.T) {
	p, sent := prefix(nil)
	set := balancetest.Set(4)
	first := balancetest.Query(1)
	home, cached := p.Pick(first, set)
	if cached != 0 {
		t.Errorf("%d tokens of a new prompt are thought to be cached", cached)
	}
	sent(first, set[home].Replica)
	turn := balancetest.Query(1) // the same conversation, longer
	turn.Blocks, turn.Tokens = append(turn.Blocks, 1, 2), 450
	hold(set[home].Replica, 5, 500)
	got, cached := p.Pick(turn, set)
	if got != home || cached != 300 {
		t.Errorf("picked %d with %d tokens cached, want %d with 300", got, cached, home)
	}
	hold(set[home].Replica, 1, balance.DefaultPrefix.Release)
	if got, _ := p.Pick(turn, set); got == home {
		t.Error("stayed although the replica has more to do than the release allows")
	}
	if got, _ := p.Pick(turn, set[home:home+1]); got != 0 {
		t.Error("did not take the only one there is")
	}
}

func TestPrefixPrefersTheLongestAndTheIdlest(t *testing.T) {
	p, sent := prefix(nil)
	set := balancetest.Set(3)
	long := balancetest.Query(1)
	short := balancetest.Query(1)
	short.Blocks = short.Blocks[:1]
	sent(short, set[0].Replica)
	sent(long, set[1].Replica)
	if got, _ := p.Pick(long, set); got != 1 {
		t.Errorf("picked %d, want the one that has the whole prompt", got)
	}
	sent(long, set[2].Replica)
	hold(set[1].Replica, 3, 100)
	if got, _ := p.Pick(long, set); got != 2 {
		t.Errorf("picked %d, want the idler of those that have it", got)
	}
}

// Gateways that share nothing send the beginning of a conversation to the same replica, behind a system prompt that
// all know and without one, as long as none has much more to do.
func TestPrefixGatewaysAgree(t *testing.T) {
	system := &balance.Query{Blocks: []uint64{1, 2}, Tokens: 128}
	for _, known := range []bool{false, true} {
		one, sentOne := prefix(nil)
		two, sentTwo := prefix(nil)
		a, b := balancetest.Set(8), balancetest.Set(8)
		if known {
			hold(b[3].Replica, 3, 100)
		}
		places := make(map[int]bool)
		for i := range 200 {
			q := balancetest.Query(i)
			if known {
				q.Blocks, q.Tokens = append(system.Blocks[:2:2], q.Blocks...), q.Tokens+system.Tokens
				sentOne(system, a[i%8].Replica)
				sentTwo(system, b[i%8].Replica)
			}
			x, _ := one.Pick(q, a)
			y, _ := two.Pick(q, b)
			if x != y && (!known || i >= 8) {
				t.Fatalf("prompt %d, known system prompt %v: one gateway picked %d, the other %d", i, known, x, y)
			}
			places[x] = true
		}
		if len(places) != 8 {
			t.Errorf("all prompts went to %d of 8 replicas", len(places))
		}
	}
}

func TestPrefixAvoidsAFullCache(t *testing.T) {
	p, sent := prefix(nil)
	set := balancetest.Set(2)
	q := balancetest.Query(1)
	home, _ := p.Pick(q, set)
	full := balance.Report{Waiting: 1, Running: 1, KV: 0.99, At: q.Now}
	set[home].Tell(full)
	set[1-home].Tell(balance.Report{Running: 20, KV: 0.1, At: q.Now})
	if got, _ := p.Pick(q, set); got == home {
		t.Error("a new prompt went where it must wait for room")
	}
	set[1-home].Tell(full)
	if got, _ := p.Pick(q, set); got < 0 {
		t.Error("nobody was picked when all are full")
	}
	sent(q, set[home].Replica)
	if got, _ := p.Pick(q, set); got != home {
		t.Error("a prompt left the replica that holds it for one that is as full")
	}
}

func BenchmarkPick(b *testing.B) {
	for _, m := range makers {
		for _, n := range []int{8, 64} {
			b.Run(fmt.Sprintf("%s/%d", m.name, n), func(b *testing.B) {
				p, sent := m.make(nil)
				set := balancetest.Set(n)
				queries := make([]*balance.Query, 512)
				for i := range queries {
					queries[i] = balancetest.Query(i)
					hold(set[i%n].Replica, 1, 100)
					if sent != nil {
						sent(queries[i], set[i%n].Replica)
					}
				}
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					i++
					_, _ = p.Pick(queries[i&511], set)
				}
			})
		}
	}
}

// BenchmarkPrompt is all that prefix costs for a prompt of 64 KB: hashing, picking among 64 replicas that were sent
// conversations of 16 turns with a system prompt in common, and noting where it went.
func BenchmarkPrompt(b *testing.B) {
	const replicas, conversations, turns = 64, 256, 16
	prompts := make([][]byte, conversations)
	for i := range prompts {
		prompts[i] = make([]byte, 64<<10)
		for j := range prompts[i] {
			if prompts[i][j] = byte(j * 7); j > 8<<10 {
				prompts[i][j] = byte(j*7 + i*(1+j>>8))
			}
		}
	}
	index := balance.NewIndex(balance.DefaultIndex)
	p := balance.NewPrefix(index, balance.DefaultPrefix)
	set := balancetest.Set(replicas)
	var chain balance.Chain
	for i, prompt := range prompts {
		for turn := 1; turn <= turns; turn++ {
			chain.Reset(1)
			chain.Write(prompt[:len(prompt)*turn/turns])
			index.Add(chain.Blocks, set[i%replicas].Replica)
		}
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		chain.Reset(1)
		chain.Write(prompts[i%conversations])
		q := balance.Query{Blocks: chain.Blocks, Tokens: chain.Bytes / 4}
		place, _ := p.Pick(&q, set)
		index.Add(q.Blocks, set[place].Replica)
	}
}
