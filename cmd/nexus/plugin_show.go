package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/plugin"
)

// A runResult is all that a plugin said of a call.
type runResult struct {
	Refused *refused            `json:"refused,omitempty"`
	Texts   []change            `json:"texts,omitempty"` // of the request, those that are edited
	Found   int                 `json:"found"`
	Kinds   []string            `json:"kinds,omitempty"`
	Labels  map[string]string   `json:"labels,omitempty"`
	Headers map[string][]string `json:"reply_headers,omitempty"`   // no values: taken out
	Forward map[string][]string `json:"backend_headers,omitempty"` // no values: not sent
	Model   string              `json:"model,omitempty"`
	Pool    string              `json:"pool,omitempty"`
	Before  string              `json:"system_before,omitempty"`
	After   string              `json:"system_after,omitempty"`
	Replace string              `json:"system_replace,omitempty"`
	Answer  string              `json:"answer,omitempty"` // the plugin's own; no backend is asked
	Reply   *change             `json:"reply,omitempty"`
}

type refused struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

// A change is a text before and after.
type change struct {
	Text   int    `json:"text"` // which of the request's
	Before string `json:"before"`
	After  string `json:"after"`
}

// resultOf gathers what became of a call, of the backend's answer to it, and of what the caller got. A plugin's no is a
// result; its failure is an error.
func resultOf(c *pipeline.Call, answer, got string, err error) (runResult, error) {
	r := runResult{
		Found: c.PII.Count, Kinds: c.PII.Kinds, Labels: c.Labels, Headers: c.Headers, Forward: c.Forward,
		Pool: c.Pool, Before: c.System.Before, After: c.System.After, Replace: c.System.Replace,
	}
	for _, te := range c.Edits {
		before := string(llm.AppendText(nil, c.Request.Body, c.Request.Texts[te.Text]))
		r.Texts = append(r.Texts, change{te.Text, before, edited(before, te.Edits)})
	}
	if field, ok := c.Request.Field("model"); ok && !bytes.Equal(field, llm.AppendString(nil, c.Request.Model)) {
		r.Model = c.Request.Model
	}
	switch {
	case answer != "":
		r.Reply = &change{Before: answer, After: got}
	case got != "{}": // which is what stands for an answer that nobody gave
		r.Answer = got
	}
	return r, r.refuse(err)
}

func (r *runResult) refuse(err error) error {
	var no *pipeline.Refusal
	switch cause := plugin.FaultCause(err); {
	case err == nil:
		return nil
	case cause != "":
		return fmt.Errorf("the plugin failed (%s): %w", cause, errors.Unwrap(err))
	case errors.As(err, &no):
		r.Refused = &refused{no.HTTPStatus(), no.Code, no.Reason}
		return nil
	}
	return fmt.Errorf("the reply: %w", err)
}

func (o *trialRun) show(w io.Writer, r *runResult) error {
	if o.machine {
		return writeJSON(w, r)
	}
	var b strings.Builder
	r.print(&b)
	if b.Len() == 0 {
		b.WriteString("nothing is changed\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// print writes each text that is edited, then everything else.
func (r *runResult) print(w io.Writer) {
	for _, text := range r.Texts {
		fmt.Fprintf(w, "text %d:\n", text.Text)
		diff(w, text.Before, text.After)
	}
	if r.Found > 0 {
		fmt.Fprintf(w, "found: %d (%s)\n", r.Found, strings.Join(r.Kinds, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
		fmt.Fprintf(w, "label: %s = %s\n", name, r.Labels[name])
	}
	printHeaders(w, "reply header", r.Headers)
	printHeaders(w, "header to the backend", r.Forward)
	for _, row := range [][2]string{
		{"pool", r.Pool}, {"system, before", r.Before}, {"system, after", r.After}, {"system, instead", r.Replace}, {"model", r.Model},
		{"answer, no backend is asked", r.Answer},
	} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s: %s\n", row[0], strings.TrimRight(row[1], "\n"))
		}
	}
	if r.Reply != nil && (r.Refused == nil || r.Reply.After != "") {
		fmt.Fprintln(w, "reply:")
		diff(w, r.Reply.Before, r.Reply.After)
	}
	if no := r.Refused; no != nil {
		fmt.Fprintf(w, "refused: %d %s: %s\n", no.Status, no.Code, no.Reason)
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
