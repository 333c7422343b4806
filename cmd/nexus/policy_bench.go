package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/policy"
)

// gaugeRun is what policy bench was asked for.
type gaugeRun struct {
	policyArgs
	asked
	span time.Duration
}

func policyBench(ctx context.Context, t terminal, args []string) error {
	const name = "policy bench"
	o := gaugeRun{span: time.Second}
	if err := o.read(t, name, args, func(f *flag.FlagSet) {
		usageText(f, `nexus policy bench measures what a decision costs, as the gateway decides: to build of the input what the policy reads, and the
decision whole, by each engine. Without a request it decides an ordinary chat. DIR is the folder of policies.

  nexus policy bench policies
  nexus policy bench -request request.json -who tenant=acme,tier=free -time 3s policies

Exit code: 0 measured, 1 it did not work, 2 a slip in the command.
`)
		o.policyArgs.flags(f)
		o.asked.flags(f)
		f.DurationVar(&o.span, "time", o.span, "how long to measure each figure")
	}); err != nil {
		return err
	}
	if wrong := o.wrong(); wrong != "" {
		return usage(t, name, wrong)
	}
	return named(name, o.gauge(ctx, t))
}

func (o *gaugeRun) wrong() string {
	switch {
	case o.span <= 0:
		return "-time must be longer than nothing"
	case o.input != "" || o.facts != "":
		return "-input and -facts are not built by the gateway; give -request FILE, or nothing"
	case o.request == "":
		o.request = ordinaryRequest
	}
	return o.asked.wrong()
}

// ordinaryRequest stands for a chat that is built in.
const ordinaryRequest = "an ordinary chat"

func (o *gaugeRun) gauge(ctx context.Context, t terminal) error {
	c, err := o.benchCall()
	if err != nil {
		return fmt.Errorf("%s: %w", o.request, err)
	}
	all, err := policy.Gauge(ctx, o.src, o.cfg, c, o.span)
	if err != nil {
		return err
	}
	if o.machine {
		return writeJSON(t.out, all)
	}
	return policy.PrintFigures(t.out, all)
}

func (o *gaugeRun) benchCall() (*pipeline.Call, error) {
	if o.request != ordinaryRequest {
		return o.call()
	}
	text := llm.AppendString(nil, benchEnglish)
	return o.callOf(fmt.Sprintf(`{"model":"mock","stream":true,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":%s}]}`, text))
}
