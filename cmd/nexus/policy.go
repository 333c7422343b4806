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

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/policy"
)

// policyArgs are what the commands about policies have in common.
type policyArgs struct {
	dir     string // as given
	config  string
	machine bool

	file *config.File   // of config; nil: none is given
	cfg  policy.Config  // of file, or defaults
	src  policy.Sources // of dir, or of file, or what Nexus ships
}

func (a *policyArgs) flags(f *flag.FlagSet) {
	f.StringVar(&a.config, "c", "", "the configuration `file`, for its pools, models and settings")
	asJSON(f, &a.machine)
}

// usageText is what -h and a slip show, above the flags.
func usageText(f *flag.FlagSet, text string) {
	f.Usage = func() {
		fmt.Fprint(f.Output(), text)
		f.PrintDefaults()
	}
}

// read parses a command's flags and its one argument, the folder, and reads what they name.
func (a *policyArgs) read(t terminal, name string, args []string, define func(*flag.FlagSet)) error {
	rest, err := parse(t, name, args, 1, define)
	if err != nil {
		return err
	}
	switch {
	case len(rest) > 0 && a.dir != "":
		return usage(t, name, fmt.Sprintf("%q is one folder too many: there is %s", rest[0], a.dir))
	case len(rest) > 0:
		a.dir = rest[0]
	}
	if err := a.open(); err != nil {
		return fmt.Errorf("nexus %s: %w", name, err)
	}
	return nil
}

func (a *policyArgs) open() error {
	if _, err := config.Decode("defaults", []byte("enabled: true"), &a.cfg); err != nil {
		return err
	}
	var pools []string
	if a.config != "" {
		text, err := os.ReadFile(a.config)
		if err != nil {
			return err
		}
		if a.file, _, err = config.Load(a.config, text); err != nil {
			return err
		}
		a.cfg = a.file.Policy
		if a.cfg.Headers == nil {
			a.cfg.Headers = []string{}
		}
		pools = slices.AppendSeq([]string{}, maps.Keys(a.file.Upstream.Pools))
	}
	if a.dir != "" {
		a.cfg.Dir, a.cfg.Data = a.dir, "" // a folder has its own data
	}
	if a.cfg.Bundle.URL != "" && a.dir == "" {
		return fmt.Errorf("%s takes its policies from a bundle; name the folder that it is made of", a.config)
	}
	a.cfg.Bundle = policy.BundleConfig{}
	var err error
	a.src, err = a.cfg.Sources(pools)
	a.src.YAML = config.Lines
	return err
}

// trial compiles what is to be asked.
func (a *policyArgs) trial(ctx context.Context) (*policy.Trial, error) {
	return policy.OpenTrial(ctx, a.src, a.cfg)
}

// named puts the command's name before an error that is not yet explained.
func named(name string, err error) error {
	if err == nil || errors.Is(err, errUsage) {
		return err
	}
	return fmt.Errorf("nexus %s: %w", name, err)
}

// begun is what policy init has written.
type begun struct {
	Folder string   `json:"folder"`
	Files  []string `json:"files"`
}

func policyInit(_ context.Context, t terminal, args []string) error {
	machine := false
	dir, err := parse(t, "policy init", args, 1, func(f *flag.FlagSet) {
		usageText(f, `nexus policy init DIR writes a small policy with its tests into DIR, which must be empty or not there.

  nexus policy init policies
  nexus policy test policies

Exit code: 0 written, 1 not, 2 a slip in the command.
`)
		asJSON(f, &machine)
	})
	if err != nil {
		return err
	}
	if len(dir) == 0 {
		return usage(t, "policy init", "name the folder to write")
	}
	names, err := policy.Init(dir[0])
	if err != nil {
		return named("policy init", err)
	}
	if machine {
		return writeJSON(t.out, begun{dir[0], names})
	}
	for _, name := range names {
		fmt.Fprintln(t.out, name)
	}
	_, err = fmt.Fprintf(t.out, "\nNow: nexus policy test %s\nand name the folder as policy.dir in the configuration.\n", dir[0])
	return err
}

// fmtRun is what policy fmt was asked for.
type fmtRun struct {
	policyArgs
	write, show bool
}

func policyFmt(_ context.Context, t terminal, args []string) error {
	const name = "policy fmt"
	var o fmtRun
	if err := o.read(t, name, args, func(f *flag.FlagSet) {
		usageText(f, `nexus policy fmt [-w | -d] [DIR] lists the files that are not formatted; DIR is the folder of policies.

  nexus policy fmt policies      # for continuous integration
  nexus policy fmt -w policies   # formats them

Exit code: 0 all are formatted (or now are), 1 some are not, 2 a slip in the command.
`)
		f.BoolVar(&o.write, "w", false, "write the files")
		f.BoolVar(&o.show, "d", false, "show what would change")
		f.Bool("check", true, "list files that are not formatted and exit with 1; without -w this is what it does")
		asJSON(f, &o.machine)
	}); err != nil {
		return err
	}
	if o.write && o.dir == "" {
		return usage(t, name, "name the folder to write to")
	}
	return named(name, o.format(t.out))
}

// A formatting is a file that is not formatted, or was not.
type formatting struct {
	File    string `json:"file"`
	Written bool   `json:"written"`
	Before  string `json:"before,omitempty"` // with -d
	After   string `json:"after,omitempty"`
}

func (o *fmtRun) format(w io.Writer) error {
	list, err := policy.Formatted(o.src)
	if err != nil {
		return err
	}
	done := []formatting{}
	for _, one := range list {
		f := formatting{File: one.Name, Written: o.write}
		if o.show {
			f.Before, f.After = one.Before, one.After
		}
		if o.write {
			if err := os.WriteFile(one.Name, []byte(one.After), 0o644); err != nil {
				return err
			}
		}
		done = append(done, f)
	}
	if o.machine {
		err = writeJSON(w, done)
	} else {
		printFormattings(w, done, o.show)
	}
	if err == nil && len(list) > 0 && !o.write {
		err = fmt.Errorf("%d files are not formatted; -w formats them", len(list))
	}
	return err
}

func printFormattings(w io.Writer, list []formatting, show bool) {
	for _, f := range list {
		fmt.Fprintln(w, f.File)
		if show {
			diff(w, f.Before, f.After)
		}
	}
}
