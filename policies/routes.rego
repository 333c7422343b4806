# METADATA
# title: The routing that Nexus ships
# description: |
#   Where a call goes, by what was found in it and by who sends it. The pools, kinds and bounds stand in
#   data.json, so that this file need not be changed: put your own data.json in place of it.
package nexus.routes

import data.routing

# Prompts in which a plugin found personal data of the kinds named stay on the local pools.
personal := _claim("local", "personal data stays local", 30) if {
	some kind in input.pii.kinds
	kind in routing.local_kinds
}

# A label set by a plugin or a key says the same.
confidential := _claim("local", "confidential data stays local", 31) if input.labels.confidential == "true"

# Long prompts go where there is room for them.
long_prompt := _claim("long", "the prompt is long", 20) if input.prompt.tokens_est > routing.long_tokens

# Each tier has its pools.
tier := _tiers[input.principal.tier]

_tiers := {tier: _claim(class, sprintf("tier %v", [tier]), 10) | some tier, class in routing.tiers}

# The claim of a class of calls: the pools that data.json gives it. A class without pools leaves the call to
# the pools of the model asked for; a pool that this gateway does not have makes the decision a wrong one,
# and the call is refused rather than sent elsewhere.
_claim(class, reason, priority) := {
	"targets": routing.pools[class],
	"reason": reason,
	"priority": priority,
	"tags": {"class": class},
}
