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
	"strings"

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
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no %s: a plugin's folder has a manifest.yaml and an executable build; nexus plugin new makes one", from)
	}
	if err != nil {
		return "", err
	}
	var m plugin.Manifest
	if _, err := config.Decode(from, text, &m); err != nil {
		return "", err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	module = filepath.Join(out, m.Name+".wasm")
	work, err := os.MkdirTemp(out, ".build-*")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	wasm := filepath.Join(work, "plugin.wasm")
	if err := script(ctx, t, dir, wasm); err != nil {
		return "", err
	}
	return module, lay(wasm, text, module)
}

// lay puts a module and its manifest, with the module's digest in it, where a gateway may be watching: whole, and both at
// once, as far as a folder knows of that.
func lay(from string, text []byte, module string) error {
	wasm, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("the build left no module: %w", err)
	}
	manifest := from + ".yaml"
	if err := os.WriteFile(manifest, seal(text, sha256.Sum256(wasm)), 0o644); err != nil {
		return err
	}
	if err := os.Rename(from, module); err != nil {
		return err
	}
	return os.Rename(manifest, strings.TrimSuffix(module, ".wasm")+".yaml")
}

// noToolchain is the exit code by which a build script says that a toolchain is missing.
const noToolchain = 3

func script(ctx context.Context, t terminal, dir, module string) error {
	path, err := filepath.Abs(filepath.Join(dir, "build"))
	if err != nil {
		return err
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no %s, the script that builds a plugin; nexus plugin new writes one for each language", filepath.Join(dir, "build"))
	case err == nil && info.Mode()&0o111 == 0:
		return fmt.Errorf("%[1]s may not be run; chmod +x %[1]s", filepath.Join(dir, "build"))
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
