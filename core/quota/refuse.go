package quota

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// exhausted refuses a call whose reservation did not fit.
func (k *keeper) exhausted(r *Reservation) *pipeline.Refusal {
	c, outcome, unit := r.short(), shortRequests, "requests"
	if c.Counter.Kind == KeyTokens || c.Counter.Kind == PolicyTokens {
		outcome, unit = shortTokens, "tokens"
	}
	k.decisions.WithLabelValues(outcome).Inc()
	reason := fmt.Sprintf("Rate limit reached for %s: limit %d a minute, %d left", unit, c.Limit, c.Left)
	if unit == "tokens" && c.Amount > 0 {
		reason += fmt.Sprintf(", %d needed for the prompt and the longest answer asked for", c.Amount)
	}
	wait := max(r.Reset, time.Millisecond)
	f := &pipeline.Refusal{
		Kind: pipeline.Exhausted, Stage: stage, Code: "rate_limit_exceeded", Retry: wait,
		Reason: reason + ". Try again in " + resetText(wait) + ".",
	}
	addHeaders(f, r)
	return f
}

// oversized refuses a call that fits no window, however long the caller waits; without the header
// clients would try again twice.
func (k *keeper) oversized(c *Charge, asked int64) *pipeline.Refusal {
	k.decisions.WithLabelValues(tooLarge).Inc()
	return &pipeline.Refusal{
		Kind: pipeline.Exhausted, Stage: stage, Code: "rate_limit_exceeded",
		Header: map[string]string{"X-Should-Retry": "false"},
		Reason: "Request too large: the prompt and the answer asked for come to about " + strconv.FormatInt(asked, 10) +
			" tokens, and the limit is " + strconv.FormatInt(c.Limit, 10) + " a minute. Ask for a lower max_tokens or send less.",
	}
}
