package night_test

import data.nexus

# at is the time of day in Korea, on Thursday, 1 January 2026.
at(hour) := 1767225600000 + ((hour - 9) * 3600000)

decide(time_ms, labels) := decision if {
	decision := nexus.decision with input as {"time_ms": time_ms, "labels": labels, "principal": {"labels": {}}}
}

background := {"profile": "background"}

test_night if {
	every hour in [0, 3, 6, 22, 23] {
		decide(at(hour), background).rule == "routes.night"
	}
}

test_day if {
	every hour in [7, 9, 12, 21] {
		decide(at(hour), background).rule == "routes.day"
	}
}

test_a_minute_before_ten if decide(at(22) - 60000, background).rule == "routes.day"

test_weekend_is_night if decide(at(12) + ((2 * 24) * 3600000), background).rule == "routes.night"

test_reason_has_the_hour_in_korea if decide(at(23), background).reason == "야간 배치 (23시)"

test_key_may_say_so if {
	d := nexus.decision with input as {"time_ms": at(1), "labels": {}, "principal": {"labels": {"workload": "batch"}}}
	d.targets == ["night", "small"]
}

test_people_are_not_background if decide(at(3), {"profile": "general"}).rule == "default"
