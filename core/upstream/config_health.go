package upstream

import (
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// HealthConfig says when a backend is taken out of traffic and how it comes back.
type HealthConfig struct {
	Path     string        `yaml:"path" doc:"Asked for a sign of life; unset: /health of vllm and sglang, nothing of openai; off: nothing. A status of 500 or more takes the backend out."`
	Interval time.Duration `yaml:"interval" default:"5s" doc:"Between two such questions."`
	Timeout  time.Duration `yaml:"timeout" default:"3s" doc:"For their answers. SGLang's /health takes a second by itself."`

	Models         string        `yaml:"models" default:"auto" enum:"auto,on,off" doc:"Whether /v1/models is read, so that only backends that list a model are asked for it; auto: of vllm and sglang."`
	ModelsInterval time.Duration `yaml:"models_interval" default:"15s" doc:"Between two readings of /v1/models."`

	Failures  int           `yaml:"failures" default:"3" doc:"Failures in a row that take a backend out: no connection, no answer in time, an answer that breaks off or is none, 502, 503, 504. 0: any number is borne."`
	ErrorRate int           `yaml:"error_rate" default:"50" doc:"Per cent of the window's calls that fail, 500 among them, above which a backend is taken out. 0: never."`
	MinCalls  int           `yaml:"min_calls" default:"20" doc:"Calls in the window below which the error rate says nothing."`
	Window    time.Duration `yaml:"window" default:"30s" doc:"Over which the error rate is taken."`
	Slow      int           `yaml:"slow_first_token" default:"10" doc:"Times the pool's median time to the first token, and 5 s at least, above which a backend's median takes it out; needs three backends. 0: never."`

	Ejection  time.Duration `yaml:"ejection" default:"1s" doc:"How long a backend takes no calls before one is let through to try it; doubles each time that one fails."`
	Longest   time.Duration `yaml:"longest_ejection" default:"8s" doc:"What it doubles up to."`
	SlowStart time.Duration `yaml:"slow_start" default:"10s" doc:"Over which a backend that came back, or was discovered, is given its full share of calls, from a tenth on."`
}

// DiscoveryConfig says how the servers behind a backend's name are found.
type DiscoveryConfig struct {
	Mode     string        `yaml:"mode" default:"static" enum:"static,dns,srv" doc:"static: the url is one server. dns: each address of the url's host is a server of its own, as behind a headless Service. srv: each target of _SERVICE._tcp.HOST is."`
	Service  string        `yaml:"service" default:"http" doc:"Name of the port for srv."`
	Interval time.Duration `yaml:"interval" default:"3s" doc:"Between two lookups."`
}

// PriceConfig is what a backend's tokens cost, in the operator's unit.
type PriceConfig struct {
	Input  float64 `yaml:"input" default:"0" doc:"Of a million prompt tokens."`
	Output float64 `yaml:"output" default:"0" doc:"Of a million generated tokens. A policy sees one price, three prompt tokens for each generated one."`
}

// blended is one price for both: three prompt tokens for each generated one, as chats have it.
func (c PriceConfig) blended() float64 { return (3*c.Input + c.Output) / 4 }

const (
	leastInterval       = 100 * time.Millisecond // between two questions of one kind to one server
	leastSGLangInterval = 5 * time.Second        // its /health is answered after a second, and may run the model
	leastSGLangTimeout  = 3 * time.Second
)

func (h HealthConfig) validate(p setting.Problems, kind string) {
	if h.Path != "" && h.Path != "off" && !validPath(h.Path) {
		p.Addf("path", "%q is not a path: begin it with / and leave out spaces, or write off", h.Path)
	}
	for name, d := range map[string]time.Duration{"interval": h.Interval, "models_interval": h.ModelsInterval, "timeout": h.Timeout} {
		if d < leastInterval {
			p.Addf(name, "%v is too short: write %v at least", d, leastInterval)
		}
	}
	if kind == "sglang" && h.Path != "off" && h.Interval < leastSGLangInterval {
		p.Addf("interval", "%v is too short for SGLang, whose /health takes a second and may run the model: write %v at least", h.Interval, leastSGLangInterval)
	}
	if kind == "sglang" && h.Path != "off" && h.Timeout < leastSGLangTimeout {
		p.Addf("timeout", "%v is too short for SGLang, whose /health takes a second by itself: write %v at least", h.Timeout, leastSGLangTimeout)
	}
	for name, n := range map[string]int{"failures": h.Failures, "min_calls": h.MinCalls, "slow_first_token": h.Slow} {
		if n < 0 {
			p.Addf(name, "%d is negative", n)
		}
	}
	if h.ErrorRate < 0 || h.ErrorRate > 100 {
		p.Addf("error_rate", "%d is no percentage: write 0 to 100", h.ErrorRate)
	}
	for name, d := range map[string]time.Duration{"window": h.Window, "ejection": h.Ejection, "longest_ejection": h.Longest} {
		if d <= 0 {
			p.Addf(name, "%v is no length of time: write one such as 1s", d)
		}
	}
	if h.SlowStart < 0 {
		p.Addf("slow_start", "%v is negative", h.SlowStart)
	}
	if h.Longest < h.Ejection {
		p.Addf("longest_ejection", "%v is shorter than ejection, %v", h.Longest, h.Ejection)
	}
}

func validPath(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

func (d DiscoveryConfig) validate(p setting.Problems) {
	if d.Mode == "static" || d.Mode == "" {
		return
	}
	if d.Interval < time.Second {
		p.Addf("interval", "%v is too short: write 1s at least", d.Interval)
	}
	if d.Mode == "srv" && (d.Service == "" || !isToken(d.Service)) {
		p.Addf("service", "%q is not the name of a port, such as http", d.Service)
	}
}

func (c PriceConfig) validate(p setting.Problems) {
	if c.Input < 0 {
		p.Addf("input", "%v is negative", c.Input)
	}
	if c.Output < 0 {
		p.Addf("output", "%v is negative", c.Output)
	}
}
