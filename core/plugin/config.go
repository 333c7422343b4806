package plugin

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A Config says which plugins stand in every call's way, and in which order.
type Config struct {
	CacheDir string  `yaml:"cache_dir" default:"auto" doc:"Directory for compiled plugins, kept private; auto is one below the user's cache directory, empty keeps them in memory."`
	Dir      string  `yaml:"dir" doc:"Folder of your own plugins, <name>.wasm with <name>.yaml beside it; the shipped ones are there without."`
	Breaker  Breaker `yaml:"breaker" doc:"When a plugin that fails is taken out for a while, so that its calls are not kept waiting for its failures."`
	Chain    []Entry `yaml:"chain" doc:"The plugins, in the order in which they see a text."`
}

// An Entry is one plugin in the chain.
type Entry struct {
	Name         string         `yaml:"name" doc:"The plugin's name: its file in the folder or a shipped one, and what metrics and logs call it."`
	Path         string         `yaml:"path" doc:"A module elsewhere than in the folder; its manifest lies beside it, ending in .yaml."`
	Config       map[string]any `yaml:"config" doc:"What the plugin itself is told; see its README."`
	OnError      string         `yaml:"on_error" enum:",deny,allow" doc:"What happens to a call when the plugin fails: deny or allow; empty is what its manifest says."`
	Directions   []string       `yaml:"directions" default:"[request, reply]" doc:"Which texts it sees: request, reply or both."`
	Only         Scope          `yaml:"only" doc:"Only calls of this scope pass the plugin; empty: all."`
	Except       Scope          `yaml:"except" doc:"Calls of this scope do not pass the plugin; empty: none is left out."`
	Capabilities []string       `yaml:"capabilities" doc:"What it is granted of what its manifest asks for: answer, call_get, headers, http_call, kv_get, kv_incr_if, label_get, label_set, log, metric, model, now_ms, pool, random, system, vault_put."`
	HTTP         HTTP           `yaml:"http" doc:"Where the capability http_call may ask."`
	Isolation    string         `yaml:"isolation" default:"tenant" enum:"tenant,none" doc:"Whether an instance's memory is set back before it serves another tenant: none for plugins that are trusted to remember nothing."`
	Deadline     time.Duration  `yaml:"deadline" doc:"Longest time of one call of the plugin; 0 is what its manifest says."`
	Memory       setting.Size   `yaml:"memory" doc:"Most memory of one instance; 0 is what its manifest says."`
	MaxHold      int            `yaml:"max_hold" doc:"Most bytes of a stream it may hold back; 0 is what its manifest says."`
	Instances    int            `yaml:"instances" doc:"Most instances; 0 is one for each processor."`
}

const (
	byTenant     = "tenant"
	byNobody     = "none"
	onDeny       = "deny"
	onAllow      = "allow"
	autoDir      = "auto"
	maxDeadline  = 10 * time.Second
	maxMemory    = 1 << 30 // bytes
	maxHoldBytes = 2048
	maxInstances = 1024
	maxChain     = 32
)

// Validate notes what is wrong.
func (c *Config) Validate(p setting.Problems) {
	c.Breaker.Validate(p.In("breaker"))
	seen := map[string]bool{}
	for i := range c.Chain {
		e := &c.Chain[i]
		at := "chain[" + strconv.Itoa(i) + "]"
		e.validate(p.In(at))
		if seen[e.Name] {
			p.Addf(at+".name", "%q stands in the chain twice", e.Name)
		}
		seen[e.Name] = true
	}
	if len(c.Chain) > maxChain {
		p.Addf("chain", "has %d plugins; the most is %d", len(c.Chain), maxChain)
	}
}

func (e *Entry) validate(p setting.Problems) {
	if !fileName(e.Name) {
		p.Addf("name", "%q is not a plugin's name: write letters, digits, hyphens and underscores", e.Name)
	}
	for _, d := range e.Directions {
		if d != request && d != reply {
			p.Addf("directions", "%q is not a direction: write request or reply", d)
		}
	}
	if e.OnError != "" && e.OnError != onDeny && e.OnError != onAllow {
		p.Addf("on_error", "%q: write deny or allow", e.OnError)
	}
	e.validateGrants(p)
	bound(p, "deadline", int64(e.Deadline), int64(maxDeadline), maxDeadline.String())
	bound(p, "memory", int64(e.Memory), maxMemory, setting.Size(maxMemory).String())
	bound(p, "max_hold", int64(e.MaxHold), maxHoldBytes, strconv.Itoa(maxHoldBytes))
	bound(p, "instances", int64(e.Instances), maxInstances, strconv.Itoa(maxInstances))
	if _, err := json.Marshal(e.Config); err != nil {
		p.Addf("config", "cannot be written as JSON: %v", err)
	}
	e.Only.Validate(p.In("only"))
	e.Except.Validate(p.In("except"))
	e.HTTP.Validate(p.In("http"))
}

// validateGrants notes what is wrong with what the plugin is granted, and with what that calls for.
func (e *Entry) validateGrants(p setting.Problems) {
	for i, c := range e.Capabilities {
		if !slices.Contains(capabilities, c) {
			p.Addf("capabilities["+strconv.Itoa(i)+"]", "there is no capability %q%s; there are %v", c, meant(c, capabilities), capabilities)
		}
	}
	asks := slices.Contains(e.Capabilities, abi.HTTPCall)
	if asks && len(e.HTTP.Hosts) == 0 {
		p.Addf("http.hosts", "the capability http_call is granted, but no server is listed that it may ask: write name:port")
	}
	if !asks && len(e.HTTP.Hosts) > 0 {
		p.Addf("http.hosts", "lists servers, but the capability http_call is not granted")
	}
	if e.Isolation != "" && e.Isolation != byTenant && e.Isolation != byNobody {
		p.Addf("isolation", "%q: write tenant or none", e.Isolation)
	}
}

func bound(p setting.Problems, path string, v, most int64, written string) {
	if v < 0 || v > most {
		p.Addf(path, "is out of range: write at most %s", written)
	}
}

// fileName keeps a name from being a way out of the folder, or a metric label of its own kind.
func fileName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '-' || c == '_')) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// sees reports whether the plugin is asked about texts of this direction.
func (e *Entry) sees(direction string) bool {
	return len(e.Directions) == 0 || slices.Contains(e.Directions, direction)
}

const (
	request = "request"
	reply   = "reply"
)
