package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/plugin"
)

// pluginBuild builds a plugin's folder by the script that plugin new put there, and lays the module and its manifest,
// with the module's digest in it, side by side as plugins.dir wants them.
func pluginBuild(ctx context.Context, t terminal, args []string) error {
	out := ""
	rest, err := parse(t, "plugin build", args, 1, func(f *flag.FlagSet) {
		f.StringVar(&out, "o", "", "folder for the module and its manifest (default: dist in the plugin's)")
	})
	if err != nil {
		return err
	}
	dir := "."
	if len(rest) == 1 {
		dir = rest[0]
	}
	if out == "" {
		out = filepath.Join(dir, "dist")
	}
	module, err := build(ctx, t, dir, out)
	if err != nil {
		return fmt.Errorf("nexus plugin build: %w", err)
	}
	_, err = fmt.Fprintln(t.out, module)
	return err
}

func build(ctx context.Context, t terminal, dir, out string) (module string, err error) {
	from := filepath.Join(dir, "manifest.yaml")
	text, err := os.ReadFile(from)
	if err != nil {
		return "", fmt.Errorf("%w: a plugin's folder has a manifest.yaml and an executable build; nexus plugin new makes one", err)
	}
	var m plugin.Manifest
	if _, err := config.Decode(from, text, &m); err != nil {
		return "", err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	module = filepath.Join(out, m.Name+".wasm")
	if err := script(ctx, t, dir, module); err != nil {
		return "", err
	}
	wasm, err := os.ReadFile(module)
	if err != nil {
		return "", err
	}
	manifest := seal(text, sha256.Sum256(wasm))
	return module, os.WriteFile(filepath.Join(out, m.Name+".yaml"), manifest, 0o644)
}

// noToolchain is the exit code by which a build script says that a toolchain is missing.
const noToolchain = 3

func script(ctx context.Context, t terminal, dir, module string) error {
	path, err := filepath.Abs(filepath.Join(dir, "build"))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, dir, module)
	cmd.Stdout, cmd.Stderr = t.err, t.err
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == noToolchain {
		return errors.New("the toolchain is missing; what to install stands above")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

var digestLine = regexp.MustCompile(`(?m)^sha256:.*$`)

// seal writes a module's digest into its manifest.
func seal(manifest []byte, digest [sha256.Size]byte) []byte {
	line := fmt.Appendf(nil, "sha256: %x", digest)
	if digestLine.Match(manifest) {
		return digestLine.ReplaceAllLiteral(manifest, line)
	}
	if n := len(manifest); n > 0 && manifest[n-1] != '\n' {
		manifest = append(manifest, '\n')
	}
	return append(append(manifest[:len(manifest):len(manifest)], line...), '\n')
}
