package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// A Report is what a policy's own tests gave.
type Report struct {
	Results []TestResult
	Passed  int
	Failed  int // failed or ended in an error
	Skipped int
}

// A TestResult is one test.
type TestResult struct {
	Package string
	Name    string
	File    string
	Line    int
	Passed  bool
	Skipped bool
	Reason  string // why it failed; empty otherwise
	Took    time.Duration
}

// OK reports whether no test failed.
func (r Report) OK() bool { return r.Failed == 0 }

// String lists the tests that did not pass, and the counts.
func (r Report) String() string {
	var b strings.Builder
	for _, t := range r.Results {
		if !t.Passed && !t.Skipped {
			fmt.Fprintf(&b, "%s:%d: %s failed: %s\n", t.File, t.Line, t.Name, t.Reason)
		}
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", r.Passed, r.Failed, r.Skipped)
	return b.String()
}

// Test compiles src with its tests, as strictly as Compile does, and runs every rule whose name begins
// with test_. An error means that nothing was run.
func Test(ctx context.Context, src Sources) (Report, error) {
	f, err := src.read()
	if err != nil {
		return Report{}, err
	}
	return f.test(ctx)
}

func (f *files) test(ctx context.Context) (Report, error) {
	if len(f.tests) == 0 { // nothing to run, but it must be a policy
		_, err := prepare(ctx, f, false)
		return Report{}, err
	}
	modules, err := parse(f.rego)
	if err != nil {
		return Report{}, err
	}
	if err := addLibrary(modules); err != nil {
		return Report{}, err
	}
	tests, err := parse(f.tests)
	if err != nil {
		return Report{}, err
	}
	maps.Copy(modules, tests)
	data, err := f.document()
	if err != nil {
		return Report{}, err
	}
	return runTests(ctx, modules, data)
}

func runTests(ctx context.Context, modules map[string]*ast.Module, data ast.Object) (report Report, err error) {
	store := inmem.NewFromASTObject(data)
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("policy: open the data: %w", err)
	}
	defer store.Abort(ctx, txn)
	compiler := newCompiler(false).WithEnablePrintStatements(true)
	results, err := tester.NewRunner().
		SetCompiler(compiler).
		SetStore(store).
		SetModules(modules).
		RaiseBuiltinErrors(true).
		CapturePrintOutput(true).
		SetTimeout(10*time.Second).
		RunTests(ctx, txn)
	if err != nil {
		if list, ok := err.(ast.Errors); ok {
			return Report{}, explain(list)
		}
		return Report{}, fmt.Errorf("policy: run the tests: %w", err)
	}
	for r := range results {
		report.add(r)
	}
	if errs := lintPaths(compiler); len(errs) > 0 {
		return Report{}, errs
	}
	slices.SortStableFunc(report.Results, func(a, b TestResult) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return report, nil
}

func (r *Report) add(t *tester.Result) {
	one := TestResult{
		Package: strings.TrimPrefix(t.Package, "data."), Name: t.Name,
		Passed: t.Pass(), Skipped: t.Skip, Took: t.Duration,
	}
	if t.Location != nil {
		one.File, one.Line = t.Location.File, t.Location.Row
	}
	switch {
	case one.Passed:
		r.Passed++
	case one.Skipped:
		r.Skipped++
	default:
		r.Failed++
		one.Reason = reasonOf(t)
	}
	r.Results = append(r.Results, one)
}

func reasonOf(t *tester.Result) string {
	reason := "not true"
	if t.Error != nil {
		reason = t.Error.Error()
	}
	if len(t.Output) > 0 {
		reason += "\n" + strings.TrimSpace(string(t.Output))
	}
	return reason
}

// Check compiles src and, when it has tests, runs them. It returns what is unwise but allowed; an error
// says all that is wrong.
func Check(ctx context.Context, src Sources, cfg Config) (warnings []string, err error) {
	e, err := Compile(ctx, src, cfg)
	if err != nil {
		return nil, err
	}
	report, err := Test(ctx, src)
	if err != nil {
		return e.Warnings(), err
	}
	return e.Warnings(), report.mistakes()
}

// mistakes are the tests that failed; nil when none did.
func (r Report) mistakes() error {
	var errs Errors
	for _, t := range r.Results {
		if !t.Passed && !t.Skipped {
			errs = append(errs, Mistake{t.File, t.Line, "test " + t.Name + " failed: " + t.Reason})
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}
