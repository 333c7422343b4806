package long_prompts_test

import data.nexus

decide(tokens, request) := decision if {
	decision := nexus.decision with input as {"prompt": {"tokens_est": tokens}, "request": request}
}

test_short_prompt if decide(100, {}).rule == "default"

test_prompt_and_usual_answer_just_fit if decide(15360, {}).rule == "default"

test_one_token_more if {
	d := decide(15361, {})
	d.rule == "routes.long"
	d.targets == ["long"]
	d.reason == "16385 tokens"
}

test_long_answer_counts if decide(100, {"max_tokens": 20000}).rule == "routes.long"

test_what_fits_nowhere_is_refused if {
	d := decide(131073, {})
	d.action == "deny"
	d.deny.status == 400
	d.deny.code == "context_length_exceeded"
}
