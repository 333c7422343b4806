package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/nexus-gateway/nexus/sdk"
)

// pluginName is what a plugin may be called: the name of a file, a folder and a metric's label.
var pluginName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// pluginNew writes a plugin that works, with the SDK beside it, into a folder of its own.
func pluginNew(_ context.Context, t terminal, args []string) error {
	lang, dir := "", ""
	rest, err := parse(t, "plugin new", args, 1, func(f *flag.FlagSet) {
		f.StringVar(&lang, "lang", "go", "go, assemblyscript, rust or c")
		f.StringVar(&dir, "dir", "", "folder to write (default: the plugin's name)")
	})
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return usage(t, "plugin new", "name the plugin: nexus plugin new --lang go my-plugin")
	}
	name := rest[0]
	if !pluginName.MatchString(name) {
		return usage(t, "plugin new", fmt.Sprintf("%q is not a plugin's name: write letters, digits, hyphens and underscores", name))
	}
	if dir == "" {
		dir = name
	}
	files, err := sdk.Files(lang)
	if err != nil {
		return usage(t, "plugin new", err.Error())
	}
	if err := vacant(dir); err != nil {
		return fmt.Errorf("nexus plugin new: %w", err)
	}
	if err := unpack(files, dir, name); err != nil {
		return fmt.Errorf("nexus plugin new: %w", err)
	}
	_, err = fmt.Fprintf(t.out, "%[1]s is a plugin in %[2]s that works; %[3]s says how to make it yours. Next:\n  nexus plugin build %[1]s\n  nexus plugin test %[1]s\n", dir, lang, filepath.Join(dir, "README.md"))
	return err
}

// vacant refuses to write over what somebody has.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case os.IsNotExist(err):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty; name another folder with -dir", dir)
	}
	return nil
}

// unpack writes files into dir, under the plugin's own name.
func unpack(files fs.FS, dir, name string) error {
	return fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if bytes.HasPrefix(text, []byte("#!")) {
			mode = 0o755
		}
		return os.WriteFile(to, bytes.ReplaceAll(text, []byte(sdk.Name), []byte(name)), mode)
	})
}
