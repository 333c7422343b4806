package policy

import (
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/setting"
)

// LogConfig says where decisions are logged, and what of them.
type LogConfig struct {
	To      string            `yaml:"to" default:"" doc:"\"stdout\" or a file's path; empty: no decision log. A file that was moved away is made anew on the next reload, such as SIGHUP asks for."`
	Size    int               `yaml:"size" default:"4096" doc:"Decisions kept while the log is slow; more are dropped and counted."`
	Input   bool              `yaml:"input" default:"true" doc:"Log what the policy read of the input."`
	Text    bool              `yaml:"user_text" default:"false" doc:"Log input.prompt.last_user, what the user wrote, as well."`
	Erase   []string          `yaml:"erase" doc:"Paths of the input that are left out, such as input.request.headers."`
	Hash    []string          `yaml:"hash" doc:"Paths of the input in whose place a keyed hash is logged, such as input.principal.id: equal values stay equal."`
	HashKey setting.Secret    `yaml:"hash_key" doc:"Key of these hashes. Without one they can be compared until the next reload that changes this section, and never be traced back."`
	Labels  map[string]string `yaml:"labels" doc:"Put on every line as labels, such as app and region."`
}

const (
	maxLogSize = 1 << 20 // decisions
	minHashKey = 16      // bytes
)

func (c *LogConfig) validate(p setting.Problems) {
	if c.Size < 1 || c.Size > maxLogSize {
		p.Addf("size", "is %d: must be 1 to %d", c.Size, maxLogSize)
	}
	if n := len(c.HashKey.Reveal()); n > 0 && n < minHashKey {
		p.Addf("hash_key", "is too short: at least %d characters, such as `openssl rand -hex 16` prints", minHashKey)
	}
	for _, path := range c.Erase {
		notInput(p, "erase", path)
	}
	for _, path := range c.Hash {
		notInput(p, "hash", path)
	}
}

// notInput notes a path that the input schema does not know.
func notInput(p setting.Problems, at, path string) {
	known := schemaPaths()
	if slices.Contains(known, path) {
		return
	}
	for _, above := range known { // what lies in a map has names of the operator's own
		leaf := !slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, above+".") })
		if leaf && strings.HasPrefix(path, above+".") {
			return
		}
	}
	text := "is not in the input schema"
	if near := setting.Nearest(path, known); near != "" {
		text += ": did you mean " + near + "?"
	}
	p.Addf(at, "%s %s", quote(path), text)
}
