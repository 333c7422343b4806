package sim

import (
	"fmt"
	"io"
	"time"
)

// Table runs every workload with every algorithm and writes what came of it as Markdown. The same seed writes the
// same table.
func Table(out io.Writer, seed uint64) error {
	fmt.Fprintf(out, "Virtual time: %d replicas unless a table says otherwise; each reads %.0f prompt tokens a second in steps of %v and keeps %d\n"+
		"blocks of %d tokens; the same users and conversations for every algorithm. Hit is the share of prompt tokens found in\n"+
		"prefix caches, in time the rate of those whose first token came within %v, even Jain's index of what each replica had to read.\n",
		standard, DefaultEngine.Prefill, DefaultEngine.Step, DefaultEngine.Cache, BlockTokens, InTime)
	for _, w := range Workloads() {
		if err := table(out, fmt.Sprintf("%s, %d users", w.Name, w.Users*standard), Run{Workload: w, Replicas: standard, Length: 2 * time.Minute, Seed: seed}, Algorithms()); err != nil {
			return err
		}
	}
	mixed := Workloads()[len(Workloads())-1]
	for _, n := range []int{2, 64} {
		length := 2 * time.Minute
		if n > 8 {
			length = time.Minute
		}
		if err := table(out, fmt.Sprintf("mixed, %d replicas", n), Run{Workload: mixed, Replicas: n, Length: length, Seed: seed}, Algorithms()); err != nil {
			return err
		}
	}
	return table(out, "mixed, 2 gateways that share nothing", Run{Workload: mixed, Replicas: standard, Gateways: 2, Length: 2 * time.Minute, Seed: seed}, Algorithms())
}

// standard is the number of replicas of most tables.
const standard = 8

func table(out io.Writer, title string, r Run, of []Algorithm) error {
	fmt.Fprintf(out, "\n### Balancing: %s\n\n| algorithm | hit | prompt tokens/s | in time/s | first token p50 s | p90 s | even |\n|---|---:|---:|---:|---:|---:|---:|\n", title)
	for _, a := range of {
		r.Algorithm = a
		got := r.Do()
		_, err := fmt.Fprintf(out, "| %s | %.2f | %.0f | %.0f | %.2f | %.2f | %.2f |\n",
			a.Name, got.Hit, got.Rate, got.Good, got.TTFT50.Seconds(), got.TTFT90.Seconds(), got.Fairness)
		if err != nil {
			return err
		}
	}
	return nil
}
