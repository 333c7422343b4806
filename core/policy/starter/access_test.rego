package access_test

import data.nexus

# decide is the decision on a call of this tenant for this model, and nothing else of note.
decide(tenant, model) := decision if {
	decision := nexus.decision with input.principal.tenant as tenant
		with input.request.model as model
		with input.labels as {}
		with input.pii.kinds as []
		with input.prompt.tokens_est as 1
		with data.tenants as {"acme": {"models": ["small"]}}
}

test_a_listed_model_may_be_used if decide("acme", "small").action == "allow"

test_another_may_not if {
	d := decide("acme", "large")
	d.action == "deny"
	d.rule == "access.model_not_allowed"
	d.deny.code == "model_not_allowed"
}

test_a_tenant_that_is_not_listed_may_use_all if decide("globex", "large").action == "allow"
