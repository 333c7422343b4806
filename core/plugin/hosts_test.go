package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

const hostsGuest = "./testdata/hosts"

// hostsManifest asks for every capability there is.
var hostsManifest = "name: hosts\nhooks: [on_request, on_text]\ndeadline: 5s\nmetrics: [seen, kinds_found]\ncapabilities: [" +
	strings.Join(capabilities, ", ") + "]\n"

// memoryCounters are counters without a store.
type memoryCounters struct {
	sync.Mutex
	n    map[string]int64
	ttl  map[string]time.Duration
	fail error
}

func (m *memoryCounters) Get(ctx context.Context, key string) (int64, error) {
	n, _, err := m.IncrIf(ctx, key, 0, 1<<62, time.Second)
	return n, err
}

func (m *memoryCounters) IncrIf(_ context.Context, key string, amount, limit int64, ttl time.Duration) (int64, bool, error) {
	m.Lock()
	defer m.Unlock()
	to := max(0, m.n[key]+amount)
	if m.fail != nil || to > limit {
		return m.n[key], false, m.fail
	}
	m.n[key], m.ttl[key] = to, ttl
	return to, true, nil
}

// granted is a chain entry of the hosts guest that is granted everything.
func granted() Entry {
	return Entry{Name: "hosts", Capabilities: capabilities, HTTP: HTTP{Hosts: []string{"127.0.0.1:1"}}}
}

// hostsKit loads the hosts guest.
type hostsKit struct {
	plugin   *plugin
	counters *memoryCounters
	registry *prometheus.Registry
}

func newHosts(t testing.TB, e Entry) *hostsKit {
	t.Helper()
	k := &hostsKit{counters: &memoryCounters{n: map[string]int64{}, ttl: map[string]time.Duration{}}, registry: prometheus.NewRegistry()}
	files := fstest.MapFS{"hosts.wasm": {Data: guest(t, hostsGuest)}, "hosts.yaml": {Data: []byte(hostsManifest)}}
	l, err := NewLoader(Options{Shipped: files, Decode: decode, Counters: k.counters, Register: k.registry, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{e}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	})
	k.plugin = s.plugins[0]
	return k
}

// order has the guest call a host function and returns what it made of the answer.
func (k *hostsKit) order(t testing.TB, c *pipeline.Call, order string, reply bool) (string, error) {
	t.Helper()
	var a answer
	flags := uint32(abi.FlagFinal)
	if reply {
		flags |= abi.FlagReply
	}
	err := k.plugin.ask(context.Background(), &turn{call: c, reply: reply}, piece{text: []byte(order), flags: flags}, &a)
	if err != nil {
		return "", err
	}
	return string(a.edits[0].With), nil
}

// someone's call, with something of everything.
func someCall(t testing.TB) *pipeline.Call {
	c := newCall(t, llm.Chat, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
	c.Principal = &pipeline.Principal{ID: "key-1", Tenant: "acme", Tier: "gold", Labels: map[string]string{"grade": "a"}}
	c.Labels = map[string]string{"earlier": "yes", "empty": ""}
	c.Header = http.Header{"X-Trace": {"a", "b"}}
	return c
}

func TestHostFunctions(t *testing.T) {
	k := newHosts(t, granted())
	for _, tt := range []struct {
		order, want string // want: the answer, or after "! " how the call fails
		reply       bool
	}{
		{order: "log|a line", want: "done"},
		{order: "label_get|earlier", want: "[yes]"},
		{order: "label_get|empty", want: "[]"},
		{order: "label_get|later", want: "none"},
		{order: "label_get|later", want: "none", reply: true},
		{order: "label_set|new|1;label_get|new", want: "[1]"},
		{order: "label_set|new|1;label_set|new|2;label_get|new", want: "[2]"},
		{order: "label_set|new|1", want: "done", reply: true},
		{order: "label_set||1", want: `! label_set: label "": a name of up to 64 bytes and a value of up to 256 without control characters are wanted`},
		{order: "label_set|new|a\nb", want: `! label_set: label "new": a name of up to 64 bytes`},
		{order: "label_set|" + strings.Repeat("n", 65) + "|1", want: "! label_set: the name is 65 bytes long; the most is 64"},
		{order: "label_set|new|" + strings.Repeat("v", 257), want: "! label_set: the value is 257 bytes long; the most is 256"},
		{order: "labels|254", want: "done"},
		{order: "labels|255", want: "! label_set: a call has at most 256 labels"},
		{order: "call_get|1", want: "[req-1]"},
		{order: "call_get|2", want: "[chat]"},
		{order: "call_get|3", want: "[m]"},
		{order: "call_get|4", want: "[key-1]"},
		{order: "call_get|5", want: "[acme]"},
		{order: "call_get|6", want: "none"},
		{order: "call_get|7", want: "[gold]"},
		{order: "call_get|8|grade", want: "[a]"},
		{order: "call_get|8|other", want: "none"},
		{order: "call_get|9|earlier", want: "[yes]"},
		{order: "call_get|11|x-trace", want: "[a, b]"},
		{order: "call_get|11|x-other", want: "none"},
		{order: "call_get|0", want: "! call_get: nothing is known under the id 0"},
		{order: "call_get|10", want: "! call_get: nothing is known under the id 10"},
		{order: "call_get|1|x", want: `! call_get: what is known under the id 1 has no name, but was asked for as "x"`},
		{order: "model_set|m2;call_get|3", want: "[m2]"},
		{order: "model_set|", want: `! model_set: model "": a name without control characters is wanted`},
		{order: "model_set|m2", want: "! model_set: the reply is on its way: this may be said of requests alone", reply: true},
		{order: "pool_set|p", want: "done"},
		{order: "pool_set|p", want: "! pool_set: the reply is on its way", reply: true},
		{order: "kv_get|a", want: "0"},
		{order: "kv_incr_if|b|2|3|1000;kv_incr_if|b|2|3|1000", want: "-1 false"},
		{order: "kv_incr_if|c|2|3|1000;kv_incr_if|c|-5|3|1000", want: "0 true"},
		{order: "kv_incr_if|d|2|3|1000;kv_get|d", want: "2"},
		{order: "kv_get|", want: "! kv_get: the key is empty"},
		{order: "kv_get|" + strings.Repeat("k", 257), want: "! kv_get: the key is 257 bytes long; the most is 256"},
		{order: "kv_incr_if|a|1|3|999", want: "! kv_incr_if: a life of 999 ms is out of range: it is 1s to 8784h0m0s"},
		{order: "kv_incr_if|a|1|3|31622400001", want: "! kv_incr_if: a life of 31622400001 ms is out of range"},
		{order: "kv_incr_if|a|1|-1|1000", want: "! kv_incr_if: the limit -1 is out of range"},
		{order: "kv_incr_if|a|1125899906842625|1|1000", want: "! kv_incr_if: the amount 1125899906842625 is out of range: the most is 1125899906842624"},
		{order: "vault_put|Kim|<1>", want: "done"},
		{order: "vault_put|Kim|<1>;vault_put|Kim|<1>", want: "done"},
		{order: "vault_put|Kim|<1>;vault_put|Lee|<1>", want: "! vault_put: the token already stands for another value"},
		{order: "vault_put|Kim|", want: "! vault_put: a token of 1 to 128 bytes without control characters is wanted"},
		{order: "vault_put||<1>", want: "! vault_put: a value of 1 to 4096 bytes is wanted"},
		{order: "vault_put|" + strings.Repeat("v", 4097) + "|<1>", want: "! vault_put: the value is 4097 bytes long; the most is 4096"},
		{order: "vault_put|Kim|<1>", want: "! vault_put: the reply is on its way", reply: true},
		{order: "fill|1024", want: "done"},
		{order: "fill|1025", want: "! vault_put: a call has at most 1024 tokens"},
		{order: "metric|seen|2.5", want: "done"},
		{order: "metric|other|1", want: `! metric: the manifest's metrics name no "other"`},
		{order: "metric|seen|-1", want: "! metric: a counter grows by 0 or more, not by -1"},
		{order: "metric|seen|Inf", want: "! metric: a counter grows by 0 or more, not by +Inf"},
		{order: "metric|seen|NaN", want: "! metric: a counter grows by 0 or more, not by NaN"},
		{order: "random|4097", want: "! random: the place to fill is 4097 bytes long; the most is 4096"},
		{order: "http|GET|http://127.0.0.1:2/", want: "the configuration does not let the plugin ask there"},
		{order: "http|GET|http://127.0.0.1:1/", want: "the request was not answered in time, or by too much"},
		{order: "http|GET|http://127.0.0.1:1/|Host|x", want: `! http_call: header "Host" is the gateway's own`},
		{order: "http|GET|http://127.0.0.1:1/|content-length|1", want: `! http_call: header "content-length" is the gateway's own`},
		{order: "http|GET|http://127.0.0.1:1/|Proxy-Authorization|x", want: `! http_call: header "Proxy-Authorization" is the gateway's own`},
		{order: "http|GET|http://127.0.0.1:1/|a b|x", want: `! http_call: header "a b" is not one that HTTP knows`},
		{order: "http|GET|http://127.0.0.1:1/|A|x\r\nB: c", want: `! http_call: header "A" is not one that HTTP knows`},
		{order: "http|CONNECT|http://127.0.0.1:1/", want: `! http_call: method "CONNECT" is none of`},
		{order: "http|GET|file:///etc/passwd", want: `! http_call: "file:///etc/passwd" is not the address of something to ask`},
		{order: "http|GET|http://a:b@127.0.0.1:1/", want: "! http_call: \"http://a:b@127.0.0.1:1/\" is not the address"},
		{order: "http|GET|", want: `! http_call: "" is not the address of something to ask`},
		{order: "http|POST|http://127.0.0.1:1/|||40000", want: "the configuration does not let the plugin ask there"},
	} {
		t.Run(tt.order[:min(len(tt.order), 40)], func(t *testing.T) {
			got, err := k.order(t, someCall(t), tt.order, tt.reply)
			checkOrder(t, got, err, tt.want)
		})
	}
}

// checkOrder compares an answer with what is wanted: the answer, or after "! " how the call fails.
func checkOrder(t testing.TB, got string, err error, want string) {
	t.Helper()
	why, fails := strings.CutPrefix(want, "! ")
	if !fails {
		if err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		return
	}
	var f *failure
	if !errors.As(err, &f) || f.cause != "host" || !strings.Contains(err.Error(), why) {
		t.Errorf("got %q, %v; want a failure of cause host: %s", got, err, why)
	}
}

// TestHostPointers gives every pointer and length of every host function values outside the guest's memory: the call
// ends, the gateway does not.
func TestHostPointers(t *testing.T) {
	k := newHosts(t, granted())
	const far, small = "4294967295", "8"
	for _, tt := range []struct{ order, want string }{
		{"raw log|" + far + "|8", "! log: the line at 4294967295, 8 bytes long, is outside the guest's memory"},
		{"raw log|8|" + far, "0"}, // cut to a line
		{"raw label_get|" + far + "|8|8|8", "! label_get: the name at"},
		{"raw label_get|8|" + far + "|8|8", "! label_get: the name is 4294967295 bytes long"},
		{"raw label_set|" + far + "|8|8|8", "! label_set: the name at"},
		{"raw label_set|8|8|" + far + "|8", "! label_set: the value at"},
		{"raw call_get|1|0|0|" + far + "|8", "! call_get: the answer's place at 4294967295, 5 bytes long, is outside the guest's memory"},
		{"raw call_get|1|0|0|" + far + "|0", "! call_get: the answer's place at"},
		{"raw call_get|1|0|0|8|0", "5"}, // room for nothing
		{"raw call_get|1|0|0|8|" + far, "5"},
		{"raw call_get|1|" + far + "|1|8|8", "! call_get: the name at"},
		{"raw call_get|" + far + "|0|0|8|8", "! call_get: nothing is known under the id 4294967295"},
		{"raw model_set|" + far + "|8", "! model_set: the model at"},
		{"raw pool_set|8|" + far, "! pool_set: the pool is 4294967295 bytes long; the most is 256"},
		{"raw kv_get|" + far + "|8", "! kv_get: the key at"},
		{"raw kv_incr_if|" + far + "|8", "! kv_incr_if: the key at"},
		{"raw vault_put|" + far + "|8|8|8", "! vault_put: the value at"},
		{"raw vault_put|8|8|" + far + "|8", "! vault_put: the token at"},
		{"raw metric|" + far + "|4", "! metric: the name at"},
		{"raw random|" + far + "|4", "! random: the place to fill at"},
		{"raw random|8|" + far, "! random: the place to fill is 4294967295 bytes long"},
		{"raw http_call|" + far + "|8|8|8", "! http_call: the request at"},
		{"raw http_call|8|" + far + "|8|8", "! http_call: the request is 4294967295 bytes long"},
		{"raw http_call|8|3|8|8", "! http_call: a record of 3 bytes"},
	} {
		t.Run(tt.order, func(t *testing.T) {
			got, err := k.order(t, someCall(t), tt.order, false)
			checkOrder(t, got, err, tt.want)
		})
	}
}

// TestHostsWithoutACall: what is said of a call cannot be said while there is none.
func TestHostsWithoutACall(t *testing.T) {
	files := fstest.MapFS{"hosts.wasm": {Data: guest(t, hostsGuest)}, "hosts.yaml": {Data: []byte(hostsManifest)}}
	l := loader(t, files)
	for _, order := range []string{"label_get|a", "label_set|a|b", "call_get|1", "model_set|m", "pool_set|p", "kv_get|k", "vault_put|a|b", "http|GET|http://127.0.0.1:1/"} {
		e := granted()
		e.Config = map[string]any{"order": order}
		_, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{e}})
		if err == nil || !strings.Contains(err.Error(), errNoCall.Error()) {
			t.Errorf("%s: got %v", order, err)
		}
	}
	for _, order := range []string{"log|a", "now_ms", "random|8", "metric|seen|1"} {
		e := granted()
		e.Config = map[string]any{"order": order}
		s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{e}})
		if err != nil {
			t.Errorf("%s: %v", order, err)
			continue
		}
		_ = s.Close()
	}
}

// TestWishes: what a guest tells the host comes true when it has answered, and not when it fails.
func TestWishes(t *testing.T) {
	k := newHosts(t, granted())
	const all = "label_set|new|1;model_set|m2;pool_set|p;vault_put|Kim|<1>"
	c := someCall(t)
	if _, err := k.order(t, c, all+";trap", false); err == nil {
		t.Fatal("a trap passed")
	}
	if c.Labels["new"] != "" || c.Request.Model != "m" || c.Pool != "" || len(c.Vault) != 0 {
		t.Errorf("a plugin that failed changed the call: %v %q %q %v", c.Labels, c.Request.Model, c.Pool, c.Vault)
	}
	if _, err := k.order(t, c, all, false); err != nil {
		t.Fatal(err)
	}
	if c.Labels["new"] != "1" || c.Request.Model != "m2" || c.Pool != "p" || !slices.Equal(c.Vault, []pipeline.Token{{Token: "<1>", Value: "Kim"}}) {
		t.Errorf("the call became %v %q %q %v", c.Labels, c.Request.Model, c.Pool, c.Vault)
	}
	if _, err := k.order(t, c, "vault_put|Lee|<1>", false); err == nil {
		t.Error("a token stands for two values")
	}
}

// TestCountersAreThePlugins: keys are kept apart by plugin, lives are passed on, and a store that is away stops the call.
func TestCountersAreThePlugins(t *testing.T) {
	k := newHosts(t, granted())
	if _, err := k.order(t, someCall(t), "kv_incr_if|key|2|9|60000", false); err != nil {
		t.Fatal(err)
	}
	if got := k.counters.n["hosts\x00key"]; got != 2 || k.counters.ttl["hosts\x00key"] != time.Minute {
		t.Errorf("counted %v, living %v", k.counters.n, k.counters.ttl)
	}
	k.counters.fail = errors.New("the store is away")
	_, err := k.order(t, someCall(t), "kv_get|key", false)
	checkOrder(t, "", err, "! kv_get: the store is away")
	k.plugin.counters = nil
	_, err = k.order(t, someCall(t), "kv_get|key", false)
	checkOrder(t, "", err, "! kv_get: this gateway keeps no counters")
}

// TestClockAndChance: the time is the time, and random bytes are not the same twice.
func TestClockAndChance(t *testing.T) {
	k := newHosts(t, granted())
	before := time.Now().UnixMilli()
	got, err := k.order(t, someCall(t), "now_ms", false)
	if ms, _ := strconv.ParseInt(got, 10, 64); err != nil || ms < before || ms > time.Now().UnixMilli() {
		t.Errorf("the time is %s, %v", got, err)
	}
	sums := map[string]bool{}
	for range 8 {
		got, err := k.order(t, someCall(t), "random|4096", false)
		if err != nil {
			t.Fatal(err)
		}
		sums[got] = true
	}
	if len(sums) < 4 {
		t.Errorf("eight times 4096 random bytes have the sums %v", sums)
	}
}

// TestOwnMetrics: a plugin's counters are exported under its name.
func TestOwnMetrics(t *testing.T) {
	k := newHosts(t, granted())
	for range 2 {
		if _, err := k.order(t, someCall(t), "metric|seen|1.25", false); err != nil {
			t.Fatal(err)
		}
	}
	if got := value(t, k.registry, "gateway_plugin_metric_total", "hosts", "seen"); got != 2.5 {
		t.Errorf("seen stands at %v", got)
	}
}

// value is a metric's value at the labels' values, in the order of the labels' names.
func value(t testing.TB, r *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(labels)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetValue())
			}
			slices.Sort(got)
			if slices.Equal(got, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return -1
}

// TestImports checks each host function's signature and capability, one module at a time.
func TestImports(t *testing.T) {
	for _, f := range hostFunctions {
		right := importing(abi.Module, f.name, f.Signature)
		if err := inspect(right, map[string]bool{f.capability: true}, 0); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		err := inspect(right, map[string]bool{}, 0)
		want := fmt.Sprintf("imports nexus.%s without asking for the capability %q in its manifest: name it among the manifest's capabilities, or build it without that import", f.name, f.capability)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", f.name, err, want)
		}
		wrong := f.Signature
		wrong.Params = append(slices.Clone(wrong.Params), i32...)
		err = inspect(importing(abi.Module, f.name, wrong), map[string]bool{f.capability: true}, 0)
		want = fmt.Sprintf("imports nexus.%s as a function %v, but it is a function %v: correct its signature, or take the SDK's", f.name, wrong, f.Signature)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", f.name, err, want)
		}
	}
}
