package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
	"github.com/nexus-gateway/nexus/core/upstream/balance/balancetest"
)

func workload(t *testing.T, name string) Workload {
	t.Helper()
	for _, w := range Workloads() {
		if w.Name == name {
			return w
		}
	}
	t.Fatalf("no workload %q", name)
	return Workload{}
}

// results runs a workload on 8 replicas with the algorithms called so; with all if none is named.
func results(t *testing.T, name string, seed uint64, only ...string) map[string]Result {
	t.Helper()
	out := make(map[string]Result)
	for _, a := range Algorithms() {
		if len(only) > 0 && !slices.Contains(only, a.Name) {
			continue
		}
		out[a.Name] = Run{Workload: workload(t, name), Algorithm: a, Replicas: 8, Length: 90 * time.Second, Seed: seed}.Do()
		t.Logf("%s, seed %d, %s: %+v", name, seed, a.Name, out[a.Name])
	}
	return out
}

// The bars that prefix balancing has to hold. Virtual time: the figures are the same on every machine.
func TestPrefixHoldsItsBars(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("multi-turn ", seed), func(t *testing.T) {
			r := results(t, "multi-turn", seed, "prefix", "round-robin")
			ours, turns := r["prefix"], r["round-robin"]
			if ours.Rate < 2*turns.Rate || ours.Hit < 3*turns.Hit {
				t.Errorf("%.0f tokens/s and a hit rate of %.2f; round-robin has %.0f and %.2f: want twice and three times as much", ours.Rate, ours.Hit, turns.Rate, turns.Hit)
			}
		})
		for _, name := range []string{"no shared prefix", "shared system prompts", "skewed"} {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) {
				r := results(t, name, seed, "prefix", "round-robin")
				if ours, turns := r["prefix"], r["round-robin"]; ours.Rate < turns.Rate || ours.Good < turns.Good {
					t.Errorf("%.0f tokens/s, %.0f in time; round-robin has %.0f and %.0f", ours.Rate, ours.Good, turns.Rate, turns.Good)
				}
			})
		}
		t.Run(fmt.Sprint("mixed ", seed), func(t *testing.T) {
			r := results(t, "mixed", seed)
			for name, other := range r {
				ours := r["prefix"]
				if name != "prefix" && (ours.Rate <= other.Rate || ours.Good <= other.Good || ours.TTFT90 >= other.TTFT90) {
					t.Errorf("%+v does not beat %s: %+v", ours, name, other)
				}
			}
		})
	}
}

func TestSameSeedSameResult(t *testing.T) {
	for _, a := range Algorithms() {
		run := Run{Workload: workload(t, "mixed"), Algorithm: a, Replicas: 3, Gateways: 2, Length: 20 * time.Second, Seed: 5}
		first := run.Do()
		if second := run.Do(); first != second {
			t.Errorf("%s: %+v, then %+v", a.Name, first, second)
		}
		run.Seed = 6
		if other := run.Do(); other == first {
			t.Errorf("%s: another seed gives the same", a.Name)
		}
	}
}

// A replica alone: what it finds cached, reads and generates can be worked out by hand.
func TestOneReplica(t *testing.T) {
	e := Engine{Prefill: 1000, Step: 10 * time.Millisecond, Batch: 4096, Calls: 4, Cache: 1000}
	part := Part{Share: 1, Apps: 1, Opening: Range{640, 640}, Turn: Range{60, 60}, Turns: Range{2, 2}, Answer: Range{4, 4}, Think: Range{1000, 1000}}
	got := Run{Workload: Workload{"one", 1, []Part{part}}, Algorithm: Algorithms()[0], Replicas: 1, Length: 60 * time.Second, Engine: e, Seed: 1}.Do()
	// Turn one reads 640 tokens, turn two finds 640 of its 704: 0.65 s and 0.074 s, 45 calls in turn.
	if got.Fairness != 1 || got.Hit < 0.45 || got.Hit > 0.50 || got.TTFT90 != 650*time.Millisecond || got.TTFT50 > 650*time.Millisecond {
		t.Errorf("%+v", got)
	}
}

func TestTableIsMarkdown(t *testing.T) {
	var b strings.Builder
	w := Workloads()[0]
	w.Users = 2
	if err := table(&b, "some", Run{Workload: w, Replicas: 2, Length: 10 * time.Second}, Algorithms()[:2]); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Count(got, "\n| ") != 3 || !strings.Contains(got, "| round-robin | 0.") {
		t.Errorf("got %s", got)
	}
}

// The rivals must be as sound as ours for the comparison to be fair.
func TestRivalsArePickers(t *testing.T) {
	for _, a := range Algorithms() {
		if a.Rival {
			t.Run(a.Name, func(t *testing.T) {
				set := balancetest.Set(5)
				p, _ := a.New(nil)
				got := make(map[int]int)
				for i := range 500 {
					q := balancetest.Query(i)
					place, _ := p.Pick(q, set)
					got[place]++
					new(balance.Lease).Begin(set[place].Replica, q.Tokens)
				}
				for i := range set {
					if got[i] < 60 {
						t.Errorf("replica %d got %d of 500", i, got[i])
					}
				}
			})
		}
	}
}
