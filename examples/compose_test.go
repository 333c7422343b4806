// Package examples_test loads every example as its own tool would, and runs what their READMEs say.
package examples_test

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/gateway"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/policy"
	"github.com/nexus-gateway/nexus/plugins"
)

const someKey = "6a0c2f5b8d1e4f7a9b3c6d8e0f2a4b5c7d9e1f3a5b7c8d0e"

func load(t *testing.T, env map[string]string, files ...string) (*types.Project, error) {
	t.Helper()
	details := types.ConfigDetails{WorkingDir: "compose", Environment: env}
	for _, f := range files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: filepath.Join("compose", f)})
	}
	return loader.LoadWithContext(t.Context(), details, func(o *loader.Options) { o.SetProjectName("nexus", false) })
}

func compose(t *testing.T, files ...string) *types.Project {
	t.Helper()
	p, err := load(t, map[string]string{"NEXUS_KEYS": "me:" + someKey + ":my-team:premium"}, files...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeLoads(t *testing.T) {
	tests := []struct {
		files    []string
		services []string
	}{
		{[]string{"compose.yaml"}, []string{"mock", "nexus", "quota-redis"}},
		{[]string{"compose.yaml", "compose.vllm.yaml"}, []string{"nexus", "quota-redis", "vllm"}},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.files, "+"), func(t *testing.T) {
			p := compose(t, tt.files...)
			names := p.ServiceNames()
			slices.Sort(names)
			if !slices.Equal(names, tt.services) {
				t.Errorf("got services %q, want %q", names, tt.services)
			}
			for name, s := range p.Services {
				for _, fault := range faults(s) {
					t.Errorf("%s: %s", name, fault)
				}
			}
		})
	}
}

// faults says what a service must not do on a machine that others can reach.
func faults(s types.ServiceConfig) []string {
	var list []string
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" {
			list = append(list, "publishes port "+p.Published+" to the world")
		}
	}
	for _, v := range s.Volumes {
		if info, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && (err != nil || !info.IsDir()) {
			list = append(list, "mounts "+v.Source+", which is no folder")
		}
	}
	if strings.HasPrefix(s.Image, "vllm/") { // its image wants root and a home
		return list
	}
	if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.User != "65532:65532" {
		list = append(list, "is not hardened")
	}
	return list
}

func TestComposeHasNoKeyToBeginWith(t *testing.T) {
	_, err := load(t, nil, "compose.yaml")
	if err == nil || !strings.Contains(err.Error(), "NEXUS_KEYS") {
		t.Errorf("got %v", err)
	}
}

// A cache beside the counts, or a full memory, must not reset quotas.
func TestComposeQuotaRedisNeverEvicts(t *testing.T) {
	s := compose(t, "compose.yaml").Services["quota-redis"]
	if at := slices.Index(s.Command, "--maxmemory-policy"); at < 0 || s.Command[at+1] != "noeviction" {
		t.Errorf("got %q", s.Command)
	}
}

// hostFile is where a path of a container lies on the host.
func hostFile(t *testing.T, s types.ServiceConfig, path string) string {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, ok := strings.CutPrefix(path, v.Target+"/"); ok && v.Type == types.VolumeTypeBind {
			return filepath.Join(v.Source, rest)
		}
	}
	t.Fatalf("%s is not mounted", path)
	return ""
}

// configured sets a service's environment and returns the file its command names.
func configured(t *testing.T, s types.ServiceConfig) string {
	t.Helper()
	for name, value := range s.Environment {
		if value != nil {
			t.Setenv(name, *value)
		}
	}
	at := slices.Index(s.Command, "-c")
	if at < 0 || at+1 >= len(s.Command) {
		t.Fatalf("the gateway runs %q", s.Command)
	}
	return hostFile(t, s, s.Command[at+1])
}

func TestComposeAndConfigurationAgree(t *testing.T) {
	for _, files := range [][]string{{"compose.yaml"}, {"compose.yaml", "compose.vllm.yaml"}} {
		p := compose(t, files...)
		s := p.Services["nexus"]
		path := configured(t, s)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, _, err := config.Load(path, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{f.Server.Listen, f.Admin.Listen} {
			host, port, _ := net.SplitHostPort(address)
			if host != "0.0.0.0" || !slices.ContainsFunc(s.Ports, func(p types.ServicePortConfig) bool { return p.Published == port }) {
				t.Errorf("%s is not published", address)
			}
		}
		for _, address := range []string{f.Upstream.Backends["main"].URL, f.Quota.Redis.URL.Reveal()} {
			host, _, _ := net.SplitHostPort(strings.Split(address, "/")[2])
			if _, ok := p.Services[host]; !ok {
				t.Errorf("%v: %s is not there", files, address)
			}
		}
		if grace := time.Duration(*s.StopGracePeriod); grace < f.Server.Drain.Delay+f.Server.Drain.Limit+5*time.Second {
			t.Errorf("the container is killed after %v", grace)
		}
	}
}

func TestPolicies(t *testing.T) {
	for _, dir := range []string{"compose/config/policies", "../k8s/base/policies"} {
		c := policy.Config{Dir: dir}
		sources, err := c.Sources(nil)
		if err != nil {
			t.Fatal(err)
		}
		report, err := policy.Test(t.Context(), sources)
		if err != nil {
			t.Fatal(err)
		}
		if !report.OK() || report.Passed == 0 {
			t.Errorf("%s: %+v", dir, report)
		}
	}
}

// TestComposeREADME runs the gateway with the example's environment and configuration, then the README's
// own curl lines.
func TestComposeREADME(t *testing.T) {
	if !built() {
		if os.Getenv("NEXUS_E2E") != "" {
			t.Fatal("the shipped plugins are not built: run make plugins")
		}
		t.Skip("SKIPPED: the shipped plugins are not built; run make plugins")
	}
	public, admin := startGateway(t)
	ran := 0
	for _, block := range shellBlocks(t, "compose/README.md") {
		if !strings.HasPrefix(block, "curl") {
			continue
		}
		block = strings.NewReplacer("localhost:8080", public, "localhost:9090", admin).Replace(block)
		c := exec.CommandContext(t.Context(), "sh", "-ec", block)
		c.Env = append(os.Environ(), "NEXUS_KEYS="+os.Getenv("NEXUS_KEYS"))
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%s\n%v\n%s", block, err, out)
		}
		if strings.Contains(block, "chat/completions") {
			t.Logf("%s", out)
			checkMasked(t, string(out))
		}
		ran++
	}
	if ran < 2 {
		t.Errorf("the README has %d blocks with curl", ran)
	}
}

// built reports whether the shipped plugins are in this test.
func built() bool {
	_, err := fs.Stat(plugins.Shipped(), "pii-mask.wasm")
	return err == nil
}

// checkMasked reads what the echo repeats, which is what reached the backend.
func checkMasked(t *testing.T, stream string) {
	t.Helper()
	var said strings.Builder
	for line := range strings.Lines(stream) {
		if _, content, ok := strings.Cut(line, `"content":"`); ok {
			content, _, _ = strings.Cut(content, `"`)
			said.WriteString(content)
		}
	}
	if !strings.Contains(stream, "data: [DONE]") || !strings.HasPrefix(said.String(), "Write to ") || strings.Contains(said.String(), "jane@") {
		t.Errorf("the answer is %q in\n%s", said.String(), stream)
	}
}

// startGateway starts what compose.yaml starts, in this process and on free ports.
func startGateway(t *testing.T) (public, admin string) {
	t.Helper()
	s := compose(t, "compose.yaml").Services["nexus"]
	path := configured(t, s)
	backend, err := mock.New(mock.Options{Models: []string{"mock-echo"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = backend.Close() })
	front := httptest.NewServer(backend)
	t.Cleanup(front.Close)
	t.Setenv("BACKEND_URL", front.URL)
	t.Setenv("QUOTA_REDIS_URL", "redis://"+miniredis.RunT(t).Addr())
	g, err := gateway.New(t.Context(), gateway.Options{File: path, Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, ready := make(chan error, 1), make(chan struct{})
	go func() {
		done <- g.Run(ctx, func(a, b net.Addr) { public, admin = a.String(), b.String(); close(ready) })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	return public, admin
}

// shellBlocks are the commands of a README.
func shellBlocks(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, part := range strings.Split(string(text), "```") {
		if body, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			blocks = append(blocks, body)
		}
	}
	return blocks
}
