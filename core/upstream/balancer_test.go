package upstream

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// several is an Upstream of one pool with as many mock backends, and the backends by id.
func several(t *testing.T, n int, p PoolConfig) (*Upstream, map[string]*mock.Server) {
	t.Helper()
	cfg := Config{Backends: make(map[string]BackendConfig), Pools: make(map[string]PoolConfig)}
	servers := make(map[string]*mock.Server)
	for i := range n {
		id := string(rune('a' + i))
		s, url := backendAt(t, mock.Options{})
		servers[id], cfg.Backends[id] = s, BackendConfig{URL: url}
		p.Backends = append(p.Backends, id)
	}
	p.Models = []string{"mock*"}
	if p.Prefix == (PrefixConfig{}) {
		p.Prefix = usualPrefix
	}
	cfg.Pools["default"] = p
	return newUpstream(t, cfg), servers
}

// usualPrefix are the defaults of the configuration.
var usualPrefix = PrefixConfig{Hit: 0.5, Release: 8000, Running: 512, Slack: 4096}

// turns is a conversation up to its n-th turn.
func turns(name string, n int) string {
	var b strings.Builder
	b.WriteString(`{"model":"mock","messages":[`)
	for i := range n {
		if i > 0 {
			fmt.Fprintf(&b, `,{"role":"assistant","content":"%s"},`, strings.Repeat("ok ", 50))
		}
		words := 120
		if i == 0 {
			words = 400
		}
		fmt.Fprintf(&b, `{"role":"user","content":"%s, turn %d: %s"}`, name, i, strings.Repeat("word ", words))
	}
	return b.String() + "]}"
}

// answered makes a call and returns who answered it.
func answered(t *testing.T, u *Upstream, c *pipeline.Call) string {
	t.Helper()
	reply, err := u.Handle(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t, reply); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return c.Outcome.Backend
}

// By default a conversation stays where it began, and conversations are spread.
func TestConversationsStay(t *testing.T) {
	u, _ := several(t, 4, PoolConfig{Balance: "auto"})
	homes := make(map[string]int)
	for i := range 60 {
		name := fmt.Sprint("conversation ", i)
		home := answered(t, u, newCall(t, llm.Chat, turns(name, 1)))
		homes[home]++
		for n := 2; n <= 4; n++ {
			if got := answered(t, u, newCall(t, llm.Chat, turns(name, n))); got != home {
				t.Fatalf("%s: turn %d went to %s, the first to %s", name, n, got, home)
			}
		}
	}
	if len(homes) != 4 {
		t.Errorf("60 conversations went to %v", homes)
	}
	for _, b := range u.pools[0].members() {
		if b.peer.replica.Active() != 0 || b.peer.replica.Uncached() != 0 {
			t.Errorf("%s is left with %d calls and %d tokens", b.id, b.peer.replica.Active(), b.peer.replica.Uncached())
		}
	}
}

// What the fleet knows of prompts survives a reload, and goes with the server.
func TestConversationsStayThroughAReload(t *testing.T) {
	u, _ := several(t, 4, PoolConfig{Balance: "prefix"})
	home := answered(t, u, newCall(t, llm.Chat, turns("it", 3)))
	for _, b := range u.pools[0].members() { // by rendezvous alone it would go there again
		if b.id == home {
			new(balance.Lease).Begin(b.peer.replica, 6000)
		}
	}
	next := &Upstream{fleet: u.fleet, salt: u.salt, count: u.count}
	next.pools = []*pool{{name: "default", models: u.pools[0].models, timeouts: fast, retries: new(savings).under(0, 0), editions: &u.fleet.editions,
		balance: newBalancer(PoolConfig{Balance: "prefix", Prefix: usualPrefix}, u.fleet, u.count)}}
	next.pools[0].setMembers(u.pools[0].members())
	if got := answered(t, next, newCall(t, llm.Chat, turns("it", 4))); got != home {
		t.Errorf("went to %s, before to %s", got, home)
	}
}

// A prompt weighs until the first event, a call until its end; what was sent where is forgotten with the server.
func TestWhatACallWeighs(t *testing.T) {
	u, _ := several(t, 2, PoolConfig{Balance: "prefix"})
	c := newCall(t, llm.Chat, strings.Replace(turns("it", 2), `{"model"`, `{"stream":true,"model"`, 1))
	reply, err := u.Handle(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	sum := func() (calls, tokens int64) {
		for _, b := range u.pools[0].members() {
			calls, tokens = calls+b.peer.replica.Active(), tokens+b.peer.replica.Uncached()
		}
		return calls, tokens
	}
	if calls, tokens := sum(); calls != 1 || tokens != 0 {
		t.Errorf("%d calls and %d tokens behind the first event, want 1 and 0", calls, tokens)
	}
	_ = reply.Stream.Close()
	if calls, tokens := sum(); calls != 0 || tokens != 0 {
		t.Errorf("%d calls and %d tokens behind the end", calls, tokens)
	}
	if u.fleet.index.Len() == 0 {
		t.Error("nothing is remembered of the prompt")
	}
	_ = u.Close()
	if n := u.fleet.index.Len(); n != 0 {
		t.Errorf("%d blocks are remembered of servers that are gone", n)
	}
}

func TestSessions(t *testing.T) {
	key := func(c *pipeline.Call, v string) { c.Header.Set("X-Session-Id", v) }
	user := func(c *pipeline.Call, v string) { c.Principal = &pipeline.Principal{ID: v, Tenant: "t"} }
	for _, tt := range []struct {
		key   string
		known func(c *pipeline.Call, v string)
	}{
		{"header:x-session-id", key}, {"user", user}, {"conversation", nil},
	} {
		t.Run(tt.key, func(t *testing.T) {
			u, _ := several(t, 4, PoolConfig{Balance: "session", Session: SessionConfig{Key: tt.key, Bound: 1.25}})
			homes := make(map[string]int)
			for i := range 60 {
				name := fmt.Sprint("session ", i)
				home := ""
				for n := 1; n <= 3; n++ {
					c := newCall(t, llm.Chat, turns("same", n))
					if tt.known != nil {
						tt.known(c, name)
					} else {
						c = newCall(t, llm.Chat, turns(name, n))
					}
					got := answered(t, u, c)
					if home == "" {
						home = got
						homes[home]++
					}
					if got != home {
						t.Fatalf("%s: call %d went to %s, the first to %s", name, n, got, home)
					}
				}
			}
			if len(homes) != 4 {
				t.Errorf("60 sessions went to %v", homes)
			}
		})
	}
}

// Every way to balance answers calls, of every route, and gives back what it counted.
func TestEveryBalance(t *testing.T) {
	for _, by := range []string{"auto", "round-robin", "weighted", "least-inflight", "least-load", "prefix", "session"} {
		t.Run(by, func(t *testing.T) {
			u, servers := several(t, 3, PoolConfig{Balance: by, Session: SessionConfig{Key: "user", Bound: 1.25}})
			for i := range 30 {
				answered(t, u, newCall(t, llm.Chat, turns(fmt.Sprint(i), 1)))
				answered(t, u, newCall(t, llm.Embeddings, `{"model":"mock","input":"text"}`))
			}
			for id, s := range servers {
				if n := s.Stats().Requests; by != "session" && n < 3 {
					t.Errorf("%s got %d of 60 calls", id, n)
				}
			}
			for _, b := range u.pools[0].members() {
				if b.peer.replica.Active() != 0 || b.peer.replica.Uncached() != 0 {
					t.Errorf("%s is left with %d calls and %d tokens", b.id, b.peer.replica.Active(), b.peer.replica.Uncached())
				}
			}
		})
	}
}

// chainOf is the chain of a call's prompt.
func chainOf(t *testing.T, c *pipeline.Call, tenant, model string) []uint64 {
	t.Helper()
	if tenant != "" {
		c.Principal = &pipeline.Principal{Tenant: tenant}
	}
	u := single(t, "http://127.0.0.1:1")
	q := u.query(c, &pool{model: model, balance: balancer{prefix: true}})
	defer q.release()
	return slices.Clone(q.prepare(time.Now(), &pool{balance: balancer{prefix: true}}).Blocks)
}

func TestPromptsAreHashedAsTheyAreSent(t *testing.T) {
	first, third := chainOf(t, newCall(t, llm.Chat, turns("it", 1)), "a", "m"), chainOf(t, newCall(t, llm.Chat, turns("it", 3)), "a", "m")
	if len(first) < 2 || len(third) < 6 || !slices.Equal(first, third[:len(first)]) {
		t.Errorf("the first turn's %d blocks are not the beginning of the third's %d", len(first), len(third))
	}
	long := strings.Repeat("word ", 200)
	body := func(tools, system, user string) string {
		return fmt.Sprintf(`{"model":"mock","messages":[{"role":"system","content":"%s"},{"role":"user","content":"%s"}],"tools":%s}`, system, user, tools)
	}
	tool := func(name string) string { return `[{"type":"function","function":{"name":"` + name + `"}}]` }
	base := chainOf(t, newCall(t, llm.Chat, body(tool("f"), long, long)), "a", "m")
	for _, tt := range []struct {
		name          string
		tenant, model string
		body          string
		same          int // blocks in common
	}{
		{"the same", "a", "m", body(tool("f"), long, long), len(base)},
		{"another tenant", "b", "m", body(tool("f"), long, long), 0},
		{"no tenant", "", "m", body(tool("f"), long, long), 0},
		{"another model", "a", "n", body(tool("f"), long, long), 0},
		{"other tools", "a", "m", body(tool("g"), long, long), 0},
		{"another system prompt", "a", "m", body(tool("f"), "x"+long, long), 0},
		{"another end", "a", "m", body(tool("f"), long, long+long), len(base)},
		{"members in another order", "a", "m", fmt.Sprintf(`{"tools":%s,"stream":false,"messages":[{"role":"system","content":"%s"},{"role":"user","content":"%s"}],"model":"mock"}`, tool("f"), long, long), len(base)},
	} {
		got := chainOf(t, newCall(t, llm.Chat, tt.body), tt.tenant, tt.model)
		same := 0
		for same < min(len(got), len(base)) && got[same] == base[same] {
			same++
		}
		if same != tt.same {
			t.Errorf("%s: %d blocks in common, want %d", tt.name, same, tt.same)
		}
	}
}

// Two prompts that differ in what a plugin masks are one to the backend.
func TestMaskedPromptsAreHashedMasked(t *testing.T) {
	long := strings.Repeat("word ", 200)
	masked := func(number, profile string) []uint64 {
		c := newCall(t, llm.Chat, fmt.Sprintf(`{"model":"mock","messages":[{"role":"user","content":"%s %s"}]}`, number, long))
		c.Edits = []pipeline.TextEdits{{Edits: []llm.Edit{{End: len(number), With: []byte("[PHONE]")}}}}
		c.Decision.Mask.Profile = profile
		return chainOf(t, c, "a", "m")
	}
	plain := chainOf(t, newCall(t, llm.Chat, fmt.Sprintf(`{"model":"mock","messages":[{"role":"user","content":"[PHONE] %s"}]}`, long)), "a", "m")
	if one, two := masked("010-1111-2222", ""), masked("02-33", ""); !slices.Equal(one, two) || !slices.Equal(one, plain) {
		t.Errorf("%x, %x and %x", one, two, plain)
	}
	if one, two := masked("010-1111-2222", "none"), masked("02-33", "none"); slices.Equal(one, two) {
		t.Error("unmasked, two numbers have one hash")
	}
	c := newCall(t, llm.Chat, fmt.Sprintf(`{"model":"mock","messages":[{"role":"user","content":"%s"}]}`, long))
	c.System.Before = "Be brief."
	if with, without := chainOf(t, c, "a", "m"), chainOf(t, newCall(t, llm.Chat, string(c.Request.Body)), "a", "m"); with[0] == without[0] {
		t.Error("a system text of plugins is not hashed")
	}
}

// The memory of choosing is given back and used again: a call allocates next to nothing for it.
func TestChoosingAllocatesNothing(t *testing.T) {
	u, _ := several(t, 4, PoolConfig{Balance: "prefix"})
	p, c := u.pools[0], newCall(t, llm.Chat, turns("it", 8))
	choose := func() {
		q := u.query(c, p)
		defer q.release()
		if b, _ := p.pick(time.Now(), &q); b == nil {
			t.Fatal("nobody")
		}
	}
	choose()
	if n := testing.AllocsPerRun(100, choose); n > 3 {
		t.Errorf("%.1f allocations", n)
	}
}

// BenchmarkChoose is all that choosing one of 64 backends costs a call: short ones, and conversations of 64 KB.
func BenchmarkChoose(b *testing.B) {
	const backends = 64
	for _, by := range []string{"round-robin", "least-inflight", "least-load", "session", "prefix"} {
		for _, kb := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%dKB", by, kb), func(b *testing.B) {
				u := &Upstream{salt: newSalter(setting.Secret{}), count: NewMetrics(prometheus.NewRegistry())}
				p := &pool{name: "p", editions: new(atomic.Uint64)}
				p.balance = newBalancer(PoolConfig{Balance: by, Prefix: usualPrefix, Session: SessionConfig{Key: "conversation", Bound: 1.25}}, NewFleet(), u.count)
				members := make([]*backend, backends)
				for i := range members {
					members[i] = &backend{id: fmt.Sprint(i), weight: 1, peer: &peer{replica: balance.NewReplica(fmt.Sprint(i))}}
					members[i].peer.health.agree(usualHealth)
				}
				p.setMembers(members)
				calls := make([]*pipeline.Call, 64)
				for i := range calls {
					words := strings.Repeat(fmt.Sprintf("word %d ", i), 6)
					r := new(llm.Request)
					body := fmt.Sprintf(`{"model":"mock","messages":[{"role":"system","content":"%s"},{"role":"user","content":"%s"}]}`, strings.Repeat("rule ", 50), strings.Repeat(words, kb*1024/len(words)))
					if err := llm.ParseRequest(llm.Chat, []byte(body), r); err != nil {
						b.Fatal(err)
					}
					calls[i] = &pipeline.Call{Route: llm.Chat, Request: r}
				}
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					i++
					q := u.query(calls[i%len(calls)], p)
					if chosen, _ := p.pick(time.Now(), &q); chosen == nil {
						b.Fatal("nobody")
					}
					q.release()
				}
			})
		}
	}
}
