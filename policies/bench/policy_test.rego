package bench_test

import data.nexus

decide(changes) := decision if {
	input_ := object.union(
		{
			"request": {"model": "small", "tools": []},
			"principal": {"tenant": "acme", "tier": "pro", "roles": []},
			"labels": {},
			"pii": {"kinds": []},
			"prompt": {"tokens_est": 40},
			"budget": {"used_ratio": 0.4},
		},
		changes,
	)
	decision := nexus.decision with input as input_
}

test_contract if {
	d := decide({})
	d.rule == "routes.contract"
	d.targets == ["large", "small"]
}

test_free_tier_has_short_answers if decide({"principal": {"tier": "free"}}).set.max_tokens == 512

test_personal_stays_local if decide({"pii": {"kinds": ["EMAIL", "KR_RRN"]}}).rule == "routes.personal"

test_confidential_stays_local if {
	d := decide({"labels": {"confidential": "true"}, "pii": {"kinds": ["KR_RRN"]}})
	d.rule == "routes.confidential"
	d.matched == {"routes.confidential", "routes.contract", "routes.personal"}
}

test_long_prompt if decide({"prompt": {"tokens_est": 20000}}).targets == ["long"]

test_downgrade if decide({"budget": {"used_ratio": 0.95}}).rule == "routes.downgrade"

test_model_not_allowed if decide({"request": {"model": "huge"}}).deny.code == "model_not_allowed"

test_no_contract if decide({"principal": {"tenant": "unknown"}}).deny.code == "model_not_allowed"

test_tools_are_for_agents if {
	decide({"request": {"tools": ["sh"]}}).deny.code == "tools_not_allowed"
	decide({"request": {"tools": ["sh"]}, "principal": {"roles": ["agent"]}}).action == "allow"
}
