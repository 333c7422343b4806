package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// A Report is what a policy's own tests gave.
type Report struct {
	Results  []TestResult `json:"results"`
	Passed   int          `json:"passed"`
	Failed   int          `json:"failed"` // failed or ended in an error
	Skipped  int          `json:"skipped"`
	Coverage *Coverage    `json:"coverage,omitempty"` // of Cover; nil otherwise
}

// A TestResult is one test.
type TestResult struct {
	Package string        `json:"package"` // of Rego; the file of a table
	Name    string        `json:"name"`
	File    string        `json:"file"`
	Line    int           `json:"line"`
	Passed  bool          `json:"passed"`
	Skipped bool          `json:"skipped"`
	Reason  string        `json:"reason,omitempty"` // why it failed; empty otherwise
	Took    time.Duration `json:"took_ns"`
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
// with test_ and every case of the tables. An error means that nothing was run.
func Test(ctx context.Context, src Sources) (Report, error) {
	f, err := src.read()
	if err != nil {
		return Report{}, err
	}
	return f.test(ctx)
}

// Cover runs the tests as Test does and tells which lines of the policy they reach.
func Cover(ctx context.Context, src Sources) (Report, error) {
	f, err := src.read()
	if err != nil {
		return Report{}, err
	}
	return f.run(ctx, cover.New())
}

func (f *files) test(ctx context.Context) (Report, error) { return f.run(ctx, nil) }

// run runs the tests; lines, if it is there, sees which lines they reach.
func (f *files) run(ctx context.Context, lines *cover.Cover) (report Report, err error) {
	if len(f.tests)+len(f.tables) == 0 { // nothing to run, but it must be a policy
		if _, err := anew(ctx, f, Config{Engine: engineTopdown}); err != nil || lines == nil {
			return Report{}, err
		}
	}
	tables, err := f.openTables(ctx)
	if err != nil {
		return Report{}, err
	}
	policy, err := parse(f.rego)
	if err != nil {
		return Report{}, err
	}
	if err := f.runRego(ctx, policy, lines, &report); err != nil {
		return Report{}, err
	}
	for _, t := range tables {
		if err := t.run(ctx, &report, lines); err != nil {
			return Report{}, err
		}
	}
	if lines != nil {
		report.Coverage = coverageOf(lines.Report(policy))
	}
	return report, nil
}

// runRego runs the tests that are written in Rego.
func (f *files) runRego(ctx context.Context, policy map[string]*ast.Module, lines *cover.Cover, report *Report) error {
	if len(f.tests) == 0 {
		return nil
	}
	modules := maps.Clone(policy)
	if err := addLibrary(modules); err != nil {
		return err
	}
	tests, err := parse(f.tests)
	if err != nil {
		return err
	}
	maps.Copy(modules, tests)
	if errs := lintGrowth(modules); len(errs) > 0 {
		return errs
	}
	data, err := f.document()
	if err != nil {
		return err
	}
	return runTests(ctx, modules, data, lines, report)
}

func runTests(ctx context.Context, modules map[string]*ast.Module, data ast.Object, lines *cover.Cover, report *Report) error {
	store := inmem.NewFromASTObject(data)
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return fmt.Errorf("policy: open the data: %w", err)
	}
	defer store.Abort(ctx, txn)
	compiling.Lock() // each test is compiled when it runs
	defer compiling.Unlock()
	compiler := newCompiler(false).WithEnablePrintStatements(true)
	runner := tester.NewRunner().
		SetCompiler(compiler).
		SetStore(store).
		SetModules(modules).
		RaiseBuiltinErrors(true).
		CapturePrintOutput(true).
		SetTimeout(10 * time.Second)
	if lines != nil {
		runner = runner.SetCoverageQueryTracer(lines).SetCoverageRuns(nil)
	}
	results, err := runner.RunTests(ctx, txn)
	if err != nil {
		if list, ok := err.(ast.Errors); ok {
			return explain(list)
		}
		return fmt.Errorf("policy: run the tests: %w", err)
	}
	for r := range results {
		report.add(r)
	}
	if errs := lintPaths(compiler); len(errs) > 0 {
		return errs
	}
	slices.SortStableFunc(report.Results, func(a, b TestResult) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return nil
}

func (r *Report) add(t *tester.Result) {
	one := TestResult{Package: strings.TrimPrefix(t.Package, "data."), Name: t.Name, Skipped: t.Skip, Took: t.Duration}
	if t.Location != nil {
		one.File, one.Line = t.Location.File, t.Location.Row
	}
	if !t.Pass() && !t.Skip {
		one.Reason = reasonOf(t)
	}
	r.count(one)
}

// count adds one test, which has passed when there is no reason why not.
func (r *Report) count(one TestResult) {
	switch {
	case one.Skipped:
		r.Skipped++
	case one.Reason == "":
		one.Passed = true
		r.Passed++
	default:
		r.Failed++
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
