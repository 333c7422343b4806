package nexus.routes_test

import data.nexus

routing := {
	"local_kinds": ["KR_RRN"],
	"long_tokens": 1000,
	"tiers": {"free": "economy", "premium": "premium"},
	"pools": {"local": ["on-site"], "long": ["wide"], "economy": ["small"], "premium": ["big", "small"]},
}

call := {
	"labels": {},
	"pii": {"count": 0, "kinds": []},
	"principal": {"tier": ""},
	"prompt": {"tokens_est": 10},
}

# decide is the decision on a call that differs from an ordinary one by these changes.
decide(changes) := decision if {
	decision := nexus.decision with input as object.union(call, changes)
		with data.routing as routing
}

test_ordinary_call_goes_to_the_pools_of_its_model if {
	d := decide({})
	d.rule == "default"
	not d.targets
}

test_tier_chooses_its_pools if {
	d := decide({"principal": {"tier": "premium"}})
	d.rule == "routes.tier"
	d.reason == "tier premium"
	d.targets == ["big", "small"]
}

test_long_prompt_goes_where_there_is_room if {
	d := decide({"prompt": {"tokens_est": 1001}, "principal": {"tier": "free"}})
	d.rule == "routes.long_prompt"
	d.targets == ["wide"]
}

test_personal_data_stays_local if {
	d := decide({"pii": {"count": 2, "kinds": ["EMAIL", "KR_RRN"]}, "prompt": {"tokens_est": 5000}})
	d.rule == "routes.personal"
	d.targets == ["on-site"]
	d.tags == {"class": "local"}
	d.matched == {"routes.personal", "routes.long_prompt"}
}

test_other_kinds_do_not_matter if decide({"pii": {"count": 1, "kinds": ["EMAIL"]}}).rule == "default"

test_confidential_data_stays_local if {
	d := decide({"labels": {"confidential": "true"}, "pii": {"count": 1, "kinds": ["KR_RRN"]}})
	d.rule == "routes.confidential"
	d.targets == ["on-site"]
}

test_class_without_pools_leaves_the_call_to_its_model if {
	d := nexus.decision with input as object.union(call, {"principal": {"tier": "premium"}})
		with data.routing as object.union(routing, {"pools": {"premium": []}})
	d.rule == "routes.tier"
	d.targets == []
}
