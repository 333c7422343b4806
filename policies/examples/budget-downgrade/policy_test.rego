package budget_test

import data.nexus

decide(used, tier) := decision if {
	decision := nexus.decision with input as {"budget": {"used_ratio": used}, "principal": {"tier": tier}}
}

test_enough_left if decide(0.9, "pro").rule == "default"

test_running_low if {
	d := decide(0.91, "pro")
	d.rule == "routes.downgrade"
	d.targets == ["small"]
	d.set.max_tokens == 512
	d.reason == "91 % of the budget used"
	d.headers == {"x-downgraded": "budget"}
}

test_no_budget_is_never_low if decide(0, "pro").rule == "default"

test_enterprise_is_never_downgraded if decide(1, "enterprise").rule == "default"
