package weighted_test

import data.nexus

decide(model) := decision if {
	decision := nexus.decision with input as {"request": {"model": model}}
}

test_weights_of_the_model if {
	d := decide("qwen3")
	d.rule == "routes.shared"
	{pool | some pool in d.targets} == {"local", "cloud"}
	d.weights == {"cloud": 20, "local": 80}
}

test_three_ways if decide("solar-pro").weights == {"seoul": 50, "large": 30, "cloud": 20}

test_other_models_go_where_they_are_served if decide("bge-m3").rule == "default"
