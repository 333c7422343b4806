# METADATA
# title: The free tier has what is idle
# description: |
#   Free calls go to backends that nobody waits for. While there is none they get 429 with the time to come back,
#   computed from the shortest queue and the usual time to a first token.
package nexus.access

import data.idle

busy := {
	"status": 429,
	"code": "free_tier_busy",
	"message": sprintf("지금은 여유가 없습니다. %d초 뒤에 다시 시도해 주세요. Nothing is idle; try again in %d s.", [_retry, _retry]),
	"retry_after": _retry,
	"reason": "no idle backend",
} if {
	input.principal.tier == "free"
	count(idle.pools) == 0
}

# Whoever stands first in the shortest queue is served when its calls have had their first tokens.
_retry := max([1, min([60, ceil(min(_waits))])]) if count(_waits) > 0

else := 30

_waits := {seconds |
	some b in input.backends
	b.healthy
	seconds := (((b.waiting + b.inflight) + 1) * b.ttft_ms_p50) / 1000
}
