package confidential_test

import data.nexus

call := {
	"labels": {},
	"pii": {"count": 0, "kinds": []},
	"principal": {"labels": {}},
	"prompt": {"keywords": []},
}

decide(changes) := decision if {
	decision := nexus.decision with input as object.union(call, changes)
}

test_ordinary_prompts_go_where_their_model_is if {
	d := decide({})
	d.rule == "default"
	not d.mask
}

test_registration_number_stays_local_and_is_not_masked if {
	d := decide({"pii": {"count": 2, "kinds": ["EMAIL", "KR_RRN"]}})
	d.rule == "routes.registration_number"
	d.targets == ["local"]
	d.mask == {"profile": "none"}
}

test_other_personal_data_may_leave_masked if {
	d := decide({"pii": {"count": 1, "kinds": ["EMAIL"]}})
	d.rule == "default"
	not d.mask
}

test_label_of_a_plugin if decide({"labels": {"confidential": "true"}}).targets == ["local"]

test_label_of_the_key if decide({"principal": {"labels": {"confidential": "true"}}}).targets == ["local"]

test_words_of_the_prompt if decide({"prompt": {"keywords": ["대외비"]}}).rule == "routes.confidential"

test_both_are_no_conflict if {
	d := decide({"labels": {"confidential": "true"}, "pii": {"count": 1, "kinds": ["KR_RRN"]}})
	d.rule == "routes.registration_number"
	d.matched == {"routes.registration_number", "routes.confidential", "masks.inside"}
}
