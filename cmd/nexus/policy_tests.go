package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/nexus-gateway/nexus/core/policy"
)

// testRun is what policy test was asked for.
type testRun struct {
	policyArgs
	coverage bool
	least    float64
	junit    string
	verbose  bool
}

func policyTest(ctx context.Context, t terminal, args []string) error {
	const name = "policy test"
	var o testRun
	if err := o.read(t, name, args, func(f *flag.FlagSet) {
		usageText(f, `nexus policy test runs the tests of a folder of policies: the rules test_… of *_test.rego, and the cases of *_test.yaml.
DIR is the folder; without it, the folder of the configuration, or what Nexus ships.

  nexus policy test policies
  nexus policy test -coverage -min 90 -junit report.xml policies

Exit code: 0 all tests pass, 1 one failed or less is covered than -min wants, 2 a slip in the command.
`)
		o.flags(f)
		f.BoolVar(&o.coverage, "coverage", false, "say which lines of the policy the tests do not reach")
		f.Float64Var(&o.least, "min", 0, "least `percent` of the lines that must be reached")
		f.StringVar(&o.junit, "junit", "", "write a JUnit report to this `file`")
		f.BoolVar(&o.verbose, "v", false, "list the tests that passed too")
	}); err != nil {
		return err
	}
	if o.least < 0 || o.least > 100 {
		return usage(t, name, "-min is a share of 0 to 100 percent")
	}
	return named(name, o.try(ctx, t))
}

func (o *testRun) try(ctx context.Context, t terminal) error {
	run := policy.Test
	if o.coverage || o.least > 0 {
		run = policy.Cover
	}
	report, err := run(ctx, o.src)
	if err != nil {
		return err
	}
	if o.junit != "" {
		if err := toFile(o.junit, 0o666, report.JUnit); err != nil {
			return err
		}
	}
	if err := o.show(t.out, report); err != nil {
		return err
	}
	switch {
	case !report.OK():
		return errors.New("a test failed")
	case report.Coverage != nil && report.Coverage.Percent < o.least:
		return fmt.Errorf("the tests reach %.1f %% of the lines; -min asks for %g", report.Coverage.Percent, o.least)
	}
	return nil
}

func (o *testRun) show(w io.Writer, r policy.Report) error {
	if o.machine {
		return writeJSON(w, r)
	}
	for _, one := range r.Results {
		if o.verbose && one.Passed {
			fmt.Fprintf(w, "%s:%d: %s passed\n", one.File, one.Line, one.Name)
		}
	}
	_, err := fmt.Fprint(w, r)
	if err == nil && r.Coverage != nil {
		_, err = fmt.Fprint(w, r.Coverage)
	}
	return err
}

// toFile writes what write writes to a file, which is emptied first, or made with this mode.
func toFile(name string, mode os.FileMode, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
