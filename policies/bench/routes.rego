package nexus.routes

# Prompts with registration numbers, and what is labelled so, stay on our own backends.
personal := {"targets": ["local"], "reason": "personal data stays local", "priority": 40} if {
	some kind in input.pii.kinds
	kind in data.kinds.local
}

confidential := {"targets": ["local"], "reason": "confidential data stays local", "priority": 41} if input.labels.confidential == "true"

# What is long goes where there is room.
long_prompt := {"targets": ["long"], "reason": "the prompt is long", "priority": 30} if input.prompt.tokens_est > data.bounds.long

# Who has used up nine tenths of the budget has the small model.
downgrade := {"targets": ["small"], "reason": "budget above 90 %", "priority": 20} if input.budget.used_ratio > 0.9

# Else a call goes to the pools of its tenant's contract.
contract := {"targets": data.tenants[input.principal.tenant].pools, "reason": "contract", "priority": 10, "tags": {"tier": input.principal.tier}}
