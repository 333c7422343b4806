package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// options of compare; quick replaces the profile.
type options struct {
	nexus, nginx, write string
	commit, command     string
	quick               bool
	profile             profile
}

// A profile says how much load for how long.
type profile struct {
	rounds  int
	conns   int           // of the closed loop
	rate    int           // calls a second of the open loop
	whole   time.Duration // of a closed or open loop
	streams []int         // streams at once, one scenario each
	events  int           // of each stream
	pace    time.Duration
}

var (
	// With six subjects: 18 × (3 + 4 + 5 + 5 s), about five minutes.
	fullProfile  = profile{rounds: 3, conns: 16, rate: 200, whole: 3 * time.Second, streams: []int{500, 2000}, events: 30, pace: 100 * time.Millisecond}
	quickProfile = profile{rounds: 1, conns: 8, rate: 200, whole: 500 * time.Millisecond, streams: []int{100}, events: 5, pace: 100 * time.Millisecond}
)

// A scenario is one kind of load.
type scenario struct {
	name  string
	title string
	run   func(ctx context.Context, t target) *result
	cols  []column
}

func (p profile) scenarios() []scenario {
	body := prompt("", "")
	all := []scenario{
		{"whole", fmt.Sprintf("Whole calls of 1 KB, closed loop on %d connections for %v", p.conns, p.whole),
			func(ctx context.Context, t target) *result { return closed(ctx, t, body, p.conns, p.whole) }, wholeColumns},
		{"rate", fmt.Sprintf("Whole calls of 1 KB at %d a second for %v, latency from the time each was due", p.rate, p.whole),
			func(ctx context.Context, t target) *result { return open(ctx, t, body, p.rate, p.whole) }, rateColumns},
	}
	for _, n := range p.streams {
		f := flow{n, p.events, p.pace}
		all = append(all, scenario{fmt.Sprintf("streams-%d", n), fmt.Sprintf("%d streams of %d events, one each %v after %v of prefill", n, p.events, p.pace, prefill),
			func(ctx context.Context, t target) *result { return streams(ctx, t, f) }, streamColumns})
	}
	return all
}

// A sample is what one round of one scenario showed of one subject.
type sample struct {
	*result
	cpu       time.Duration
	rss, peak int64 // bytes
	proxied   bool
}

// A table holds the samples of one scenario: for each subject one for each round.
type table struct {
	scenario scenario
	samples  map[string][]sample
}

func compare(ctx context.Context, out io.Writer, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	p, err := o.build(ctx)
	if p != nil {
		defer p.close()
	}
	if err != nil {
		return err
	}
	tables, err := o.measure(ctx, p, os.Stderr)
	if err != nil {
		return err
	}
	text := o.report(p, tables)
	if o.write != "" {
		if err := os.WriteFile(o.write, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return failures(tables)
}

func parse(args []string) (*options, error) {
	o := &options{profile: fullProfile, command: "nexus-bench compare " + strings.Join(args, " ")}
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.StringVar(&o.nexus, "nexus", "bin/nexus", "the gateway's program; left out when absent")
	fs.StringVar(&o.nginx, "nginx", "nginx", "nginx's program; left out when absent")
	fs.StringVar(&o.write, "write", "", "write the report to this file too")
	fs.StringVar(&o.commit, "commit", "", "commit to name in the report; asked of git unless given")
	fs.BoolVar(&o.quick, "quick", false, "one short round, to see that all runs")
	rounds := fs.Int("rounds", 0, "rounds, in place of the profile's")
	lasting := fs.Duration("for", 0, "length of each closed and open loop, in place of the profile's")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if o.quick {
		o.profile = quickProfile
	}
	if *rounds > 0 {
		o.profile.rounds = min(*rounds, 50)
	}
	if *lasting > 0 {
		o.profile.whole = min(*lasting, time.Minute)
	}
	return o, nil
}

// measure runs each scenario's rounds, the subjects in turn within each, so that what the machine does
// besides falls on all alike.
func (o *options) measure(ctx context.Context, p *plant, progress io.Writer) ([]table, error) {
	var tables []table
	for _, sc := range o.profile.scenarios() {
		t := table{sc, map[string][]sample{}}
		for round := range o.profile.rounds {
			for _, s := range p.subjects {
				got, err := s.measure(ctx, sc)
				if err != nil {
					return nil, err
				}
				t.samples[s.name] = append(t.samples[s.name], got)
				fmt.Fprintf(progress, "%s round %d of %d: %-12s %d calls, %d errors\n", sc.name, round+1, o.profile.rounds, s.name, got.calls, got.errors)
			}
		}
		tables = append(tables, t)
	}
	return tables, nil
}

func (s *subject) measure(ctx context.Context, sc scenario) (sample, error) {
	if err := s.ask(); err != nil {
		return sample{}, fmt.Errorf("%s does not answer: %w", s.name, err)
	}
	if s.child == nil {
		return sample{result: sc.run(ctx, s.target)}, ctx.Err()
	}
	s.child.forget()
	before := s.child.cpu()
	got := sample{result: sc.run(ctx, s.target), proxied: true}
	got.cpu = s.child.cpu().since(before)
	got.rss, got.peak = s.child.memory("VmRSS"), s.child.memory("VmHWM")
	return got, ctx.Err()
}

// failures is an error when a call failed: a figure beside failed calls means nothing.
func failures(tables []table) error {
	for _, t := range tables {
		for name, samples := range t.samples {
			for _, s := range samples {
				if s.errors > 0 {
					return fmt.Errorf("%s, %s: %d calls failed, the first with: %w", t.scenario.name, name, s.errors, s.first)
				}
			}
		}
	}
	return nil
}
