package quota

import (
	"net/url"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// Config says how much each principal may use in a minute, and where it is counted.
type Config struct {
	Store         string     `yaml:"store" default:"memory" enum:"memory,redis" doc:"Where usage is counted: in this process, or in a Redis that all replicas share."`
	Redis         Redis      `yaml:"redis" doc:"The Redis to count in, for store: redis."`
	WhenStoreDown string     `yaml:"when_store_down" default:"share" enum:"deny,allow,share" doc:"While Redis is away: refuse calls that have limits, let them pass uncounted, or count in this process against its share of each limit."`
	Replicas      int64      `yaml:"replicas" default:"1" doc:"How many replicas share a limit under when_store_down: share."`
	Limits        Limits     `yaml:"limits" doc:"How much a principal may use in a minute; limits on its key go before these."`
	Completion    Completion `yaml:"completion" doc:"How many tokens to reserve for an answer whose request names no maximum."`
}

// Redis says how to reach the store.
type Redis struct {
	URL         setting.Secret `yaml:"url" doc:"redis:// or rediss:// address with its password, best as ${NAME} or file:/path."`
	Timeout     time.Duration  `yaml:"timeout" default:"50ms" doc:"Longest wait for one decision."`
	DialTimeout time.Duration  `yaml:"dial_timeout" default:"200ms" doc:"Longest wait for a new connection; a decision never waits beyond timeout."`
	PoolSize    int            `yaml:"pool_size" default:"16" doc:"Most connections to Redis."`
	KeyPrefix   string         `yaml:"key_prefix" default:"nexus:quota" doc:"Begins every key in Redis; gateways that share a prefix share their counts."`
}

// Limits are the limits of principals without limits of their own.
type Limits struct {
	Default pipeline.Limits            `yaml:"default" doc:"For a principal whose tier is not listed."`
	Tiers   map[string]pipeline.Limits `yaml:"tiers" doc:"By the principal's tier."`
}

// Completion is what is reserved for an answer when the request names no max_tokens.
type Completion struct {
	Default int64            `yaml:"default" default:"1024" doc:"Tokens for each choice."`
	Models  map[string]int64 `yaml:"models" doc:"Tokens for each choice, by model."`
}

// maxLimit keeps every sum of limits and amounts exact in the store: Lua counts in doubles.
const maxLimit = 1 << 50

// Validate notes every mistake; it never repeats the Redis address.
func (c *Config) Validate(p setting.Problems) {
	c.validateStore(p)
	checkLimits(c.Limits.Default, p.In("limits.default"))
	for tier, l := range c.Limits.Tiers {
		checkLimits(l, p.In("limits.tiers."+tier))
	}
	if c.Completion.Default < 1 || c.Completion.Default > maxLimit {
		p.Addf("completion.default", "reserve at least one token")
	}
	for model, n := range c.Completion.Models {
		if n < 1 || n > maxLimit {
			p.Addf("completion.models."+model, "reserve at least one token")
		}
	}
}

func (c *Config) validateStore(p setting.Problems) {
	if c.Replicas < 1 {
		p.Addf("replicas", "there is at least one replica")
	}
	if c.Store != storeRedis {
		return
	}
	r, p := &c.Redis, p.In("redis")
	if !redisAddress(r.URL.Reveal()) {
		p.Addf("url", "write a redis:// or rediss:// address, best as ${NAME} or file:/path")
	}
	if r.Timeout <= 0 || r.Timeout > time.Second {
		p.Addf("timeout", "every call waits for this: write more than 0 and at most 1s")
	}
	if r.DialTimeout <= 0 || r.DialTimeout > 5*time.Second {
		p.Addf("dial_timeout", "write more than 0 and at most 5s")
	}
	if r.PoolSize < 1 || r.PoolSize > 4096 {
		p.Addf("pool_size", "write 1 to 4096")
	}
	if r.KeyPrefix == "" || len(r.KeyPrefix) > 128 || strings.ContainsFunc(r.KeyPrefix, notPlain) {
		p.Addf("key_prefix", "write 1 to 128 visible ASCII characters without braces")
	}
}

// notPlain also refuses braces: the first pair of them in a key is its hash tag in a Redis Cluster.
func notPlain(r rune) bool { return r <= ' ' || r > '~' || r == '{' || r == '}' }

func redisAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "redis" || u.Scheme == "rediss")
}

func checkLimits(l pipeline.Limits, p setting.Problems) {
	if l.Requests < 0 || l.Requests > maxLimit {
		p.Addf("requests_per_minute", "write 0 (no limit) or more")
	}
	if l.Tokens < 0 || l.Tokens > maxLimit {
		p.Addf("tokens_per_minute", "write 0 (no limit) or more")
	}
}

const (
	storeRedis = "redis"

	whenDeny  = "deny"
	whenAllow = "allow"
	whenShare = "share"
)

// of returns the limits of p: its own, else its tier's, else the default.
func (l *Limits) of(p *pipeline.Principal) pipeline.Limits {
	if p.Limits != nil {
		return *p.Limits
	}
	if tier, ok := l.Tiers[p.Tier]; ok {
		return tier
	}
	return l.Default
}
