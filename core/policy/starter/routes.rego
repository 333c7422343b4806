# Where calls go. Each rule claims the calls for which its body holds; of several, the highest priority wins.
package nexus.routes

# What a plugin or a key labels confidential stays on the local pools.
confidential := {"targets": data.pools.local, "reason": "confidential data stays here", "priority": 30} if {
	input.labels.confidential == "true"
}

# So does a prompt in which personal data of the kinds of data.json was found.
personal := {"targets": data.pools.local, "reason": "personal data stays here", "priority": 31} if {
	some kind in input.pii.kinds
	kind in data.local_kinds
}

# A long prompt goes where there is room for it.
long_prompt := {"targets": data.pools.long, "reason": "the prompt is long", "priority": 20} if {
	input.prompt.tokens_est > data.long_tokens
}
