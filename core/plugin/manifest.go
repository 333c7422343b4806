package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A Manifest is what a plugin says of itself, in the YAML file beside its module.
type Manifest struct {
	Name         string        `yaml:"name" doc:"The plugin's name."`
	Version      string        `yaml:"version" doc:"The plugin's version."`
	ABI          int           `yaml:"abi" default:"1" doc:"The contract it was written for."`
	SHA256       string        `yaml:"sha256" doc:"The module's digest in hexadecimal; empty: it is built from source and not checked."`
	Hooks        []string      `yaml:"hooks" doc:"The hooks it subscribes to, as in on_text."`
	Capabilities []string      `yaml:"capabilities" doc:"What it needs to be granted: the host functions it imports, and answer, headers, model, pool, system."`
	OnError      string        `yaml:"on_error" default:"deny" enum:"deny,allow" doc:"What happens to a call when the plugin fails."`
	Memory       setting.Size  `yaml:"memory" default:"32MiB" doc:"Most memory of one instance."`
	Fuel         int64         `yaml:"fuel" doc:"Most fuel of one call; 0: the deadline alone bounds it."`
	Deadline     time.Duration `yaml:"deadline" default:"50ms" doc:"Longest time of one call."`
	MaxHold      int           `yaml:"max_hold" default:"256" doc:"Most bytes of a stream it holds back."`
	Context      int           `yaml:"context" doc:"Bytes of what went before that it looks back on."`
	Kinds        []string      `yaml:"kinds" doc:"Names of what its edits find, numbered from 1."`

	Metrics []string       `yaml:"metrics" doc:"Names of the counters that it may add to, in gateway_plugin_metric_total."`
	Config  map[string]any `yaml:"config" doc:"JSON Schema, draft 2020-12, of the configuration that it takes; without one, only the plugin itself checks it."`
}

// Validate notes what is wrong.
func (m *Manifest) Validate(p setting.Problems) {
	if !fileName(m.Name) {
		p.Addf("name", "%q is not a plugin's name: write letters, digits, hyphens and underscores", m.Name)
	}
	if m.ABI != abi.Version {
		p.Addf("abi", "is %d; this gateway speaks %d", m.ABI, abi.Version)
	}
	if digest, err := hex.DecodeString(m.SHA256); m.SHA256 != "" && (err != nil || len(digest) != sha256.Size) {
		p.Addf("sha256", "is not 64 hexadecimal digits")
	}
	for i, h := range m.Hooks {
		if !slices.Contains(hooks, h) {
			p.Addf("hooks["+strconv.Itoa(i)+"]", "there is no hook %q%s; there are %v", h, meant(h, hooks), hooks)
		}
	}
	for i, c := range m.Capabilities {
		if !slices.Contains(capabilities, c) {
			p.Addf("capabilities["+strconv.Itoa(i)+"]", "there is no capability %q%s; there are %v", c, meant(c, capabilities), capabilities)
		}
	}
	for _, k := range m.Kinds {
		if k == "" || len(k) > maxLabelName || !plainText(k) {
			p.Addf("kinds", "%q is not a kind's name", k)
		}
	}
	if m.OnError != onDeny && m.OnError != onAllow {
		p.Addf("on_error", "%q: write deny or allow", m.OnError)
	}
	m.validateBounds(p)
	m.validateMetrics(p)
	if m.Config == nil {
		return
	}
	if _, _, err := compileSchema(m.Config); err != nil {
		p.Addf("config", "is not a JSON Schema: %v", err)
	}
}

func (m *Manifest) validateMetrics(p setting.Problems) {
	if len(m.Metrics) > maxMetrics {
		p.Addf("metrics", "has %d names; the most is %d", len(m.Metrics), maxMetrics)
	}
	for i, name := range m.Metrics {
		at := "metrics[" + strconv.Itoa(i) + "]"
		if !metricName(name) {
			p.Addf(at, "%q is not a counter's name: write small letters, digits and underscores", name)
		}
		if slices.Contains(m.Metrics[:i], name) {
			p.Addf(at, "%q stands in the list twice", name)
		}
	}
}

func metricName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_')) {
			return false
		}
	}
	return s != "" && len(s) <= maxLabelName
}

func (m *Manifest) validateBounds(p setting.Problems) {
	bound(p, "memory", int64(m.Memory), maxMemory, setting.Size(maxMemory).String())
	bound(p, "deadline", int64(m.Deadline), int64(maxDeadline), maxDeadline.String())
	bound(p, "max_hold", int64(m.MaxHold), maxHoldBytes, fmt.Sprint(maxHoldBytes))
	bound(p, "context", int64(m.Context), abi.MaxContext, fmt.Sprint(abi.MaxContext))
	bound(p, "fuel", m.Fuel, 1<<62, "2^62")
	if len(m.Kinds) > maxKinds {
		p.Addf("kinds", "has %d names; the most is %d", len(m.Kinds), maxKinds)
	}
}

const (
	maxKinds   = 256
	maxMetrics = 16
)

// hooks are what this gateway calls, sorted.
var hooks = []string{"on_end", "on_request", "on_text", "on_tool_call", "on_usage"}

// capabilities are what a plugin may be granted.
var capabilities = []string{
	"answer", abi.CallGet, "headers", abi.HTTPCall, abi.KVGet, abi.KVIncrIf, abi.LabelGet, abi.LabelSet, abi.Log,
	abi.Metric, "model", abi.NowMS, "pool", abi.Random, "system", abi.VaultPut,
}

// checkDigest compares the module with what its manifest promises.
func (m *Manifest) checkDigest(digest [sha256.Size]byte) error {
	if found := hex.EncodeToString(digest[:]); m.SHA256 != "" && !strings.EqualFold(m.SHA256, found) {
		return fmt.Errorf("the manifest promises sha256 %s, but the module has %s: they are of two builds; take both from one, or correct the digest", strings.ToLower(m.SHA256), found)
	}
	return nil
}

// grant settles what the plugin may do: what it asks for and was granted. Asking for what was not granted
// is refused here, so that a plugin never runs with less than it needs.
func (m *Manifest) grant(e *Entry) (map[string]bool, error) {
	granted := map[string]bool{}
	for _, c := range m.Capabilities {
		if !slices.Contains(e.Capabilities, c) {
			return nil, fmt.Errorf("its manifest asks for the capability %q, which is not granted: add it to the plugin's capabilities if it may have it", c)
		}
		granted[c] = true
	}
	return granted, nil
}

// fill takes from the manifest what the entry leaves open.
func (m *Manifest) fill(e *Entry) {
	if e.OnError == "" {
		e.OnError = m.OnError
	}
	if e.Deadline == 0 {
		e.Deadline = m.Deadline
	}
	if e.Memory == 0 {
		e.Memory = m.Memory
	}
	if e.MaxHold == 0 {
		e.MaxHold = m.MaxHold
	}
}
