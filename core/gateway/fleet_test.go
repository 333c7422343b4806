package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const discovering = `
server: {listen: "127.0.0.1:0", drain: {delay: 0s, limit: 5s}}
admin: {listen: "127.0.0.1:0"}
auth: {anonymous: true}
backends:
  one:
    kind: vllm
    url: "http://localhost:%s"
    discovery: {mode: dns}
    health: {interval: 100ms, models_interval: 100ms, failures: %d}
    price: {input: 1, output: 5}
pools: {default: {models: [mock, mock-echo], backends: [one]}}
telemetry: {access_log: "off"}
`

// A backend found by its name is asked how it is, and what is known of it shows in status and metrics and
// outlives a reload.
func TestServersShowAndSurviveReloads(t *testing.T) {
	s, address := backend(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, file, fmt.Sprintf(discovering, u.Port(), 3))
	g, _, admin := runFile(t, file)
	shown := func() BackendStatus {
		var all Status
		if err := json.Unmarshal([]byte(get(t, "http://"+admin+"/status")), &all); err != nil || len(all.Backends) != 1 {
			t.Fatalf("%d backends, %v", len(all.Backends), err)
		}
		return all.Backends[0]
	}
	wait := func(what string, true func(b BackendStatus) bool) BackendStatus {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if b := shown(); true(b) {
				return b
			} else if time.Now().After(deadline) {
				t.Fatalf("not %s: %+v", what, b)
			}
		}
	}
	b := wait("known", func(b BackendStatus) bool { return len(b.Models) == 2 })
	if b.ID != "one/127.0.0.1:"+u.Port() || b.Backend != "one" || b.Address != "127.0.0.1:"+u.Port() || !b.Healthy || b.State != "healthy" {
		t.Errorf("shown as %+v", b)
	}
	s.SetHealth(http.StatusServiceUnavailable)
	wait("out", func(b BackendStatus) bool {
		return !b.Healthy && b.State == "open" && b.Cause == "probe" && b.Until == nil
	})
	metrics := get(t, "http://"+admin+"/metrics")
	for _, line := range []string{
		`gateway_upstream_servers{backend="one",state="open"} 1`, `gateway_upstream_servers{backend="one",state="healthy"} 0`,
		`gateway_upstream_ejections_total{backend="one",cause="probe"} 1`, `gateway_upstream_probes_total{backend="one",outcome="sick",probe="health"}`,
		`gateway_upstream_lookups_total{backend="one",outcome="ok"}`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	write(t, file, fmt.Sprintf(discovering, u.Port(), 4))
	if _, err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := shown(); b.State != "open" {
		t.Errorf("%s after a reload", b.State)
	}
	s.SetHealth(0)
	wait("to be tried", func(b BackendStatus) bool { return b.State == "half_open" })
}

// A snapshot answers from its first moment: the names that it brings are looked up before it is put in place.
func TestNamesAreLookedUpBeforeTheFirstCall(t *testing.T) {
	_, address := backend(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nexus.yaml")
	text := fmt.Sprintf(discovering, u.Port(), 3)
	write(t, file, text)
	g, calls, _ := runFile(t, file)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for i := range 10 {
		if status, answer, err := ask(client, calls, whole); status != http.StatusOK || err != nil {
			t.Fatalf("reload %d: %d %s %v", i, status, answer, err)
		}
		write(t, file, strings.NewReplacer("one:", fmt.Sprintf("b%d:", i), "[one]", fmt.Sprintf("[b%d]", i)).Replace(text))
		if _, err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
