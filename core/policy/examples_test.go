package policy

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

const examplesDir = "../../policies/examples"

// examplePools are the pools that the examples name.
var examplePools = []string{"a", "b", "canary", "cloud", "frankfurt", "large", "local", "long", "night", "seoul", "small", "stable"}

func example(name string) Sources {
	dir := filepath.Join(examplesDir, name)
	return Sources{Files: os.DirFS(dir), Name: name, Pools: examplePools}
}

// An exampleCall is a call that one example decides, with what is decided.
type exampleCall struct {
	example string
	call    func(*pipeline.Call)
	fleet   fleet
	rule    string
	target  string // the first; empty: none
	code    string // of a denial
}

var exampleCalls = []exampleCall{
	{example: "tenant-tiers", call: func(c *pipeline.Call) { c.Principal.Tier = "pro" }, rule: "routes.tier", target: "large"},
	{example: "tenant-tiers", call: func(c *pipeline.Call) { c.Principal.Tenant = "한빛은행" }, rule: "routes.contract", target: "seoul"},
	{example: "tenant-tiers", call: func(c *pipeline.Call) { c.Principal.Tier = "gold" }, rule: "access.unknown_tier", code: "unknown_tier"},
	{example: "confidential-stays-local", call: func(c *pipeline.Call) { c.PII = pipeline.Findings{Count: 1, Kinds: []string{"KR_RRN"}} }, rule: "routes.registration_number", target: "local"},
	{example: "confidential-stays-local", call: func(c *pipeline.Call) { c.Labels = map[string]string{"confidential": "true"} }, rule: "routes.confidential", target: "local"},
	{example: "confidential-stays-local", call: func(*pipeline.Call) {}, rule: "default"},
	{example: "long-prompts", call: func(c *pipeline.Call) { c.Request.MaxTokens = 20_000 }, rule: "routes.long", target: "long"},
	{example: "canary", call: func(c *pipeline.Call) { c.Principal.Roles = []string{"tester"} }, rule: "routes.canary", target: "canary"},
	{example: "canary", call: func(c *pipeline.Call) { c.Principal.ID = "김민수" }, rule: "routes.stable", target: "stable"},
	{example: "ab-test", call: func(c *pipeline.Call) { c.Request.Model, c.Principal.ID = "qwen3", "사용자-1" }, rule: "routes.variant", target: "b"},
	{example: "weighted", call: func(c *pipeline.Call) { c.Request.Model = "qwen3" }, rule: "routes.shared", target: "cloud"},
	{example: "cheapest-with-room", call: func(c *pipeline.Call) { c.Request.Model = "qwen3" }, rule: "routes.cheapest", target: "local", fleet: fleet{
		"gpu-1": {Pool: "local", Healthy: true, LoadKnown: true, KVUsed: 0.5, Price: 2},
		"gpu-2": {Pool: "small", Healthy: true, LoadKnown: true, KVUsed: 0.9, Price: 1},
		"cloud": {Pool: "cloud", Healthy: true, Price: 9},
	}},
	{example: "cheapest-with-room", call: func(c *pipeline.Call) { c.Request.Model = "qwen3" }, rule: "default", fleet: fleet{"cloud": {Pool: "cloud", Healthy: true, Price: 9}}},
	{example: "free-tier-when-idle", call: func(*pipeline.Call) {}, rule: "routes.free", target: "small", fleet: fleet{"gpu": {Pool: "small", Healthy: true, LoadKnown: true}}},
	{example: "free-tier-when-idle", call: func(*pipeline.Call) {}, rule: "access.busy", code: "free_tier_busy", fleet: fleet{
		"gpu": {Pool: "small", Healthy: true, LoadKnown: true, Inflight: 9, Waiting: 4, TTFT: 400 * time.Millisecond},
	}},
	{example: "budget-downgrade", call: func(c *pipeline.Call) { c.Quota = pipeline.QuotaView{TokensLeft: 5, TokensLimit: 100} }, rule: "routes.downgrade", target: "small"},
	{example: "budget-downgrade", call: func(c *pipeline.Call) { c.Quota = pipeline.QuotaView{TokensLeft: 50, TokensLimit: 100} }, rule: "default"},
	{example: "night-batch", call: func(c *pipeline.Call) {
		c.Start = time.Date(2026, 11, 30, 23, 0, 0, 0, time.FixedZone("KST", 9*3600))
		c.Labels = map[string]string{"profile": "background"}
	}, rule: "routes.night", target: "night"},
	{example: "night-batch", call: func(c *pipeline.Call) {
		c.Start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.FixedZone("KST", 9*3600))
		c.Labels = map[string]string{"profile": "background"}
	}, rule: "routes.day", target: "small"},
	{example: "data-residency", call: func(c *pipeline.Call) { c.Principal.Tenant = "서울대학교병원" }, rule: "routes.residency", target: "seoul"},
	{example: "data-residency", call: func(*pipeline.Call) {}, rule: "access.no_region", code: "no_region"},
	{example: "tools-by-role", call: func(c *pipeline.Call) {
		c.Principal.Roles, c.Request.Tools = []string{"상담원"}, []string{"create_ticket"}
	}, rule: "default"},
	{example: "tools-by-role", call: func(c *pipeline.Call) { c.Request.Tools = []string{"run_sql"} }, rule: "access.tool_not_allowed", code: "tool_not_allowed"},
	{example: "team-models", call: func(c *pipeline.Call) { c.Principal.Team, c.Request.Model = "검색팀", "bge-m3" }, rule: "default"},
	{example: "team-models", call: func(c *pipeline.Call) { c.Principal.Team, c.Request.Model = "검색팀", "solar-pro" }, rule: "access.model_not_allowed", code: "model_not_found"},
}

// Every example compiles against the schemas without a warning, passes its tests, and decides as its text says once
// a real call's input is built for it.
func TestExamples(t *testing.T) {
	entries, err := os.ReadDir(examplesDir)
	if err != nil {
		t.Fatal(err)
	}
	decided := map[string]int{}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			src := example(e.Name())
			warnings, err := Check(t.Context(), src, testConfig())
			if err != nil || len(warnings) > 0 {
				t.Errorf("%v, warnings %v", err, warnings)
			}
			report, err := Cover(t.Context(), src)
			if err != nil || report.Passed < 3 || report.Skipped > 0 || report.Coverage == nil || report.Coverage.Percent < 100 {
				t.Errorf("%+v, %v: want 3 tests or more, none skipped, and every line reached", report, err)
			}
			areFormatted(t, src)
			for _, call := range exampleCalls {
				if call.example == e.Name() {
					decided[e.Name()]++
					decideExample(t, src, call)
				}
			}
			if decided[e.Name()] == 0 {
				t.Error("no call is decided by it")
			}
		})
	}
	for _, call := range exampleCalls {
		if decided[call.example] == 0 {
			t.Errorf("there is no example %s", call.example)
		}
	}
}

func decideExample(t *testing.T, src Sources, want exampleCall) {
	t.Helper()
	cfg := testConfig()
	cfg.Keywords = []string{"대외비", "confidential"}
	e, err := Compile(t.Context(), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := newCall(t, chatBody)
	want.call(c)
	_, err = e.Stage(Env{Fleet: want.fleet, Limits: true, Restore: true}).Handle(t.Context(), c, passed)
	var r *pipeline.Refusal
	if errors.As(err, &r) != (want.code != "") || r != nil && r.Code != want.code {
		t.Errorf("%s: got %v, want code %q", want.rule, err, want.code)
	}
	target := ""
	if len(c.Decision.Targets) > 0 {
		target = c.Decision.Targets[0].Pool
	}
	if c.Decision.Rule != want.rule || target != want.target {
		t.Errorf("got rule %s, target %q; want %s, %q", c.Decision.Rule, target, want.rule, want.target)
	}
}

// The README links every example, and every example says what it is for.
func TestExamplesAreLinked(t *testing.T) {
	readme, err := os.ReadFile("../../policies/README.md")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(examplesDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.Contains(string(readme), "](examples/"+e.Name()+")") {
			t.Errorf("policies/README.md has no link to %s", e.Name())
		}
		files, err := filepath.Glob(filepath.Join(examplesDir, e.Name(), "*.rego"))
		if err != nil {
			t.Fatal(err)
		}
		titled := slices.ContainsFunc(files, func(name string) bool {
			text, err := os.ReadFile(name)
			return err == nil && strings.HasPrefix(string(text), "# METADATA\n# title: ")
		})
		if !titled {
			t.Errorf("%s has no title", e.Name())
		}
	}
}
