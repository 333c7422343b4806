package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// logOf is the decision log of calls of these tenants and kinds of personal data, by a policy.
func logOf(t testing.TB, cfg LogConfig, policy string, calls ...[2]string) string {
	t.Helper()
	cfg.To, cfg.Size = filepath.Join(t.TempDir(), "decisions.ndjson"), 1000
	l := NewLog(nil)
	o, err := l.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Use(o)
	s := compile(t, testConfig(), "a.rego", policy).Stage(Env{Log: l, Limits: true})
	for i, one := range calls {
		c := newCall(t, chatBody)
		c.ID = fmt.Sprintf("req-%d", i+1)
		c.Principal.Tenant = one[0]
		if one[1] != "" {
			c.PII.Kinds = []string{one[1]}
		}
		_, _ = s.Handle(t.Context(), c, passed)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(cfg.To)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const before = `package nexus.routes

local := {"targets": ["on-site"], "priority": 2} if "KR_RRN" in input.pii.kinds

acme := {"targets": ["big"]} if input.principal.tenant == "acme"
`

const after = `package nexus.routes

private := {"targets": ["on-site"], "priority": 2} if "KR_RRN" in input.pii.kinds

acme := {"targets": ["small"], "set": {"max_tokens": 10}} if input.principal.tenant == "acme"

closed := {"targets": []} if input.principal.tenant == "globex"
`

const afterAccess = `package nexus.access

gone := {"status": 402} if input.principal.tenant == "initech"
`

var replayed = [][2]string{{"acme", ""}, {"acme", ""}, {"acme", "KR_RRN"}, {"globex", ""}, {"initech", ""}, {"", "EMAIL"}}

func replay(t testing.TB, lines string, prices map[string]Price, files ...string) *ReplayReport {
	t.Helper()
	p := &Replay{Trial: trial(t, files...), Prices: prices, Shown: 1}
	tally, err := ReadRecords("log", strings.NewReader(lines), func(r *Recorded) error {
		if r.DecisionID == "req-1" {
			r.Used = &Use{Backend: "gpu-1", Pool: "big", Prompt: 1000, Answer: 500}
		}
		return p.Decide(t.Context(), r)
	})
	if err != nil {
		t.Fatal(err)
	}
	return p.Report(tally)
}

// What the gateway logs, the same policy decides the same.
func TestReplayOfTheSamePolicyFlipsNothing(t *testing.T) {
	for _, policy := range []string{before, after, explained} {
		r := replay(t, logOf(t, LogConfig{Input: true}, policy, replayed...), nil, "a.rego", policy)
		if r.Decided != len(replayed) || r.Flips+r.Renamed+len(r.Lacking)+r.Others != 0 {
			t.Errorf("got %+v", r)
		}
	}
}

func TestReplayTellsWhatFlips(t *testing.T) {
	lines := logOf(t, LogConfig{Input: true}, before, replayed...)
	prices := map[string]Price{"big": {Input: 10, Output: 40}, "small": {Input: 1, Output: 4}}
	r := replay(t, lines, prices, "a.rego", after, "b.rego", afterAccess)
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "replay.txt", b.String())
	b.Reset()
	if err := r.JUnit(&b, 2); err != nil || strings.Count(b.String(), "<failure") != 3 || !strings.Contains(b.String(), `tests="3" failures="3"`) {
		t.Errorf("got %s, %v", b.String(), err)
	}
	b.Reset()
	if err := r.JUnit(&b, 3); err != nil || strings.Contains(b.String(), "<failure") {
		t.Errorf("got %s, %v", b.String(), err)
	}
}

// A replay in Wasm comes to what one in topdown comes to, and is one in Wasm.
func TestReplayInWasm(t *testing.T) {
	wide := after + "\nnight := {\"targets\": [\"night\"]} if {\n\tinput.time_ms > 0\n\tsome b in input.backends\n\tb.kv_used > 0.5\n}\n\nodd := {\"targets\": []} if count(input.labels) + count(input.request) + count(input.prompt.keywords) == 7\n"
	lines := logOf(t, LogConfig{Input: true, Text: true}, before+"\nall := {\"targets\": []} if count(input) == 7\n", replayed...)
	by := func(engine string) (*ReplayReport, *prometheus.Registry) {
		cfg := closed
		cfg.Engine = engine
		tr, err := OpenTrialBy(t.Context(), rego("a.rego", wide), cfg)
		if err != nil {
			t.Fatal(err)
		}
		reg := prometheus.NewRegistry()
		tr.stage.env.Metrics = NewMetrics(reg)
		p := &Replay{Trial: tr, Shown: 9}
		tally, err := ReadRecords("log", strings.NewReader(lines), func(r *Recorded) error { return p.Decide(t.Context(), r) })
		if err != nil {
			t.Fatal(err)
		}
		return p.Report(tally), reg
	}
	want, _ := by(engineTopdown)
	got, reg := by(engineWasm)
	if want.Engine != engineTopdown || got.Engine != engineWasm || got.NoWasm != "" || want.Decided != len(replayed) || want.Flips == 0 {
		t.Errorf("got %+v and %+v", want, got)
	}
	if n := evaluations(t, reg, engineWasm); n != float64(len(replayed)) {
		t.Errorf("Wasm decided %v of %d", n, len(replayed))
	}
	if got.Engine = want.Engine; !reflect.DeepEqual(got, want) {
		t.Errorf("Wasm comes to\n%+v\ntopdown to\n%+v", got, want)
	}
	auto, _ := by(engineAuto)
	if auto.Engine != engineWasm {
		t.Errorf("auto decides by %s: %s", auto.Engine, auto.NoWasm)
	}
}

// An input is given again as it is, or not at all.
func TestInputAsPlan(t *testing.T) {
	for _, tt := range []struct {
		input string
		ok    bool
	}{
		{`{}`, true},
		{`{"v": 1, "time_ms": 1796069359783, "labels": {"a": "", "b": "한국어"}, "request": {"stream": true, "n": -3, "tools": ["x", "y"], "headers": {}}}`, true},
		{`{"backends": {"gpu-1": {"kv_used": 0.41, "healthy": false}, "gpu-2": {"inflight": 0}}, "budget": {"used_ratio": 1e-9, "remaining": -1}}`, true},
		{`{"time_ms": 9223372036854775807}`, true},
		{`{"time_ms": 9223372036854775809}`, false},
		{`{"labels": null}`, false},
		{`{"labels": {"a": null}}`, false},
		{`{"pii": {"kinds": [1]}}`, false},
		{`{"pii": {"kinds": [["EMAIL"]]}}`, false},
		{`{"pii": {"kinds": ["` + strings.Repeat("x", maxString+1) + `"]}}`, false},
		{`{"prompt": {"last_user": "` + strings.Repeat("x", maxLastUser) + `"}}`, true},
	} {
		in, err := inputOf(parsed(t, tt.input))
		if err != nil {
			t.Fatal(err)
		}
		p, ok := in.plan()
		if ok != tt.ok {
			t.Errorf("%.200s: %v, want %v", tt.input, ok, tt.ok)
		}
		if ok && p.build(&facts{}).Compare(in.object) != 0 {
			t.Errorf("%.200s is given as %v", tt.input, p.build(&facts{}))
		}
	}
	for name, in := range map[string]Input{"neutral": input(t, "{}"), "a call": trial(t, "a.rego", before+"\nx := {} if count(input) == 7\n").Input(newCall(t, chatBody))} {
		if p, ok := in.plan(); !ok || p.build(&facts{}).Compare(in.object) != 0 {
			t.Errorf("%s: %v, %v, want %v", name, ok, p.build(&facts{}), in.object)
		}
	}
}

// What was not recorded is not guessed.
func TestReplayDecidesNothingOnHalfAnInput(t *testing.T) {
	reads := "package nexus.routes\n\na := {\"targets\": [\"x\"]} if contains(input.prompt.last_user, \"secret\")\n\nb := {\"targets\": [\"y\"], \"priority\": 1} if input.principal.tenant == \"acme\"\n"
	tests := []struct {
		name, logged, against string
		cfg                   LogConfig
		want                  string
	}{
		{"not read then", before, "package nexus.routes\n\na := {} if input.request.model == \"m\"\n", LogConfig{Input: true}, "input.request"},
		{"not read then, of a group that was", before, "package nexus.routes\n\na := {} if input.principal.tier == \"m\"\n", LogConfig{Input: true}, "input.principal.tier"},
		{"user's text", reads, reads, LogConfig{Input: true}, "input.prompt.last_user"},
		{"hashed", before, before, LogConfig{Input: true, Hash: []string{"input.principal.tenant"}}, "input.principal.tenant"},
		{"erased with what holds it", before, before, LogConfig{Input: true, Erase: []string{"input.principal"}}, "input.principal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := replay(t, logOf(t, tt.cfg, tt.logged, replayed...), nil, "a.rego", tt.against)
			if r.Decided != 0 || len(r.Lacking) != 1 || r.Lacking[0] != (Lack{tt.want, len(replayed)}) {
				t.Errorf("got %+v", r)
			}
		})
	}
	if r := replay(t, logOf(t, LogConfig{}, before, replayed...), nil, "a.rego", before); r.NoInput != len(replayed) || r.Decided != 0 {
		t.Errorf("without input: %+v", r)
	}
	if r := replay(t, logOf(t, LogConfig{Input: true, Text: true}, reads, replayed...), nil, "a.rego", reads); r.Decided != len(replayed) || r.Flips != 0 {
		t.Errorf("with the user's text: %+v", r)
	}
}

func TestReplayKnowsFailures(t *testing.T) {
	rivals := "package nexus.routes\n\na := {\"targets\": []}\n\nb := {\"targets\": []} if input.attempt == 1\n"
	lines := logOf(t, LogConfig{Input: true}, rivals, replayed[:2]...)
	if r := replay(t, lines, nil, "a.rego", rivals); r.Decided != 2 || r.Flips+r.Renamed != 0 {
		t.Errorf("got %+v", r)
	}
	r := replay(t, lines, nil, "a.rego", "package nexus.routes\n\na := {\"targets\": []} if input.attempt == 1\n")
	if r.Flips != 2 || r.Rules[0].From != "on_conflict" || r.Pools[0].From != "(deny)" || r.Pools[0].To != "(the model's)" {
		t.Errorf("got %+v", r)
	}
	back := replay(t, logOf(t, LogConfig{Input: true}, "package nexus.routes\n\na := {\"targets\": []} if input.attempt == 1\n", replayed[:1]...), nil, "a.rego", rivals)
	if e := back.Rules[0].Examples; back.Flips != 1 || !strings.Contains(e[0].Error, "claim the call with equal priority") {
		t.Errorf("got %+v", back)
	}
}

func TestReadRecords(t *testing.T) {
	good := `{"decision_id":"a","path":"nexus/decision","result":{"action":"allow"},"outcome":"decision","timestamp":"2026-01-05T12:00:00Z"}`
	tests := []struct {
		name, lines string
		want        Tally
		err         string
	}{
		{"none", "", Tally{}, ""},
		{"one", good + "\n", Tally{Records: 1}, ""},
		{"without an end", good, Tally{Records: 1}, ""},
		{"cut off", good + "\n" + good[:60], Tally{Records: 1, Torn: 1}, ""},
		{"cut off at once", good[:1], Tally{Torn: 1}, ""},
		{"empty lines", "\n" + good + "\n\r\n" + good + "\n", Tally{Records: 2}, ""},
		{"other lines", `{"request_id":"x"}` + "\n" + good + "\n" + `{"decision_id":"b"}` + "\n", Tally{Records: 1, Others: 2}, ""},
		{"a shadow's", strings.Replace(good, `"path"`, `"shadow":{},"path"`, 1) + "\n", Tally{Others: 1}, ""},
		{"broken in the middle", good + "\n" + good[:60] + "\n" + good + "\n", Tally{Records: 2, Torn: 1}, ""},
		{"no JSON", "hello\n", Tally{}, "policy: log:1: invalid character 'h'"},
		{"no JSON and no end", "hello", Tally{}, "policy: log:1: invalid character 'h'"},
		{"two on a line", good[:20] + good + "\n" + good + "\n", Tally{Records: 1, Torn: 1}, ""},
		{"wrong kind", `{"decision_id":7}` + "\n", Tally{}, "policy: log:1: cannot unmarshal number"},
		{"too long", `{"a":"` + strings.Repeat("x", maxLineRead) + `"}`, Tally{}, "policy: log:1: a line is longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			got, err := ReadRecords("log", strings.NewReader(tt.lines), func(*Recorded) error { n++; return nil })
			if got != tt.want || n != tt.want.Records || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %+v, %v, want %+v, %s", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestReadUses(t *testing.T) {
	lines := `{"decision_id":"a","backend":"gpu-1","pool":"big","served_model":"m","status":200,"attempts":2,"tokens_in":10,"tokens_out":5,"duration_ms":1.5}
{"decision_id":"b","backend":"gpu-2"}
{"request_id":"x","decision_id":""}
{"decision_`
	got, err := ReadUses("access", strings.NewReader(lines), func(id string) bool { return id != "b" })
	if err != nil || len(got) != 1 || *got["a"] != (Use{"gpu-1", "big", "m", 200, 2, 10, 5}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A recording keeps what the policy reads and no more, and replays as the log does.
func TestKeeper(t *testing.T) {
	wide := before + "\nmodel := {\"targets\": [], \"priority\": 9} if contains(input.prompt.last_user, \"xyzzy\")\n\nx := {\"targets\": []} if count(input.request.tools) > 5\n"
	lines := logOf(t, LogConfig{Input: true, Text: true}, wide, replayed...)
	keep := func(k *Keeper, files ...string) (*Keeper, string) {
		t.Helper()
		var b bytes.Buffer
		k.Trial, k.Out = trial(t, files...), &b
		if _, err := ReadRecords("log", strings.NewReader(lines), k.Keep); err != nil {
			t.Fatal(err)
		}
		return k, b.String()
	}
	k, got := keep(&Keeper{Uses: map[string]*Use{"req-1": {Backend: "gpu-1"}}}, "a.rego", before)
	if k.Kept != len(replayed) || strings.Contains(got, "last_user") || strings.Contains(got, "tools") || !strings.Contains(got, `"used":{"backend":"gpu-1"}`) {
		t.Errorf("got %+v, %s", k, got)
	}
	if r := replay(t, got, nil, "a.rego", before); r.Decided != len(replayed) || r.Flips != 0 {
		t.Errorf("the recording: %+v", r)
	}
	if _, got := keep(&Keeper{}, "a.rego", wide); strings.Contains(got, `"last_user"`) || !strings.Contains(got, `"erased":["/input/prompt/last_user"]`) {
		t.Errorf("the user's text is kept: %s", got)
	}
	if _, got := keep(&Keeper{Text: true}, "a.rego", wide); !strings.Contains(got, `"last_user"`) {
		t.Errorf("the user's text is not kept: %s", got)
	}
	if k, got := keep(&Keeper{Every: 2, Most: 2}, "a.rego", before); k.Kept != 2 || k.Passed != 3 || k.Dropped != 1 || strings.Count(got, "\n") != 2 {
		t.Errorf("bounded: %+v", k)
	}
}

// What users wrote is kept out of a recording in whatever way the policy reads it, and the records stay as they were.
func TestKeeperErasesTextReadWithWhatHoldsIt(t *testing.T) {
	for _, reads := range []string{
		"input.prompt.last_user == \"x\"", "count(input.prompt) > 99", "count(input) > 99", "input.prompt[_] == \"x\"", "walk(input, [_, \"x\"])",
		"some name in [\"last_user\"]; input.prompt[name] == \"x\"",
	} {
		t.Run(reads, func(t *testing.T) {
			policy := "package nexus.routes\n\na := {\"targets\": []} if {\n\t" + reads + "\n}\n"
			lines := logOf(t, LogConfig{Input: true, Text: true}, policy, replayed[:1]...)
			if !strings.Contains(lines, "\"last_user\":\"안녕") {
				t.Fatalf("the log has not what the user wrote: %s", lines)
			}
			keep := func(text bool) string {
				var b bytes.Buffer
				k := &Keeper{Trial: trial(t, "a.rego", policy), Text: text, Out: &b}
				_, err := ReadRecords("log", strings.NewReader(lines), func(r *Recorded) error {
					was, _ := json.Marshal(r)
					err := k.Keep(r)
					if is, _ := json.Marshal(r); !bytes.Equal(was, is) {
						t.Errorf("the record was %s and is %s", was, is)
					}
					return err
				})
				if err != nil || k.Kept != 1 {
					t.Fatalf("kept %d, %v", k.Kept, err)
				}
				return b.String()
			}
			if got := keep(false); strings.Contains(got, "\"last_user\"") || strings.Contains(got, "안녕") || !strings.Contains(got, `"erased":["/input/prompt/last_user"]`) {
				t.Errorf("the user's text is kept: %s", got)
			}
			if got := keep(true); !strings.Contains(got, "\"last_user\":\"안녕") {
				t.Errorf("the user's text is not kept: %s", got)
			}
		})
	}
}

// A label that was not there is known not to be there.
func TestPrune(t *testing.T) {
	for _, tt := range []struct{ document, paths, want string }{
		{`{"labels":{"a":"1","b":"2"},"pii":{"count":1}}`, "input.labels.a", `{"labels":{"a":"1"}}`},
		{`{"labels":{"b":"2"}}`, "input.labels.a", `{"labels":{}}`},
		{`{"labels":{"a":"1","b":"2"}}`, "input.labels input.labels.a", `{"labels":{"a":"1","b":"2"}}`},
		{`{"pii":{"count":1}}`, "input.labels.a input.pii.count", `{"pii":{"count":1}}`},
		{`{"pii":{"count":1}}`, "input", `{"pii":{"count":1}}`},
		{`{"pii":7}`, "input.pii.count", `{"pii":7}`},
	} {
		b, err := json.Marshal(prune(parsed(t, tt.document), strings.Fields(tt.paths)))
		if err != nil || string(b) != tt.want {
			t.Errorf("%s of %s: got %s, %v, want %s", tt.paths, tt.document, b, err, tt.want)
		}
	}
}

func TestExplainRecorded(t *testing.T) {
	lines := logOf(t, LogConfig{Input: true}, before, replayed...)
	r, err := Find("log", strings.NewReader(lines), "req-1")
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	r.Used = &Use{Backend: "gpu-1"}
	e, err := trial(t, "a.rego", before).ExplainRecorded(t.Context(), r)
	if err != nil || len(e.Notes) != 0 || e.Rule() != "routes.acme" || e.Used.Backend != "gpu-1" || e.chain() != "routes.acme → targets big → backend gpu-1" {
		t.Errorf("got %+v, %v", e, err)
	}
	e, err = trial(t, "a.rego", after+"\nz := {} if input.request.model == \"z\"\n").ExplainRecorded(t.Context(), r)
	want := []string{"the decision was made by revision", "the decision was allow by routes.acme", "the log does not have input.request"}
	if err != nil || !slices.EqualFunc(e.Notes, want, strings.HasPrefix) {
		t.Errorf("got %q, %v", e.Notes, err)
	}
	r.Input = nil
	if _, err := trial(t, "a.rego", before).ExplainRecorded(t.Context(), r); err != ErrNoInput {
		t.Errorf("without input: %v", err)
	}
	if r, err := Find("log", strings.NewReader(lines), "req-99"); r != nil || err != nil {
		t.Errorf("a decision that is not there: %v, %v", r, err)
	}
}

func FuzzReadRecords(f *testing.F) {
	f.Add(`{"decision_id":"a","result":{"action":"allow","targets":["x"]},"input":{"pii":{"kinds":["KR_RRN"]},"principal":{"tenant":"acme"}},"outcome":"decision"}` + "\n{")
	f.Add(`{"decision_id":"a","result":{},"input":{"pii":[],"principal":{"tenant":{"a":null}}},"erased":["/input"],"route":"x"}` + "\n\n[]\n")
	f.Add(`{"decision_id":"a","result":{"action":"allow"},"input":{"pii":{"kinds":1e999},"principal":{"tenant":7}},"used":{"tokens_in":-1}}`)
	tr := trial(f, "a.rego", before)
	f.Fuzz(func(t *testing.T, lines string) {
		p := &Replay{Trial: tr, Shown: 1}
		var kept bytes.Buffer
		k := &Keeper{Trial: tr, Out: &kept}
		n := 0
		tally, err := ReadRecords("log", strings.NewReader(lines), func(r *Recorded) error {
			n++
			if err := p.Decide(t.Context(), r); err != nil {
				return err
			}
			return k.Keep(r)
		})
		if err != nil {
			return
		}
		r := p.Report(tally)
		lacking := 0
		for _, l := range r.Lacking {
			lacking += l.Count
		}
		if n != tally.Records || r.Decided+r.NoInput+lacking != n {
			t.Errorf("%d records, got %+v", n, r)
		}
		again, err := ReadRecords("kept", &kept, func(*Recorded) error { return nil })
		if err != nil || again.Records != k.Kept || again.Torn > 0 {
			t.Errorf("what was kept cannot be read: %+v, %v", again, err)
		}
	})
}
