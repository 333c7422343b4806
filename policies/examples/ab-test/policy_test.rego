package ab_test_test

import data.nexus

decide(user, model) := decision if {
	decision := nexus.decision with input as {"principal": {"id": user}, "request": {"model": model, "route": "chat"}}
}

users := [sprintf("사용자-%d", [i]) | some i in numbers.range(1, 300)]

variants := [object.get(decide(user, "qwen3"), ["tags", "variant"], "none") | some user in users]

test_shares_are_as_asked_for if {
	a := count([1 | some v in variants; v == "A"])
	b := count([1 | some v in variants; v == "B"])
	a > 90
	a < 150
	b > 90
	b < 150
	a + b < 270
}

test_variant_sets_what_it_says if {
	some i, user in users
	variants[i] == "B"
	d := decide(user, "qwen3")
	d.targets == ["b"]
	d.set == {"max_tokens": 300}
	d.headers == {"x-variant": "B"}
	d.tags == {"experiment": "짧은-답변-2026", "variant": "B"}
}

test_other_models_are_no_part_of_it if {
	every user in array.slice(users, 0, 50) {
		decide(user, "solar-pro").rule == "default"
	}
}
