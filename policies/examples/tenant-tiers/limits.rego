package nexus.limits

answer := {"max_tokens": data.tiers[input.principal.tier].max_tokens}
