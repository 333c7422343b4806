package policy

import (
	"strings"
	"testing"
)

// What OPA's type checker lets pass as undefined or false in silence is a mistake with its line.
func TestPathsThatNoCallHas(t *testing.T) {
	backend := "is not in the input schema: did you mean input.backends[_].kv_used?"
	tests := []struct{ body, want string }{
		{`some b in input.backends; b.kv_usd > 0.5`, "input.backends[_].kv_usd " + backend},
		{`some id, b in input.backends; b.kv_usd > 0.5; id != ""`, backend},
		{`input.backends["x"].kv_usd > 1`, backend},
		{`input.backends.x.kv_usd > 1`, backend},
		{`every b in input.backends { b.kv_usd < 1 }`, backend},
		{`count([b | some b in input.backends; b.kv_usd < 1]) > 0`, backend},
		{`fleet := input.backends; some b in fleet; c := b; c.kv_usd < 1`, backend},
		{`r := input.request; r.modle == "a"`, "undefined ref: r.modle: did you mean r.model?"},
		{`object.get(input.request, "modle", "") == "a"`, "did you mean input.request.model?"},
		{`object.get(input, ["request", "modle"], "") == "a"`, "did you mean input.request.model?"},
		{`r := input.request; object.get(r, "modle", "") == "a"`, "did you mean input.request.model?"},
		{`input.labels.confidential == true`, `input.labels[_] is a string and never true, a boolean: did you mean "true"?`},
		{`input.labels.confidential != true`, "never true"},
		{`input.principal.labels.level > 3`, `input.principal.labels[_] is a string and never 3, a number: did you mean "3"?`},
		{`input.prompt.tokens_est > "1"`, "input.prompt.tokens_est is a number and never \"1\", a string"},
		{`input.request.stream == "true"`, "match error"},
		{`input.request.route == "chats"`, `input.request.route is never "chats": did you mean "chat"?`},
		{`input.request.route != "chats"`, "never"},
		{`input.request.route in {"chat", "embeding"}`, `did you mean "embeddings"?`},
		{`input.prompt.lang == "kr"`, `input.prompt.lang is never "kr": did you mean "ko"?`},
		{`1 in input.labels`, "input.labels[_] is a string and never 1"},
	}
	for _, tt := range tests {
		_, err := Compile(t.Context(), rego("a.rego", "package nexus.routes\n\nx := {} if {\n\t"+tt.body+"\n}\n"), testConfig())
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "p/a.rego:4: ") {
			t.Errorf("%s\ngot %v\nwant %s", tt.body, err, tt.want)
		}
	}
}

func TestPathsThatCallsHave(t *testing.T) {
	for _, body := range []string{
		`some b in input.backends; b.kv_used > 0.5; b.running == 0`,
		`some id, b in input.backends; b.pool == id`,
		`input.labels.anything == "true"; input.principal.labels["지역"] == "서울"`,
		`some k in ["a", "b"]; input.labels[k] == data.x[k]`,
		`some part in ["model", "path"]; input.request[part] == "a"`,
		`object.get(input.request, "max_tokens", 5) > 4`,
		`object.get(input.labels, "x", "") == ""`,
		`input.request.route in {"chat", "embeddings"}; input.prompt.lang == ""`,
		`input.request.route == data.route`,
		`every k in input.pii.kinds { k != "KR_RRN" }`,
		`x := {"kv_usd": 1}; x.kv_usd == 1`,
		`input.budget.used_ratio > 0.5; input.quota.tokens_left == -1`,
	} {
		if _, err := Compile(t.Context(), rego("a.rego", "package nexus.routes\n\nx := {} if {\n\t"+body+"\n}\n"), testConfig()); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// A test whose input no call could have proves nothing.
func TestInputsOfTestsFitTheSchema(t *testing.T) {
	tests := []struct{ with, want string }{
		{`with input as {"principal": {"teir": "free"}}`, "p/a_test.rego:4: input.principal.teir is not in the input schema: did you mean input.principal.tier?"},
		{`with input as {"tennant": "a"}`, "did you mean input.principal.tenant?"},
		{`with input.principal.teir as "free"`, "input.principal.teir is not in the input schema"},
		{`with input.principal as {"teir": "free"}`, "input.principal.teir"},
		{`with input as {"backends": {"gpu": {"kv_usd": 0.5}}}`, "input.backends[_].kv_usd"},
		{`with input as {"prompt": {"tokens_est": "5"}}`, "input.prompt.tokens_est is a number and never"},
		{`with input as {"request": {"route": "chats"}}`, `did you mean "chat"?`},
		{`with input as {"pii": {"kinds": [1]}}`, "input.pii.kinds[_] is a string"},
		{`with input as {"principal": {"tier": "free"}, "labels": {"x": "y"}, "backends": {"g": {"healthy": true}}}`, ""},
		{`with input.labels as {"x": "y"}`, ""},
	}
	policy := "package nexus.routes\n\nx := {} if input.principal.tier == \"free\"\n"
	for _, tt := range tests {
		_, err := Test(t.Context(), rego("a.rego", policy, "a_test.rego", "package a_test\n\ntest_a if {\n\tdata.nexus.decision.action == \"allow\" "+tt.with+"\n}\n"))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s\ngot %v\nwant %s", tt.with, err, tt.want)
		}
	}
}
