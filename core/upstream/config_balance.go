package upstream

import (
	"net/textproto"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// PrefixConfig tunes the balancing called prefix.
type PrefixConfig struct {
	Hit     float64 `yaml:"hit" default:"0.5" doc:"Share of a prompt, from its beginning on, that a backend must have been sent before to be preferred."`
	Release int64   `yaml:"release" default:"8000" doc:"Prompt tokens of backlog, beside twice those that would be read again, by which a preferred backend may exceed another before it lets go of a call; half a second of what the model reads is a good measure."`
	Running int64   `yaml:"running" default:"512" doc:"Prompt tokens that a call in flight weighs, for what it generates; raise it where answers are long and prompts short."`
	Slack   int64   `yaml:"slack" default:"4096" doc:"Prompt tokens of backlog by which backends may differ when none is preferred, so that gateways choose alike for a conversation's beginning; raise it with many gateways, lower it with one."`
}

// SessionConfig tunes the balancing called session.
type SessionConfig struct {
	Key   string  `yaml:"key" default:"header:x-session-id" doc:"What a session is known by: header:NAME, user (the body's user, else who calls) or conversation (its messages up to the user's first). Calls without one go to the backend with the least in flight."`
	Bound float64 `yaml:"bound" default:"1.25" doc:"Times the mean of calls in flight beyond which a backend's sessions move on to their next."`
}

// LoadConfig says how an engine is asked for its load.
type LoadConfig struct {
	Path     string        `yaml:"path" doc:"Asked for the engine's load; unset: /metrics of vllm, the first of /v1/loads, /metrics and /get_load that sglang answers, nothing of openai; off: nothing."`
	Interval time.Duration `yaml:"interval" default:"1s" doc:"Between two such questions; 0: never asked. An answer counts in full for 2s, and less and less until 10s."`
}

func (c PrefixConfig) validate(p setting.Problems) {
	if !(c.Hit > 0 && c.Hit <= 1) {
		p.Addf("hit", "%v is no share: write more than 0 and up to 1", c.Hit)
	}
	for name, n := range map[string]int64{"release": c.Release, "running": c.Running, "slack": c.Slack} {
		if n < 0 {
			p.Addf(name, "%d is negative", n)
		}
	}
}

func (c SessionConfig) validate(p setting.Problems) {
	name, isHeader := strings.CutPrefix(c.Key, "header:")
	switch {
	case isHeader && !isToken(name):
		p.Addf("key", "%q is not a header's name", name)
	case !isHeader && c.Key != "user" && c.Key != "conversation":
		p.Addf("key", "%q is not known: write header:NAME, user or conversation", c.Key)
	}
	if !(c.Bound >= 1) {
		p.Addf("bound", "%v is below the mean: write 1 or more", c.Bound)
	}
}

// header is the canonical name of the header that a session is known by; empty: it is not known by one.
func (c SessionConfig) header() string {
	name, ok := strings.CutPrefix(c.Key, "header:")
	if !ok {
		return ""
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

func (c LoadConfig) validate(p setting.Problems) {
	if c.Path != "" && c.Path != "off" && !validPath(c.Path) {
		p.Addf("path", "%q is not a path: begin it with / and leave out spaces, or write off", c.Path)
	}
	if c.Interval != 0 && c.Interval < leastInterval {
		p.Addf("interval", "%v is too short: write %v at least, or 0 for never", c.Interval, leastInterval)
	}
}
