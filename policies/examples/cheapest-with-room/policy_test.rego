package cheapest_test

import data.nexus

backend(pool, price, changes) := object.union({"pool": pool, "healthy": true, "inflight": 0, "waiting": 0, "kv_used": 0.2, "price": price}, changes)

decide(backends) := decision if {
	decision := nexus.decision with input as {"request": {"model": "qwen3"}, "backends": backends}
}

fleet := {
	"gpu-1": backend("local", 2, {}),
	"gpu-2": backend("local", 3, {}),
	"gpu-3": backend("small", 1, {}),
	"cloud": backend("cloud", 9, {}),
}

test_cheapest_first_each_pool_once if {
	d := decide(fleet)
	d.rule == "routes.cheapest"
	d.targets == ["small", "local", "cloud"]
	d.reason == "small at 1"
}

test_full_cache_is_passed_over if decide(object.union(fleet, {"gpu-3": {"kv_used": 0.8}})).targets == ["local", "cloud"]

test_queue_is_passed_over if decide(object.union(fleet, {"gpu-3": {"waiting": 1}})).targets[0] == "local"

test_sick_backend_is_passed_over if decide(object.union(fleet, {"gpu-3": {"healthy": false}})).targets[0] == "local"

test_pool_stands_at_its_cheapest_that_has_room if {
	d := decide(object.union(fleet, {"gpu-1": {"kv_used": 0.99}}))
	d.targets == ["small", "local", "cloud"]
}

test_unknown_load_is_left_out if decide({"a": {"pool": "local", "healthy": true, "inflight": 0, "price": 1}}).rule == "default"

test_no_price_is_left_out if {
	decide({"a": object.remove(backend("local", 0, {}), ["price"])}).rule == "default"
}

test_none_left if decide({"a": backend("local", 1, {"healthy": false})}).rule == "default"

test_other_models if {
	d := nexus.decision with input as {"request": {"model": "solar-pro"}, "backends": fleet}
	d.rule == "default"
}
