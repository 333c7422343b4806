package nexus_test

import data.nexus

# decide is the decision where these rules, and no others, stand.
decide(access, routes, limits, masks) := decision if {
	decision := nexus.decision with data.nexus.access as access
		with data.nexus.routes as routes
		with data.nexus.limits as limits
		with data.nexus.masks as masks
}

test_no_rule_allows_and_leaves_the_pools if {
	decide({}, {}, {}, {}) == {"action": "allow", "rule": "default", "matched": set()}
}

test_one_route_decides if {
	d := decide({}, {"local": {"targets": ["a", "b"], "reason": "r"}}, {}, {})
	d == {"action": "allow", "rule": "routes.local", "targets": ["a", "b"], "reason": "r", "matched": {"routes.local"}}
}

test_highest_priority_wins if {
	d := decide({}, {"a": {"targets": ["x"], "priority": 1}, "b": {"targets": ["y"], "priority": 2}, "c": {"targets": ["z"]}}, {}, {})
	d.rule == "routes.b"
	d.targets == ["y"]
	d.matched == {"routes.a", "routes.b", "routes.c"}
	not d.priority
}

test_equal_priority_is_a_conflict_that_names_both if {
	decide({}, {"a": {"targets": ["x"]}, "b": {"targets": ["y"]}}, {}, {}) == {"conflict": ["routes.a", "routes.b"]}
}

test_equal_priority_below_the_winner_is_none if {
	d := decide({}, {"a": {"targets": ["x"]}, "b": {"targets": ["y"]}, "c": {"targets": ["z"], "priority": 1}}, {}, {})
	d.rule == "routes.c"
}

test_access_denies if {
	d := decide({"blocked": {"status": 402, "code": "unpaid", "message": "Pay first.", "reason": "unpaid"}}, {"a": {"targets": ["x"]}}, {}, {})
	d.action == "deny"
	d.rule == "access.blocked"
	d.reason == "unpaid"
	d.deny == {"status": 402, "code": "unpaid", "message": "Pay first."}
	d.matched == {"access.blocked", "routes.a"}
	not d.targets
}

test_denial_comes_before_a_conflict_of_routes if {
	decide({"blocked": {}}, {"a": {"targets": ["x"]}, "b": {"targets": ["y"]}}, {}, {}).action == "deny"
}

test_denials_agree if {
	d := decide({"b": {"reason": "2"}, "a": {"reason": "1"}}, {}, {}, {})
	d.action == "deny"
	d.rule == "access.a"
}

test_an_exemption_of_higher_priority_lets_through if {
	d := decide({"blocked": {}, "staff": {"action": "allow", "priority": 1}}, {"a": {"targets": ["x"]}}, {}, {})
	d.action == "allow"
	d.rule == "routes.a"
}

test_exemption_and_denial_of_equal_priority_are_a_conflict if {
	decide({"blocked": {}, "staff": {"action": "allow"}}, {}, {}, {}) == {"conflict": ["access.blocked", "access.staff"]}
}

test_access_may_answer if {
	d := decide({"hello": {"action": "respond", "respond": {"text": "hi"}}}, {}, {}, {})
	d == {"action": "respond", "rule": "access.hello", "respond": {"text": "hi"}, "matched": {"access.hello"}}
}

test_misspelt_member_is_kept_for_the_check if {
	decide({"blocked": {"mesage": "no"}}, {}, {}, {}).mesage == "no"
	decide({}, {"a": {"target": ["x"]}}, {}, {}).target == ["x"]
}

test_every_limit_counts if {
	d := decide({}, {}, {"night": {"tokens": 10}, "day": {"key": "k", "requests": 5, "reason": "r"}}, {})
	{l | some l in d.limits} == {{"key": "k", "requests": 5}, {"key": "limits.night", "tokens": 10}}
}

test_smallest_cap_wins if {
	d := decide({}, {"a": {"set": {"model": "m", "max_tokens": 50}}}, {"x": {"max_tokens": 90}, "y": {"max_tokens": 70}}, {})
	d.set == {"model": "m", "max_tokens": 50}
	d.limits == []
}

test_cap_without_a_route if {
	decide({}, {}, {"x": {"max_tokens": 90}}, {}).set == {"max_tokens": 90}
}

test_mask if {
	d := decide({}, {}, {}, {"staff": {"profile": "none", "priority": 2, "reason": "r"}, "all": {"profile": "all"}})
	d.mask == {"profile": "none"}
	d.rule == "default"
}

test_masks_conflict if {
	decide({}, {}, {}, {"a": {"profile": "none"}, "b": {"profile": "all"}}) == {"conflict": ["masks.a", "masks.b"]}
}

test_helpers_claim_nothing if {
	decide({"_h": {}}, {"_h": {"targets": ["x"]}}, {"_h": {"tokens": 1}}, {"_h": {"profile": "none"}}).rule == "default"
}
