package policy

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/policies"
)

// looseConfig is for policies that answer what no decision is.
func looseConfig() Config {
	c := testConfig()
	c.Loose = true
	return c
}

// What the check of a decision would refuse when a call comes is refused when the policy is loaded, where it is
// written.
func TestClaimsOfTheWrongShape(t *testing.T) {
	tests := []struct{ pkg, rule, want string }{
		{"routes", `a := {"target": ["x"]}`, `p/a.rego:3: rule a: unknown member "target": did you mean "targets"?`},
		{"routes", "a := {\n\t\"reason\": \"r\",\n\t\"target\": [\"x\"],\n}", `p/a.rego:5: rule a: unknown member "target"`},
		{"routes", "a := _claim(\"x\")\n\n_claim(p) := {\"targts\": [p]}", `p/a.rego:3: rule a: unknown member "targts": did you mean "targets"?`},
		{"routes", "a := {\"targets\": [\"x\"]} if input.attempt == 1\n\nelse := {\"tragets\": [\"y\"]}", `p/a.rego:5: rule a: unknown member "tragets"`},
		{"routes", `a := {"targets": "x"}`, "p/a.rego:3: rule a: targets is a string, not an array"},
		{"routes", `a := {"targets": {"x"}}`, "rule a: targets is a set, not an array"},
		{"routes", `a := {"targets": [{"pool": "x", "wait": 1}]}`, `rule a: unknown member "targets[_].wait"`},
		{"routes", `a := {"targets": [{"pool": "x", "weight": -1}]}`, "rule a: targets[_].weight is never -1: it is 0 to 1e+06"},
		{"routes", `a := {"targets": [{"pool": "x", "mask": "nonw"}]}`, `rule a: targets[_].mask is never "nonw": did you mean "none"?`},
		{"routes", `a := {"targets": [1]}`, "rule a: targets[_] is a string and never 1"},
		{"routes", `a := {"set": {"max_token": 5}}`, `unknown member "set.max_token": did you mean "max_tokens"?`},
		{"routes", `a := {"set": {"max_tokens": 0}}`, "set.max_tokens is never 0: it is 1 or more"},
		{"routes", `a := {"set": {"max_tokens": "5"}}`, "set.max_tokens is a string, not a number"},
		{"routes", `a := {"priority": "high"}`, "priority is a string, not a number"},
		{"routes", `a := {"action": "deny"}`, `unknown member "action"`},
		{"routes", `a := {"mask": {"profile": "none"}}`, `unknown member "mask"`},
		{"routes", `a := {"cache": true}`, `unknown member "cache"`},
		{"routes", `a := {"tags": {"a": 1}}`, "tags[_] is a number, not a string"},
		{"routes", `a := {"headers": {"x-a": true}}`, "headers[_] is a boolean, not a string"},
		{"access", `a := {"mesage": "no"}`, `unknown member "mesage": did you mean "message"?`},
		{"access", `a := {"status": 200}`, "status is never 200: it is 400 to 599"},
		{"access", `a := {"retry_after": -1}`, "retry_after is never -1: it is 0 to 86400"},
		{"access", `a := {"retry_after": "soon"}`, "retry_after is a string, not a number"},
		{"access", `a := {"action": "allow", "tags": {"a": "b"}}`, `unknown member "tags"`},
		{"access", `a := {"action": "allow", "message": "x"}`, `unknown member "message"`},
		{"access", `a := {"action": "respond", "respond": {"txt": "x"}}`, `unknown member "respond.txt": did you mean "text"?`},
		{"access", `a := {"action": "denied"}`, `rule a: action is never "denied": it is one of deny, allow, respond`},
		{"access", `a := {"respond": {"text": "x"}}`, `unknown member "respond"`},
		{"limits", `a := {"token": 5}`, `unknown member "token": did you mean "tokens"?`},
		{"limits", `a := {"tokens": 5, "priority": 1}`, `unknown member "priority"`},
		{"limits", `a := {"requests": -5}`, "requests is never -5: it is 0 or more"},
		{"masks", `a := {"profile": "strict"}`, `profile is never "strict": it is one of all, none`},
		{"masks", `a := {"profil": "none"}`, `did you mean "profile"?`},
		{"masks", `a := {"restore": "yes"}`, "restore is a string, not a boolean"},
	}
	for _, tt := range tests {
		_, err := Compile(t.Context(), rego("a.rego", "package nexus."+tt.pkg+"\n\n"+tt.rule+"\n"), testConfig())
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "p/a.rego:") {
			t.Errorf("%s: %s\ngot %v\nwant %s", tt.pkg, tt.rule, err, tt.want)
		}
	}
}

func TestClaimsOfTheRightShape(t *testing.T) {
	for pkg, rules := range map[string]string{
		"routes": `a := {"targets": ["x", {"pool": "y", "weight": 3}], "weights": {"x": 7}, "set": {"model": "m", "max_tokens": 5}, "headers": {"x-a": "b"}, "tags": {"a": "b"}, "reason": "r", "priority": 1.5}

b := {"targets": [p | some p in data.pools], "priority": data.p}

c := data.claims.c

d := object.union({"targets": []}, {"priority": 3})`,
		"access": `a := {"status": 429, "code": "c", "message": "m", "retry_after": 1.5, "reason": "r", "priority": 1, "headers": {}, "tags": {}} if input.attempt == 1

b := {"action": "allow", "priority": 2, "reason": "r"}

c := {"action": "respond", "respond": {"text": "hi"}, "headers": {}, "tags": {}}

d := {"action": data.action}

e := {}`,
		"limits": `a := {"key": "k", "requests": 1, "tokens": 0, "max_tokens": 9, "reason": "r"}

_helper := {"nonsense": 1}`,
		"masks": `a := {"profile": "none", "restore": true, "priority": 1, "reason": "r"}`,
	} {
		if _, err := Compile(t.Context(), rego("a.rego", "package nexus."+pkg+"\n\n"+rules+"\n"), testConfig()); err != nil {
			t.Errorf("%s: %v", pkg, err)
		}
	}
}

// A decision of the author's own is held to the same schema, and must always be one.
func TestOwnDecisions(t *testing.T) {
	tests := []struct{ rego, want string }{
		{"package nexus\n\ndecision := {\"action\": \"allow\"} if input.attempt == 1", "p/a.rego:3: decision is undefined for calls that none of its rules holds for: add `default decision := "},
		{"package nexus.decision\n\naction := \"allow\" if input.attempt == 1", "p/a.rego:3: action is undefined for calls that none of its rules holds for: add `default action := \"deny\"`"},
		{"package nexus\n\ndecision := {\"action\": \"allow\"} if input.attempt == 1\n\nelse := {\"action\": \"deny\"} if input.attempt == 2", "p/a.rego:3: decision is undefined"},
		{"package nexus\n\ndecision := {\"action\": \"allowed\"}", `p/a.rego:3: rule decision: action is never "allowed": did you mean "allow"?`},
		{"package nexus\n\ndecision := {\"action\": \"allow\", \"target\": []}", `p/a.rego:3: the decision: unknown member "target": did you mean "targets"?`},
		{"package nexus.decision\n\naction := \"allow\"\n\ntargest := [\"x\"]", `p/a.rego:5: the decision: unknown member "targest": did you mean "targets"?`},
		{"package nexus.decision\n\naction := true", "p/a.rego:3: the decision: action is a boolean, not a string"},
		{"package nexus.decision\n\naction := \"maybe\"", "p/a.rego:3: the decision: action is never \"maybe\""},
		{"package nexus\n\ndecision := \"allow\"", "p/a.rego:3:"},
		{"package nexus\n\ndefault decision := {\"action\": \"deny\"}\n\ndecision := {\"action\": \"allow\"} if input.attempt == 1", ""},
		{"package nexus\n\ndecision := {\"action\": \"allow\"} if input.attempt == 1\n\nelse := {\"action\": \"deny\"}", ""},
		{"package nexus.decision\n\ndefault action := \"deny\"\n\naction := \"allow\" if input.attempt == 1\n\ntargets := [\"x\"]", ""},
	}
	for _, tt := range tests {
		_, err := Compile(t.Context(), rego("a.rego", tt.rego), testConfig())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s\ngot %v\nwant %s", tt.rego, err, tt.want)
		}
	}
}

// What a call's decision has too much of is told with the rule and what was meant, for the log.
func TestWrongDecisionsAreTold(t *testing.T) {
	s := compile(t, looseConfig(), "a.rego", "package nexus.routes\n\na := {\"target\": [\"x\"]}").Stage(Env{})
	_, err := s.Handle(t.Context(), newCall(t, chatBody), passed)
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Code != "policy_no_decision" || r.Err == nil ||
		!strings.Contains(r.Err.Error(), `rule routes.a: unknown member "target": did you mean "targets"?`) {
		t.Errorf("got %v", err)
	}
}

// The claims are parts of the decision: what they say of a member is what the decision's schema says.
func TestClaimsSchemaFitsTheDecision(t *testing.T) {
	var raw any
	if err := json.Unmarshal(policies.ClaimsSchema, &raw); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"denial":    {"action", "code", "headers", "message", "priority", "reason", "retry_after", "status", "tags"},
		"exemption": {"action", "priority", "reason"},
		"answer":    {"action", "headers", "priority", "reason", "respond", "tags"},
		"routes":    {"headers", "priority", "reason", "set", "tags", "targets", "weights"},
		"limits":    {"key", "max_tokens", "reason", "requests", "tokens"},
		"masks":     {"priority", "profile", "reason", "restore"},
	}
	for name, members := range want {
		if got := slices.Sorted(maps.Keys(claimsRoot().Definitions[name].Props)); !slices.Equal(got, members) {
			t.Errorf("%s has %v, want %v", name, got, members)
		}
	}
	if got := claimOf("masks").Props["profile"]; got.Type != "string" || !slices.Equal(got.Enum, []string{"all", "none"}) {
		t.Errorf("a reference to the decision's schema gives %+v", got)
	}
}
