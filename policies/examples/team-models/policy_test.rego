package team_models_test

import data.nexus

decide(team, model) := decision if {
	decision := nexus.decision with input as {"principal": {"team": team}, "request": {"model": model}}
}

test_listed_model if decide("검색팀", "qwen3").action == "allow"

test_star_at_the_end if decide("검색팀", "bge-m3").action == "allow"

test_star_stands_for_the_end_alone if decide("검색팀", "x-bge-m3").action == "deny"

test_model_of_another_team if {
	d := decide("검색팀", "solar-pro")
	d.action == "deny"
	d.deny.status == 404
	d.deny.code == "model_not_found"
}

test_name_that_only_begins_so if decide("법무팀", "solar-pro-max").action == "deny"

test_team_without_a_list if decide("", "qwen3").action == "deny"

test_platform_team_may_use_all if decide("플랫폼팀", "anything").action == "allow"
