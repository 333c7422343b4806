package conformance

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

const lawlessManifest = `name: lawless
version: 0.1.0
hooks: [on_request, on_text]
capabilities: []
kinds: [WORD]
config:
  type: object
  additionalProperties: false
  properties: {sin: {type: string}}
`

// TestLawless: each law notices the plugin that breaks it, and holds of the same plugin when it behaves.
func TestLawless(t *testing.T) {
	wasm, _ := built(t, "../go/build", "testdata/lawless")
	byName := map[string]law{}
	for _, l := range laws {
		byName[l.name] = l
	}
	for _, tt := range []struct{ law, sin, want string }{
		{"every hook answers ordinary, empty and largest questions", "answers", "too long for me"},
		{"every hook answers ordinary, empty and largest questions", "bytes", "not UTF-8"},
		{"every hook answers ordinary, empty and largest questions", "model", `the capability "model"`},
		{"its answers are the same wherever a text is cut", "cuts", "but whole as"},
		{"its answers are the same wherever a text is cut", "held", "held"},
		{"texts on their way at once do not mix", "state", "but alone as"},
		{"nothing is held at the end", "held", "of 0 at most"},
		{"no more is held than may be", "greedy", "of 256 at most"},
		{"it keeps no state", "state", "a fresh instance answers"},
		{"it answers alike every time", "moody", "and the next time"},
		{"what a later gateway adds changes nothing", "grease", "but without"},
		{"what a later gateway adds changes nothing", "roles", "a text of role 6"},
		{"its fuel grows with the text and no faster", "square", "more than once"},
	} {
		for sin, want := range map[string]string{tt.sin: tt.want, "": ""} {
			o := beside(t, "testdata/lawless")
			o.Config = map[string]any{"sin": sin}
			r := check(t.Context(), wasm, []byte(lawlessManifest), o, []law{byName[tt.law]})
			got := r.Laws[0]
			if want == "" && got.Outcome != Passed || want != "" && (got.Outcome != Failed || !strings.Contains(got.Detail, want)) {
				t.Errorf("%s, with the sin %q: got %v, want %q", tt.law, sin, got, want)
			}
		}
	}
}

// briefly is the law of leaks with less patience, for a plugin that has no collector to wait for.
func briefly(ctx context.Context, s *subject) (string, error) { return s.grows(ctx, briefRounds) }

// TestLawlessLoads: a plugin that takes any setting is noticed, one that leaks is refused, and one whose manifest asks for
// what it has no use for is not let pass.
func TestLawlessLoads(t *testing.T) {
	wasm, _ := built(t, "../go/build", "testdata/lawless")
	o := beside(t, "testdata/lawless")
	bare, _, _ := bytes.Cut([]byte(lawlessManifest), []byte("config:"))
	for _, tt := range []struct {
		law      law
		manifest string
		sin      string
		want     Outcome
		detail   string
	}{
		{law{"", configured}, string(bare), "", Failed, "refuse what is not known"},
		{law{"", configured}, lawlessManifest, "", Passed, ""},
		{law{"", loads}, strings.Replace(lawlessManifest, "capabilities: []", "capabilities: [random]", 1), "", Failed, `"random"`},
		{law{"", loads}, strings.Replace(lawlessManifest, "[on_request, on_text]", "[on_text]", 1), "", Failed, "names the hooks"},
		{law{"", leaks}, lawlessManifest, "leak", Failed, "instances had to be replaced because they had outgrown their memory"},
		{law{"", briefly}, lawlessManifest, "trickle", Failed, "more after every 10000 of 30000 calls"},
		{law{"", briefly}, lawlessManifest, "trickle of requests", Failed, "more after every 10000 of 30000 calls"},
		{law{"", leaks}, lawlessManifest, "", Passed, "KiB in use"},
	} {
		o.Config = map[string]any{"sin": tt.sin}
		r := check(t.Context(), wasm, []byte(tt.manifest), o, []law{tt.law})
		if got := r.Laws[0]; got.Outcome != tt.want || !strings.Contains(got.Detail, tt.detail) {
			t.Errorf("%s %s: got %v, want %s %q", tt.sin, tt.manifest[:40], got, tt.want, tt.detail)
		}
	}
}

// TestCasesNotice: a case that does not hold is said not to, with what came instead.
func TestCasesNotice(t *testing.T) {
	wasm, _ := built(t, "../go/build", "testdata/lawless")
	cases, err := ReadCases("cases.yaml", []byte(`cases:
  - {name: holds, text: a secret, want: a *, kinds: [WORD]}
  - {name: another text, text: a secret, want: a secret}
  - {name: another kind, text: a secret, kinds: [NONE]}
  - {name: no refusal, text: a secret, refused: nope}
  - {name: cut, config: {sin: cuts}, text: a secret, want: a *}
  - {name: labels, request: '{"model":"m","messages":[]}', labels: {seen: "yes"}}
  - {name: headers, request: '{"model":"m","messages":[]}', headers: {x-a: "1"}}
  - {name: the call stays, tool_call: {name: f}, dropped: true}
  - {name: the call, tool_call: {name: f, arguments: '{"a":"secret"}'}, want: '{"a":"*"}'}
  - {name: the usage, usage: {completion: 1}, refused: much}
  - {name: the answer, request: '{"model":"m","messages":[]}', want: none}
`))
	if err != nil {
		t.Fatal(err)
	}
	o := beside(t, "testdata/lawless")
	o.Cases = cases
	s := &subject{wasm: wasm, manifest: []byte(lawlessManifest), options: o}
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.trial.Close() }()
	for i := range cases {
		want := Failed
		if cases[i].Name == "holds" || cases[i].Name == "the call" {
			want = Passed
		}
		if got := (law{cases[i].Name, cases[i].holds}).judge(t.Context(), s); got.Outcome != want || want == Failed && got.Detail == "" {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}
