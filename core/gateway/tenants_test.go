package gateway

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestTenantsTakeTurns: an instance that is set back between tenants keeps what it was configured with. Calls of three
// tenants share one or two instances while the configuration is swapped: each is edited by one of the two configurations.
func TestTenantsTakeTurns(t *testing.T) {
	wasm, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("../../sdk/go/probe/manifest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, url := backend(t)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, filepath.Join(dir, "probe.wasm"), string(wasm))
	write(t, filepath.Join(dir, "probe.yaml"), string(manifest))
	var keys []string
	for i := range 3 {
		keys = append(keys, fmt.Sprintf("{id: k%d, sha256: %x, tenant: t%d}", i, sha256.Sum256(fmt.Appendf(nil, "nx-key-of-tenant-%d", i)), i))
	}
	frame := strings.NewReplacer("{anonymous: true}", "{keys: ["+strings.Join(keys, ", ")+"]}", "{deadline: 1s}", "{enabled: false}").Replace(fmt.Sprintf(minimal, url))
	setting := func(i int) string {
		return frame + fmt.Sprintf("plugins: {dir: %q, chain: [{name: probe, instances: %d, deadline: 5s, capabilities: %s, http: {hosts: [\"probe.test:443\"]}, config: {word: hush, with: \"<%d>\"}}]}\n",
			dir, 1+i%2, everything, i%2)
	}
	write(t, file, setting(0))
	g, address, _ := runFile(t, file)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	var calls atomic.Int64
	try := func(tenant int) {
		body := fmt.Sprintf(`{"model":"mock-echo","stream":%t,"messages":[{"role":"user","content":"say hush of %d"}]}`, tenant%2 == 0, tenant)
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(body))
		r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {fmt.Sprintf("Bearer nx-key-of-tenant-%d", tenant)}}
		response, err := client.Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer response.Body.Close()
		out, err := io.ReadAll(response.Body)
		if text := said(t, string(out))[0]; err != nil || text != fmt.Sprintf("say <0> of %d", tenant) && text != fmt.Sprintf("say <1> of %d", tenant) {
			t.Errorf("tenant %d: %d %v %q %s", tenant, response.StatusCode, err, text, out)
		}
		calls.Add(1)
	}
	var stop atomic.Bool
	var callers sync.WaitGroup
	for caller := range 4 {
		callers.Go(func() {
			for i := caller; !stop.Load() && !t.Failed(); i++ {
				try(i % 3)
			}
		})
	}
	began, reloads := time.Now(), 0
	for ; time.Since(began) < 2*time.Second; reloads++ {
		time.Sleep(20 * time.Millisecond)
		write(t, file+".next", setting(reloads))
		if err := os.Rename(file+".next", file); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	callers.Wait()
	t.Logf("%d calls, %d reloads", calls.Load(), reloads)
}
