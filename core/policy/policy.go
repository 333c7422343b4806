// Package policy lets Rego decide what becomes of a call: who may, where to, how much and what is
// masked. It compiles a folder of policies strictly, builds of the input only what they read, evaluates
// data.nexus.decision once a call within a deadline, and takes nothing for a yes that is not one.
package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// Config says which policies decide, and what becomes of a call when they do not.
type Config struct {
	Enabled  bool          `yaml:"enabled" default:"true" doc:"Whether policies decide at all; false lets every call through to the pools of its model."`
	Dir      string        `yaml:"dir" default:"" doc:"Folder of Rego files, read with all its subfolders; empty: the policies that Nexus ships."`
	Bundle   BundleConfig  `yaml:"bundle" doc:"An OPA bundle on a server, in place of the folder."`
	Data     string        `yaml:"data" default:"" doc:"JSON file that policies read as data; empty: data.json in the folder, if there is one."`
	Deadline time.Duration `yaml:"deadline" default:"20ms" doc:"Processor time one decision may take. Evaluation is cancelled then, and given up at twice that time."`

	Engine string `yaml:"engine" default:"auto" enum:"auto,topdown,wasm" doc:"What evaluates: topdown; wasm, where a policy that cannot run there is an error; auto: wasm if it can, which is several times as fast, else topdown."`

	OnError     string `yaml:"on_error" default:"deny" enum:"deny,allow" doc:"What becomes of a call when evaluation fails."`
	OnUndefined string `yaml:"on_undefined" default:"deny" enum:"deny,allow" doc:"What becomes of a call when the policy gives no decision."`
	OnTimeout   string `yaml:"on_timeout" default:"deny" enum:"deny,allow" doc:"What becomes of a call when the deadline passes."`
	OnConflict  string `yaml:"on_conflict" default:"deny" enum:"deny,allow" doc:"What becomes of a call that several rules claim with equal priority."`
	OnSchema    string `yaml:"on_schema" default:"deny" enum:"deny,allow" doc:"What becomes of a call when the decision has not the shape of decision.schema.json."`

	Loose    bool         `yaml:"loose" default:"false" doc:"Accept policies that read input the schema does not know, which is always undefined, or that claim what no decision has, which is refused when a call comes."`
	Headers  []string     `yaml:"headers" doc:"Request headers that policies may read as input.request.headers, in lower case."`
	Keywords []string     `yaml:"keywords" doc:"Words looked for in the prompt's texts, for input.prompt.keywords; case is ignored in ASCII."`
	Shadow   ShadowConfig `yaml:"shadow" doc:"A second policy that is asked about calls and compared, and decides nothing; off without dir or bundle."`
	Log      LogConfig    `yaml:"decision_log" doc:"One JSON line for each decision."`

	Explain ExplainConfig `yaml:"explain" doc:"Who may have a call explained while it is made."`

	anyHeader bool // Headers are not known: a command has no configuration
}

const (
	maxDeadline = time.Second
	maxKeywords = 256
)

// secretHeaders carry credentials; no policy needs them and no decision log may see them.
var secretHeaders = []string{"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"}

// Validate reports what is wrong with c.
func (c *Config) Validate(p setting.Problems) {
	if c.Deadline <= 0 || c.Deadline > maxDeadline {
		p.Addf("deadline", "is %v: must be more than 0 and at most %v", c.Deadline, maxDeadline)
	}
	for _, h := range c.Headers {
		switch {
		case h != strings.ToLower(h):
			p.Addf("headers", "%q must be written in lower case", h)
		case !isToken(h):
			p.Addf("headers", "%q is not a header name", h)
		case slices.Contains(secretHeaders, h):
			p.Addf("headers", "%q carries a credential, which policies never see", h)
		}
	}
	c.Bundle.validate(p.In("bundle"))
	if c.Bundle.URL != "" && (c.Dir != "" || c.Data != "") {
		p.Addf("bundle.url", "is given beside dir or data: a bundle takes the place of both")
	}
	if len(c.Keywords) > maxKeywords {
		p.Addf("keywords", "has %d words: at most %d", len(c.Keywords), maxKeywords)
	}
	if slices.Contains(c.Keywords, "") {
		p.Addf("keywords", "an empty word is in every text")
	}
	c.Shadow.validate(p.In("shadow"))
	c.Log.validate(p.In("decision_log"))
}

// isToken reports whether s is an HTTP token, as header names must be.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
