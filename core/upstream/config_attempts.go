package upstream

import (
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// TimeoutsConfig bounds each phase of a call; 0 lets a phase last as long as the whole.
type TimeoutsConfig struct {
	Connect    time.Duration `yaml:"connect" default:"2s" doc:"To connect, TLS included."`
	Headers    time.Duration `yaml:"headers" default:"0s" doc:"From the request sent to the response's headers. They may take no longer than a stream's first token, or the whole of another answer, since engines send them with it; 0: just as long."`
	FirstToken time.Duration `yaml:"first_token" default:"10s" doc:"From the request sent to the first event of a stream, for a short prompt: a backend that is well answers within a few seconds, and a silent one is left for another before callers give up."`
	FirstPer1K time.Duration `yaml:"first_token_per_1k" default:"2s" doc:"Added to first_token for every 1,000 tokens of the prompt (counted as four bytes each), so that a long prefill is not taken for silence: 2s bears engines that read 500 tokens a second, queue included."`
	LastResort time.Duration `yaml:"last_resort" default:"60s" doc:"In place of first_token, where that is shorter, at the last backend there is to ask: giving up on it helps nobody."`
	Answer     time.Duration `yaml:"answer" default:"90s" doc:"From the request sent to the end of a reply that is not streamed. Nothing tells a silent backend from one that is writing, so this is what a caller waits for another one to be asked."`
	LastAnswer time.Duration `yaml:"last_answer" default:"10m" doc:"In place of answer, where that is shorter, at the last backend there is to ask: as long as OpenAI's SDKs wait."`
	Between    time.Duration `yaml:"between_tokens" default:"30s" doc:"Between two events of a stream."`
	MinRate    float64       `yaml:"min_rate" default:"0.1" doc:"Fewest events with tokens a second that a stream may fall to, counted over a minute; 0 sets no floor. Comments do not count."`
	Total      time.Duration `yaml:"total" default:"1h" doc:"The whole call at one backend."`
}

func (c TimeoutsConfig) validate(p setting.Problems) {
	notNegative(p, map[string]time.Duration{"connect": c.Connect, "headers": c.Headers, "first_token": c.FirstToken,
		"first_token_per_1k": c.FirstPer1K, "last_resort": c.LastResort, "answer": c.Answer, "last_answer": c.LastAnswer, "between_tokens": c.Between, "total": c.Total})
	if c.MinRate < 0 {
		p.Addf("min_rate", "%v is negative", c.MinRate)
	}
}

func notNegative(p setting.Problems, settings map[string]time.Duration) {
	for name, d := range settings {
		if d < 0 {
			p.Addf(name, "%v is negative", d)
		}
	}
}

// RetryConfig bounds what is tried again within one pool. Whatever the pool cannot do goes to the decision's next target.
type RetryConfig struct {
	Attempts   int           `yaml:"attempts" default:"3" doc:"Attempts of one call in this pool, the first included; 1 never tries again. A backend that was not asked yet comes first; one that was silent, or that refused the gateway's credential, is not asked again."`
	Backoff    time.Duration `yaml:"backoff" default:"100ms" doc:"Pause before a backend is asked a second time; it doubles each time, and up to half of it is left out at random. A backend that was not asked yet is asked at once."`
	Longest    time.Duration `yaml:"longest_backoff" default:"2s" doc:"Longest such pause."`
	RetryAfter time.Duration `yaml:"retry_after" default:"5s" doc:"Longest Retry-After of a backend that is waited for; after a longer one the call goes to the next target, or the answer to the caller."`
	Share      float64       `yaml:"budget" default:"0.08" doc:"Retries as a share of the pool's calls, so that they cannot become a storm. What a backend never had, or died of, is tried again without charge."`
	Floor      float64       `yaml:"budget_floor" default:"1" doc:"Retries a second that the budget allows however few calls there are; ten at once."`
}

func (c RetryConfig) validate(p setting.Problems) {
	if c.Attempts < 1 {
		p.Addf("attempts", "%d is too few: the first attempt counts, so that 1 never tries again", c.Attempts)
	}
	notNegative(p, map[string]time.Duration{"backoff": c.Backoff, "longest_backoff": c.Longest, "retry_after": c.RetryAfter})
	if c.Share < 0 || c.Share > 1 {
		p.Addf("budget", "%v is not a share from 0 to 1", c.Share)
	}
	if c.Floor < 0 {
		p.Addf("budget_floor", "%v is negative", c.Floor)
	}
}

// ContinuationConfig says when a stream that breaks off goes on at another backend.
type ContinuationConfig struct {
	Most     int          `yaml:"max" default:"2" doc:"Times that one answer may go on elsewhere after its stream broke off, stalled or failed; 0 switches continuation off, and such a stream ends with an error. What was generated is counted in full."`
	TokenIDs bool         `yaml:"token_ids" default:"true" doc:"Ask vLLM and SGLang for the numbers of the tokens, so that an answer goes on exactly where it stopped; otherwise it goes on from its text."`
	Memory   setting.Size `yaml:"memory" default:"256KiB" doc:"Most that is kept of one stream for this, the prompt's and the answer's tokens at three bytes each and the text; a stream that outgrows it can no longer go on elsewhere. All streams together keep 16 KiB for each and 4 MiB besides at most."`
}

func (c ContinuationConfig) validate(p setting.Problems) {
	if c.Most < 0 || c.Most > mostContinuations {
		p.Addf("max", "%d is not a number from 0 to %d", c.Most, mostContinuations)
	}
	if c.Memory < 0 {
		p.Addf("memory", "%d is negative", c.Memory)
	}
}

const mostContinuations = 16

// HedgeConfig says when a second backend is asked because the first is slow to begin.
type HedgeConfig struct {
	After time.Duration `yaml:"after" default:"0s" doc:"How long a stream's first token may take before another backend of the pool is asked beside it; whoever is first answers and the other one is cancelled at once. 0 asks nobody. It costs a second prefill: take the time that one in twenty calls exceeds."`
	Share float64       `yaml:"budget" default:"0.05" doc:"Such second attempts as a share of the pool's calls; one a second is always allowed."`
}

func (c HedgeConfig) validate(p setting.Problems) {
	notNegative(p, map[string]time.Duration{"after": c.After})
	if c.Share < 0 || c.Share > 1 {
		p.Addf("budget", "%v is not a share from 0 to 1", c.Share)
	}
}

// MirrorConfig copies calls to another pool.
type MirrorConfig struct {
	Pool       string        `yaml:"pool" doc:"The pool that gets copies of this one's calls; its answers are read and thrown away, and are charged to nobody. Empty: none."`
	Share      float64       `yaml:"share" default:"0.01" doc:"Share of the calls that is copied."`
	Concurrent int           `yaml:"concurrent" default:"16" doc:"Copies under way at a time; what is over is left out."`
	Longest    time.Duration `yaml:"longest" default:"60s" doc:"After how long a copy is given up, whether its caller still waits or not."`
}

func (c MirrorConfig) validate(p setting.Problems, own string, pools map[string]PoolConfig) {
	if _, ok := pools[c.Pool]; c.Pool != "" && !ok {
		p.Addf("pool", "%q is not among the pools", c.Pool)
	}
	if c.Pool == own {
		p.Addf("pool", "is the pool itself: its backends would get each call twice")
	}
	if c.Share < 0 || c.Share > 1 {
		p.Addf("share", "%v is not a share from 0 to 1", c.Share)
	}
	if c.Concurrent < 0 || c.Concurrent > mostMirrored {
		p.Addf("concurrent", "%d is not a number from 0 to %d", c.Concurrent, mostMirrored)
	}
	notNegative(p, map[string]time.Duration{"longest": c.Longest})
}

const mostMirrored = 1 << 16
