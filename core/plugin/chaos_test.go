package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

const chaosGuest = "./testdata/chaos"

// harms are what hostile plugins do, where, and by which cause they are found out.
var harms = []struct{ harm, place, cause string }{
	{"loop", "on_text", "deadline"},
	{"exponential", "on_text", "deadline"},
	{"deep", "on_text", "depth"},
	{"grow", "on_text", "memory"},
	{"exit", "on_text", "exit"},
	{"flood", "on_text", "deadline"},
	{"garbage", "on_text", "bad_result"},
	{"range", "on_text", "bad_edit"},
	{"huge", "on_text", "bad_edit"},
	{"garbage", "on_request", "bad_result"},
	{"trap", "on_request", "trap"},
	{"trap", "on_text", "trap"},
	{"trap", "on_tool_call", "trap"},
	{"trap", "on_usage", "trap"},
	{"trap", "on_end", "trap"},
}

const chaosManifest = "name: %s\nhooks: [on_request, on_text, on_tool_call, on_usage, on_end]\ncapabilities: [log]\ndeadline: 50ms\n"

// chaosChain is pii-mask for everybody and a hostile plugin for each tenant that is named like one.
func chaosChain(t testing.TB) (fstest.MapFS, []Entry) {
	files := folder(t)
	chain := []Entry{{Name: "pii-mask", Deadline: 5 * time.Second}}
	for _, h := range harms {
		name := "bad-" + h.harm + "-" + h.place
		files[name+".wasm"] = &fstest.MapFile{Data: guest(t, chaosGuest)}
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, chaosManifest, name)}
		chain = append(chain, Entry{Name: name, Capabilities: []string{"log"}, Config: map[string]any{"harm": h.harm, "place": h.place},
			Directions: []string{request}, Only: Scope{Tenants: []string{name}}})
		if h.place == "on_tool_call" {
			chain[len(chain)-1].Directions = nil
		}
	}
	return files, chain
}

const chaosCall = `{"model":"m","stream":true,"messages":[{"role":"user","content":"tel 010-2345-6789"}]}`

// chaosReply has something for every hook.
var chaosReply = role + content(0, "call 010-") + content(0, "2345-6789 now") +
	event(0, `{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`) +
	`data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}` + "\n\n" +
	usage + "data: [DONE]\n\n"

// oneCall sends a tenant's call through the stage and returns what came back.
func oneCall(s *Stage, tenant string) (string, error) {
	r := &llm.Request{Endpoint: llm.Chat}
	if err := llm.ParseRequest(llm.Chat, []byte(chaosCall), r); err != nil {
		return "", err
	}
	c := &pipeline.Call{ID: "req", Route: llm.Chat, Request: r, Principal: &pipeline.Principal{ID: "k", Tenant: tenant}}
	reply, err := s.Handle(context.Background(), c, answers(llm.Chat, strings.NewReader(chaosReply)))
	if err != nil {
		return "", err
	}
	return drain(reply.Stream)
}

// foundOut sends a hostile plugin's calls until its harm is told by the cause it should be. On a machine that has other
// work, time may be up before.
func foundOut(t *testing.T, s *Set, registry *prometheus.Registry, name, cause string) {
	t.Helper()
	var err error
	for range 4 {
		_, err = oneCall(s.Stage(), name)
		s.Stage().last.wait()
		var f *failure
		told := errors.As(err, &f) && f.cause == cause && strings.Contains(err.Error(), name)
		if counted := value(t, registry, "gateway_plugin_faults_total", name, cause) >= 1; counted && (told || strings.HasSuffix(name, "on_end")) {
			return
		}
	}
	t.Errorf("%s was not found out by the cause %s: %v", name, cause, err)
}

// lateness measures how late a goroutine comes that has nothing to do but to wait for a millisecond.
func lateness(stop <-chan struct{}) (worst time.Duration) {
	for {
		began := time.Now()
		select {
		case <-stop:
			return worst
		case <-time.After(time.Millisecond):
			worst = max(worst, time.Since(began)-time.Millisecond)
		}
	}
}

// asWatch makes this binary another program, one that does nothing but to measure its lateness until nothing more is to
// be read, and then says how many nanoseconds that was.
const asWatch = "NEXUS_LATENESS"

func watchMain() {
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	fmt.Println(int64(lateness(stop)))
}

// machine measures how late another process comes meanwhile: what any call is delayed by on this machine now, whatever
// the gateway does. A goroutine of this one would be late by what the plugins do too.
func machine(t *testing.T) (late func() time.Duration) {
	t.Helper()
	watch := exec.Command(os.Args[0])
	watch.Env = append(os.Environ(), asWatch+"=1")
	in, err := watch.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	watch.Stdout = &out
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	return func() time.Duration {
		_ = in.Close()
		err := watch.Wait()
		n, bad := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
		if err != nil || bad != nil {
			t.Fatalf("%v, %q", err, out.String())
		}
		return time.Duration(n)
	}
}

// A weather is what came of a storm.
type weather struct {
	healthy, hostile int
	slowest          time.Duration // of the healthy calls
}

// refusedBy reports whether a hostile plugin's call ended by an error that names it. What on_end does comes too late for
// one, unless a busy machine starts the instance for an earlier hook too late.
func refusedBy(err error, name string) bool {
	if err == nil && strings.HasSuffix(name, "on_end") {
		return true
	}
	return err != nil && strings.Contains(err.Error(), name)
}

// entered is how many calls of hostile plugins' harmful hooks went into a guest.
func entered(t *testing.T, registry *prometheus.Registry) (n float64) {
	for _, h := range harms {
		n += max(0, value(t, registry, "gateway_plugin_calls_total", "bad-"+h.harm+"-"+h.place, h.place))
	}
	return n
}

// storm sends calls from eight callers at a time; one in ten is a hostile plugin's.
func storm(t *testing.T, s *Set, chain []Entry, calls int64) weather {
	const hostile = 10
	var all weather
	var mu sync.Mutex // guards all
	var left atomic.Int64
	left.Store(calls)
	var callers sync.WaitGroup
	for i := range 8 {
		rnd := rand.New(rand.NewPCG(7, uint64(i)))
		callers.Go(func() {
			for n := left.Add(-1); n >= 0; n = left.Add(-1) {
				tenant := "healthy"
				if n%hostile == 0 {
					tenant = chain[1+rnd.IntN(len(harms))].Name
				}
				began := time.Now()
				got, err := oneCall(s.Stage(), tenant)
				took := time.Since(began)
				mu.Lock()
				switch {
				case tenant != "healthy":
					all.hostile++
					if !refusedBy(err, tenant) {
						t.Errorf("a call of %s ended with %v", tenant, err)
					}
				case err != nil || !strings.Contains(got, "[PHONE]") || strings.Contains(got, "2345"):
					t.Errorf("a healthy call: %v\n%s", err, got)
				default:
					all.healthy++
					all.slowest = max(all.slowest, took)
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	return all
}

// TestChaos sends 10,000 calls, most of them healthy, while plugins of other tenants do every harm there is: no healthy
// call fails or is delayed by more than a plugin's deadline, each harm has its cause in error and metric, and what was
// used is given back.
func TestChaos(t *testing.T) {
	files, chain := chaosChain(t)
	registry := prometheus.NewRegistry()
	l, err := NewLoader(Options{Shipped: files, Decode: decode, Register: registry, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := l.Load(context.Background(), &Config{
		CacheDir: cacheDir(t), Chain: chain, Breaker: Breaker{Failures: 5, Window: 10 * time.Second, Pause: 200 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, h := range harms {
		foundOut(t, s, registry, chain[1+i].Name, h.cause)
	}
	usual := storm(t, s, chain, 1000).slowest // warms everything up: every plugin has as many instances as it will have
	goroutines, memory, resident := settled()
	calls, slackOfRace, most := int64(10_000), uint64(0), 50*time.Millisecond
	if racing { // everything takes ten times as long, and the detector's own memory grows
		calls, slackOfRace, most = 1000, 1<<30, 500*time.Millisecond
	}

	before := entered(t, registry)
	late := machine(t)
	got := storm(t, s, chain, calls)
	idle := late()
	s.Stage().last.wait()
	harmed := entered(t, registry) - before
	t.Logf("%d hostile calls, of which %.0f were let into a guest; the breakers kept the others out", got.hostile, harmed)
	if int64(got.hostile) != calls/10 || harmed < float64(len(harms)) {
		t.Errorf("%d hostile calls, %.0f entered; want %d, and at least one for each of %d harms", got.hostile, harmed, calls/10, len(harms))
	}
	slack := 4 * idle // a call waits for a processor more than once, and 8 callers share the processors
	t.Logf("%d healthy calls, the slowest took %v (when warming up: %v); an idle process was %v late", got.healthy, got.slowest, usual, idle)
	if got.slowest > most+slack {
		t.Errorf("a healthy call took %v; the deadline is %v, the machine's own delay %v", got.slowest, most, slack)
	}
	now, heap, rss := settled()
	t.Logf("goroutines %d → %d, heap %d → %d KiB, resident %d → %d MiB", goroutines, now, memory>>10, heap>>10, resident>>20, rss>>20)
	if now > goroutines+2 || heap > memory+8<<20 || rss > resident+48<<20+slackOfRace {
		t.Error("what was used is not given back")
	}
}

// fuelOf is how much fuel a call of a hostile plugin has where that and not its time ends it. A recursion in Go copies
// its stack on its way down, and is to come as deep as it may.
func fuelOf(harm string) int64 {
	if harm == "deep" {
		return 2_000_000_000
	}
	return 5_000_000
}

// TestEveryHarmEnters asks every hostile plugin as often, with no breaker before it and as much fuel for each call as the
// test says, while healthy calls go on: these calls enter a guest, each ends by its one cause in an error that
// names its plugin, and burns no more than its fuel, however fast the machine is.
func TestEveryHarmEnters(t *testing.T) {
	const each, slack = 10, 100_000 // slack: what a guest may burn until it is next asked
	files, chain := chaosChain(t)
	for i := range chain[1:] {
		chain[1+i].Deadline, chain[1+i].Instances = time.Minute, 1
		name := chain[1+i].Name
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, chaosManifest+"fuel: %d\n", name, fuelOf(harms[i].harm))}
	}
	chain[0].Deadline, chain[0].Instances = time.Minute, 1 // the one that is made at load
	registry := prometheus.NewRegistry()
	l, err := NewLoader(Options{Shipped: files, Decode: decode, Register: registry, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var callers, healthy sync.WaitGroup
	stop, well := make(chan struct{}), 0
	healthy.Go(func() {
		for ; ; well++ {
			select {
			case <-stop:
				return
			default:
			}
			if got, err := oneCall(s.Stage(), "healthy"); err != nil || !strings.Contains(got, "[PHONE]") {
				t.Errorf("a healthy call: %v\n%s", err, got)
				return
			}
		}
	})
	for i := range harms {
		callers.Go(func() {
			for range each {
				if _, err := oneCall(s.Stage(), chain[1+i].Name); !refusedBy(err, chain[1+i].Name) {
					t.Errorf("a call of %s ended with %v", chain[1+i].Name, err)
				}
				if harms[i].place == "on_end" {
					s.Stage().last.wait() // for an instance, ends wait for so long only
				}
			}
		})
	}
	callers.Wait()
	close(stop)
	healthy.Wait()
	s.Stage().last.wait()
	for i, h := range harms {
		name, cause := chain[1+i].Name, h.cause
		if cause == "deadline" {
			cause = "fuel" // which is what they have less of here
		}
		in := value(t, registry, "gateway_plugin_calls_total", name, h.place)
		if in < each/2 || in > 2*each { // a guest that a busy machine starts too late is not entered; of usage it is asked twice
			t.Errorf("%v of %d calls of %s entered a guest", in, each, name)
		}
		if got := value(t, registry, "gateway_plugin_faults_total", name, cause); got != in {
			t.Errorf("%v calls of %s ended by the cause %s, want %v", got, name, cause, in)
		}
		if burnt := s.plugins[1+i].pool.Stats().Funcs["nexus_"+h.place].Fuel.Sum; burnt > in*float64(fuelOf(h.harm)+slack) {
			t.Errorf("%s burnt %v units of fuel in %v calls of %d", name, burnt, in, fuelOf(h.harm))
		}
	}
	t.Logf("%d hostile calls, each in a guest, beside %d healthy ones", each*len(harms), well)
}

// settled is what runs and is held once nothing happens any more.
func settled() (goroutines int, heap, resident uint64) {
	for range 3 {
		debug.FreeOSMemory()
		time.Sleep(20 * time.Millisecond)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b, _ := os.ReadFile(filepath.Join("/proc", "self", "statm"))
	var size, pages uint64
	_, _ = fmt.Sscan(string(b), &size, &pages)
	return runtime.NumGoroutine(), m.HeapAlloc, pages * uint64(os.Getpagesize())
}

// TestTrapAtStart: a module that traps while it starts is refused when it is loaded.
func TestTrapAtStart(t *testing.T) {
	files, chain := chaosChain(t)
	l := loader(t, files)
	e := chain[1]
	e.Config = map[string]any{"harm": "start"}
	_, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{e}})
	if err == nil || !strings.Contains(err.Error(), "trap") || len(l.live) != 0 {
		t.Errorf("got %v", err)
	}
}
