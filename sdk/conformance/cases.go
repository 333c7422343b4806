package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/core/setting"
)

// A Case is what a plugin's author expects of it: one question, and what is wanted of it.
type Case struct {
	Name   string         `yaml:"name" doc:"What the case is about."`
	Config map[string]any `yaml:"config" doc:"What the plugin is configured with; without it, the first of its schema's examples, or nothing."`
	Call   Caller         `yaml:"call" doc:"Who calls."`

	Text      string    `yaml:"text" doc:"A text; it must come out the same wherever it is cut."`
	Pieces    []string  `yaml:"pieces" doc:"A text in pieces, cut as they say and nowhere else."`
	Direction string    `yaml:"direction" default:"request" enum:"request,reply" doc:"Which way the text goes."`
	Role      string    `yaml:"role" doc:"Who wrote the text; user or assistant by direction when it is not said."`
	Channel   string    `yaml:"channel" default:"content" doc:"Which stream of text it belongs to."`
	LastUser  bool      `yaml:"last_user" doc:"The text belongs to the last message of role user."`
	Request   string    `yaml:"request" doc:"A request to /v1/chat/completions, as JSON."`
	ToolCall  *ToolCall `yaml:"tool_call" doc:"A tool call in a reply."`
	Usage     *Usage    `yaml:"usage" doc:"A usage that the backend states in a stream."`

	Want     *string           `yaml:"want" doc:"The text that comes out; of a tool call, its arguments or what stands in its place; of an answered request, the answer."`
	Kinds    []string          `yaml:"kinds" doc:"What is found in the text, in order."`
	Labels   map[string]string `yaml:"labels" doc:"Labels the call has afterwards; one of an empty value must not be there."`
	Model    string            `yaml:"model" doc:"The model that the backend is asked for."`
	Pool     string            `yaml:"pool" doc:"The pool that is asked."`
	Headers  map[string]string `yaml:"headers" doc:"Headers that the reply gets; an empty value: that are taken out of it."`
	Forward  map[string]string `yaml:"forward" doc:"Headers that the backend gets; an empty value: that are not sent."`
	System   map[string]string `yaml:"system" doc:"What the model is told: before, after or replace."`
	Dropped  bool              `yaml:"dropped" doc:"The tool call is taken out."`
	Refused  string            `yaml:"refused" doc:"The code of the refusal that it ends in; empty: it is not refused."`
	Rejected string            `yaml:"rejected" doc:"Words of the sentence that the configuration is refused with; nothing is asked then."`
}

// A Caller is who calls, as the gateway knows it.
type Caller struct {
	Principal       string            `yaml:"principal" default:"key-1" doc:"The key's id."`
	Tenant          string            `yaml:"tenant" default:"acme" doc:"The tenant."`
	Team            string            `yaml:"team" doc:"The team."`
	Tier            string            `yaml:"tier" doc:"The tier."`
	PrincipalLabels map[string]string `yaml:"principal_labels" doc:"The key's own labels."`
	Labels          map[string]string `yaml:"labels" doc:"What earlier plugins said."`
	Headers         map[string]string `yaml:"headers" doc:"Headers of the request."`
}

// A ToolCall is one that a model makes.
type ToolCall struct {
	Name      string `yaml:"name" doc:"The function that is called."`
	Arguments string `yaml:"arguments" default:"{}" doc:"Its arguments, as JSON."`
	Schema    string `yaml:"schema" doc:"The JSON Schema that the request offers the function with; empty: it does not offer it."`
}

// A Usage is what a call has used, in tokens.
type Usage struct {
	Prompt     int64 `yaml:"prompt" doc:"Tokens of the prompt."`
	Completion int64 `yaml:"completion" doc:"Tokens of the completion."`
}

// A caseFile is cases.yaml.
type caseFile struct {
	Cases []Case `yaml:"cases" doc:"The cases."`
}

// Validate notes what is wrong.
func (f *caseFile) Validate(p setting.Problems) {
	seen := map[string]bool{}
	for i := range f.Cases {
		c := &f.Cases[i]
		at := p.In(fmt.Sprintf("cases[%d]", i))
		if c.Name == "" || seen[c.Name] {
			at.Addf("name", "%q: every case has a name of its own", c.Name)
		}
		seen[c.Name] = true
		c.validate(at)
	}
}

func (c *Case) validate(p setting.Problems) {
	asks := 0
	for _, yes := range []bool{c.Text != "", len(c.Pieces) > 0, c.Request != "", c.ToolCall != nil, c.Usage != nil, c.Rejected != ""} {
		if yes {
			asks++
		}
	}
	if asks != 1 {
		p.Addf("name", "the case %q must have one of text, pieces, request, tool_call, usage and rejected", c.Name)
	}
	if c.Role != "" && !slices.Contains(roles, c.Role) {
		p.Addf("role", "%q: write one of %v", c.Role, roles)
	}
	if !slices.Contains(channels, c.Channel) {
		p.Addf("channel", "%q: write one of %v", c.Channel, channels)
	}
	if c.Request != "" && !json.Valid([]byte(c.Request)) {
		p.Addf("request", "is not JSON")
	}
	if c.ToolCall != nil && !json.Valid([]byte(c.ToolCall.Arguments)) {
		p.Addf("tool_call.arguments", "is not JSON")
	}
}

// ReadCases reads a cases.yaml, strictly.
func ReadCases(name string, text []byte) ([]Case, error) {
	var f caseFile
	err := Decode(name, text, &f)
	return f.Cases, err
}

// Beside reads what lies beside a plugin's sources: cases.yaml, and testdata/texts.txt with a text on every line. What
// is not there is not asked.
func Beside(dir string) (Options, error) {
	var o Options
	text, err := os.ReadFile(filepath.Join(dir, "cases.yaml"))
	switch {
	case err == nil:
		if o.Cases, err = ReadCases("cases.yaml", text); err != nil {
			return o, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return o, err
	}
	text, err = os.ReadFile(filepath.Join(dir, "testdata", "texts.txt"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			o.Texts = append(o.Texts, line)
		}
	}
	return o, nil
}

// call is the call that the case is about.
func (c *Case) call(body string) (*pipeline.Call, error) {
	call, err := plugin.NewCall(llm.Chat, body)
	if err != nil {
		return nil, err
	}
	who := &c.Call
	call.Principal = &pipeline.Principal{ID: who.Principal, Kind: "key", Tenant: who.Tenant, Team: who.Team, Tier: who.Tier, Labels: who.PrincipalLabels}
	for name, v := range who.Labels {
		if call.Labels == nil {
			call.Labels = map[string]string{}
		}
		call.Labels[name] = v
	}
	for name, v := range who.Headers {
		call.Header.Set(name, v)
	}
	return call, nil
}

// holds puts the question and compares.
func (c *Case) holds(ctx context.Context, s *subject) (string, error) {
	settings := c.Config
	if settings == nil {
		settings = s.options.Config
	}
	t, err := s.load(ctx, settings, nil)
	if c.Rejected != "" {
		if err == nil {
			_ = t.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.Rejected) {
			return "", fmt.Errorf("the configuration is refused with %v, not with %q", err, c.Rejected)
		}
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	switch {
	case c.Request != "":
		return "", c.request(ctx, t)
	case c.ToolCall != nil || c.Usage != nil:
		return "", c.reply(ctx, t)
	}
	return "", c.text(ctx, t)
}
