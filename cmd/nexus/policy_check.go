package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/core/policy"
	"github.com/nexus-gateway/nexus/plugins"
)

func policyCheck(ctx context.Context, t terminal, args []string) error {
	const name = "policy check"
	var a policyArgs
	strict := false
	if err := a.read(t, name, args, func(f *flag.FlagSet) {
		usageText(f, `nexus policy check compiles a folder of policies strictly, runs its tests, and looks for what cannot be meant: rules that
can never win, else branches that are never reached; with a configuration also pools, models and kinds of personal data that there are
not, and labels that no plugin can set. What is merely unwise, such as data that nothing reads, is advice.

  nexus policy check policies
  nexus policy check -c nexus.yaml               # the folder that the configuration names
  nexus policy check -c nexus.yaml -strict new   # another one, for the same gateway

Exit code: 0 nothing is wrong; 1 something is, or with -strict there is advice; 2 a slip in the command.
`)
		a.flags(f)
		f.BoolVar(&strict, "strict", false, "take advice for a problem")
	}); err != nil {
		return err
	}
	return named(name, a.check(ctx, t, strict))
}

func (a *policyArgs) check(ctx context.Context, t terminal, strict bool) error {
	audit, err := policy.Look(ctx, a.src, a.cfg, a.surroundings())
	if err != nil {
		return err
	}
	if a.machine {
		err = writeJSON(t.out, audit)
	} else {
		err = showAudit(t.out, audit)
	}
	n := len(audit.Problems)
	if strict {
		n += len(audit.Advice)
	}
	if err == nil && n > 0 {
		err = fmt.Errorf("%d %s to mend", n, plural(n, "thing"))
	}
	return err
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func showAudit(w io.Writer, a *policy.Audit) error {
	for _, m := range a.Problems {
		fmt.Fprintln(w, m)
	}
	for _, m := range a.Advice {
		fmt.Fprintln(w, "advice: "+m.String())
	}
	_, err := fmt.Fprintf(w, "%d %s, %d of advice, %d %s passed\n", len(a.Problems), plural(len(a.Problems), "problem"), len(a.Advice), a.Tests.Passed, plural(a.Tests.Passed, "test"))
	return err
}

// surroundings are what the configuration knows of models and plugins.
func (a *policyArgs) surroundings() (s policy.Surroundings) {
	if a.file == nil {
		return s
	}
	s.Models, s.Kinds, s.Labels = []string{}, []string{}, []string{}
	for _, p := range a.file.Upstream.Pools {
		s.Models = append(s.Models, p.Models...)
		if p.Model != "" {
			s.Models = append(s.Models, p.Model)
		}
	}
	for _, e := range a.file.Plugins.Chain {
		m, err := manifestOf(&a.file.Plugins, &e)
		if err != nil {
			s.Plugins = append(s.Plugins, e.Name)
			continue
		}
		s.Kinds = append(s.Kinds, m.Kinds...)
		if slices.Contains(m.Hooks, "on_request") || slices.Contains(m.Capabilities, "label_set") {
			s.Labels = append(s.Labels, e.Name)
		}
	}
	if s.Plugins != nil {
		s.Kinds, s.Labels = nil, nil
	}
	return s
}

// manifestOf reads the manifest of a plugin of the chain.
func manifestOf(c *plugin.Config, e *plugin.Entry) (m plugin.Manifest, err error) {
	name := e.Name + ".yaml"
	var text []byte
	switch {
	case e.Path != "":
		name = strings.TrimSuffix(e.Path, filepath.Ext(e.Path)) + ".yaml"
		text, err = os.ReadFile(name)
	case c.Dir != "":
		text, err = os.ReadFile(filepath.Join(c.Dir, name))
	default:
		err = fs.ErrNotExist
	}
	if e.Path == "" && errors.Is(err, fs.ErrNotExist) {
		text, err = fs.ReadFile(plugins.Shipped(), name)
	}
	if err != nil {
		return m, err
	}
	_, err = config.Decode(name, text, &m)
	return m, err
}
