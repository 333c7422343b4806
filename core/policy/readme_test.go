package policy

import (
	"os"
	"regexp"
	"testing"
)

var fence = regexp.MustCompile("(?s)```(rego|json)\n(.*?)```")

// The examples of policies/README.md compile, and pass the test that it shows.
func TestReadmeExamples(t *testing.T) {
	text, err := os.ReadFile("../../policies/README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]string{}
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		blocks[m[1]] = append(blocks[m[1]], m[2])
	}
	if len(blocks["rego"]) != 4 || len(blocks["json"]) != 1 {
		t.Fatalf("found %d and %d examples", len(blocks["rego"]), len(blocks["json"]))
	}
	r := blocks["rego"]
	mine := rego("mine.rego", r[0], "mine_test.rego", r[1])
	mine.Pools = []string{"local", "small"}
	if _, err := Check(t.Context(), mine, testConfig()); err != nil {
		t.Error(err)
	}
	if report, err := Test(t.Context(), mine); err != nil || report.Passed != 1 {
		t.Errorf("got %+v, %v", report, err)
	}

	tenants := rego("tenants.rego", r[2], "access.rego", r[3], "data.json", blocks["json"][0])
	tenants.Pools = []string{"seoul"}
	e, err := Compile(t.Context(), tenants, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := e.Stage(Env{})
	c := newCall(t, chatBody)
	c.Principal.Tenant = "hanbit-bank"
	if _, err := s.Handle(t.Context(), c, passed); err == nil || c.Decision.Rule != "access.model_not_allowed" {
		t.Errorf("got %+v, %v", c.Decision, err)
	}
	c.Request.Model = "solar-pro"
	c.PII.Kinds = []string{"KR_RRN"}
	if _, err := s.Handle(t.Context(), c, passed); err != nil || c.Decision.Rule != "routes.personal" || c.Decision.Targets[0].Pool != "seoul" {
		t.Errorf("got %+v, %v", c.Decision, err)
	}
}
