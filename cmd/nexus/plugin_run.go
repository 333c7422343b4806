package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/plugin"
)

// trialRun is what plugin run was asked for.
type trialRun struct {
	text, request, reply, settings string
	route                          string
	labels, who, headers           pairs
	hosts                          string
	machine                        bool
}

// pairs are names and values as a flag takes them, in the order in which they were given.
type pairs [][2]string

// take reads one pair with sep between its name and value.
func (p *pairs) take(text, sep string) error {
	name, value, ok := strings.Cut(text, sep)
	if name = strings.TrimSpace(name); !ok || name == "" {
		return fmt.Errorf("write NAME%sVALUE", sep)
	}
	*p = append(*p, [2]string{name, strings.TrimSpace(value)})
	return nil
}

// list takes a list of pairs, parted by commas.
func (p *pairs) list(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		if err := p.take(one, "="); err != nil {
			return err
		}
	}
	return nil
}

// header takes one header.
func (p *pairs) header(text string) error { return p.take(text, ":") }

func (o *trialRun) flags(f *flag.FlagSet) {
	f.StringVar(&o.text, "text", "", "a `text` of the last user message; - reads standard input")
	f.StringVar(&o.request, "request", "", "`file` with a request's body; - reads standard input")
	f.StringVar(&o.reply, "reply", "", "`file` with the backend's answer to it, a whole body or an event stream")
	f.StringVar(&o.route, "route", "chat", "`endpoint` of the request: chat, completions, responses, …")
	f.StringVar(&o.settings, "config", "", "YAML `file` with the plugin's configuration")
	f.StringVar(&o.hosts, "hosts", "", "`servers` that http_call may ask, as name:port, parted by commas")
	f.Func("who", "who calls, as `key=K,tenant=T,team=E,tier=R`, any of them", o.who.list)
	f.Func("labels", "labels that earlier plugins set, as `a=1,b=2`", o.labels.list)
	f.Func("header", "a header of the request, as `\"Name: value\"`; may be given again", o.headers.header)
	asJSON(f, &o.machine)
}

// pluginRun asks a plugin about one text, one request, or one request and its reply, and prints what it changes.
func pluginRun(ctx context.Context, t terminal, args []string) error {
	var o trialRun
	m, err := pluginArg(t, "plugin run", args, o.flags)
	if err != nil {
		return err
	}
	if wrong := o.wrong(); wrong != "" {
		return usage(t, "plugin run", wrong)
	}
	if err := o.try(ctx, t, m); err != nil {
		return fmt.Errorf("nexus plugin run: %w", err)
	}
	return nil
}

// wrong is what is wrong with the flags, "" if nothing is.
func (o *trialRun) wrong() string {
	endpoint := llm.Endpoint(o.route)
	switch {
	case o.text == "" && o.request == "":
		return "say what to run it on: -text TEXT or -request FILE"
	case o.text != "" && o.request != "":
		return "-text and -request are two requests; give one"
	case !slices.Contains(llm.WithBody, endpoint):
		return fmt.Sprintf("-route: there is no endpoint %q; there are %v", o.route, llm.WithBody)
	case o.text != "" && bodyOf[endpoint] == "":
		return fmt.Sprintf("a text alone is no request to %s; give -request FILE", o.route)
	}
	for _, w := range o.who {
		if !slices.Contains([]string{"key", "tenant", "team", "tier"}, w[0]) {
			return fmt.Sprintf("-who: a caller has no %q; there are key, tenant, team and tier", w[0])
		}
	}
	return ""
}

func (o *trialRun) try(ctx context.Context, t terminal, m *module) error {
	c, err := o.call()
	if err != nil {
		return err
	}
	answer, err := content(o.reply)
	if err != nil {
		return err
	}
	s, err := readSettings(o.settings)
	if err != nil {
		return err
	}
	hosts := strings.FieldsFunc(o.hosts, func(r rune) bool { return r == ',' })
	trial, err := m.open(ctx, plugin.TrialOptions{Log: logTo(t), Hosts: hosts}, s)
	if err != nil {
		return err
	}
	got, err := trial.Reply(ctx, c, answer)
	r, err := resultOf(c, answer, got, err)
	if err == nil {
		err = o.show(t.out, &r)
	}
	return errors.Join(err, trial.Close())
}

// bodyOf is a request of one text, by endpoint; the text stands where the %s is.
var bodyOf = map[llm.Endpoint]string{
	llm.Chat:        `{"model":"mock","messages":[{"role":"user","content":%s}]}`,
	llm.Completions: `{"model":"mock","prompt":%s}`,
	llm.Responses:   `{"model":"mock","input":%s}`,
	llm.Embeddings:  `{"model":"mock","input":%s}`,
	llm.Tokenize:    `{"model":"mock","prompt":%s}`,
}

func (o *trialRun) call() (*pipeline.Call, error) {
	text, err := content(o.request)
	if o.text != "" {
		text, err = textOrInput(o.text)
		text = fmt.Sprintf(bodyOf[llm.Endpoint(o.route)], llm.AppendString(nil, text))
	}
	if err != nil {
		return nil, err
	}
	c, err := plugin.NewCall(llm.Endpoint(o.route), text)
	if err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	c.Principal = &pipeline.Principal{Kind: "key"}
	for _, w := range o.who {
		*map[string]*string{"key": &c.Principal.ID, "tenant": &c.Principal.Tenant, "team": &c.Principal.Team, "tier": &c.Principal.Tier}[w[0]] = w[1]
	}
	for _, l := range o.labels {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[l[0]] = l[1]
	}
	for _, h := range o.headers {
		c.Header.Add(h[0], h[1])
	}
	return c, nil
}

func textOrInput(text string) (string, error) {
	if text == "-" {
		return content(text)
	}
	return text, nil
}

// content reads a file, or standard input for "-"; nothing when none is named.
func content(path string) (string, error) {
	switch path {
	case "":
		return "", nil
	case "-":
		b, err := io.ReadAll(io.LimitReader(os.Stdin, maxContent))
		return string(b), err
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

const maxContent = 64 << 20 // bytes
