package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/nexus-gateway/nexus/core/policy"
)

// explainRun is what policy explain was asked for.
type explainRun struct {
	policyArgs
	asked
	past
	id string
}

func policyExplain(ctx context.Context, t terminal, args []string) error {
	const name = "policy explain"
	var o explainRun
	if err := o.read(t, name, args, func(f *flag.FlagSet) {
		usageText(f, `nexus policy explain says of every rule that might have claimed a call whether it did, or which expression failed first, with
file, line and the actual values; then the way from the rule to the backend that answered. It explains a request, an input, or a
decision by its id in the decision log. DIR is the folder of policies.

  nexus policy explain -request request.json -who tenant=acme,tier=free policies
  nexus policy explain -input input.json policies
  nexus policy explain -id req-7f3a -log decisions.ndjson -access access.ndjson policies

Exit code: 0 explained, 1 it did not work, 2 a slip in the command.
`)
		o.policyArgs.flags(f)
		o.asked.flags(f)
		o.past.flags(f, "log")
		f.StringVar(&o.id, "id", "", "decision `id`, as the caller and the access log are told it")
	}); err != nil {
		return err
	}
	if wrong := o.wrong(); wrong != "" {
		return usage(t, name, wrong)
	}
	return named(name, o.explain(ctx, t))
}

func (o *explainRun) wrong() string {
	switch {
	case o.id != "" && o.from == "":
		return "say where the decision is: -log FILE"
	case o.id != "" && (o.request != "" || o.input != ""):
		return "-id is a decision; -request and -input are others"
	case o.id != "":
		return ""
	}
	return o.asked.wrong()
}

func (o *explainRun) explain(ctx context.Context, t terminal) error {
	trial, err := o.trial(ctx)
	if err != nil {
		return err
	}
	var e *policy.Explanation
	if o.id != "" {
		e, err = o.decision(ctx, trial)
	} else {
		e, err = o.question(ctx, trial)
	}
	if err != nil {
		return err
	}
	if o.machine {
		return writeJSON(t.out, e)
	}
	return e.Print(t.out)
}

func (o *explainRun) question(ctx context.Context, trial *policy.Trial) (*policy.Explanation, error) {
	in, err := o.asked.of(trial)
	if err != nil {
		return nil, err
	}
	return trial.Explain(ctx, in)
}

// decision explains one of the log.
func (o *explainRun) decision(ctx context.Context, trial *policy.Trial) (*policy.Explanation, error) {
	in, err := openInput(o.from)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r, err := policy.Find(o.from, in, o.id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fmt.Errorf("%s has no decision %s", o.from, o.id)
	}
	uses, err := o.uses(func(id string) bool { return id == o.id })
	if err != nil {
		return nil, err
	}
	if use := uses[o.id]; use != nil {
		r.Used = use
	}
	e, err := trial.ExplainRecorded(ctx, r)
	if errors.Is(err, policy.ErrNoInput) {
		return nil, fmt.Errorf("%w: set policy.decision_log.input in the configuration", err)
	}
	return e, err
}
