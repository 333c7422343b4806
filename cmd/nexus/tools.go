package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/nexus-gateway/nexus/core/auth"
	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/setting"
)

func keyNew(_ context.Context, t terminal, args []string) error {
	key, entry, err := auth.NewKey()
	if err != nil {
		return err
	}
	var models string
	if _, err := parse(t, "key new", args, 0, func(f *flag.FlagSet) {
		f.StringVar(&entry.ID, "id", entry.ID, "name of the key in logs")
		f.StringVar(&entry.Tenant, "tenant", "", "tenant the key belongs to")
		f.StringVar(&entry.Team, "team", "", "team within the tenant")
		f.StringVar(&entry.Tier, "tier", "", "tier, for limits and policies")
		f.StringVar(&models, "models", "", "models the key may use, separated by commas; a trailing * is wild")
	}); err != nil {
		return err
	}
	if models != "" {
		for m := range strings.SplitSeq(models, ",") {
			entry.Models = append(entry.Models, strings.TrimSpace(m))
		}
	}
	if err := fit(entry); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "# The key, shown this once:\n# %s\n# Paste this under auth.keys, or into the file that auth.keys_file names:\n%s", key, entry.Paste())
	return err
}

// fit refuses an entry that serve would refuse, before its key is lost.
func fit(entry auth.Entry) error {
	p := setting.NewProblems()
	(&auth.Config{Keys: []auth.Entry{entry}}).Validate(p)
	var errs []error
	for _, one := range p.All() {
		errs = append(errs, fmt.Errorf("nexus key new: %s: %s", strings.TrimPrefix(one.Path, "keys[0]."), one.Text))
	}
	return errors.Join(errs...)
}

func configSchema(_ context.Context, t terminal, args []string) error {
	if _, err := parse(t, "config schema", args, 0, none); err != nil {
		return err
	}
	text, err := config.Schema(config.File{})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s\n", text)
	return err
}

func configReference(_ context.Context, t terminal, args []string) error {
	if _, err := parse(t, "config reference", args, 0, none); err != nil {
		return err
	}
	text, err := config.Reference(config.File{})
	if err != nil {
		return err
	}
	_, err = t.out.Write(text)
	return err
}

func configDefault(_ context.Context, t terminal, args []string) error {
	if _, err := parse(t, "config default", args, 0, none); err != nil {
		return err
	}
	_, err := t.out.Write(defaults)
	return err
}
