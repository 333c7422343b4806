package sandbox

import (
	"math/bits"
	"time"
)

// Stats are a pool's counts since it was loaded, and what it holds now. What a guest has done is counted when
// it is put back.
type Stats struct {
	Calls     int64
	Fuel      int64          // units used by all calls
	Faults    map[Kind]int64 // calls that did not return, and waits that gave up, by cause
	Made      int64          // instances made
	Recycled  int64          // instances discarded because their memory had grown, or could not be put back for another owner
	Resets    int64          // instances put back to their start for another owner
	Instances int            // instances that exist now
	Idle      int            // of these, not in use
	Waiting   int            // goroutines that wait for an instance
	Memory    int64          // bytes of the instances' memories, as of their last Put
	Peak      int64          // the most that Memory has been
	// Funcs are the exported functions that were called from outside, by name; calls while an instance starts
	// and calls by host functions are not counted there.
	Funcs map[string]FuncStats
}

// FuncStats are the counts of one exported function.
type FuncStats struct {
	Calls         uint64
	Fuel, Seconds Histogram
}

// A Histogram is what a Prometheus one is made of.
type Histogram struct {
	Buckets map[float64]uint64 // upper bound → how many were no more than that
	Count   uint64
	Sum     float64
}

const (
	fuelFirst, fuelBuckets = 64, 13                    // up to 2³⁰ units
	timeFirst, timeBuckets = 250 * time.Nanosecond, 14 // up to 16.8 s
)

// A record is one call that has ended.
type record struct {
	index int // of the export
	fuel  int64
	took  time.Duration
}

// maxRecords is how many calls a guest keeps to itself before they are folded into its pool's profiles.
const maxRecords = 16

// A profile is the account of one exported function. Each bucket is four times as wide as the one before, the
// last one holds the rest.
type profile struct {
	calls uint64
	fuel  [fuelBuckets + 1]uint64
	time  [timeBuckets + 1]uint64
	units int64
	took  time.Duration
}

func (f *profile) add(r record) {
	f.calls++
	f.units += r.fuel
	f.took += r.took
	f.fuel[min(bucket(uint64(max(r.fuel, 0)), fuelFirst), fuelBuckets)]++
	f.time[min(bucket(uint64(max(r.took, 0)), uint64(timeFirst)), timeBuckets)]++
}

// bucket is the first one whose bound, first·4ⁿ, is not below v.
func bucket(v, first uint64) int {
	if v <= first {
		return 0
	}
	return (bits.Len64((v-1)/first) + 1) / 2
}

func (f *profile) stats() FuncStats {
	return FuncStats{
		Calls:   f.calls,
		Fuel:    histogram(f.fuel[:fuelBuckets], fuelFirst, f.calls, float64(f.units)),
		Seconds: histogram(f.time[:timeBuckets], timeFirst.Seconds(), f.calls, f.took.Seconds()),
	}
}

func histogram(counts []uint64, bound float64, count uint64, sum float64) Histogram {
	h := Histogram{Buckets: make(map[float64]uint64, len(counts)), Count: count, Sum: sum}
	total := uint64(0)
	for _, n := range counts {
		total += n
		h.Buckets[bound] = total
		bound *= 4
	}
	return h
}

// record notes a call that has ended; the lock is taken once in many.
func (g *Guest) record(r record) {
	if g.recorded == maxRecords {
		g.pool.mu.Lock()
		g.pool.settle(g)
		g.pool.mu.Unlock()
	}
	g.records[g.recorded] = r
	g.recorded++
}

// settle adds what the guest has done to the pool's counts. The caller holds the lock.
func (p *Pool) settle(g *Guest) {
	for _, r := range g.records[:g.recorded] {
		p.profiles[r.index].add(r)
	}
	p.calls += g.calls
	p.fuel += g.fuel
	pages := int64(g.MemorySize() / pageSize)
	p.pages += pages - g.counted
	p.peak = max(p.peak, p.pages)
	g.recorded, g.calls, g.fuel, g.counted = 0, 0, 0, pages
}

// Stats returns the counts as they stand.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	s := Stats{
		Calls: p.calls, Fuel: p.fuel, Faults: map[Kind]int64{}, Made: p.made, Recycled: p.recycled, Resets: p.resets,
		Instances: p.alive, Idle: len(p.idle), Waiting: len(p.queue), Memory: p.pages * pageSize, Peak: p.peak * pageSize,
		Funcs: map[string]FuncStats{},
	}
	for i := range p.profiles {
		if p.profiles[i].calls > 0 {
			s.Funcs[p.exports[i].name] = p.profiles[i].stats()
		}
	}
	p.mu.Unlock()
	for k := range p.faults {
		if n := p.faults[k].Load(); n > 0 {
			s.Faults[Kind(k)] = n
		}
	}
	return s
}
