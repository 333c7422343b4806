package upstream

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/setting"
)

// Config is the sections `backends`, `pools` and `routes` of the file.
type Config struct {
	Backends map[string]BackendConfig `yaml:"backends" doc:"The servers that answer calls, by id."`
	Pools    map[string]PoolConfig    `yaml:"pools" doc:"Backends that serve the same models, by name; a policy's targets name pools."`
	Routes   map[string]RouteConfig   `yaml:"routes" doc:"What a route (chat, completions, embeddings, responses, rerank, score, tokenize) allows beyond the ordinary."`
	CacheKey setting.Secret           `yaml:"cache_salt_key" doc:"Secret from which each tenant's cache_salt is derived; give all replicas the same, so that they hit the same prefix caches."`
	Egress   EgressConfig             `yaml:"egress" doc:"Where the gateway may go."`
}

// BackendConfig is one server.
type BackendConfig struct {
	Kind    string                    `yaml:"kind" default:"openai" enum:"vllm,sglang,openai" doc:"What speaks there; vllm and sglang get a cache_salt per tenant and running usage."`
	URL     string                    `yaml:"url" doc:"Base address without a path for vLLM and SGLang (http://host:8000), or with the provider's prefix before /v1."`
	APIKey  setting.Secret            `yaml:"api_key" doc:"Sent as Authorization: Bearer. The caller's own credential is never forwarded."`
	Header  map[string]setting.Secret `yaml:"headers" doc:"Further headers to send."`
	Prefill string                    `yaml:"prefill" default:"auto" enum:"auto,none,continue_final_message,prefix,partial,plain" doc:"How the server is told to go on with an answer that was begun: continue_final_message (vLLM, SGLang), prefix (a member of the last message, as Mistral and DeepSeek take it), partial (the same, as Moonshot and Qwen take it), plain (the last message is the assistant's, and that is all), none (it cannot: the answer is written anew and must agree with what was handed out); auto: continue_final_message for vllm and sglang, else none."`
	Weight  int                       `yaml:"weight" default:"1" doc:"Share of calls among the backends of a pool; 0 takes none."`

	Protocol string         `yaml:"protocol" default:"http1" enum:"http1,h2c,h2" doc:"http1 is what vLLM and SGLang speak; h2c is HTTP/2 without TLS and h2 with it."`
	TLS      TLSConfig      `yaml:"tls" doc:"Certificates, for an https url."`
	Proxy    setting.Secret `yaml:"proxy" doc:"Proxy that leads out, as http://[USER:PASSWORD@]HOST:PORT or https://; asked by CONNECT. The environment's proxies are not looked at."`

	Discovery DiscoveryConfig `yaml:"discovery" doc:"Whether the url stands for one server or for all that its name leads to."`
	Health    HealthConfig    `yaml:"health" doc:"When the backend is taken out of traffic and how it comes back."`
	Load      LoadConfig      `yaml:"load" doc:"How the engine is asked for its load, for balancing and policies."`
	Price     PriceConfig     `yaml:"price" doc:"What tokens cost there, for policies; the unit is yours."`
}

// PoolConfig is a set of interchangeable backends.
type PoolConfig struct {
	Models   []string           `yaml:"models" doc:"Model names that callers may ask this pool for; a trailing * is wild."`
	Backends []string           `yaml:"backends" doc:"Ids of the backends."`
	Model    string             `yaml:"model" doc:"Model name sent to the backends; empty: the one the caller asked for."`
	Balance  string             `yaml:"balance" default:"auto" enum:"auto,round-robin,weighted,least-inflight,least-load,prefix,session" doc:"How a backend is chosen. auto: prefix for calls that generate, else least-inflight. round-robin: in turn. weighted: by weight alone. least-inflight: the better of two drawn by weight. least-load: by what the engines tell of themselves. prefix: where the prompt's beginning was sent before, until that backend is saturated. session: one backend for a session, within a bound."`
	Prefix   PrefixConfig       `yaml:"prefix" doc:"Settings of the balancing called prefix."`
	Session  SessionConfig      `yaml:"session" doc:"Settings of the balancing called session."`
	Timeouts TimeoutsConfig     `yaml:"timeouts" doc:"How long each phase of a call may last."`
	Panic    int                `yaml:"panic_threshold" default:"50" doc:"Per cent of the backends above which, when they are out, health is ignored rather than the rest overrun; those where nobody listens, or that say themselves that they are ill, are still not asked. 0: never."`
	Retry    RetryConfig        `yaml:"retry" doc:"What is tried again before anything of an answer has been handed out."`
	Hedge    HedgeConfig        `yaml:"hedge" doc:"Asking a second backend when the first is slow to begin."`
	Mirror   MirrorConfig       `yaml:"mirror" doc:"Copying calls to another pool, to try it out."`
	Continue ContinuationConfig `yaml:"continuation" doc:"How a stream that breaks off after text was handed out goes on at another backend."`
}

// RouteConfig loosens one route.
type RouteConfig struct {
	AllowFields []string `yaml:"allow_fields" doc:"Request members to let through although they can make the engine read something else than the messages that plugins and policy saw."`
}

// Validate checks what the tags cannot say.
func (c *Config) Validate(p setting.Problems) {
	c.Egress.validate(p.In("egress"))
	out := newEgress(c.Egress)
	for id, b := range c.Backends {
		b.validate(p.In("backends." + id))
		b.validateLink(p.In("backends."+id), out)
	}
	for name, pool := range c.Pools {
		pool.validate(p.In("pools."+name), c.Backends)
		pool.Mirror.validate(p.In("pools."+name+".mirror"), name, c.Pools)
	}
	for name := range c.Routes {
		if !slices.Contains(llm.WithBody, llm.Endpoint(name)) {
			p.Addf("routes."+name, "no such route; the routes are %v", llm.WithBody)
		}
	}
}

func (b BackendConfig) validate(p setting.Problems) {
	u, err := url.Parse(b.URL)
	switch {
	case b.URL == "":
		p.Addf("url", "is missing: give the backend's address, such as http://127.0.0.1:8000")
	case strings.Contains(b.URL, "@"): // not repeated: problems go to logs
		p.Addf("url", "carries a password: put the credential in api_key")
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		p.Addf("url", "%q is not an address: write http://HOST:PORT or https://HOST", b.URL)
	case u.RawQuery != "" || u.Fragment != "":
		p.Addf("url", "carries a query or fragment: give the base address alone")
	}
	if strings.ContainsAny(b.APIKey.Reveal(), "\r\n\x00") {
		p.Addf("api_key", "has a line break in it")
	}
	for name, value := range b.Header {
		if !isToken(name) || strings.ContainsAny(value.Reveal(), "\r\n\x00") {
			p.Addf("headers", "%q is not a header's name, or its value has a line break", name)
		}
		if slices.Contains(framing, http.CanonicalHeaderKey(name)) {
			p.Addf("headers", "%s is the gateway's to send", name)
		}
	}
	if b.Weight < 0 {
		p.Addf("weight", "%d is negative", b.Weight)
	}
	b.Health.validate(p.In("health"), b.Kind)
	b.Discovery.validate(p.In("discovery"))
	b.Load.validate(p.In("load"))
	b.Price.validate(p.In("price"))
}

// framing are the headers that say where a request goes and where it ends.
var framing = []string{"Host", "Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Accept-Encoding", "Expect", "Upgrade", "Te", "Trailer", "X-Request-Id", "Traceparent", "Tracestate"}

// isToken reports whether s can be a header's name (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for _, c := range s {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c) {
			return false
		}
	}
	return s != ""
}

func (pool PoolConfig) validate(p setting.Problems, backends map[string]BackendConfig) {
	if len(pool.Backends) == 0 {
		p.Addf("backends", "is empty: name at least one of the backends")
	}
	for i, id := range pool.Backends {
		if _, ok := backends[id]; !ok {
			p.Addf("backends", "entry %d names %q, which is not among the backends", i, id)
		}
	}
	if pool.Panic < 0 || pool.Panic > 100 {
		p.Addf("panic_threshold", "%d is no percentage: write 0 to 100", pool.Panic)
	}
	pool.Prefix.validate(p.In("prefix"))
	pool.Session.validate(p.In("session"))
	pool.Timeouts.validate(p.In("timeouts"))
	pool.Retry.validate(p.In("retry"))
	pool.Hedge.validate(p.In("hedge"))
	pool.Continue.validate(p.In("continuation"))
}
