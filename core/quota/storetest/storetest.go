// Package storetest is the suite that every quota.Store passes.
package storetest

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nexus-gateway/nexus/core/quota"
)

// A Roller is a store that can be moved on to a later window; without it, what follows from the end of
// a window is not tested.
type Roller interface {
	NextWindow()
}

// Run tests the stores that open returns, each fresh and empty and far from the end of its window.
func Run(t *testing.T, open func(t *testing.T) quota.Store) {
	for _, part := range []struct {
		name string
		test func(t *testing.T, s quota.Store)
	}{
		{"TakeUntilFull", takeUntilFull}, {"AllOrNothing", allOrNothing}, {"NothingFitsWhereNothingIsLeft", zeroAmount},
		{"SettleReplaces", settleReplaces}, {"SettleOnce", settleOnce}, {"SettleNotTaken", settleNotTaken},
		{"Isolation", isolation}, {"LargeNumbers", largeNumbers}, {"ParallelTake", parallelTake}, {"Ledger", ledger},
		{"NextWindow", nextWindow}, {"LateSettle", lateSettle}, {"CloseTwice", closeTwice},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, open(t)) })
	}
}

var (
	requests = quota.Counter{Kind: quota.KeyRequests, Name: "alice"}
	tokens   = quota.Counter{Kind: quota.KeyTokens, Name: "alice"}
)

const vast = 1 << 50 // a limit that nothing here reaches

func take(t *testing.T, s quota.Store, tenant string, charges ...quota.Charge) *quota.Reservation {
	t.Helper()
	r := &quota.Reservation{Tenant: tenant, Charges: charges}
	if err := s.Take(context.Background(), r); err != nil {
		t.Fatalf("Take: %v", err)
	}
	if r.Taken && r.Window == 0 || r.Reset <= 0 {
		t.Fatalf("Take gave window %d that ends in %v", r.Window, r.Reset)
	}
	return r
}

func settle(t *testing.T, s quota.Store, r *quota.Reservation, used ...int64) {
	t.Helper()
	for i, n := range used {
		r.Charges[i].Used = n
	}
	if err := s.Settle(context.Background(), r); err != nil {
		t.Fatalf("Settle: %v", err)
	}
}

// used reads a counter: an amount of nothing takes nothing.
func used(t *testing.T, s quota.Store, tenant string, c quota.Counter) int64 {
	t.Helper()
	return vast - take(t, s, tenant, quota.Charge{Counter: c, Limit: vast}).Charges[0].Left
}

func want(t *testing.T, s quota.Store, c quota.Counter, n int64) {
	t.Helper()
	if got := used(t, s, "acme", c); got != n {
		t.Errorf("%c of %s: got %d used, want %d", c.Kind, c.Name, got, n)
	}
}

func takeUntilFull(t *testing.T, s quota.Store) {
	for i, fits := range []bool{true, true, true, false, false} {
		r := take(t, s, "acme", quota.Charge{Counter: requests, Limit: 3, Amount: 1})
		left := max(0, 2-int64(i))
		if r.Taken != fits || r.Charges[0].Left != left {
			t.Fatalf("take %d: got %v with %d left, want %v with %d", i, r.Taken, r.Charges[0].Left, fits, left)
		}
	}
	want(t, s, requests, 3)
}

func allOrNothing(t *testing.T, s quota.Store) {
	take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 100, Amount: 60})
	r := take(t, s, "acme", quota.Charge{Counter: requests, Limit: 5, Amount: 1}, quota.Charge{Counter: tokens, Limit: 100, Amount: 41})
	if r.Taken || r.Charges[0].Left != 5 || r.Charges[1].Left != 40 {
		t.Errorf("got %+v, want a refusal that leaves 5 and 40", r)
	}
	want(t, s, requests, 0)
	want(t, s, tokens, 60)
	r = take(t, s, "acme", quota.Charge{Counter: requests, Limit: 5, Amount: 1}, quota.Charge{Counter: tokens, Limit: 100, Amount: 40})
	if !r.Taken || r.Charges[0].Left != 4 || r.Charges[1].Left != 0 {
		t.Errorf("got %+v, want what fits exactly to be taken", r)
	}
}

func zeroAmount(t *testing.T, s quota.Store) {
	if r := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 10}); !r.Taken {
		t.Error("nothing does not fit into an empty window")
	}
	take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 10, Amount: 10})
	if r := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 10}); r.Taken {
		t.Error("nothing fits into a full window")
	}
}

func settleReplaces(t *testing.T, s quota.Store) {
	charge := quota.Charge{Counter: tokens, Limit: 100, Amount: 50}
	less, more := take(t, s, "acme", charge), take(t, s, "acme", charge)
	settle(t, s, less, 10)
	want(t, s, tokens, 60)
	settle(t, s, more, 170)
	want(t, s, tokens, 180)
	if r := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 100, Amount: 1}); r.Taken || r.Charges[0].Left != 0 {
		t.Errorf("beyond the limit: got %+v, want a refusal with nothing left", r)
	}
	none := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: vast, Amount: 20})
	settle(t, s, none, 0)
	want(t, s, tokens, 180)
}

func settleOnce(t *testing.T, s quota.Store) {
	r := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 100, Amount: 50}, quota.Charge{Counter: requests, Limit: 9, Amount: 1})
	other := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 100, Amount: 7})
	for range 3 {
		settle(t, s, r, 20, 1)
	}
	want(t, s, tokens, 27)
	want(t, s, requests, 1)
	settle(t, s, other, 0)
	want(t, s, tokens, 20)
}

func settleNotTaken(t *testing.T, s quota.Store) {
	take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 10, Amount: 9})
	r := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: 10, Amount: 5})
	r.Window = 0 // as the caller of a Take that failed sees it
	settle(t, s, r, 0)
	settle(t, s, &quota.Reservation{Tenant: "acme", Charges: []quota.Charge{{Counter: tokens, Limit: 10, Amount: 5}}}, 0)
	want(t, s, tokens, 9)
}

// isolation is S-30: no text in a name reaches another tenant or counter.
func isolation(t *testing.T, s quota.Store) {
	names := []string{
		"a", "a:", "a:{}*\r\n", "{a}", "*", "", "\x00", "a\r\nSET x 1", "a:r", ":a", "A", "테넌트", "\xff\xfe",
		strings.Repeat("x", 5000), strings.Repeat("x", 5001),
	}
	kinds := []quota.Kind{quota.KeyRequests, quota.KeyTokens, quota.PolicyRequests, quota.PolicyTokens}
	amount := func(i, j, k int) int64 { return int64(1 + i*1000 + j*10 + k) }
	each := func(f func(tenant string, c quota.Counter, n int64)) {
		for i, tenant := range names {
			for j, name := range names {
				for k, kind := range kinds {
					f(tenant, quota.Counter{Kind: kind, Name: name}, amount(i, j, k))
				}
			}
		}
	}
	each(func(tenant string, c quota.Counter, n int64) {
		take(t, s, tenant, quota.Charge{Counter: c, Limit: vast, Amount: n})
	})
	each(func(tenant string, c quota.Counter, n int64) {
		if got := used(t, s, tenant, c); got != n {
			t.Fatalf("tenant %q, counter %q: got %d, want %d", tenant, c.Name, got, n)
		}
	})
}

func largeNumbers(t *testing.T, s quota.Store) {
	r := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: vast, Amount: vast - 1})
	if !r.Taken || r.Charges[0].Left != 1 {
		t.Fatalf("got %+v, want 1 left", r)
	}
	if r := take(t, s, "acme", quota.Charge{Counter: tokens, Limit: vast, Amount: 2}); r.Taken {
		t.Error("2 fit where 1 is left")
	}
	for range 20 { // sums stay bounded, and never turn into a credit
		r := take(t, s, "acme", quota.Charge{Counter: requests, Limit: 4 * vast, Amount: 0})
		settle(t, s, r, vast)
	}
	if r := take(t, s, "acme", quota.Charge{Counter: requests, Limit: vast, Amount: 1}); r.Taken || r.Charges[0].Left != 0 {
		t.Errorf("after settling far too much: got %+v, want nothing left", r)
	}
}

// parallelTake is A7: many at once do not pass the last unit together (LiteLLM #34732).
func parallelTake(t *testing.T, s quota.Store) {
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				r := &quota.Reservation{Tenant: "acme", Charges: []quota.Charge{
					{Counter: requests, Limit: 500, Amount: 1}, {Counter: tokens, Limit: 1000, Amount: 10},
				}}
				if err := s.Take(context.Background(), r); err != nil {
					t.Error(err)
				}
				if r.Taken {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() != 100 {
		t.Errorf("1,000 at once took %d of 100", taken.Load())
	}
	want(t, s, requests, 100)
	want(t, s, tokens, 1000)
}

// ledger runs takes and settlements side by side: the counter is the sum of what was used.
func ledger(t *testing.T, s quota.Store) {
	var sum atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		random := rand.New(rand.NewPCG(1, uint64(worker)))
		wg.Go(func() {
			for range 100 {
				r := &quota.Reservation{Tenant: "acme", Charges: []quota.Charge{{Counter: tokens, Limit: vast, Amount: random.Int64N(100)}}}
				if err := s.Take(context.Background(), r); err != nil || !r.Taken {
					t.Errorf("Take: %v, taken %v", err, r.Taken)
					return
				}
				r.Charges[0].Used = random.Int64N(200)
				sum.Add(r.Charges[0].Used)
				for range 1 + random.IntN(2) {
					if err := s.Settle(context.Background(), r); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	want(t, s, tokens, sum.Load())
}

func roll(t *testing.T, s quota.Store) {
	t.Helper()
	r, ok := s.(Roller)
	if !ok {
		t.Skip("the store cannot be moved to another window")
	}
	r.NextWindow()
}

func nextWindow(t *testing.T, s quota.Store) {
	full := quota.Charge{Counter: requests, Limit: 2, Amount: 2}
	first := take(t, s, "acme", full)
	if take(t, s, "acme", full).Taken {
		t.Error("a full window took more")
	}
	roll(t, s)
	second := take(t, s, "acme", full)
	if !second.Taken || second.Window <= first.Window {
		t.Errorf("the window after: got %+v, want it taken in a later window than %d", second, first.Window)
	}
}

func lateSettle(t *testing.T, s quota.Store) {
	charge := quota.Charge{Counter: tokens, Limit: vast, Amount: 50}
	less, more := take(t, s, "acme", charge), take(t, s, "acme", charge)
	roll(t, s)
	take(t, s, "acme", quota.Charge{Counter: tokens, Limit: vast, Amount: 5})
	settle(t, s, less, 10)
	want(t, s, tokens, 5) // a window that is over gives nothing back
	settle(t, s, more, 70)
	settle(t, s, more, 70)
	want(t, s, tokens, 25) // what went beyond the reservation counts on
	roll(t, s)
	settle(t, s, more, 70)
	want(t, s, tokens, 0)
	first := take(t, s, "acme", charge)
	roll(t, s)
	settle(t, s, first, 70) // into a window that nothing has been taken from yet
	want(t, s, tokens, 20)
}

func closeTwice(t *testing.T, s quota.Store) {
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
