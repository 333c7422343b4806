package examples_test

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A stage is one FROM of the Dockerfile with what follows it.
type stage struct {
	from, name string
	steps      []step
}

type step struct{ verb, rest string }

func dockerfile(t *testing.T) []stage {
	t.Helper()
	var stages []stage
	for line := range strings.Lines(string(file(t, "../Dockerfile"))) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		if strings.HasSuffix(rest, `\`) || verb != strings.ToUpper(verb) {
			t.Fatalf("this test reads one instruction a line, not %q", line)
		}
		if verb == "FROM" {
			from, name, _ := strings.Cut(rest, " AS ")
			stages = append(stages, stage{from: from, name: name})
			continue
		}
		last := &stages[len(stages)-1]
		last.steps = append(last.steps, step{verb, rest})
	}
	return stages
}

func (s stage) all(verb string) []string {
	var list []string
	for _, x := range s.steps {
		if x.verb == verb {
			list = append(list, x.rest)
		}
	}
	return list
}

func file(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestImageHoldsOneBinaryAndNoRoot(t *testing.T) {
	stages := dockerfile(t)
	if len(stages) != 2 {
		t.Fatalf("got %d stages", len(stages))
	}
	build, last := stages[0], stages[1]
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(file(t, "../go.mod")))[1]
	if build.from != "golang:"+version {
		t.Errorf("go.mod asks for Go %s, the image builds with %s", version, build.from)
	}
	if last.from != "scratch" || len(last.all("RUN")) > 0 {
		t.Errorf("the last stage is %s and runs %q", last.from, last.all("RUN"))
	}
	for verb, want := range map[string]string{
		"USER": "65532:65532", "EXPOSE": "8080 9090", "ENTRYPOINT": `["/nexus"]`, "CMD": `["serve"]`, "ENV": "XDG_CACHE_HOME=/cache",
	} {
		if got := last.all(verb); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: got %q, want %q", verb, got, want)
		}
	}
	made := strings.Join(build.all("RUN"), "\n")
	for _, copied := range last.all("COPY") {
		from := strings.Fields(strings.NewReplacer("--from="+build.name, "", "--chown=65532:65532", "").Replace(copied))[0]
		if !strings.HasPrefix(from, "/etc/ssl/") && !strings.Contains(made, from) { // the base image brings its certificates
			t.Errorf("nothing makes %s, which is copied", from)
		}
	}
}

// ignores reports whether .dockerignore leaves a path out of the build.
func ignores(t *testing.T) func(name string) bool {
	t.Helper()
	var patterns []string
	for line := range strings.Lines(string(file(t, "../.dockerignore"))) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	return func(name string) bool {
		for _, p := range patterns {
			if rest, anywhere := strings.CutPrefix(p, "**/"); anywhere && matches(rest, path.Base(name)) || matches(p, name) {
				return true
			}
		}
		return false
	}
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// buildContext copies to a new folder what Docker would see of the repository.
func buildContext(t *testing.T) string {
	t.Helper()
	to, ignored := t.TempDir(), ignores(t)
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel("..", name)
		switch {
		case err != nil:
			return err
		case ignored(filepath.ToSlash(rel)) && d.IsDir():
			return fs.SkipDir
		case ignored(filepath.ToSlash(rel)):
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		return os.WriteFile(filepath.Join(to, rel), file(t, name), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// What is embedded must not be ignored, and what is made here must not be taken for built from source.
func TestBuildContextIsWhole(t *testing.T) {
	dir := buildContext(t)
	c := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{range .EmbedFiles}}{{$.Dir}}/{{.}}\n{{end}}{{end}}{{end}}", "./cmd/nexus")
	c.Dir = dir
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr(err))
	}
	if !strings.Contains(string(out), "routes.rego") {
		t.Errorf("no policies are embedded, only\n%s", out)
	}
	if strings.Contains(string(out), ".wasm") {
		t.Errorf("plugins of this machine would get into the image:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(dir, ".git")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the history gets into the build")
	}
}

func stderr(err error) []byte {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.Stderr
	}
	return nil
}

// TestImageBuildCommands runs what the build stage runs, on what Docker would give it. It compiles the
// standard library anew, and so is left to the end-to-end tests.
func TestImageBuildCommands(t *testing.T) {
	if os.Getenv("NEXUS_E2E") == "" {
		t.Skip("takes minutes: set NEXUS_E2E=1")
	}
	dir, out := buildContext(t), t.TempDir()
	for _, command := range dockerfile(t)[0].all("RUN") {
		c := exec.CommandContext(t.Context(), "sh", "-ec", strings.ReplaceAll(command, "/out", out))
		c.Dir = dir
		if text, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, text)
		}
	}
	binary := filepath.Join(out, "nexus")
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libraries, _ := f.ImportedLibraries(); len(libraries) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("the binary is not static: %q", libraries)
	}
	if !strings.Contains(string(file(t, binary)), "nexus_abi_1") {
		t.Error("no plugin is inside")
	}
	runAlone(t, binary)
}

// runAlone runs the binary as the image does: as nobody, in a file system that holds nothing else and where
// nothing but /cache can be written.
func runAlone(t *testing.T, binary string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Log("not run in an empty file system, which takes root")
		return
	}
	root := t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(root, "nexus"), file(t, binary), 0o600), os.Chmod(filepath.Join(root, "nexus"), 0o755),
		os.Mkdir(filepath.Join(root, "cache"), 0o700), os.Chown(filepath.Join(root, "cache"), 65532, 65532),
		os.Chmod(root, 0o555),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), "/nexus", "serve")
	c.Env = []string{"XDG_CACHE_HOME=/cache", "NEXUS_LISTEN=127.0.0.1:0", "NEXUS_ADMIN_LISTEN=127.0.0.1:0", "NEXUS_DEV_KEY=a-key-for-this-test"}
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	c.Dir = "/"
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() })
	defer kill.Stop()
	var log strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		fmt.Fprintln(&log, lines.Text())
		if strings.HasPrefix(lines.Text(), "curl ") {
			_ = c.Process.Signal(syscall.SIGTERM)
		}
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &log)
	}
	if compiled, err := os.ReadDir(filepath.Join(root, "cache")); err != nil || len(compiled) == 0 {
		t.Errorf("no compiled plugin was kept: %v\n%s", err, &log)
	}
}

// TestREADMECommands runs the nexus commands of the READMEs, which they run in the image.
func TestREADMECommands(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "nexus")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../cmd/nexus").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	configured(t, compose(t, "compose.yaml").Services["nexus"])
	inImage := regexp.MustCompile(`(?m)^docker (?:compose run --rm --no-deps nexus|run --rm nexus:dev) ([^>|\n]*)`)
	ran := 0
	for _, readme := range []string{"compose/README.md", "../k8s/README.md"} {
		for _, block := range shellBlocks(t, readme) {
			for _, m := range inImage.FindAllStringSubmatch(block, -1) {
				args := strings.Fields(strings.ReplaceAll(m[1], "/etc/nexus", "compose/config"))
				if args[0] == "check" && !built() {
					continue
				}
				if out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput(); err != nil {
					t.Errorf("nexus %q: %v\n%s", args, err, out)
				}
				ran++
			}
		}
	}
	if ran < 3 {
		t.Errorf("the READMEs run %d commands", ran)
	}
}

// What the READMEs name must be there.
func TestREADMEPaths(t *testing.T) {
	named := regexp.MustCompile(`(?:kubectl apply -k|cd|-f) ([\w./-]+(?:/[\w.-]+|\.yaml))`)
	for readme, root := range map[string]string{"compose/README.md": "compose", "../k8s/README.md": ".."} {
		found := 0
		for _, block := range shellBlocks(t, readme) {
			for _, m := range named.FindAllStringSubmatch(block, -1) {
				if found++; !exists(filepath.Join(root, m[1])) && !exists(filepath.Join("..", m[1])) {
					t.Errorf("%s: there is no %s", readme, m[1])
				}
			}
		}
		if found == 0 {
			t.Errorf("%s names no path", readme)
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// Every place that names the image names the one that the READMEs build.
func TestOneImageName(t *testing.T) {
	for name, want := range map[string]string{
		"compose/README.md": "docker compose up --build", "../k8s/README.md": "docker build -t nexus:dev .",
		"compose/compose.yaml": "image: nexus:dev", "../k8s/base/kustomization.yaml": "  - name: nexus\n    newTag: dev",
	} {
		if !strings.Contains(string(file(t, name)), want) {
			t.Errorf("%s does not say %q", name, want)
		}
	}
}
