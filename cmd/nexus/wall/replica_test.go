package wall

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A replica is `nexus mock` as a process of its own, so that signals do to it what they do to an engine.
type replica struct {
	*exec.Cmd
	url string
	out *output
}

var mocking = regexp.MustCompile(`mock vllm backend on (http://\S+)`)

func newReplica(t *testing.T) *replica {
	t.Helper()
	r := &replica{Cmd: exec.Command(binary, "mock", "-listen", "127.0.0.1:0", "-models", "chat", "-record", "-1"), out: new(output)}
	r.Stdout, r.Stderr = r.out, r.out
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.Process.Kill() // one that was stopped, too; that one is gone already is how it should be
		_ = r.Wait()
	})
	waitUntil(t, 30*time.Second, "the mock listens", func() bool { return mocking.MatchString(r.out.String()) })
	m := mocking.FindStringSubmatch(r.out.String())
	if m == nil {
		t.FailNow()
	}
	r.url = m[1]
	return r
}

// say changes how the replica answers.
func (r *replica) say(t *testing.T, script string) {
	t.Helper()
	response, err := http.Post(r.url+"/mock/script", "text/plain", strings.NewReader(script))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode >= 300 {
		t.Fatalf("%q: status %d", script, response.StatusCode)
	}
}

// One of three replicas is killed, or stopped so that it says nothing more, under hundreds of streams at temperature 0:
// no stream is cut, and every text is the one that an undisturbed call had. The gateway has nothing configured but who
// may call whom; a stopped replica is left after the 30 s that it may take between two tokens. It runs before the others
// and alone: it loads the machine.
func TestReplicaGoesUnderStreams(t *testing.T) {
	for _, tt := range []struct {
		name string
		sign syscall.Signal
	}{{"killed", syscall.SIGKILL}, {"stopped", syscall.SIGSTOP}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lose(t, tt.sign)
		})
	}
}

// lose sends one replica the signal once every stream is under way.
func lose(t *testing.T, sign syscall.Signal) {
	streams := 100
	if thorough && !racing {
		streams = 500
	}
	replicas := []*replica{newReplica(t), newReplica(t), newReplica(t)}
	file := filepath.Join(t.TempDir(), "nexus.yaml")
	write(t, file, fmt.Sprintf(`
auth: {keys: [{id: wall, sha256: %q, tenant: wall}]}
backends: {a: {kind: vllm, url: %q}, b: {kind: vllm, url: %q}, c: {kind: vllm, url: %q}}
pools: {main: {models: [chat], backends: [a, b, c]}}
`, hash(key), replicas[0].url, replicas[1].url, replicas[2].url))
	g := launch(t, file)
	pace := func(script string) {
		for _, r := range replicas {
			r.say(t, script)
		}
	}
	pace("tokens=100 pace=0s")
	want := g.everyone(t, streams, func() {})
	pace("tokens=100 pace=100ms")
	taken := func() float64 {
		return g.sum(t, `gateway_upstream_continuations_total{[^}]*form="ids",outcome="taken"}`)
	}
	var running float64
	got := g.everyone(t, streams, func() {
		running = g.running(t, "a")
		if err := replicas[0].Process.Signal(sign); err != nil {
			t.Error(err)
		}
	})
	lost := 0
	for i, a := range got {
		if !a.ok() || a.dones != 1 || a.finish[0] != "stop" || len(a.oddities) > 0 || len(a.ids) != 1 || a.roles[0] != 1 || a.texts[0] != want[i].texts[0] {
			if lost++; lost <= 5 {
				t.Errorf("caller %d got %v\n%q, want\n%q", i, a, a.texts[0], want[i].texts[0])
			}
		}
	}
	t.Logf("%d streams, %v of them at the replica that went; %d were cut or differ, %v were taken up elsewhere", streams, running, lost, taken())
	if lost > 0 || running == 0 || taken() == 0 {
		t.Errorf("%d streams of %d are lost; of %v at the replica %v were taken up", lost, streams, running, taken())
	}
}

// midst is the event at which a stream of a hundred words counts as under way.
const midst = 20

// everyone makes so many calls at the same time, and calls begun once each is under way.
func (g *gateway) everyone(t *testing.T, count int, begun func()) []*answer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: count}}
	defer client.CloseIdleConnections()
	out := make([]*answer, count)
	var waiting, running sync.WaitGroup
	waiting.Add(count)
	for i := range out {
		running.Go(func() {
			request := fmt.Sprintf(`{"model":"chat","stream":true,"temperature":0,"messages":[{"role":"user","content":"caller %d"}]}`, i)
			underWay := sync.OnceFunc(waiting.Done)
			defer underWay()
			out[i] = g.listen(context.Background(), client, request, func(events int) {
				if events == midst {
					underWay()
				}
			})
		})
	}
	waiting.Wait()
	begun()
	running.Wait()
	return out
}

// running is how many calls a server has in flight.
func (g *gateway) running(t *testing.T, backend string) (calls float64) {
	t.Helper()
	var status struct {
		Backends []struct {
			Backend  string
			InFlight float64 `json:"in_flight"`
		}
	}
	g.read(t, "/status", &status)
	for _, b := range status.Backends {
		if b.Backend == backend {
			calls += b.InFlight
		}
	}
	return calls
}
