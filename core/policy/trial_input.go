package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// neutral is the input of a call that nothing is known of: a chat completion by nobody, without quota, on a Monday
// noon. The code that builds the gateway's input builds it, so that it has every member.
func neutral() map[string]any {
	c := &pipeline.Call{
		Start: neutralTime, Route: llm.Chat, Method: http.MethodPost, Path: "/v1/chat/completions",
		Request: &llm.Request{N: 1, MaxTokens: -1}, Quota: pipeline.QuotaView{RequestsLeft: -1, TokensLeft: -1},
	}
	s := &Stage{engine: &Engine{}}
	v, err := ast.JSON(planOf(reads{"input": nil}).build(s.facts(c)))
	if err != nil {
		panic("policy: the neutral input: " + err.Error()) // it is made of constants
	}
	return v.(map[string]any)
}

var neutralTime = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// usual are the values of members that are not 0, false or empty where nothing is known of them.
var usual = map[string]any{"healthy": true}

// complete puts facts over the neutral input. It notes facts that the schema does not know.
func complete(p setting.Problems, facts map[string]any) map[string]any {
	inputRoot().fit(p, facts)
	return overlay(inputRoot(), neutral(), facts)
}

// overlay puts facts over base, member by member where the schema names the members; a map of any names, such as
// labels, is replaced, and what it holds is completed.
func overlay(n *node, base, facts map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for name, fact := range facts {
		below := n.member(name)
		members, ok := fact.(map[string]any)
		switch {
		case !ok || below == nil:
			out[name] = fact
		case len(below.Props) == 0:
			out[name] = overlay(below, nil, members)
		default:
			old, known := out[name].(map[string]any)
			if !known {
				old = below.blank()
			}
			out[name] = overlay(below, old, members)
		}
	}
	return out
}

// blank has every member that n requires, with a value that says nothing.
func (n *node) blank() map[string]any {
	out := map[string]any{}
	for _, name := range n.Required {
		if value, ok := usual[name]; ok {
			out[name] = value
			continue
		}
		out[name] = map[string]any{
			"integer": 0, "number": 0, "string": "", "boolean": false, "array": []any{}, "object": map[string]any{},
		}[n.member(name).Type]
	}
	return out
}

// An Input is what a policy is asked about.
type Input struct {
	object ast.Object
	route  llm.Endpoint
}

// JSON is the input as the policy sees it.
func (in Input) JSON() (json.RawMessage, error) {
	v, err := ast.JSON(in.object)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// NewInput completes facts to an input: what they leave out is neutral. The facts come from JSON or YAML; the error says
// all that the input schema does not know.
func NewInput(facts map[string]any) (Input, error) {
	p := setting.NewProblems()
	in, err := newInput(p, facts)
	if err == nil {
		err = joined(p)
	}
	return in, err
}

func newInput(p setting.Problems, facts map[string]any) (Input, error) {
	if facts == nil {
		facts = map[string]any{}
	}
	return inputOf(complete(p, facts))
}

// inputOf takes a document for an input as it is.
func inputOf(document map[string]any) (Input, error) {
	v, err := ast.InterfaceToValue(document)
	if err != nil {
		return Input{}, fmt.Errorf("policy: the input: %w", err)
	}
	object, ok := v.(ast.Object)
	if !ok {
		return Input{}, fmt.Errorf("policy: the input is %s, not an object", kindOf(v))
	}
	in := Input{object: object, route: llm.Chat}
	if request, ok := document["request"].(map[string]any); ok {
		if route, ok := request["route"].(string); ok && route != "" {
			in.route = llm.Endpoint(route)
		}
	}
	return in, nil
}

// NewCall is a call of a body, as the server makes it: by a key that has no limits.
func NewCall(route llm.Endpoint, body []byte) (*pipeline.Call, error) {
	r := &llm.Request{Endpoint: route}
	if err := llm.ParseRequest(route, body, r); err != nil {
		return nil, fmt.Errorf("policy: the request: %w", err)
	}
	return &pipeline.Call{
		ID: "trial", Route: route, Method: http.MethodPost, Path: route.Path(), Header: http.Header{}, Start: time.Now(), Request: r,
		Principal: &pipeline.Principal{Kind: "key"}, Quota: pipeline.QuotaView{RequestsLeft: -1, TokensLeft: -1},
	}, nil
}

// joined is what was noted as one error, a line for each; nil when nothing was.
func joined(p setting.Problems) error {
	var errs []error
	for _, one := range p.All() {
		errs = append(errs, fmt.Errorf("policy: the input: %s: %s", one.Path, one.Text))
	}
	return errors.Join(errs...)
}

// With is in with facts put over it.
func (in Input) With(facts map[string]any) (Input, error) {
	p := setting.NewProblems()
	inputRoot().fit(p, facts)
	if err := joined(p); err != nil {
		return in, err
	}
	v, err := ast.JSON(in.object)
	if err != nil {
		return in, err
	}
	return inputOf(overlay(inputRoot(), v.(map[string]any), facts))
}
