// Package balancetest holds what every balance.Picker must do, as a suite.
package balancetest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// A Maker makes a picker, and what it is told of calls that were sent; nil: nothing.
type Maker func(balance.Dice) (balance.Picker, func(*balance.Query, *balance.Replica))

// Traits say what a picker does not promise.
type Traits struct {
	Unweighted bool // takes no heed of configured weights, but for 0
	Unshared   bool // takes no heed of the share of a replica that comes back, but for 0
}

// Run checks the picker that make makes.
func Run(t *testing.T, make Maker, traits Traits) {
	t.Run("nobody", func(t *testing.T) { nobody(t, make) })
	t.Run("excluded", func(t *testing.T) { excluded(t, make) })
	t.Run("weights", func(t *testing.T) {
		if traits.Unweighted {
			t.Skip("takes no heed of weights")
		}
		proportion(t, make, []int64{1, 2, 5}, []int64{1000, 1000, 1000})
	})
	t.Run("slow start", func(t *testing.T) {
		if traits.Unshared {
			t.Skip("takes no heed of shares")
		}
		proportion(t, make, []int64{1, 1, 1}, []int64{1000, 250, 1000})
	})
	t.Run("everybody", func(t *testing.T) { everybody(t, make) })
	t.Run("concurrent", func(t *testing.T) { concurrent(t, make) })
	t.Run("memory", func(t *testing.T) { memory(t, make) })
}

// Set makes n candidates of equal weight.
func Set(n int) []balance.Candidate {
	set := make([]balance.Candidate, n)
	for i := range set {
		set[i] = balance.Candidate{Replica: balance.NewReplica(fmt.Sprintf("http://10.0.0.%d:8000", i)), Weight: 1, Share: balance.Whole}
	}
	return set
}

// Query is the i-th of calls that have nothing in common.
func Query(i int) *balance.Query {
	q := &balance.Query{Now: time.Unix(1_000_000_000, 0), Tokens: 300, Session: balance.Hash(nil, uint64(i))}
	for b := range 4 {
		q.Blocks = append(q.Blocks, balance.Hash([]byte{byte(b)}, uint64(i)))
	}
	return q
}

func nobody(t *testing.T, make Maker) {
	p, _ := make(nil)
	if got, _ := p.Pick(Query(1), nil); got != -1 {
		t.Errorf("picked %d of an empty set", got)
	}
	set := Set(3)
	set[0].Weight, set[1].Share, set[2].Weight = 0, 0, 0
	if got, _ := p.Pick(Query(1), set); got != -1 {
		t.Errorf("picked %d of a set that takes no calls", got)
	}
}

// excluded asks the same again and again: what takes no calls is not picked, though the call belongs there.
func excluded(t *testing.T, make Maker) {
	p, sent := make(nil)
	for i := range 200 {
		q := Query(i % 5)
		set := Set(5)
		first, _ := p.Pick(q, set)
		if sent != nil {
			sent(q, set[first].Replica)
		}
		set[first].Share = 0
		if second, _ := p.Pick(q, set); second == first || second < 0 {
			t.Fatalf("call %d: picked %d, then %d when that one took none", i, first, second)
		}
	}
}

// proportion keeps every call in flight and compares each replica's number with its weight.
func proportion(t *testing.T, make Maker, weights, shares []int64) {
	const calls = 4000
	p, sent := make(nil)
	set := Set(len(weights))
	var sum int64
	for i := range set {
		set[i].Weight, set[i].Share = weights[i], shares[i]
		sum += weights[i] * shares[i]
	}
	got := count(p, sent, set, calls)
	for i, n := range got {
		want := calls * float64(weights[i]*shares[i]) / float64(sum)
		if float64(n) < 0.7*want || float64(n) > 1.3*want {
			t.Errorf("replica %d of weights %v and shares %v got %d of %d calls, want about %.0f", i, weights, shares, n, calls, want)
		}
	}
}

func everybody(t *testing.T, make Maker) {
	p, sent := make(nil)
	for i, n := range count(p, sent, Set(8), 800) {
		if n < 50 {
			t.Errorf("replica %d got %d of 800 calls, want about 100", i, n)
		}
	}
}

// count sends calls that have nothing in common and do not end.
func count(p balance.Picker, sent func(*balance.Query, *balance.Replica), set []balance.Candidate, calls int) []int {
	got := make([]int, len(set))
	for i := range calls {
		q := Query(i)
		place, cached := p.Pick(q, set)
		got[place]++
		new(balance.Lease).Begin(set[place].Replica, q.Tokens-cached)
		if sent != nil {
			sent(q, set[place].Replica)
		}
	}
	return got
}

// concurrent is for the race detector, and counts whether everything is given back.
func concurrent(t *testing.T, make Maker) {
	p, sent := make(nil)
	shared := Set(6)
	var callers sync.WaitGroup
	for g := range 8 {
		callers.Go(func() {
			for i := range 300 {
				set := append([]balance.Candidate(nil), shared[:3+(g+i)%4]...)
				q := Query(i % 40)
				place, cached := p.Pick(q, set)
				if place < 0 || place >= len(set) {
					t.Errorf("picked %d of %d", place, len(set))
					return
				}
				var l balance.Lease
				l.Begin(set[place].Replica, q.Tokens-cached)
				if sent != nil {
					sent(q, set[place].Replica)
				}
				set[place].Tell(balance.Report{Running: int64(i % 7), KV: 0.5, At: q.Now})
				l.First()
				l.End()
			}
		})
	}
	callers.Wait()
	for i := range shared {
		if a, u := shared[i].Active(), shared[i].Uncached(); a != 0 || u != 0 {
			t.Errorf("replica %d is left with %d calls and %d tokens", i, a, u)
		}
	}
}

// memory sends many prompts that have nothing in common.
func memory(t *testing.T, make Maker) {
	p, sent := make(nil)
	set := Set(2)
	before := heap()
	for i := range 200_000 {
		q := Query(i)
		place, _ := p.Pick(q, set)
		if sent != nil {
			sent(q, set[place].Replica)
		}
	}
	const most = 16 << 20 // bytes
	if grown := heap() - before; grown > most {
		t.Errorf("%d MiB were kept of 200,000 prompts, more than %d", grown>>20, most>>20)
	}
	runtime.KeepAlive(p)
	runtime.KeepAlive(sent)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
