package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
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
	labels                         string
}

// pluginRun asks a plugin about one text, one request, or one request and its reply, and prints what it changes.
func pluginRun(ctx context.Context, t terminal, args []string) error {
	var o trialRun
	m, err := pluginArg(t, "plugin run", args, func(f *flag.FlagSet) {
		f.StringVar(&o.text, "text", "", "a text of the last user message; - reads standard input")
		f.StringVar(&o.request, "request", "", "`file` with a request's body; - reads standard input")
		f.StringVar(&o.reply, "reply", "", "`file` with the backend's answer to it, a whole body or an event stream")
		f.StringVar(&o.route, "route", "chat", "endpoint of the request: chat, completions, responses, …")
		f.StringVar(&o.settings, "config", "", "YAML `file` with the plugin's configuration")
		f.StringVar(&o.labels, "labels", "", "labels that earlier plugins set, as a=1,b=2")
	})
	if err != nil {
		return err
	}
	if (o.text == "") == (o.request == "") {
		return usage(t, "plugin run", "say what to run it on: -text TEXT or -request FILE")
	}
	trial, err := m.open(ctx, t, o.settings)
	if err != nil {
		return fmt.Errorf("nexus plugin run: %w", err)
	}
	err = o.run(ctx, t, trial)
	return errors.Join(err, trial.Close())
}

func (o *trialRun) run(ctx context.Context, t terminal, trial *plugin.Trial) error {
	c, err := o.call()
	if err != nil {
		return fmt.Errorf("nexus plugin run: %w", err)
	}
	answer, err := content(o.reply)
	if err != nil {
		return fmt.Errorf("nexus plugin run: %w", err)
	}
	got, err := trial.Reply(ctx, c, answer)
	printRequest(t.out, c)
	if o.reply != "" && err == nil {
		fmt.Fprintln(t.out, "reply:")
		diff(t.out, answer, got)
	}
	return said(t.out, err)
}

func (o *trialRun) call() (*pipeline.Call, error) {
	text, err := content(o.request)
	if err != nil {
		return nil, err
	}
	if o.text != "" {
		if text, err = textOrInput(o.text); err != nil {
			return nil, err
		}
		text = `{"model":"mock","messages":[{"role":"user","content":` + string(llm.AppendString(nil, text)) + `}]}`
	}
	c, err := plugin.NewCall(llm.Endpoint(o.route), text)
	if err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	for pair := range strings.SplitSeq(o.labels, ",") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[name] = value
		}
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

// printRequest prints what the plugin said of a request: each text it edits, then everything else.
func printRequest(w io.Writer, c *pipeline.Call) {
	for _, te := range c.Edits {
		before := string(llm.AppendText(nil, c.Request.Body, c.Request.Texts[te.Text]))
		fmt.Fprintf(w, "text %d:\n", te.Text)
		diff(w, before, edited(before, te.Edits))
	}
	if c.PII.Count > 0 {
		fmt.Fprintf(w, "found: %d (%s)\n", c.PII.Count, strings.Join(c.PII.Kinds, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		fmt.Fprintf(w, "label: %s = %s\n", name, c.Labels[name])
	}
	printHeaders(w, "reply header", c.Headers)
	printHeaders(w, "header to the backend", c.Forward)
	for _, row := range [][2]string{{"pool", c.Pool}, {"system, before", c.System.Before}, {"system, after", c.System.After}, {"system, instead", c.System.Replace}} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s: %s\n", row[0], row[1])
		}
	}
	if field, ok := c.Request.Field("model"); ok && string(field) != string(llm.AppendString(nil, c.Request.Model)) {
		fmt.Fprintf(w, "model: %s\n", c.Request.Model)
	}
}

func printHeaders(w io.Writer, what string, h map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if len(h[name]) == 0 {
			fmt.Fprintf(w, "%s: %s taken out\n", what, name)
		}
		for _, value := range h[name] {
			fmt.Fprintf(w, "%s: %s: %s\n", what, name, value)
		}
	}
}

func edited(text string, edits []llm.Edit) string {
	var b strings.Builder
	at := 0
	for _, e := range edits {
		b.WriteString(text[at:e.Start])
		b.Write(e.With)
		at = e.End
	}
	return b.String() + text[at:]
}

// diff prints the lines that differ; the texts have the same lines but where an edit put some in or took some out.
func diff(w io.Writer, before, after string) {
	if before == after {
		fmt.Fprintln(w, "  unchanged")
		return
	}
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	for _, line := range a {
		fmt.Fprintln(w, "- "+line)
	}
	for _, line := range b {
		fmt.Fprintln(w, "+ "+line)
	}
}

// said prints a plugin's no, which is an answer; a plugin that failed is an error.
func said(w io.Writer, err error) error {
	var no *pipeline.Refusal
	switch cause := plugin.FaultCause(err); {
	case err == nil:
		return nil
	case cause != "":
		return fmt.Errorf("nexus plugin run: the plugin failed (%s): %w", cause, errors.Unwrap(err))
	case errors.As(err, &no):
		fmt.Fprintf(w, "refused: %d %s: %s\n", no.HTTPStatus(), no.Code, no.Reason)
		return nil
	}
	return err
}
