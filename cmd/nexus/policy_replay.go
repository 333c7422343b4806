package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/nexus-gateway/nexus/core/policy"
)

// past is where decisions that were made are read from.
type past struct{ from, access string }

func (p *past) flags(f *flag.FlagSet, from string) {
	f.StringVar(&p.from, from, "", "`file` of the decision log, or of nexus policy record; - reads standard input")
	f.StringVar(&p.access, "access", "", "`file` of the access log, which knows the backend and the tokens of each call")
}

// each gives every decision to f, with what its call came to where the access log tells.
func (p *past) each(f func(*policy.Recorded) error) (policy.Tally, error) {
	uses, err := p.uses(func(string) bool { return true })
	if err != nil {
		return policy.Tally{}, err
	}
	in, err := openInput(p.from)
	if err != nil {
		return policy.Tally{}, err
	}
	defer in.Close()
	return policy.ReadRecords(p.from, in, func(r *policy.Recorded) error {
		if use := uses[r.DecisionID]; use != nil {
			r.Used = use
		}
		return f(r)
	})
}

func (p *past) uses(want func(string) bool) (map[string]*policy.Use, error) {
	if p.access == "" {
		return nil, nil
	}
	f, err := os.Open(p.access)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return policy.ReadUses(p.access, f, want)
}

func openInput(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(name)
}

// sameFile reports whether two names lead to one file, whatever links are between.
func sameFile(in, out string) bool {
	a, err := os.Stat(in)
	if in == "-" {
		a, err = os.Stdin.Stat()
	}
	b, second := os.Stat(out)
	return err == nil && second == nil && os.SameFile(a, b)
}

// replayRun is what policy replay was asked for.
type replayRun struct {
	policyArgs
	past
	engine string
	junit  string
	most   int
	shown  int
}

func policyReplay(ctx context.Context, t terminal, args []string) error {
	const name = "policy replay"
	var o replayRun
	if err := o.read(t, name, args, func(f *flag.FlagSet) {
		usageText(f, `nexus policy replay decides recorded inputs again, by the policies of the folder -against, and prints which decisions
flip: by rule, pool and tenant, with the difference in tokens and cost. A decision flips when something else becomes of the call;
another rule that decides the same is counted apart.

  nexus policy replay -against policies -from decisions.ndjson
  nexus policy replay -against policies -from decisions.ndjson -access access.ndjson -c nexus.yaml   # with costs
  nexus policy replay -against policies -from recorded.ndjson -max-flips 10 -junit report.xml        # for continuous integration
  nexus policy replay -against policies -from recorded.ndjson -engine wasm                           # as that engine decides

Exit code: 0 no more decisions flip than -max-flips allows; 1 more do, or nothing could be decided; 2 a slip in the command.
`)
		o.policyArgs.flags(f)
		o.past.flags(f, "from")
		f.StringVar(&o.dir, "against", "", "`folder` of the policies to decide by")
		f.StringVar(&o.engine, "engine", "", "`engine` to decide by: auto, topdown or wasm; without it, the configuration's")
		f.StringVar(&o.junit, "junit", "", "write a JUnit report to this `file`")
		f.IntVar(&o.most, "max-flips", 0, "flips that are no failure; -1: any `number`")
		f.IntVar(&o.shown, "examples", 3, "examples shown of each pair of rules")
	}); err != nil {
		return err
	}
	switch {
	case o.dir == "":
		return usage(t, name, "name the folder to decide by: -against DIR")
	case o.from == "":
		return usage(t, name, "say what to replay: -from FILE, of the decision log or of nexus policy record")
	case !slices.Contains([]string{"", "auto", "topdown", "wasm"}, o.engine):
		return usage(t, name, fmt.Sprintf("-engine: there is no engine %q; there are auto, topdown and wasm", o.engine))
	}
	return named(name, o.replay(ctx, t))
}

func (o *replayRun) replay(ctx context.Context, t terminal) error {
	o.cfg.Engine = cmp.Or(o.engine, o.cfg.Engine)
	trial, err := policy.OpenTrialBy(ctx, o.src, o.cfg)
	if err != nil {
		return err
	}
	p := &policy.Replay{Trial: trial, Prices: o.prices(), Shown: o.shown}
	tally, err := o.each(func(r *policy.Recorded) error { return p.Decide(ctx, r) })
	if err != nil {
		return err
	}
	report := p.Report(tally)
	if o.machine {
		err = writeJSON(t.out, report)
	} else {
		o.tellEngine(t.out, report)
		err = report.Print(t.out)
	}
	if err == nil && o.junit != "" {
		err = toFile(o.junit, 0o666, func(w io.Writer) error { return report.JUnit(w, o.allowed()) })
	}
	switch {
	case err != nil:
		return err
	case report.Decided == 0:
		return fmt.Errorf("nothing could be decided of %d decisions in %s", report.Records, o.from)
	case report.Flips > o.allowed():
		return fmt.Errorf("%d of %d decisions flip; -max-flips allows %d", report.Flips, report.Decided, o.most)
	}
	return nil
}

// tellEngine says which engine decided, where that was asked for.
func (o *replayRun) tellEngine(w io.Writer, r *policy.ReplayReport) {
	switch {
	case o.engine == "":
	case r.NoWasm != "":
		fmt.Fprintf(w, "engine: %s; not wasm: %s\n", r.Engine, r.NoWasm)
	default:
		fmt.Fprintf(w, "engine: %s\n", r.Engine)
	}
}

func (o *replayRun) allowed() int {
	if o.most < 0 {
		return int(^uint(0) >> 1)
	}
	return o.most
}

// prices are those of the pools: the mean of their backends that have one. nil without a configuration.
func (a *policyArgs) prices() map[string]policy.Price {
	if a.file == nil {
		return nil
	}
	prices := map[string]policy.Price{}
	for name, pool := range a.file.Upstream.Pools {
		var sum policy.Price
		n := 0.0
		for _, id := range pool.Backends {
			if p := a.file.Upstream.Backends[id].Price; p.Input > 0 || p.Output > 0 {
				sum, n = policy.Price{Input: sum.Input + p.Input, Output: sum.Output + p.Output}, n+1
			}
		}
		if n > 0 {
			prices[name] = policy.Price{Input: sum.Input / n, Output: sum.Output / n}
		}
	}
	return prices
}

// recordRun is what policy record was asked for.
type recordRun struct {
	policyArgs
	past
	out         string
	text        bool
	every, most int
}

func policyRecord(ctx context.Context, t terminal, args []string) error {
	const name = "policy record"
	var o recordRun
	if err := o.read(t, name, args, func(f *flag.FlagSet) {
		usageText(f, `nexus policy record makes a file for nexus policy replay out of the gateway's decision log: of each input it keeps only what the
policies of DIR read, and nothing that users wrote unless -text is given. With the access log it also keeps where each call went and
what it used.

  nexus policy record -log decisions.ndjson -access access.ndjson -o recorded.ndjson policies
  nexus policy record -log decisions.ndjson -every 100 -most 5000 -o recorded.ndjson policies

Exit code: 0 recorded, 1 it did not work, 2 a slip in the command.
`)
		o.policyArgs.flags(f)
		o.past.flags(f, "log")
		f.StringVar(&o.out, "o", "", "`file` to write; without it, standard output")
		f.BoolVar(&o.text, "text", false, "keep input.prompt.last_user, where the log has it")
		f.IntVar(&o.every, "every", 1, "keep one of so `many` decisions")
		f.IntVar(&o.most, "most", 100_000, "largest `number` of decisions kept")
	}); err != nil {
		return err
	}
	if o.from == "" {
		return usage(t, name, "say what to record: -log FILE, of the decision log")
	}
	if o.every < 1 || o.most < 1 {
		return usage(t, name, "-every and -most are 1 or more")
	}
	for _, log := range []string{o.from, o.access} {
		if sameFile(log, o.out) {
			return usage(t, name, fmt.Sprintf("-o %s is the file that is read: it would be emptied first", o.out))
		}
	}
	return named(name, o.record(ctx, t))
}

func (o *recordRun) record(ctx context.Context, t terminal) error {
	trial, err := o.trial(ctx)
	if err != nil {
		return err
	}
	k := &policy.Keeper{Trial: trial, Text: o.text, Every: o.every, Most: o.most, Out: t.out}
	var tally policy.Tally
	run := func(w io.Writer) (err error) {
		k.Out = w
		tally, err = o.each(k.Keep)
		return err
	}
	if o.out == "" {
		err = run(t.out)
	} else {
		err = toFile(o.out, 0o600, run)
	}
	if err != nil {
		return err
	}
	said := fmt.Sprintf("kept %d of %d decisions", k.Kept, tally.Records)
	for _, one := range []struct {
		n    int
		what string
	}{
		{k.NoInput, "without their input"}, {k.Passed, "passed over by -every"}, {k.Dropped, "dropped, over -most"},
		{tally.Others, "other lines left out"}, {tally.Torn, "lines left out that are cut off"},
	} {
		if one.n > 0 {
			said += fmt.Sprintf("; %d %s", one.n, one.what)
		}
	}
	_, err = fmt.Fprintln(t.err, said)
	return err
}
