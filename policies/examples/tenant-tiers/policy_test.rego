package tenant_tiers_test

import data.nexus

decide(tenant, tier) := decision if {
	decision := nexus.decision with input as {"principal": {"tenant": tenant, "tier": tier}}
}

test_free_has_the_small_pool_and_short_answers if {
	d := decide("작은회사", "free")
	d.rule == "routes.tier"
	d.targets == ["small"]
	d.set.max_tokens == 512
	d.tags == {"tier": "free"}
}

test_pro_falls_back_to_the_small_pool if decide("acme", "pro").targets == ["large", "small"]

test_contract_goes_before_the_tier if {
	d := decide("한빛은행", "enterprise")
	d.rule == "routes.contract"
	d.targets == ["seoul"]
	d.set.max_tokens == 16384
}

test_contract_needs_no_tier if {
	d := decide("한빛은행", "")
	d.targets == ["seoul"]
	not d.set
}

test_unknown_tier_is_denied if {
	d := decide("acme", "gold")
	d.action == "deny"
	d.deny.code == "unknown_tier"
}
