package sandbox

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for _, tt := range []struct {
		v    uint64
		want int
	}{{0, 0}, {1, 0}, {64, 0}, {65, 1}, {256, 1}, {257, 2}, {1024, 2}, {1025, 3}, {1 << 30, 12}, {1<<30 + 1, 13}, {1 << 63, 29}} {
		if got := bucket(tt.v, fuelFirst); got != tt.want {
			t.Errorf("bucket(%d) = %d, want %d", tt.v, got, tt.want)
		}
	}
}

// FuzzBucket: a value lies at or below its bucket's bound, and above the one before.
func FuzzBucket(f *testing.F) {
	f.Add(uint64(251), uint64(250))
	f.Add(uint64(1<<50), uint64(64))
	f.Fuzz(func(t *testing.T, v, first uint64) {
		first = max(first%10_000, 1)
		v %= 1 << 50
		n := bucket(v, first)
		if bound := first << (2 * n); v > bound || n > 0 && v <= bound/4 {
			t.Errorf("%d is in bucket %d, up to %d", v, n, bound)
		}
	})
}

func TestProfiles(t *testing.T) {
	started := false
	p := load(t, echo(), Options{Hosts: narrowHost, Instances: 1, Start: func(ctx context.Context, g *Guest) error {
		f, _ := g.pool.Func("grow")
		_, err := g.Call(ctx, f, 0)
		started = true
		return err
	}})
	g := get(t, p)
	for range 2*maxRecords + 3 {
		if _, err := g.Call(context.Background(), function(t, p, "run"), 5); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = g.Call(context.Background(), function(t, p, "trap"))
	p.Put(g)
	s := p.Stats()
	if names := slices.Sorted(maps.Keys(s.Funcs)); !started || !slices.Equal(names, []string{"run", "trap"}) {
		t.Errorf("profiles are of %q", names)
	}
	run := s.Funcs["run"]
	const n = 2*maxRecords + 3
	if run.Calls != n || run.Fuel.Count != n || run.Seconds.Count != n || s.Funcs["trap"].Calls != 1 {
		t.Errorf("profiles are %+v", s.Funcs)
	}
	if run.Fuel.Buckets[256] != 0 || run.Fuel.Buckets[1024] != n || run.Fuel.Buckets[1<<30] != n || len(run.Fuel.Buckets) != fuelBuckets {
		t.Errorf("fuel is %+v", run.Fuel)
	}
	if run.Fuel.Sum < n*1000 || run.Fuel.Sum > n*1200 || run.Seconds.Sum <= 0 || run.Seconds.Sum > 5 || len(run.Seconds.Buckets) != timeBuckets {
		t.Errorf("sums are %v and %v", run.Fuel.Sum, run.Seconds.Sum)
	}
	if s.Peak < pageSize || s.Memory > s.Peak {
		t.Errorf("memory is %d, its peak %d", s.Memory, s.Peak)
	}
}

// TestBusy: a wait ends when Options.Wait is over, and later guests are given out as before.
func TestBusy(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost, Instances: 1, Wait: 5 * time.Millisecond})
	g := get(t, p)
	_, err := p.Get(context.Background())
	var fault *Fault
	if !errors.As(err, &fault) || fault.Kind != Busy || fault.Kind.String() != "busy" {
		t.Errorf("error is %v", err)
	}
	p.Put(g)
	g = get(t, p)
	p.Put(g)
	if s := p.Stats(); s.Faults[Busy] != 1 || s.Waiting != 0 || s.Idle != 1 {
		t.Errorf("stats are %+v", s)
	}
}

// TestFirstComeFirstServed: those who wait are counted, and get their turn in order.
func TestFirstComeFirstServed(t *testing.T) {
	p := load(t, echo(), Options{Hosts: narrowHost, Instances: 1})
	g := get(t, p)
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for n := range 5 {
		wg.Go(func() {
			g := get(t, p)
			mu.Lock()
			order = append(order, n)
			mu.Unlock()
			p.Put(g)
		})
		for p.Stats().Waiting != n+1 {
			time.Sleep(time.Millisecond)
		}
	}
	p.Put(g)
	wg.Wait()
	if !slices.IsSorted(order) || p.Stats().Waiting != 0 {
		t.Errorf("order was %v", order)
	}
}

// TestWaitHammer: waits that end in every way, beside a Close: no guest is lost, none is given out twice.
func TestWaitHammer(t *testing.T) {
	p, err := sharedEngine().Load(context.Background(), echo(), Options{Hosts: narrowHost, Instances: 2, Wait: 300 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 12 {
		wg.Go(func() {
			for i := range 300 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n*i%500)*time.Microsecond)
				g, err := p.Get(ctx)
				if err == nil && i%3 == 0 {
					time.Sleep(50 * time.Microsecond)
				}
				p.Put(g)
				cancel()
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			_ = p.Stats()
			time.Sleep(100 * time.Microsecond)
		}
	})
	wg.Wait()
	if s := p.Stats(); s.Waiting != 0 || s.Idle != s.Instances || p.free != 2 {
		t.Errorf("stats are %+v", s)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
