package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/policy"
)

// asked is what a policy is asked about: a request as the gateway gets it, or an input.
type asked struct {
	request, input, facts string
	route                 string
	who, labels, headers  pairs
	pii                   string
}

func (q *asked) flags(f *flag.FlagSet) {
	f.StringVar(&q.request, "request", "", "`file` with a request's body; - reads standard input")
	f.StringVar(&q.input, "input", "", "`file` with the input as JSON or YAML; what it leaves out is neutral; - reads JSON from standard input")
	f.StringVar(&q.facts, "facts", "", "`file` with further facts in YAML or JSON, put over the request's: backends, quota, labels, …")
	f.StringVar(&q.route, "route", "chat", "`endpoint` of the request: chat, completions, responses, …")
	f.Func("who", "who calls, as `tenant=T,team=E,tier=R,id=K,role=X`, any of them; role may be given again", q.who.list)
	f.Func("labels", "labels that plugins set, as `a=1,b=2`", q.labels.list)
	f.Func("header", "a header of the request, as `\"Name: value\"`; may be given again", q.headers.header)
	f.StringVar(&q.pii, "pii", "", "`kinds` of personal data that plugins found, parted by commas")
}

// wrong is what is wrong with the flags, "" if nothing is.
func (q *asked) wrong() string {
	switch {
	case (q.request == "") == (q.input == ""):
		return "say what to decide: -request FILE or -input FILE"
	case !slices.Contains(llm.WithBody, llm.Endpoint(q.route)):
		return fmt.Sprintf("-route: there is no endpoint %q; there are %v", q.route, llm.WithBody)
	case q.input != "" && (len(q.who)+len(q.labels)+len(q.headers) > 0 || q.pii != ""):
		return "-who, -labels, -header and -pii go with -request; an input says these things itself"
	}
	for _, w := range q.who {
		if !slices.Contains([]string{"tenant", "team", "tier", "id", "role"}, w[0]) {
			return fmt.Sprintf("-who: a caller has no %q; there are tenant, team, tier, id and role", w[0])
		}
	}
	return ""
}

// of is the input, made by the code that the gateway makes it by.
func (q *asked) of(trial *policy.Trial) (in policy.Input, err error) {
	if q.input != "" {
		facts, err := readFacts(q.input)
		if err != nil {
			return in, err
		}
		if in, err = policy.NewInput(facts); err != nil {
			return in, fmt.Errorf("%s: %w", q.input, err)
		}
	} else {
		c, err := q.call()
		if err != nil {
			return in, fmt.Errorf("%s: %w", q.request, err)
		}
		in = trial.Input(c)
	}
	if q.facts == "" {
		return in, nil
	}
	facts, err := readFacts(q.facts)
	if err != nil {
		return in, err
	}
	if in, err = in.With(facts); err != nil {
		return in, fmt.Errorf("%s: %w", q.facts, err)
	}
	return in, nil
}

func (q *asked) call() (*pipeline.Call, error) {
	body, err := content(q.request)
	if err != nil {
		return nil, err
	}
	return q.callOf(body)
}

func (q *asked) callOf(body string) (*pipeline.Call, error) {
	c, err := policy.NewCall(llm.Endpoint(q.route), []byte(body))
	if err != nil {
		return nil, err
	}
	p := c.Principal
	for _, w := range q.who {
		if w[0] == "role" {
			p.Roles = append(p.Roles, w[1])
			continue
		}
		*map[string]*string{"id": &p.ID, "tenant": &p.Tenant, "team": &p.Team, "tier": &p.Tier}[w[0]] = w[1]
	}
	c.Labels = map[string]string{}
	for _, l := range q.labels {
		c.Labels[l[0]] = l[1]
	}
	for _, h := range q.headers {
		c.Header.Add(h[0], h[1])
	}
	if q.pii != "" {
		kinds := strings.Split(q.pii, ",")
		slices.Sort(kinds)
		c.PII = pipeline.Findings{Count: len(kinds), Kinds: slices.Compact(kinds)}
	}
	return c, nil
}

// readFacts reads an object in YAML, or in JSON where the name does not say that it is YAML.
func readFacts(path string) (facts map[string]any, err error) {
	text, err := content(path)
	if err != nil {
		return nil, err
	}
	if ext := filepath.Ext(path); ext == ".yaml" || ext == ".yml" {
		_, err := config.Decode(path, []byte(text), &facts)
		return facts, err
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&facts); err != nil {
		at := min(int(d.InputOffset()), len(text))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			at = len(text)
		}
		return nil, fmt.Errorf("%s:%d: %s", path, 1+bytes.Count([]byte(text[:at]), []byte("\n")), strings.TrimPrefix(err.Error(), "json: "))
	}
	return facts, nil
}

func policyEval(ctx context.Context, t terminal, args []string) error {
	const name = "policy eval"
	var a policyArgs
	var q asked
	if err := a.read(t, name, args, func(f *flag.FlagSet) {
		usageText(f, `nexus policy eval decides one request or one input, and prints the decision. DIR is the folder of policies.

  nexus policy eval -request request.json -who tenant=acme,tier=free policies
  nexus policy eval -input input.json -json policies
  nexus policy eval -c nexus.yaml -request request.json -pii KR_RRN -facts fleet.yaml

Exit code: 0 there is a decision, whichever; 1 there is none, or it did not work; 2 a slip in the command.
`)
		a.flags(f)
		q.flags(f)
	}); err != nil {
		return err
	}
	if wrong := q.wrong(); wrong != "" {
		return usage(t, name, wrong)
	}
	return named(name, a.eval(ctx, t, &q))
}

func (a *policyArgs) eval(ctx context.Context, t terminal, q *asked) error {
	trial, err := a.trial(ctx)
	if err != nil {
		return err
	}
	in, err := q.of(trial)
	if err != nil {
		return err
	}
	r, err := trial.Decide(ctx, in)
	if err != nil {
		return err
	}
	if a.machine {
		err = writeJSON(t.out, r)
	} else {
		err = r.Print(t.out)
	}
	if err == nil && r.Outcome != "decision" {
		err = fmt.Errorf("no decision: %s", r.Outcome)
	}
	return err
}
