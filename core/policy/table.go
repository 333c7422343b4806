package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/cover"

	"github.com/nexus-gateway/nexus/core/setting"
)

// A Table is a file of tests for people who write no Rego: facts in, what must come of them out.
type Table struct {
	Data  map[string]any `yaml:"data" doc:"Put in place of the members of data.json that it names."`
	Given map[string]any `yaml:"given" doc:"Facts of every case."`
	Cases []Case         `yaml:"cases" doc:"The tests."`
}

// A Case is one test of a Table.
type Case struct {
	Name   string         `yaml:"name" doc:"What is tested."`
	Given  map[string]any `yaml:"given" doc:"Facts, as input.schema.json names them; what is left out is neutral."`
	Expect map[string]any `yaml:"expect" doc:"Members of the decision, as decision.schema.json names them, and outcome."`
}

// A Decode reads YAML strictly into a struct. The error says file and line of every mistake; line tells at which line a
// path such as "cases[2].given" stands, 0 where none is known.
type Decode func(name string, data []byte, into any) (line func(path string) int, err error)

// outcomes are what expect.outcome may be.
var allOutcomes = []string{string(decided), string(undefined), string(conflict), string(timeout), string(failed), string(misshapen)}

// Validate reports what is wrong with t.
func (t *Table) Validate(p setting.Problems) {
	inputRoot().fit(p.In("given"), any(orEmpty(t.Given)))
	if len(t.Cases) == 0 {
		p.Addf("cases", "a table without cases tests nothing")
	}
	first := map[string]int{}
	for i, c := range t.Cases {
		at := fmt.Sprintf("cases[%d].name", i)
		if c.Name == "" {
			p.Addf(at, "say in a few words what is tested")
		} else if before, ok := first[c.Name]; ok {
			p.Addf(at, "is the name of case %d too", before+1)
		}
		first[c.Name] = i
	}
}

// Validate reports what is wrong with c.
func (c *Case) Validate(p setting.Problems) {
	inputRoot().fit(p.In("given"), any(orEmpty(c.Given)))
	if len(c.Expect) == 0 {
		p.Addf("expect", "say what must come of it, such as rule: routes.local")
	}
	expect := maps.Clone(c.Expect)
	if o, ok := expect["outcome"]; ok {
		if text, _ := o.(string); !slices.Contains(allOutcomes, text) {
			p.Addf("expect.outcome", "is %s: must be one of %s", written(o), strings.Join(allOutcomes, ", "))
		}
		delete(expect, "outcome")
	}
	decisionRoot().fit(p.In("expect"), any(orEmpty(expect)))
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// A tableFile is a table as it is run.
type tableFile struct {
	name  string
	table Table
	line  func(path string) int
	trial *Trial
}

// openTables reads every table and compiles the policy with its data; the error is every mistake of all of them.
func (f *files) openTables(ctx context.Context) (list []*tableFile, err error) {
	if len(f.tables) > 0 && f.yaml == nil {
		return nil, errors.New("policy: nothing here reads tables of tests, *_test.yaml")
	}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(f.tables)) {
		t := &tableFile{name: name}
		if t.line, err = f.yaml(name, []byte(f.tables[name]), &t.table); err == nil {
			err = t.open(ctx, f)
		}
		wrong = append(wrong, err)
		list = append(list, t)
	}
	return list, errors.Join(wrong...)
}

// open compiles the policy with the table's data.
func (t *tableFile) open(ctx context.Context, f *files) (err error) {
	if t.table.Data != nil {
		other := *f
		if other.data, err = overlaid(f.data, t.table.Data); err != nil {
			return fmt.Errorf("policy: %s: data: %w", t.name, err)
		}
		other.from, other.hash = t.name, ""
		f = &other
	}
	if t.trial, err = openTrial(ctx, f, closed); err != nil {
		return err
	}
	t.trial.engine.pools = nil // a table's data may name pools of its own
	return nil
}

// closed is a configuration under which every failure denies.
var closed = Config{OnError: "deny", OnUndefined: "deny", OnTimeout: "deny", OnConflict: "deny", OnSchema: "deny"}

func overlaid(data []byte, with map[string]any) ([]byte, error) {
	all := map[string]any{}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, with)
	return json.Marshal(all)
}

// run decides every case. lines, if it is there, sees how.
func (t *tableFile) run(ctx context.Context, report *Report, lines *cover.Cover) error {
	for i := range t.table.Cases {
		c := &t.table.Cases[i]
		start := time.Now()
		in, err := t.input(c)
		if err != nil {
			return err
		}
		got, err := t.trial.Decide(ctx, in)
		if err != nil {
			return err
		}
		if lines != nil {
			if err := t.trial.trace(ctx, in, lines); err != nil {
				return err
			}
		}
		one := TestResult{Package: t.name, Name: c.Name, File: t.name, Line: t.line(fmt.Sprintf("cases[%d]", i)), Took: time.Since(start)}
		if wrong := got.differs(c.Expect); len(wrong) > 0 {
			one.Reason = strings.Join(wrong, "; ") + t.trial.why(ctx, in, c.Expect["rule"])
		}
		report.count(one)
	}
	return nil
}

func (t *tableFile) input(c *Case) (Input, error) {
	p := setting.NewProblems() // Validate has noted them with their lines
	document := overlay(inputRoot(), complete(p, orEmpty(t.table.Given)), orEmpty(c.Given))
	return inputOf(document)
}

// differs lists what is not as expected, one sentence a member. What expect does not name may be anything.
func (r *Result) differs(expect map[string]any) (list []string) {
	outcome, named := expect["outcome"].(string)
	if !named {
		outcome = string(decided)
		if _, ok := expect["conflict"]; ok {
			outcome = string(conflict)
		}
	}
	if outcome != r.Outcome {
		text := fmt.Sprintf("outcome is %s, not %s", r.Outcome, outcome)
		if r.Error != "" {
			text += ": " + r.Error
		}
		return append(list, text)
	}
	expect = withWeights(expect)
	for _, name := range slices.Sorted(maps.Keys(expect)) {
		if name == "outcome" {
			continue
		}
		want, got := plain(name, expect[name]), plain(name, r.Decision[name])
		if !holds(got, want) {
			list = append(list, fmt.Sprintf("%s is %s, not %s", name, orAbsent(got), written(want)))
		}
	}
	return append(list, r.masksDiffer(expect["targets"])...)
}

// masksDiffer lists the targets whose own mask is not as expected, where one is named.
func (r *Result) masksDiffer(expected any) (list []string) {
	masks := targetMasks(r.Decision["targets"])
	for pool, want := range targetMasks(expected) {
		if masks[pool] != want {
			list = append(list, fmt.Sprintf("the mask of target %s is %s, not %s", pool, orAbsent(masks[pool]), written(want)))
		}
	}
	slices.Sort(list)
	return list
}

func targetMasks(targets any) map[any]any {
	masks := map[any]any{}
	list, _ := targets.([]any)
	for _, one := range list {
		if target, ok := one.(map[string]any); ok && target["mask"] != nil {
			masks[target["pool"]] = target["mask"]
		}
	}
	return masks
}

// withWeights moves the weights of targets to weights, where a decision has them.
func withWeights(expect map[string]any) map[string]any {
	targets, _ := expect["targets"].([]any)
	weights := map[string]any{}
	for _, one := range targets {
		if target, ok := one.(map[string]any); ok && target["weight"] != nil {
			weights[fmt.Sprint(target["pool"])] = target["weight"]
		}
	}
	if len(weights) == 0 {
		return expect
	}
	expect = maps.Clone(expect)
	named, _ := expect["weights"].(map[string]any)
	maps.Copy(weights, named)
	expect["weights"] = weights
	return expect
}

func orAbsent(v any) string {
	if v == nil {
		return "absent"
	}
	return written(v)
}

// holds reports whether got has all of want: objects member by member, everything else as a whole.
func holds(got, want any) bool {
	members, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(got, want)
	}
	have, ok := got.(map[string]any)
	if !ok {
		return len(members) == 0 && got == nil
	}
	for name, value := range members {
		if !holds(have[name], value) {
			return false
		}
	}
	return true
}

// plain is v so that it can be compared: numbers as one kind, sets in order, no targets as an empty list.
func plain(name string, v any) any {
	if list, ok := v.([]any); ok || name == "targets" || name == "limits" {
		out := make([]any, len(list))
		for i, one := range list {
			out[i] = plain("", one)
			if target, ok := one.(map[string]any); ok && name == "targets" {
				out[i] = target["pool"]
			}
		}
		if name == "matched" || name == "conflict" || name == "limits" {
			slices.SortFunc(out, func(a, b any) int { return strings.Compare(written(a), written(b)) })
		}
		return out
	}
	if m, ok := v.(map[string]any); ok {
		out := make(map[string]any, len(m))
		for k, one := range m {
			out[k] = plain("", one)
		}
		return out
	}
	if x, ok := numeric(v); ok {
		return x
	}
	return v
}
