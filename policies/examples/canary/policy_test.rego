package canary_test

import data.nexus

decide(principal) := decision if {
	decision := nexus.decision with input as {"principal": object.union({"tenant": "acme", "roles": []}, principal)}
}

users := [sprintf("사용자-%d", [i]) | some i in numbers.range(1, 400)]

in_canary(share) := {user |
	some user in users
	decision := nexus.decision with input as {"principal": {"id": user, "tenant": "acme", "roles": []}}
		with data.canary.share as share
	decision.rule == "routes.canary"
}

test_about_a_twentieth_of_the_users if {
	n := count(in_canary(0.05))
	n > 8
	n < 36
}

test_whoever_is_in_stays_in_when_the_share_grows if in_canary(0.02) - in_canary(0.1) == set()

test_nobody_at_zero if in_canary(0) == set()

test_everybody_at_one if count(in_canary(1)) == count(users)

test_canary_falls_back_to_stable if {
	d := decide({"id": "김민수", "roles": ["tester"]})
	d.rule == "routes.canary"
	d.targets == ["canary", "stable"]
	d.headers == {"x-lane": "canary"}
}

test_never_means_testers_too if {
	d := decide({"id": "김민수", "tenant": "한빛은행", "roles": ["tester"]})
	d.rule == "routes.stable"
	d.targets == ["stable"]
}
