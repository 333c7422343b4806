// Package conformance holds plugins, and the SDKs they are written with, to the contract: one suite that asks a module
// everything the gateway may ask it, in ways a stream, a later gateway and a hostile caller would.
//
// Run is for Go tests, Check for commands. cases.yaml beside a plugin adds what its author expects of it; see Case.
package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/plugin"
)

// Options say how a plugin is held to the laws. The zero value does.
type Options struct {
	Config   map[string]any // what it is configured with; nil: the first of its schema's examples, or nothing
	Texts    []string       // the author's own, cut like the built-in ones
	Cases    []Case         // the author's own
	CacheDir string         // of compiled code; empty: in memory
	Seed     uint64         // of the random cuts; a report names it
	Brief    bool           // a quarter of the cuts and a tenth of the calls, for slow machines
}

// An Outcome is what came of a law.
type Outcome uint8

const (
	Passed Outcome = iota
	Failed
	Skipped
)

func (o Outcome) String() string { return [...]string{"pass", "FAIL", "skip"}[o] }

// MarshalText writes an outcome as reports do.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(strings.ToLower(o.String())), nil }

// A Law is one sentence that holds of every plugin, and what came of it.
type Law struct {
	Name    string        `json:"name"`
	Outcome Outcome       `json:"outcome"`
	Detail  string        `json:"detail,omitempty"` // why it failed or was skipped; a figure where it passed
	Again   string        `json:"again,omitempty"`  // a line that does it again: a case for cases.yaml, or the question asked
	Took    time.Duration `json:"took_ns"`
}

func (l Law) String() string {
	s := fmt.Sprintf("%s  %s", l.Outcome, l.Name)
	if l.Detail != "" {
		s += ": " + l.Detail
	}
	if strings.HasPrefix(l.Again, "{") {
		s += "\n      again, under cases in cases.yaml:\n      - " + l.Again
	} else if l.Again != "" {
		s += "\n      again: " + l.Again
	}
	return s
}

// A Report is what came of all laws.
type Report struct {
	Plugin string `json:"plugin"`
	Seed   uint64 `json:"seed"`
	Laws   []Law  `json:"laws"`
}

// Failed counts the laws that do not hold.
func (r *Report) Failed() (n int) {
	for _, l := range r.Laws {
		if l.Outcome == Failed {
			n++
		}
	}
	return n
}

func (r *Report) String() string {
	var b strings.Builder
	for _, l := range r.Laws {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

// Check holds a module with its manifest to every law. It returns early only when ctx ends, which fails the law at hand.
func Check(ctx context.Context, wasm, manifest []byte, o Options) Report {
	return check(ctx, wasm, manifest, o, laws)
}

// CheckProbe holds a probe to every law and to its own page, PROBE.md.
func CheckProbe(ctx context.Context, wasm, manifest []byte, o Options) Report {
	r := check(ctx, wasm, manifest, o, laws)
	own := check(ctx, wasm, manifest, o, probeLaws)
	r.Laws = append(r.Laws, own.Laws...)
	return r
}

// Run is Check as a test, with a subtest for each law.
func Run(t *testing.T, wasm, manifest []byte, o Options) {
	t.Helper()
	r := Check(t.Context(), wasm, manifest, o)
	r.tell(t)
}

// RunProbe is CheckProbe as a test.
func RunProbe(t *testing.T, wasm, manifest []byte, o Options) {
	t.Helper()
	r := CheckProbe(t.Context(), wasm, manifest, o)
	r.tell(t)
}

func (r *Report) tell(t *testing.T) {
	for _, l := range r.Laws {
		t.Run(l.Name, func(t *testing.T) {
			switch l.Outcome {
			case Failed:
				t.Error(l)
			case Skipped:
				t.Skip(l.Detail)
			default:
				t.Logf("%v (%v)", l, l.Took.Round(time.Millisecond))
			}
		})
	}
}

// A subject is the plugin that is held to the laws.
type subject struct {
	wasm, manifest []byte
	options        Options
	m              plugin.Manifest
	trial          *plugin.Trial
	texts          []string
}

// A law is how a Law is found out. Its error says what is wrong; its detail is a figure.
type law struct {
	name  string
	holds func(context.Context, *subject) (detail string, err error)
}

// A broken is an error with the line that does it again.
type broken struct {
	err   error
	again string
}

func (b *broken) Error() string { return b.err.Error() }

// A skip is why a law says nothing of a plugin.
type skip string

func (s skip) Error() string { return string(s) }

// laws are what every plugin is held to, in this order: those that follow a plugin that does not load are skipped.
var laws = []law{
	{"it loads", loads},
	{"its configuration is checked", configured},
	{"a capability withheld refuses it at load", denied},
	{"every hook answers ordinary, empty and largest questions", answers},
	{"its answers are the same wherever a text is cut", cuts},
	{"texts on their way at once do not mix", interleaved},
	{"nothing is held at the end", decidesAtEnd},
	{"no more is held than may be", decidesWhenTold},
	{"it keeps no state", stateless},
	{"it answers alike every time", deterministic},
	{"what a later gateway adds changes nothing", greased},
	{"its fuel grows with the text and no faster", fuel},
	{"ten thousand calls do not outgrow it", leaks},
}

func check(ctx context.Context, wasm, manifest []byte, o Options, all []law) Report {
	s := &subject{wasm: wasm, manifest: manifest, options: o, texts: append(corpus(), o.Texts...)}
	r := Report{Seed: o.Seed}
	if err := s.open(ctx); err != nil {
		r.Laws = []Law{{Name: laws[0].name, Outcome: Failed, Detail: err.Error()}}
		return r
	}
	defer func() { _ = s.trial.Close() }()
	r.Plugin = s.m.Name
	for _, l := range all {
		r.Laws = append(r.Laws, l.judge(ctx, s))
	}
	if len(all) == len(laws) && all[0].name == laws[0].name {
		for i := range o.Cases {
			c := &o.Cases[i]
			r.Laws = append(r.Laws, law{"case " + c.Name, c.holds}.judge(ctx, s))
		}
	}
	return r
}

func (l law) judge(ctx context.Context, s *subject) Law {
	start := time.Now()
	detail, err := l.holds(ctx, s)
	out := Law{Name: l.name, Detail: detail, Took: time.Since(start)}
	switch e := err.(type) {
	case nil:
	case skip:
		out.Outcome, out.Detail = Skipped, string(e)
	case *broken:
		out.Outcome, out.Detail, out.Again = Failed, e.err.Error(), e.again
	default:
		out.Outcome, out.Detail = Failed, err.Error()
	}
	return out
}

func breaks(again, format string, args ...any) error {
	return &broken{fmt.Errorf(format, args...), again}
}

// patience is the deadline of one call here: laws are not about how busy the machine is.
const patience = 10 * time.Second

// open reads the manifest and loads the module.
func (s *subject) open(ctx context.Context) error {
	if err := Decode("manifest", s.manifest, &s.m); err != nil {
		return err
	}
	if s.options.Config == nil {
		s.options.Config = example(&s.m)
	}
	var err error
	s.trial, err = s.load(ctx, s.options.Config, nil)
	return err
}

// load loads the module with a configuration and what it is granted; nil is all that it asks for.
func (s *subject) load(ctx context.Context, settings map[string]any, granted []string) (*plugin.Trial, error) {
	return plugin.OpenTrial(ctx, s.wasm, s.manifest, plugin.TrialOptions{
		Decode: Decode, Config: settings, Capabilities: granted, Deadline: patience, CacheDir: s.options.CacheDir,
	})
}

// Decode reads a manifest as the gateway does: strictly, with its defaults.
func Decode(name string, data []byte, into any) error {
	_, err := config.Decode(name, data, into)
	return err
}

// example is the first example of the configuration's schema, nil if there is none.
func example(m *plugin.Manifest) map[string]any {
	list, _ := m.Config["examples"].([]any)
	if len(list) == 0 {
		return nil
	}
	first, _ := list[0].(map[string]any)
	return first
}
