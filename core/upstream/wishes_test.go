package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// rendered is the body that a call's backend gets, less what the gateway asks for itself.
func rendered(t *testing.T, c *pipeline.Call) string {
	t.Helper()
	u := single(t, "http://127.0.0.1:1")
	p := u.pools[0]
	b := *p.members()[0]
	b.kind = "openai"
	o, err := u.render(c, try{pool: p, backend: &b})
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(o.body) {
		t.Fatalf("not JSON: %s", o.body)
	}
	return string(o.body)
}

func TestSystemText(t *testing.T) {
	const (
		bare   = `{"model":"mock","messages":[{"role":"user","content":"hi"}]}`
		system = `{"model":"mock","messages":[{"role":"user","content":"hi"},{"role":"developer","content":"say \"x\""},{"role":"system","content":"other"}]}`
		parts  = `{"model":"mock","messages":[{"role":"system","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}],"name":"kim"},{"role":"user","content":"hi"}]}`
	)
	all := pipeline.System{Before: "B\n", After: "\"A", Replace: ""}
	tests := []struct {
		name  string
		route llm.Endpoint
		body  string
		s     pipeline.System
		want  string
	}{
		{"nothing", llm.Chat, system, pipeline.System{}, system},
		{"a message of its own", llm.Chat, bare, all, `{"model":"mock","messages":[{"role":"system","content":"B\n\"A"},{"role":"user","content":"hi"}]}`},
		{"round the first system message", llm.Chat, system, all, strings.Replace(system, `say \"x\"`, `B\nsay \"x\"\"A`, 1)},
		{"round its parts", llm.Chat, parts, all, strings.Replace(strings.Replace(parts, `one`, `B\none`, 1), `two`, `two\"A`, 1)},
		{"in its place", llm.Chat, system, pipeline.System{Replace: "R", After: "A"}, strings.Replace(system, `say \"x\"`, `RA`, 1)},
		{"in its parts' place", llm.Chat, parts, pipeline.System{Replace: "R"}, strings.Replace(strings.Replace(parts, `one`, `R`, 1), `two`, ``, 1)},
		{"round an empty one", llm.Chat, `{"model":"mock","messages":[{"role":"system","content":""}]}`, all, `{"model":"mock","messages":[{"role":"system","content":"B\n\"A"}]}`},
		{"instructions", llm.Responses, `{"model":"mock","input":"hi","instructions":"be"}`, all, `{"model":"mock","input":"hi","instructions":"B\nbe\"A"}`},
		{"no instructions", llm.Responses, `{"model":"mock","input":[{"role":"system","content":"no"}]}`, all, `{"model":"mock","input":[{"role":"system","content":"no"}],"instructions":"B\n\"A"}`},
		{"null instructions", llm.Responses, `{"model":"mock","instructions":null,"input":"hi"}`, pipeline.System{Replace: "R"}, `{"model":"mock","instructions":"R","input":"hi"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, profile := range []string{"", "none"} {
				c := newCall(t, tt.route, tt.body)
				c.System, c.Decision.Mask.Profile = tt.s, profile
				if got := rendered(t, c); got != tt.want {
					t.Errorf("profile %q:\n got %s\nwant %s", profile, got, tt.want)
				}
			}
		})
	}
}

// TestSystemTextAndEdits: what plugins mask in the system message stays masked beside what they add to it, and goes
// with it; what stands in other texts stays.
func TestSystemTextAndEdits(t *testing.T) {
	const body = `{"model":"mock","messages":[{"role":"system","content":"kim and lee"},{"role":"user","content":"kim"}]}`
	edits := []pipeline.TextEdits{
		{Text: 0, Edits: []llm.Edit{{Start: 0, End: 3, With: []byte("[1]")}, {Start: 8, End: 11, With: []byte("[2]")}}},
		{Text: 1, Edits: []llm.Edit{{Start: 0, End: 3, With: []byte("[1]")}}},
	}
	for _, tt := range []struct {
		s    pipeline.System
		want string
	}{
		{pipeline.System{Before: "B", After: "A"}, "B[1] and [2]A"},
		{pipeline.System{Replace: "R"}, "R"},
	} {
		c := newCall(t, llm.Chat, body)
		c.Edits, c.System = edits, tt.s
		want := `{"model":"mock","messages":[{"role":"system","content":"` + tt.want + `"},{"role":"user","content":"[1]"}]}`
		for range 2 { // a second target gets the same
			if got := rendered(t, c); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		}
		if len(c.Edits) != 2 || len(c.Edits[0].Edits) != 2 {
			t.Errorf("the call's own edits changed: %+v", c.Edits)
		}
	}
}

// TestForward: what plugins send along reaches the backend, but nothing that the operator says himself.
func TestForward(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answerJSON))
	}))
	defer server.Close()
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: server.URL, Header: map[string]setting.Secret{"X-Own": setting.NewSecret("mine")}}},
		Pools:    map[string]PoolConfig{"default": {Models: []string{"mock*"}, Backends: []string{"one"}}},
	})
	c := newCall(t, llm.Chat, chat("x", false))
	c.Forward = http.Header{"X-Team": {"red", "blue"}, "X-Own": {"theirs"}, "X-Gone": {}, "User-Agent": {"theirs"}, "Accept-Encoding": {"gzip"}}
	reply, err := u.Handle(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t, reply); err != nil {
		t.Fatal(err)
	}
	if v := got.Values("X-Team"); len(v) != 2 || v[0] != "red" || v[1] != "blue" {
		t.Errorf("got %v", v)
	}
	if v := got.Values("X-Own"); len(v) != 1 || v[0] != "mine" {
		t.Errorf("the operator's header is %v", v)
	}
	if _, ok := got["X-Gone"]; ok || got.Get("User-Agent") != "nexus" || got.Get("Accept-Encoding") != "identity" {
		t.Errorf("got %v", got)
	}
}

// TestChosenPool: a plugin's pool is asked where the decision names none.
func TestChosenPool(t *testing.T) {
	_, url := backendAt(t, mock.Options{Tokens: 1})
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"a": {URL: url}, "b": {URL: url}},
		Pools:    map[string]PoolConfig{"first": {Models: []string{"mock"}, Backends: []string{"a"}}, "second": {Models: []string{"else"}, Backends: []string{"b"}}},
	})
	for _, tt := range []struct {
		pool    string
		targets []pipeline.Target
		backend string
		err     string
	}{
		{"", nil, "a", ""}, {"second", nil, "b", ""}, {"second", []pipeline.Target{{Pool: "first"}}, "a", ""},
		{"third", nil, "", `a plugin chose the pool "third", which is not configured`},
	} {
		c := newCall(t, llm.Chat, chat("x", false))
		c.Pool, c.Decision.Targets = tt.pool, tt.targets
		reply, err := u.Handle(context.Background(), c)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: got %v", tt.pool, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := drain(t, reply); err != nil || c.Outcome.Backend != tt.backend {
			t.Errorf("%q: got %q, %v; want %q", tt.pool, c.Outcome.Backend, err, tt.backend)
		}
	}
}
