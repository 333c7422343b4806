package free_tier_test

import data.nexus

backend(changes) := object.union({"pool": "small", "healthy": true, "inflight": 0, "waiting": 0, "ttft_ms_p50": 400}, changes)

decide(tier, backends) := decision if {
	decision := nexus.decision with input as {"principal": {"tier": tier}, "backends": backends}
}

test_idle_backend if {
	d := decide("free", {"a": backend({}), "b": backend({"pool": "local", "inflight": 2}), "c": backend({"pool": "large", "inflight": 3})})
	d.rule == "routes.free"
	d.targets == ["local", "small"]
}

test_busy_is_429_with_a_time_to_come_back if {
	d := decide("free", {"a": backend({"inflight": 9, "waiting": 4}), "b": backend({"inflight": 40, "waiting": 9})})
	d.action == "deny"
	d.rule == "access.busy"
	d.deny.status == 429
	d.deny.retry_after == 6 # (4 + 9 + 1) calls of 400 ms
}

test_time_to_come_back_has_bounds if {
	decide("free", {"a": backend({"waiting": 1, "ttft_ms_p50": 1})}).deny.retry_after == 1
	decide("free", {"a": backend({"waiting": 5000})}).deny.retry_after == 60
}

test_nothing_is_known_or_healthy if {
	decide("free", {}).deny.retry_after == 30
	decide("free", {"a": backend({"healthy": false})}).deny.retry_after == 30
	decide("free", {"a": {"pool": "small", "healthy": true, "inflight": 0}}).action == "deny"
}

test_who_pays_does_not_wait if decide("pro", {"a": backend({"waiting": 50})}).rule == "default"
