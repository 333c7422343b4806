package policy

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of policies/README.md anew")

const readme = "../../policies/README.md"

var fence = regexp.MustCompile("(?s)```(rego|json)\n(?:# (\\S+)\n)?(.*?)```")

// The examples of policies/README.md compile, and pass the tests that it shows.
func TestReadmeExamples(t *testing.T) {
	text, blocks := fenced(t, readme)
	mine := rego("routes.rego", blocks["policy/routes.rego"], "routes_test.rego", blocks["policy/routes_test.rego"])
	mine.Pools = []string{"local", "small"}
	if _, err := Check(t.Context(), mine, testConfig()); err != nil {
		t.Error(err)
	}
	report, err := Test(t.Context(), mine)
	if err != nil || !strings.Contains(text, "`"+strings.TrimSpace(report.String())+"`") || report.Passed == 0 {
		t.Errorf("got %v, %v", report, err)
	}
	first := strings.Replace(blocks["policy/routes.rego"], `"confidential data stays here"`, `"confidential data stays here", "priority": 10`, 1)
	report, err = Test(t.Context(), rego("routes.rego", first, "routes_test.rego", blocks["policy/routes_test.rego"]))
	if err != nil || report.Failed != 1 {
		t.Errorf("with a priority: got %v, %v", report, err)
	}

	tenants := rego("tenants.rego", blocks["은행/tenants.rego"], "access.rego", blocks["은행/access.rego"], "data.json", blocks[""])
	tenants.Pools = []string{"seoul"}
	e, err := Compile(t.Context(), tenants, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := e.Stage(Env{})
	c := newCall(t, chatBody)
	c.Principal.Tenant = "한빛은행"
	if _, err := s.Handle(t.Context(), c, passed); err == nil || c.Decision.Rule != "access.model_not_allowed" {
		t.Errorf("got %+v, %v", c.Decision, err)
	}
	c.Request.Model = "solar-pro"
	c.PII.Kinds = []string{"KR_RRN"}
	if _, err := s.Handle(t.Context(), c, passed); err != nil || c.Decision.Rule != "routes.personal" || c.Decision.Targets[0].Pool != "seoul" {
		t.Errorf("got %+v, %v", c.Decision, err)
	}
}

// The policy of the front page compiles and passes the test beside it.
func TestFrontPageExample(t *testing.T) {
	_, blocks := fenced(t, "../../README.md")
	src := rego("tiers.rego", blocks["policy/tiers.rego"], "tiers_test.rego", blocks["policy/tiers_test.rego"])
	src.Pools = []string{"chat", "small"}
	if _, err := Check(t.Context(), src, testConfig()); err != nil {
		t.Error(err)
	}
	if report, err := Test(t.Context(), src); err != nil || report.Passed != 1 {
		t.Errorf("got %+v, %v", report, err)
	}
}

// fenced reads a file and its blocks of Rego and JSON, by the name in their first line.
func fenced(t *testing.T, file string) (text string, blocks map[string]string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blocks = map[string]string{}
	for _, m := range fence.FindAllStringSubmatch(string(b), -1) {
		blocks[m[2]] = m[3]
	}
	return string(b), blocks
}

// The tables of what may be read, claimed and answered are what the schemas say.
func TestReadmeTables(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	for name, table := range map[string]string{
		"input":    "| path | kind | what it is |\n|---|---|---|\n" + rows(inputRoot(), ""),
		"decision": "| member | kind | what it is |\n|---|---|---|\n" + rows(decisionRoot(), ""),
		"claims":   claimTable(),
	} {
		open := "<!-- " + name + " -->\n"
		before, rest, ok := strings.Cut(got, open)
		_, after, closed := strings.Cut(rest, "<!-- end -->")
		if !ok || !closed {
			t.Fatalf("no place for the table of %s", name)
		}
		got = before + open + table + "<!-- end -->" + after
	}
	if *update {
		if err := os.WriteFile(readme, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if got != string(text) {
		t.Errorf("the tables of policies/README.md are not what the schemas say: go test ./core/policy -run ReadmeTables -update")
	}
	for _, n := range slices.Concat(leaves(inputRoot()), leaves(decisionRoot()), leaves(claimsRoot())) {
		if n.Description == "" && len(n.Props) == 0 && n.Rest == nil && !strings.HasSuffix(n.path, "[_]") {
			t.Errorf("%s has no description", n.path)
		}
	}
}

func leaves(n *node) (list []*node) {
	for _, below := range n.Props {
		list = append(append(list, below), leaves(below)...)
	}
	if below := n.any(); below != nil {
		list = append(list, leaves(below)...)
	}
	for _, one := range n.OneOf {
		list = append(list, leaves(one)...)
	}
	return list
}

// rows lists what stands below n, depth first; members without members of their own alone, or with a description.
func rows(n *node, prefix string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(n.Props)) {
		below := n.Props[name]
		if below.Description != "" || len(below.Props) == 0 {
			fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", prefix, below.path, below.shown(), below.Description)
		}
		b.WriteString(rows(below, prefix))
	}
	if below := n.any(); below != nil {
		b.WriteString(rows(below, prefix))
	}
	for _, one := range n.OneOf {
		b.WriteString(rows(one, prefix))
	}
	return b.String()
}

// shown is the kind of n's values, as a reader wants it.
func (n *node) shown() string {
	below := n.any()
	switch {
	case len(n.Enum) > 0:
		return strings.ReplaceAll("`"+strings.Join(n.Enum, "` `")+"`", "``", `""`)
	case below != nil && below.Type != "" && below.Type != "object":
		return n.Type + " of " + below.kind() + "s"
	}
	return n.Type
}

func claimTable() string {
	var b strings.Builder
	b.WriteString("| in | member | kind | what it is |\n|---|---|---|---|\n")
	for _, name := range []string{"denial", "exemption", "answer", "routes", "limits", "masks"} {
		n := *claimsRoot().Definitions[name]
		n.settle("", documents{claimsRoot(), decisionRoot()})
		in := "`nexus." + name + "`"
		if name == "denial" || name == "exemption" || name == "answer" {
			in = "`nexus.access`, " + name
		}
		for _, member := range slices.Sorted(maps.Keys(n.Props)) {
			m := n.Props[member]
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", in, member, m.shown(), m.Description)
		}
	}
	return b.String()
}
