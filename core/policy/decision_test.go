package policy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/policies"
)

func TestCheckReadsAWholeDecision(t *testing.T) {
	v, err := check(ast.MustParseTerm(`{
		"action": "deny", "rule": "r", "reason": "why", "matched": {"a", "b"},
		"targets": ["a", {"pool": "b", "weight": 3, "mask": "none"}], "weights": {"a": 7},
		"set": {"model": "m", "max_tokens": 9}, "headers": {"x-a": "1"},
		"mask": {"profile": "none", "restore": true},
		"limits": [{"key": "k", "requests": 1, "tokens": 2}],
		"deny": {"status": 429, "code": "c", "message": "m", "retry_after": 1.5}, "tags": {"t": "u"},
	}`).Value, map[string]bool{"a": true, "b": true})
	want := &verdict{
		Decision: pipeline.Decision{
			Action: pipeline.DenyIt, Rule: "r", Reason: "why",
			Targets: []pipeline.Target{{Pool: "a", Weight: 7}, {Pool: "b", Weight: 3, Mask: "none"}},
			Set:     pipeline.Set{Model: "m", MaxTokens: 9}, Headers: map[string]string{"x-a": "1"},
			Mask: pipeline.Mask{Profile: "none", Restore: true}, Limits: []pipeline.Limit{{Key: "k", Requests: 1, Tokens: 2}},
			Deny: pipeline.Deny{Status: 429, Code: "c", Message: "m"}, Tags: map[string]string{"t": "u"},
		},
		matched: []string{"a", "b"}, retry: 1500 * time.Millisecond,
	}
	if err != nil || !reflect.DeepEqual(v, want) {
		t.Errorf("got %+v, %v\nwant %+v", v, err, want)
	}
}

// wrong are decisions that are none, with what is said of each.
var wrong = []struct{ decision, want string }{
	{`true`, "the decision is a boolean, not an object"},
	{`"allow"`, "the decision is a string"},
	{`null`, "the decision is null"},
	{`[{"action": "allow"}]`, "the decision is an array"},
	{`{"allow"}`, "the decision is a set"},
	{`{}`, "action is missing"},
	{`{"rule": "x"}`, "action is missing"},
	{`{"action": true}`, "action is a boolean, not a string"},
	{`{"action": "Allow"}`, `action is "Allow": must be allow, deny or respond`},
	{`{"action": ""}`, "action is missing"},
	{`{"action": "allow", "target": []}`, `unknown member "target"`},
	{`{"action": "allow", 1: 2}`, "has a key that is a number"},
	{`{"action": "allow", "targets": "a"}`, "targets is a string, not an array"},
	{`{"action": "allow", "targets": {"a"}}`, "targets is a set, not an array: the order counts"},
	{`{"action": "allow", "targets": [1]}`, "targets[0] is a number, not a string"},
	{`{"action": "allow", "targets": [""]}`, "targets[0] is empty"},
	{`{"action": "allow", "targets": ["a", "gpu"]}`, `targets[1]: there is no pool "gpu"`},
	{`{"action": "allow", "targets": ["lacol"]}`, `there is no pool "lacol": did you mean "local"?`},
	{`{"action": "allow", "targets": [{"weight": 1}]}`, "targets[0].pool is missing"},
	{`{"action": "allow", "targets": [{"pool": "a", "wait": 1}]}`, `unknown member "targets[0].wait"`},
	{`{"action": "allow", "targets": [{"pool": "a", "weight": -1}]}`, "targets[0].weight is -1"},
	{`{"action": "allow", "targets": [{"pool": "a", "weight": 1.5}]}`, "targets[0].weight is 1.5, not an integer"},
	{`{"action": "allow", "targets": ["a"], "weights": {"b": 1}}`, "weights.b is not one of the targets"},
	{`{"action": "allow", "set": {"max_tokens": 0}}`, "set.max_tokens is 0"},
	{`{"action": "allow", "set": {"max_tokens": 1e400}}`, "set.max_tokens is 1e400"},
	{`{"action": "allow", "set": {"max_tokens": "5"}}`, "set.max_tokens is a string, not a number"},
	{`{"action": "allow", "set": {"temperature": 0}}`, `unknown member "set.temperature"`},
	{`{"action": "allow", "set": {"model": ""}}`, "set.model is empty"},
	{`{"action": "allow", "headers": {"x-a": "1\r\nx-b: 2"}}`, "has a control character"},
	{`{"action": "allow", "headers": {"x a": "1"}}`, `headers: "x a" may not be set`},
	{`{"action": "allow", "headers": {"content-LENGTH": "1"}}`, "may not be set"},
	{`{"action": "allow", "headers": {"x-a": 1}}`, "headers.x-a is a number"},
	{`{"action": "allow", "mask": {"restore": 1}}`, "mask.restore is a number, not a boolean"},
	{`{"action": "allow", "mask": {"profile": "strict"}}`, `mask.profile is "strict": must be all or none`},
	{`{"action": "allow", "mask": {"profile": ""}}`, `mask.profile is "": must be all or none`},
	{`{"action": "allow", "rule": "r", "tag": {}}`, `rule r: unknown member "tag": did you mean "tags"?`},
	{`{"action": "allow", "limits": [{"token": 1}]}`, `unknown member "limits[0].token": did you mean "tokens"?`},
	{`{"action": "allow", "targets": [{"pol": "a"}]}`, `unknown member "targets[0].pol": did you mean "pool"?`},
	{`{"action": "allow", "targets": [{"pool": "a", "mask": "some"}]}`, `targets[0].mask is "some": must be all or none`},
	{`{"action": "allow", "mask": {"kind": 1}}`, `unknown member "mask.kind"`},
	{`{"action": "allow", "limits": [{"tokens": 1}]}`, "limits[0].key is missing"},
	{`{"action": "allow", "limits": [{"key": "k", "tokens": -1}]}`, "limits[0].tokens is -1"},
	{`{"action": "allow", "limits": [1]}`, "limits[0] is a number, not an object"},
	{`{"action": "allow", "deny": {}}`, `deny is given, but action is "allow"`},
	{`{"action": "deny", "deny": {"status": 200}}`, "deny.status is 200: must be 400 to 599"},
	{`{"action": "deny", "deny": {"why": 200}}`, `unknown member "deny.why"`},
	{`{"action": "deny", "deny": {"retry_after": -1}}`, "deny.retry_after is -1"},
	{`{"action": "respond"}`, "action respond and respond.text go together"},
	{`{"action": "respond", "respond": {}}`, "go together"},
	{`{"action": "allow", "respond": {"text": "hi"}}`, "go together"},
	{`{"action": "allow", "tags": {"a": null}}`, "tags.a is null, not a string"},
	{`{"action": "allow", "matched": "a"}`, "matched is a string, not an array"},
	{`{"action": "allow", "conflict": ["a", "b"]}`, "conflict stands beside other members"},
	{`{"conflict": ["a"]}`, "fewer than two"},
	{`{"action": "allow", "priority": 1}`, `unknown member "priority"`},
	{`{"action": "allow", "reason": "` + strings.Repeat("x", 1025) + `"}`, "reason is longer than 1024 bytes"},
}

func TestCheckRefuses(t *testing.T) {
	for _, tt := range wrong {
		t.Run(tt.decision[:min(len(tt.decision), 60)], func(t *testing.T) {
			_, err := check(ast.MustParseTerm(tt.decision).Value, map[string]bool{"a": true, "b": true, "local": true})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// The schema that authors read and the check in Go must know the same members.
func TestCheckKnowsTheSchema(t *testing.T) {
	var schema struct {
		Properties map[string]struct {
			Properties map[string]any
		}
	}
	if err := json.Unmarshal(policies.DecisionSchema, &schema); err != nil {
		t.Fatal(err)
	}
	for name, p := range schema.Properties {
		_, err := check(ast.MustParseTerm(fmt.Sprintf(`{%q: false}`, name)).Value, nil)
		if err == nil || strings.Contains(err.Error(), "unknown member") {
			t.Errorf("%s: %v", name, err)
		}
		for below := range p.Properties {
			_, err := check(ast.MustParseTerm(fmt.Sprintf(`{%q: {%q: []}}`, name, below)).Value, nil)
			if err == nil || strings.Contains(err.Error(), "unknown member") {
				t.Errorf("%s.%s: %v", name, below, err)
			}
		}
	}
}

// Whatever the text: the check ends without a panic, and what it accepts keeps its bounds. What it
// accepts once, it accepts again, with the same result.
func FuzzCheck(f *testing.F) {
	for _, tt := range wrong {
		f.Add(tt.decision)
	}
	f.Add(`{"action": "allow", "rule": "r", "targets": ["a", {"pool": "b", "weight": 3}], "set": {"max_tokens": 5}, "limits": [{"key": "k"}]}`)
	f.Add(`{"action": "deny", "deny": {"status": 429, "retry_after": 3}}`)
	f.Add(`{"conflict": ["a", "b"]}`)
	pools := map[string]bool{"a": true, "b": true}
	f.Fuzz(func(t *testing.T, text string) {
		term, err := ast.ParseTerm(text)
		if err != nil || !term.IsGround() {
			return
		}
		v, err := check(term.Value, pools)
		if err != nil {
			return
		}
		if v.conflict == nil && v.Action != pipeline.Allow && v.Action != pipeline.DenyIt && v.Action != pipeline.Respond {
			t.Errorf("accepted action %q", v.Action)
		}
		for _, target := range v.Targets {
			if !pools[target.Pool] || target.Weight < 0 {
				t.Errorf("accepted target %+v", target)
			}
		}
		if v.Set.MaxTokens < 0 || v.retry < 0 || v.Deny.Status != 0 && v.Deny.Status < 400 {
			t.Errorf("accepted %+v", v)
		}
		again, err := check(term.Value, pools)
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("got %+v and then %+v, %v", v, again, err)
		}
	})
}
