package k8s_test

import (
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/gateway"
	"github.com/nexus-gateway/nexus/plugins"
)

// TestPodsTakeTheirConfiguration lays a pod's volumes out on disk as a kubelet would, and lets the gateway
// check the file that its arguments name, with the policies and keys beside it.
func TestPodsTakeTheirConfiguration(t *testing.T) {
	if _, err := fs.Stat(plugins.Shipped(), "pii-mask.wasm"); err != nil {
		if os.Getenv("NEXUS_E2E") != "" {
			t.Fatal("the shipped plugins are not built: run make plugins")
		}
		t.Skip("SKIPPED: the shipped plugins are not built; run make plugins")
	}
	t.Setenv("XDG_CACHE_HOME", cache(t))
	for _, dir := range []string{"base", "overlays/mock"} {
		t.Run(dir, func(t *testing.T) {
			file, _, _ := mount(t, dir)
			err := gateway.Check(t.Context(), gateway.Options{File: file, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// cache keeps compiled plugins between runs, as /cache does.
func cache(t *testing.T) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return t.TempDir()
	}
	return dir
}

// TestPodsAndConfigurationAgree checks what is said once in the pod and once in the file it mounts.
func TestPodsAndConfigurationAgree(t *testing.T) {
	for _, dir := range []string{"base", "overlays/mock"} {
		t.Run(dir, func(t *testing.T) {
			path, nexus, objects := mount(t, dir)
			f, _, err := config.Load(path, read(t, path))
			if err != nil {
				t.Fatal(err)
			}
			p := nexus.Spec.Template.Spec
			listensOn(t, nexus, "http", f.Server.Listen)
			listensOn(t, nexus, "admin", f.Admin.Listen)
			if grace := time.Duration(p.TerminationGracePeriodSeconds) * time.Second; grace < f.Server.Drain.Delay+f.Server.Drain.Limit+5*time.Second {
				t.Errorf("the pod is killed after %v, streams may run for %v", grace, f.Server.Drain.Delay+f.Server.Drain.Limit)
			}
			if f.Quota.Replicas != int64(nexus.Spec.Replicas) {
				t.Errorf("quota.replicas is %d of %d", f.Quota.Replicas, nexus.Spec.Replicas)
			}
			if !slices.Contains(whole, dir) {
				return
			}
			for id, b := range f.Upstream.Backends {
				served(t, objects, "backends."+id, b.URL)
				if b.Discovery.Mode == "dns" {
					discovered(t, objects, "backends."+id, b.URL)
				}
			}
			served(t, objects, "quota.redis.url", f.Quota.Redis.URL.Reveal())
		})
	}
}

func listensOn(t *testing.T, o object, port, address string) {
	t.Helper()
	host, number, err := net.SplitHostPort(address)
	if err != nil || host != "0.0.0.0" {
		t.Errorf("%s listens on %s, where nobody outside the pod reaches it", port, address)
	}
	for _, p := range o.Spec.Template.Spec.Containers[0].Ports {
		if p.Name == port && number != "" && number == strconv.Itoa(p.ContainerPort) {
			return
		}
	}
	t.Errorf("no container port %s has the number of %s", port, address)
}

func served(t *testing.T, objects []object, setting, address string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	s := get(objects, "Service", u.Hostname())
	if s == nil || !slices.ContainsFunc(s.Spec.Ports, func(p servicePort) bool { return strconv.Itoa(p.Port) == u.Port() }) {
		t.Errorf("%s: no Service answers on %s", setting, u.Host)
	}
}

// discovered checks that a name leads to pods, and that they listen on the url's port: nothing maps it for them.
func discovered(t *testing.T, objects []object, setting, address string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if s := get(objects, "Service", u.Hostname()); s == nil || s.Spec.ClusterIP != "None" {
		t.Errorf("%s: the name %s does not lead to pods", setting, u.Hostname())
	}
	pods := get(objects, "Deployment", u.Hostname())
	if pods == nil || !slices.ContainsFunc(pods.Spec.Template.Spec.Containers[0].Ports, func(p port) bool { return strconv.Itoa(p.ContainerPort) == u.Port() }) {
		t.Errorf("%s: no pod listens on %s", setting, u.Port())
	}
}

var someHash = strings.Repeat("5a", 32)

// mount writes the files that the gateway's pod sees below a folder, and returns the path of the
// configuration there.
func mount(t *testing.T, dir string) (file string, nexus object, objects []object) {
	t.Helper()
	objects = append(render(t, dir), parse(t, read(t, "secret.example.yaml"))...)
	deployment := get(objects, "Deployment", "nexus")
	if deployment == nil {
		t.Fatal("there is no Deployment nexus")
	}
	nexus = *deployment
	p := nexus.Spec.Template.Spec
	c := p.Containers[0]
	root := t.TempDir()
	for _, m := range c.VolumeMounts {
		for _, v := range p.Volumes {
			if v.Name == m.Name {
				lay(t, filepath.Join(root, m.MountPath), v, objects)
			}
		}
	}
	at := slices.Index(c.Args, "-c")
	if at < 0 || at+1 >= len(c.Args) || c.Args[0] != "serve" {
		t.Fatalf("the pod runs nexus %q", c.Args)
	}
	return filepath.Join(root, c.Args[at+1]), nexus, objects
}

func lay(t *testing.T, dir string, v volume, objects []object) {
	t.Helper()
	for _, s := range v.Projected.Sources {
		for kind, from := range map[string]source{"ConfigMap": s.ConfigMap, "Secret": s.Secret} {
			o := get(objects, kind, from.Name)
			for _, item := range from.Items {
				text := o.Data[item.Key] + o.StringData[item.Key]
				text = strings.ReplaceAll(text, "REPLACE-with-what-nexus-key-new-prints", someHash)
				path := filepath.Join(dir, item.Path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
