package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

const (
	goodKey     = "nx-good-0123456789"
	otherKey    = "nx-other-0123456789"
	expiredKey  = "nx-expired-0123456789"
	disabledKey = "nx-disabled-0123456789"
)

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func testConfig() Config {
	return Config{Keys: []Entry{
		{ID: "good", SHA256: hashOf(goodKey), Tenant: "acme", Team: "search", Tier: "gold", Roles: []string{"dev"},
			Labels: map[string]string{"region": "kr"}, Models: []string{"small", "llama-*"}},
		{ID: "other", SHA256: strings.ToUpper(hashOf(otherKey)), Tenant: "globex"},
		{ID: "expired", SHA256: hashOf(expiredKey), Expires: "2020-01-01T00:00:00Z"},
		{ID: "disabled", SHA256: hashOf(disabledKey), Disabled: true},
	}}
}

func newKeys(t testing.TB, cfg Config) *Keys {
	t.Helper()
	k, err := New(cfg, decodeYAML)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func decodeYAML(_ string, data []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	return d.Decode(into)
}

// ask passes a call with headers h through s and returns the call as the next stage saw it.
func ask(s pipeline.Stage, c *pipeline.Call) (reached bool, err error) {
	next := pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		reached = true
		return &llm.Reply{}, nil
	})
	_, err = s.Handle(context.Background(), c, next)
	return reached, err
}

func refusal(t *testing.T, err error) *pipeline.Refusal {
	t.Helper()
	var f *pipeline.Refusal
	if !errors.As(err, &f) {
		t.Fatalf("got error %v, want a refusal", err)
	}
	return f
}

func TestCredentials(t *testing.T) {
	long := strings.Repeat("k", maxKey+1)
	tests := []struct {
		name   string
		header http.Header
		want   string // principal; "" with a word of the refusal
		word   string
	}{
		{"bearer", http.Header{"Authorization": {"Bearer " + goodKey}}, "good", ""},
		{"scheme in any case", http.Header{"Authorization": {"bEARER " + goodKey}}, "good", ""},
		{"spaces after the scheme", http.Header{"Authorization": {"Bearer   " + goodKey}}, "good", ""},
		{"api key", http.Header{"X-Api-Key": {goodKey}}, "good", ""},
		{"hash in upper case", http.Header{"X-Api-Key": {otherKey}}, "other", ""},
		{"both the same", http.Header{"Authorization": {"Bearer " + goodKey}, "X-Api-Key": {goodKey}}, "good", ""},
		{"none", http.Header{}, "", "No API key"},
		{"nil headers", nil, "", "No API key"},
		{"both good and different", http.Header{"Authorization": {"Bearer " + goodKey}, "X-Api-Key": {otherKey}}, "", "different keys"},
		{"good and wrong", http.Header{"Authorization": {"Bearer " + goodKey}, "X-Api-Key": {"nx-wrong"}}, "", "different keys"},
		{"wrong and good", http.Header{"Authorization": {"Bearer nx-wrong"}, "X-Api-Key": {goodKey}}, "", "different keys"},
		{"malformed and good", http.Header{"Authorization": {"Basic abc"}, "X-Api-Key": {goodKey}}, "", "malformed"},
		{"good and empty", http.Header{"Authorization": {"Bearer " + goodKey}, "X-Api-Key": {""}}, "", "malformed"},
		{"wrong", http.Header{"Authorization": {"Bearer nx-wrong"}}, "", "not known"},
		{"prefix of a good one", http.Header{"Authorization": {"Bearer " + goodKey[:len(goodKey)-1]}}, "", "not known"},
		{"good one and more", http.Header{"Authorization": {"Bearer " + goodKey + "0"}}, "", "not known"},
		{"the hash", http.Header{"Authorization": {"Bearer " + hashOf(goodKey)}}, "", "not known"},
		{"expired", http.Header{"Authorization": {"Bearer " + expiredKey}}, "", "expired"},
		{"disabled", http.Header{"Authorization": {"Bearer " + disabledKey}}, "", "disabled"},
		{"no scheme", http.Header{"Authorization": {goodKey}}, "", "malformed"},
		{"basic", http.Header{"Authorization": {"Basic " + goodKey}}, "", "malformed"},
		{"scheme alone", http.Header{"Authorization": {"Bearer"}}, "", "malformed"},
		{"scheme and space", http.Header{"Authorization": {"Bearer "}}, "", "malformed"},
		{"empty", http.Header{"Authorization": {""}}, "", "malformed"},
		{"list in one", http.Header{"Authorization": {"Bearer " + goodKey + ", Bearer " + otherKey}}, "", "malformed"},
		{"tab", http.Header{"Authorization": {"Bearer\t" + goodKey}}, "", "malformed"},
		{"space at the end", http.Header{"Authorization": {"Bearer " + goodKey + " "}}, "", "malformed"},
		{"NUL", http.Header{"Authorization": {"Bearer " + goodKey + "\x00"}}, "", "malformed"},
		{"not ASCII", http.Header{"Authorization": {"Bearer 키키키키키키"}}, "", "malformed"},
		{"too long", http.Header{"Authorization": {"Bearer " + long}}, "", "malformed"},
		{"too long api key", http.Header{"X-Api-Key": {long}}, "", "malformed"},
		{"twice", http.Header{"Authorization": {"Bearer " + goodKey, "Bearer " + goodKey}}, "", "More than one"},
		{"api key twice", http.Header{"X-Api-Key": {goodKey, otherKey}}, "", "More than one"},
		{"the word null", http.Header{"Authorization": {"Bearer null"}}, "", "not known"},
	}
	k := newKeys(t, testConfig())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &pipeline.Call{Header: tt.header}
			reached, err := ask(k, c)
			for _, name := range credentials {
				if _, there := c.Header[name]; there {
					t.Errorf("%s is still in the call", name)
				}
			}
			if tt.want != "" {
				if err != nil || c.Principal == nil || c.Principal.ID != tt.want {
					t.Fatalf("got principal %v and error %v, want %q", c.Principal, err, tt.want)
				}
				return
			}
			f := refusal(t, err)
			if reached || c.Principal != nil {
				t.Errorf("the call went on as %v", c.Principal)
			}
			if f.Kind != pipeline.Unauthenticated || f.Code != "invalid_api_key" || !strings.Contains(f.Reason, tt.word) {
				t.Errorf("got %+v, want a 401 invalid_api_key that says %q", f, tt.word)
			}
			for _, key := range []string{goodKey, otherKey, expiredKey, "nx-wrong", "키키"} {
				if strings.Contains(f.Error(), key) {
					t.Errorf("the refusal shows the key: %s", f.Error())
				}
			}
		})
	}
}

func TestPrincipal(t *testing.T) {
	k := newKeys(t, testConfig())
	c := &pipeline.Call{Header: http.Header{"X-Api-Key": {goodKey}}}
	d := &pipeline.Call{Header: http.Header{"Authorization": {"Bearer " + goodKey}}}
	for _, call := range []*pipeline.Call{c, d} {
		if _, err := ask(k, call); err != nil {
			t.Fatal(err)
		}
	}
	p := c.Principal
	if p != d.Principal {
		t.Error("two calls of one key have two principals, want the shared one")
	}
	if p.Kind != "key" || p.Tenant != "acme" || p.Team != "search" || p.Tier != "gold" || p.Labels["region"] != "kr" || p.Roles[0] != "dev" {
		t.Errorf("got %+v", p)
	}
	cfg := Config{Keys: []Entry{{ID: "solo", SHA256: hashOf(goodKey)}}}
	c = &pipeline.Call{Header: http.Header{"X-Api-Key": {goodKey}}}
	if _, err := ask(newKeys(t, cfg), c); err != nil || c.Principal.Tenant != "solo" {
		t.Errorf("got tenant %q and %v, want the key's id", c.Principal.Tenant, err)
	}
}

func TestAnonymous(t *testing.T) {
	cfg := testConfig()
	cfg.Anonymous = true
	k := newKeys(t, cfg)
	c := &pipeline.Call{Header: http.Header{}}
	if _, err := ask(k, c); err != nil || c.Principal.ID != "anonymous" || c.Principal.Tier != "anonymous" {
		t.Errorf("got %v and %v, want anonymous", c.Principal, err)
	}
	for _, h := range []http.Header{
		{"Authorization": {"Bearer nx-wrong"}}, {"Authorization": {"Bearer " + expiredKey}}, {"Authorization": {""}},
		{"X-Api-Key": {""}}, {"X_api_key": {goodKey}},
	} {
		c := &pipeline.Call{Header: h.Clone()}
		if reached, err := ask(k, c); err == nil || reached {
			t.Errorf("%v fell back to anonymous", h)
		}
	}
}

// TestHeaderVariants is S-06: whatever spelling a credential or another gateway's identity comes under,
// only the two canonical headers identify, and no variant is left for those behind.
func TestHeaderVariants(t *testing.T) {
	k := newKeys(t, testConfig())
	tried := 0
	for _, name := range credentials {
		for _, variant := range spellings(name) {
			for _, value := range []string{"Bearer " + otherKey, otherKey, "", goodKey + " ", "admin"} {
				tried++
				h := http.Header{"Authorization": {"Bearer " + goodKey}, "Connection": {variant}, "Accept": {"*/*"}}
				if variant == "Authorization" || variant == "X-Api-Key" {
					continue // TestCredentials
				}
				h[variant] = []string{value}
				c := &pipeline.Call{Header: h}
				_, err := ask(k, c)
				if err == nil && c.Principal.ID != "good" {
					t.Fatalf("%s: %s made the caller %s", variant, value, c.Principal.ID)
				}
				if reads := credential(variant) < 2; reads != (err != nil) {
					t.Errorf("%s: got error %v, want refusal %v", variant, err, reads)
				}
				if len(h) != 2 {
					t.Errorf("%s: left over %v", variant, h)
				}
			}
		}
	}
	if tried < 200 {
		t.Errorf("only %d variants", tried)
	}
}

func spellings(name string) []string {
	return []string{
		name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"),
		strings.ReplaceAll(strings.ToUpper(name), "-", "_"), strings.ReplaceAll(strings.ToLower(name), "-", "_"),
	}
}

// TestNearCollisions is S-17 (LiteLLM CVE-2026-35030 looked at the first 20 bytes alone).
func TestNearCollisions(t *testing.T) {
	const n = 10_000
	cfg := Config{}
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("nx-%s%05d%s", strings.Repeat("a", 30), i, strings.Repeat("b", 30))
		cfg.Keys = append(cfg.Keys, Entry{ID: fmt.Sprintf("k%d", i), SHA256: hashOf(keys[i])})
	}
	k := newKeys(t, cfg)
	for i, key := range keys {
		c := &pipeline.Call{Header: http.Header{"X-Api-Key": {key}}}
		if _, err := ask(k, c); err != nil || c.Principal.ID != fmt.Sprintf("k%d", i) {
			t.Fatalf("key %d: got %v and %v", i, c.Principal, err)
		}
		near := []byte(key)
		near[i%len(near)] ^= 1
		c = &pipeline.Call{Header: http.Header{"X-Api-Key": {string(near)}}}
		if _, err := ask(k, c); err == nil && c.Principal.ID == fmt.Sprintf("k%d", i) {
			t.Fatalf("%s passed as %s", near, key)
		}
	}
}

// TestSamePath is the shape behind S-16: unknown and known keys are all hashed, looked up and compared.
// The best of many runs must lie close together; it finds an early return, not a cycle.
func TestSamePath(t *testing.T) {
	k := newKeys(t, testConfig())
	if k.nobody.hash == [sha256.Size]byte{} {
		t.Error("unknown keys are compared with zeros")
	}
	cost := func(s shown) time.Duration {
		best := time.Hour
		for range 50 {
			start := time.Now()
			for range 200 {
				k.identify(s)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	known, unknown := cost(shown{expiredKey, true}), cost(shown{"nx-unknown-1234567890", true})
	if known > 4*unknown || unknown > 4*known {
		t.Errorf("a refused known key takes %v, an unknown one %v", known, unknown)
	}
}

func TestExpiry(t *testing.T) {
	k := newKeys(t, Config{Keys: []Entry{{ID: "a", SHA256: hashOf(goodKey), Expires: "2030-01-01T09:00:00+09:00"}}})
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		now  time.Time
		want bool
	}{{at.Add(-time.Second), true}, {at, false}, {at.Add(time.Hour), false}} {
		k.now = func() time.Time { return tt.now }
		_, err := ask(k, &pipeline.Call{Header: http.Header{"X-Api-Key": {goodKey}}})
		if got := err == nil; got != tt.want {
			t.Errorf("at %v: got in %v, want %v", tt.now, got, tt.want)
		}
	}
}

func TestModels(t *testing.T) {
	tests := []struct {
		name    string
		models  []string
		route   llm.Endpoint
		request string
		path    string
		want    int // 0: passes
	}{
		{"all", nil, llm.Chat, "anything", "", 0},
		{"all, none named", nil, llm.Chat, "", "", 0},
		{"exact", []string{"small"}, llm.Chat, "small", "", 0},
		{"pattern", []string{"llama-*"}, llm.Chat, "llama-3", "", 0},
		{"star", []string{"*"}, llm.Chat, "x", "", 0},
		{"other", []string{"small", "llama-*"}, llm.Chat, "big", "", 404},
		{"longer", []string{"small"}, llm.Chat, "small-2", "", 404},
		{"case", []string{"small"}, llm.Chat, "Small", "", 404},
		{"none named", []string{"small"}, llm.Chat, "", "", 400},
		{"body counts, not path", []string{"small"}, llm.Chat, "big", "small", 404},
		{"path allowed", []string{"small"}, llm.Models, "", "small", 0},
		{"path other", []string{"small"}, llm.Models, "", "big", 404},
		{"list", []string{"small"}, llm.Models, "", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &pipeline.Call{Route: tt.route, Model: tt.path, Request: &llm.Request{Model: tt.request},
				Principal: &pipeline.Principal{ID: "p", Models: tt.models}}
			_, err := ask(Models{}, c)
			if tt.want == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f := refusal(t, err)
			kind := map[int]pipeline.Kind{404: pipeline.NotFound, 400: pipeline.Invalid}[tt.want]
			if f.Kind != kind || f.Param != "model" {
				t.Errorf("got %+v, want %d", f, tt.want)
			}
		})
	}
	if reached, err := ask(Models{}, &pipeline.Call{Request: &llm.Request{Model: "x"}}); reached || err == nil {
		t.Error("a call without a principal went on")
	}
	var nobody *pipeline.Principal
	if nobody.MayUse("x") {
		t.Error("nobody may use a model")
	}
}

func TestRefuseQuery(t *testing.T) {
	for query, want := range map[string]bool{
		"": false, "a=b": false, "limit=5&after=x": false, "keys=5": false, "monkey=1": false, "=key": false, "%zz=1": false,
		"api_key=SECRET": true, "key=SECRET": true, "access_token=SECRET": true, "x=1&API-KEY=SECRET": true,
		"x=1;apikey=SECRET": true, "api%5Fkey=SECRET": true, "%6bey=SECRET": true, "key": true, "+key=SECRET": true,
		"token=SECRET": true, "Authorization=Bearer+SECRET": true, "&&&key=SECRET": true,
	} {
		f := RefuseQuery(query)
		if got := f != nil; got != want {
			t.Errorf("%q: refused %v, want %v", query, got, want)
		}
		if f != nil && (strings.Contains(f.Error(), "SECRET") || f.Kind != pipeline.Unauthenticated) {
			t.Errorf("%q: got %+v", query, f)
		}
	}
}

func TestKeyInQuery(t *testing.T) {
	cfg := testConfig()
	cfg.Anonymous = true
	for _, h := range []http.Header{{}, {"X-Api-Key": {goodKey}}} {
		c := &pipeline.Call{Query: "limit=1&api_key=" + goodKey, Header: h}
		reached, err := ask(newKeys(t, cfg), c)
		if f := refusal(t, err); reached || f.Kind != pipeline.Unauthenticated || strings.Contains(f.Error(), goodKey) || len(h) != 0 {
			t.Errorf("got %+v", f)
		}
	}
}

func TestValidate(t *testing.T) {
	good := hashOf(goodKey)
	one := func(e Entry) Config { return Config{Keys: []Entry{e}} }
	tests := []struct {
		name string
		cfg  Config
		path string // of the one problem; "": none
		word string
	}{
		{"good", testConfig(), "", ""},
		{"anonymous alone", Config{Anonymous: true}, "", ""},
		{"nobody", Config{}, "auth", "nobody could call"},
		{"value for a name", Config{KeysEnv: "dev:nx-123"}, "auth.keys_env", "name of an environment variable"},
		{"no id", one(Entry{SHA256: good}), "auth.keys[0].id", "letters"},
		{"odd id", one(Entry{ID: "a b\n", SHA256: good}), "auth.keys[0].id", "letters"},
		{"reserved id", one(Entry{ID: "anonymous", SHA256: good}), "auth.keys[0].id", "without a key"},
		{"no hash", one(Entry{ID: "a"}), "auth.keys[0].sha256", "missing"},
		{"plain key", one(Entry{ID: "a", SHA256: goodKey}), "auth.keys[0].sha256", "looks like a key itself"},
		{"short hash", one(Entry{ID: "a", SHA256: good[:32]}), "auth.keys[0].sha256", "this has 32"},
		{"hash of nothing", one(Entry{ID: "a", SHA256: hashOf("")}), "auth.keys[0].sha256", "empty key"},
		{"id twice", Config{Keys: []Entry{{ID: "a", SHA256: good}, {ID: "a", SHA256: hashOf("x")}}}, "auth.keys[1].id", "already"},
		{"key twice", Config{Keys: []Entry{{ID: "a", SHA256: good}, {ID: "b", SHA256: strings.ToUpper(good)}}}, "auth.keys[1].sha256", "same key"},
		{"id is another's tenant", Config{Keys: []Entry{{ID: "a", SHA256: good}, {ID: "b", Tenant: "a", SHA256: hashOf("x")}}}, "auth.keys[0].tenant", "another key's tenant"},
		{"tenant with a line end", one(Entry{ID: "a", SHA256: good, Tenant: "x\r\ny"}), "auth.keys[0].tenant", "control"},
		{"star inside", one(Entry{ID: "a", SHA256: good, Models: []string{"ok", "a*b"}}), "auth.keys[0].models[1]", "at its end"},
		{"negative limit", one(Entry{ID: "a", SHA256: good, Limits: &pipeline.Limits{Tokens: -1}}), "auth.keys[0].limits", "or more"},
		{"no time", one(Entry{ID: "a", SHA256: good, Expires: "tomorrow"}), "auth.keys[0].expires", "RFC 3339"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := setting.NewProblems()
			tt.cfg.Validate(p.In("auth"))
			all := p.All()
			if tt.path == "" {
				if len(all) != 0 {
					t.Errorf("got %v, want none", all)
				}
				return
			}
			if len(all) != 1 || all[0].Path != tt.path || !strings.Contains(all[0].Text, tt.word) {
				t.Fatalf("got %v, want one at %s that says %q", all, tt.path, tt.word)
			}
			if strings.Contains(all[0].Text, goodKey) {
				t.Errorf("the problem shows the key: %s", all[0].Text)
			}
			if _, err := New(tt.cfg, decodeYAML); err == nil {
				t.Error("New took what Validate refuses")
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	yamlFile := write("keys.yaml", "- id: a\n  sha256: "+hashOf(goodKey)+"\n  limits: {requests_per_minute: 5}\n")
	jsonFile := write("keys.json", `[{"id":"a","sha256":"`+hashOf(goodKey)+`","tenant":"t"}]`)
	t.Setenv("NEXUS_TEST_KEYS", "dev:"+otherKey+":acme:gold, ops:"+expiredKey)
	t.Setenv("NEXUS_TEST_EMPTY", " ")
	t.Setenv("NEXUS_TEST_BAD", "dev="+otherKey)
	inline := []Entry{{ID: "a", SHA256: hashOf("inline-key")}}
	tests := []struct {
		name string
		cfg  Config
		keys int
		word string // of the error
	}{
		{"yaml", Config{KeysFile: yamlFile}, 1, ""},
		{"json", Config{KeysFile: jsonFile}, 1, ""},
		{"all three", Config{KeysFile: yamlFile, KeysEnv: "NEXUS_TEST_KEYS", Keys: []Entry{{ID: "b", SHA256: hashOf("inline-key")}}}, 4, ""},
		{"no file", Config{KeysFile: filepath.Join(dir, "none.yaml"), Anonymous: true}, 0, "no such file"},
		{"a directory", Config{KeysFile: dir}, 0, "keys_file"},
		{"empty file", Config{KeysFile: write("empty.yaml", "[]")}, 0, "holds no keys"},
		{"unknown field", Config{KeysFile: write("odd.yaml", "- id: a\n  sha265: x\n")}, 0, "sha265"},
		{"bad entry", Config{KeysFile: write("bad.yaml", "- id: a\n  sha256: "+goodKey+"\n")}, 0, "[0].sha256"},
		{"same id in two places", Config{KeysFile: yamlFile, Keys: inline}, 0, "already"},
		{"variable not set", Config{KeysEnv: "NEXUS_TEST_NOT_SET", Anonymous: true}, 0, "NEXUS_TEST_NOT_SET"},
		{"variable empty", Config{KeysEnv: "NEXUS_TEST_EMPTY"}, 0, "empty"},
		{"variable malformed", Config{KeysEnv: "NEXUS_TEST_BAD"}, 0, "item 1"},
		{"nobody", Config{}, 0, "nobody could call"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := New(tt.cfg, decodeYAML)
			if tt.word == "" {
				if err != nil || k.Len() != tt.keys {
					t.Fatalf("got %v and %v, want %d keys", k, err, tt.keys)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.word) {
				t.Fatalf("got %v, want an error that says %q", err, tt.word)
			}
			for _, key := range []string{goodKey, otherKey} {
				if strings.Contains(err.Error(), key) {
					t.Errorf("the error shows the key: %v", err)
				}
			}
		})
	}
	c := &pipeline.Call{Header: http.Header{"X-Api-Key": {otherKey}}}
	if _, err := ask(newKeys(t, Config{KeysEnv: "NEXUS_TEST_KEYS"}), c); err != nil || c.Principal.Tenant != "acme" || c.Principal.Tier != "gold" {
		t.Errorf("from the environment: got %+v and %v", c.Principal, err)
	}
}

func TestNewKey(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		key, e, err := NewKey()
		if err != nil || seen[key] || seen[e.ID] {
			t.Fatalf("got %v, or a key or id twice", err)
		}
		seen[key], seen[e.ID] = true, true
		if !strings.HasPrefix(key, "nx-") || len(key) != 3+43 || strings.Contains(e.Paste(), key) {
			t.Fatalf("key of %d bytes, entry %s", len(key), e.Paste())
		}
		e.Tenant, e.Models, e.Tier, e.Expires = "acme: \"co\"", []string{"a", "b-*"}, "gold", "2030-01-01T00:00:00Z"
		var list []Entry
		if err := decodeYAML("", []byte(e.Paste()), &list); err != nil || len(list) != 1 {
			t.Fatalf("what is printed does not read back: %v\n%s", err, e.Paste())
		}
		c := &pipeline.Call{Header: http.Header{"X-Api-Key": {key}}}
		if _, err := ask(newKeys(t, Config{Keys: list}), c); err != nil || c.Principal.Tenant != e.Tenant || c.Principal.Models[1] != "b-*" {
			t.Fatalf("the printed entry does not let its key in: %v", err)
		}
	}
}

func TestConcurrent(t *testing.T) {
	k := newKeys(t, testConfig())
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 500 {
				key, want := goodKey, "good"
				if i%2 == 1 {
					key, want = otherKey, "other"
				}
				c := &pipeline.Call{Header: http.Header{"Authorization": {"Bearer " + key}}}
				if _, err := ask(k, c); err != nil || c.Principal.ID != want {
					t.Errorf("got %v and %v, want %s", c.Principal, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

// FuzzTake holds the reading of headers to a slow and plain one: a key comes out only if it stood there
// whole under a canonical name and nothing contradicts it; no credential is ever left.
func FuzzTake(f *testing.F) {
	f.Add("Bearer "+goodKey, "", false, false)
	f.Add("", goodKey, false, true)
	f.Add("bearer  x", "x", true, true)
	f.Add("Bearer a b", "\x7f", true, true)
	f.Fuzz(func(t *testing.T, authorization, apiKey string, hasAuth, hasKey bool) {
		h := http.Header{"Cookie": {"a=b"}}
		if hasAuth {
			h["Authorization"] = []string{authorization}
		}
		if hasKey {
			h["X-Api-Key"] = []string{apiKey}
		}
		got, refused := take(h)
		if len(h) != 0 {
			t.Fatalf("left %v", h)
		}
		want, ok := plainTake(authorization, apiKey, hasAuth, hasKey)
		if ok != (refused == nil) || ok && got.key != want {
			t.Fatalf("got %q (refused %v), want %q, %v", got.key, refused, want, ok)
		}
	})
}

func plainTake(authorization, apiKey string, hasAuth, hasKey bool) (string, bool) {
	var keys []string
	if hasAuth {
		parts := strings.SplitN(authorization, " ", 2)
		if len(parts) != 2 || !strings.EqualFold(parts[0], "bearer") {
			return "", false
		}
		keys = append(keys, strings.TrimLeft(parts[1], " "))
	}
	if hasKey {
		keys = append(keys, apiKey)
	}
	for _, k := range keys {
		visible := strings.IndexFunc(k, func(r rune) bool { return r < '!' || r > '~' }) < 0
		if k == "" || len(k) > maxKey || !visible || k != keys[0] {
			return "", false
		}
	}
	if len(keys) == 0 {
		return "", true
	}
	return keys[0], true
}

func FuzzParseEnv(f *testing.F) {
	f.Add("dev:" + goodKey + ":acme:gold,ops:" + otherKey)
	f.Add("::::,")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseEnv(text)
		if err != nil {
			return
		}
		items := strings.Split(text, ",")
		if len(list) != len(items) {
			t.Fatalf("%d entries of %d items", len(list), len(items))
		}
		for i, e := range list {
			parts := strings.Split(strings.TrimSpace(items[i]), ":")
			if e.ID != parts[0] || e.SHA256 != hashOf(parts[1]) {
				t.Fatalf("item %q became %+v", items[i], e)
			}
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	k := newKeys(b, testConfig())
	next := pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) { return nil, nil })
	values := []string{"Bearer " + goodKey}
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"*/*"}, "User-Agent": {"x"}, "X-Stainless-Lang": {"js"}, "Content-Length": {"10"}}
	c := &pipeline.Call{Header: h}
	b.ReportAllocs()
	for b.Loop() {
		h["Authorization"] = values
		if _, err := k.Handle(context.Background(), c, next); err != nil {
			b.Fatal(err)
		}
	}
}
