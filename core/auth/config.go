package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// Config says who may call. Keys from all three places are put together; an id or a key that stands
// twice is an error, never an override.
type Config struct {
	KeysFile  string  `yaml:"keys_file" doc:"File (YAML or JSON) that holds a list of keys, as under keys; it must exist."`
	KeysEnv   string  `yaml:"keys_env" doc:"Name of an environment variable that holds keys in plain text: id:key[:tenant[:tier]], separated by commas."`
	Keys      []Entry `yaml:"keys" doc:"Keys by their SHA-256; nexus key new makes one."`
	Anonymous bool    `yaml:"anonymous" default:"false" doc:"Callers that show no key at all are let in as the principal anonymous, tier anonymous; a wrong key is still refused."`
}

// An Entry is one key and whom it stands for. It holds the key's hash, never the key.
type Entry struct {
	ID       string            `yaml:"id" doc:"Name of the key in logs and limits: letters, digits, dot, dash, underscore, at sign."`
	SHA256   string            `yaml:"sha256" doc:"SHA-256 of the whole key, in hexadecimal."`
	Tenant   string            `yaml:"tenant" doc:"Whose quota and cache it shares; the key's id when empty."`
	Team     string            `yaml:"team" doc:"Shown to policies and logs."`
	Tier     string            `yaml:"tier" doc:"Names the limits under quota.limits.tiers."`
	Roles    []string          `yaml:"roles" doc:"Shown to policies."`
	Labels   map[string]string `yaml:"labels" doc:"Shown to policies."`
	Models   []string          `yaml:"models" doc:"Models it may use; a trailing * is wild; none listed: all."`
	Limits   *pipeline.Limits  `yaml:"limits" doc:"Its own limits in place of its tier's."`
	Disabled bool              `yaml:"disabled" default:"false" doc:"Refuse the key, and keep its entry."`
	Expires  string            `yaml:"expires" doc:"Refuse the key from this time on, in RFC 3339, such as 2027-01-31T00:00:00Z."`
}

// Validate notes every mistake that can be seen without reading the file or the environment.
func (c *Config) Validate(p setting.Problems) {
	if c.KeysFile == "" && c.KeysEnv == "" && len(c.Keys) == 0 && !c.Anonymous {
		p.Addf("", "nobody could call: set keys_file, keys_env or keys, or say anonymous: true")
	}
	if strings.ContainsAny(c.KeysEnv, "=:, $") {
		p.Addf("keys_env", "write the name of an environment variable here, not its value")
	}
	checkAll(c.Keys, p.In("keys"))
}

// checkAll notes what is wrong with each entry, and between them.
func checkAll(entries []Entry, p setting.Problems) {
	ids, hashes, tenants := map[string]int{}, map[string]int{}, map[string]bool{}
	for i := range entries {
		entries[i].check(p.In(index(i)))
		tenants[entries[i].Tenant] = true
	}
	for i, e := range entries {
		at := p.In(index(i))
		if first, twice := ids[e.ID]; twice {
			at.Addf("id", "%q is already the id of entry %d", e.ID, first)
		}
		hash := strings.ToLower(e.SHA256)
		if first, twice := hashes[hash]; twice {
			at.Addf("sha256", "this is the same key as entry %d", first)
		}
		if e.Tenant == "" && e.ID != "" && tenants[e.ID] {
			at.Addf("tenant", "name one: without it the tenant is the key's id, and %q is another key's tenant", e.ID)
		}
		ids[e.ID], hashes[hash] = i, i
	}
}

// Bounds of what stands in logs, labels and headers.
const (
	maxID   = 64  // bytes
	maxName = 128 // bytes: tenant, team, tier
	maxKey  = 512 // bytes of a key as presented
	minKey  = 8   // bytes of a key in plain text; shorter ones are typing mistakes or guessable
)

func (e *Entry) check(p setting.Problems) {
	if !plainName(e.ID) {
		p.Addf("id", "write 1 to %d letters, digits, dots, dashes, underscores or at signs", maxID)
	}
	if e.ID == anonymousID {
		p.Addf("id", "%q is the id of callers without a key", anonymousID)
	}
	e.checkHash(p)
	for _, f := range []struct{ path, text string }{{"tenant", e.Tenant}, {"team", e.Team}, {"tier", e.Tier}} {
		if len(f.text) > maxName || strings.ContainsFunc(f.text, control) {
			p.Addf(f.path, "write at most %d bytes without control characters", maxName)
		}
	}
	for i, m := range e.Models {
		if m == "" || strings.Contains(strings.TrimSuffix(m, "*"), "*") {
			p.Addf("models"+index(i), "write a model's name, with at most one * at its end")
		}
	}
	if l := e.Limits; l != nil && (l.Requests < 0 || l.Tokens < 0) {
		p.Addf("limits", "a limit is 0 (none) or more")
	}
	if _, err := e.expiry(); err != nil {
		p.Addf("expires", "write a time in RFC 3339, such as 2027-01-31T00:00:00Z")
	}
}

// checkHash never repeats the text: what stands there may be a key.
func (e *Entry) checkHash(p setting.Problems) {
	sum, err := hex.DecodeString(e.SHA256)
	switch {
	case e.SHA256 == "":
		p.Addf("sha256", "the SHA-256 of the key is missing; nexus key new prints a key and its entry")
	case err == nil && len(sum) == sha256.Size:
		if [sha256.Size]byte(sum) == sha256.Sum256(nil) {
			p.Addf("sha256", "this is the hash of an empty key")
		}
	case err == nil:
		p.Addf("sha256", "a SHA-256 has 64 hexadecimal digits, this has %d", len(e.SHA256))
	default:
		p.Addf("sha256", "this is no SHA-256 but looks like a key itself: write the output of  printf %%s \"$KEY\" | sha256sum  here, and make a new key if this file was shared")
	}
}

// expiry is the zero time when the key does not expire.
func (e *Entry) expiry() (time.Time, error) {
	if e.Expires == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, e.Expires)
}

// principal is whom the entry stands for; it is shared by every call and never changed.
func (e *Entry) principal() *pipeline.Principal {
	tenant := e.Tenant
	if tenant == "" {
		tenant = e.ID
	}
	return &pipeline.Principal{
		ID: e.ID, Kind: "key", Tenant: tenant, Team: e.Team, Tier: e.Tier,
		Roles: e.Roles, Labels: e.Labels, Models: e.Models, Limits: e.Limits,
	}
}

func plainName(s string) bool {
	return s != "" && len(s) <= maxID && !strings.ContainsFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("._-@", r)
	})
}

func control(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' }
