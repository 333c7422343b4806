package plugin

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// TrialOptions say how a plugin is tried. Zero fields take what its manifest says.
type TrialOptions struct {
	Decode       Decode
	Config       map[string]any
	Capabilities []string          // granted; nil: all that the manifest asks for
	Deadline     time.Duration     // of one call
	CacheDir     string            // of compiled code; empty: in memory
	Log          *slog.Logger      // what the plugin logs; nil: nowhere
	Hosts        []string          // that http_call may ask, as name:port
	HTTP         http.RoundTripper // answers http_call; nil: the network does
	Counters     Counters          // nil: in memory
}

// A Trial asks one plugin by hand, by the code that the stage asks it with, for tests and command lines. A failure is
// never let pass: it comes back as an error that FaultCause knows. A Trial serves one goroutine.
type Trial struct {
	loader   *Loader
	set      *Set
	p        *plugin
	register *prometheus.Registry
	pass     pass
}

// OpenTrial loads a module and its manifest as the gateway does, into one instance. The caller closes it.
func OpenTrial(ctx context.Context, wasm, manifest []byte, o TrialOptions) (*Trial, error) {
	var m Manifest
	if err := o.Decode("manifest", manifest, &m); err != nil {
		return nil, err
	}
	t := &Trial{register: prometheus.NewRegistry()}
	files := fstest.MapFS{m.Name + ".wasm": {Data: wasm}, m.Name + ".yaml": {Data: manifest}}
	var err error
	if t.loader, err = NewLoader(o.loader(files, t.register)); err != nil {
		return nil, err
	}
	config := &Config{CacheDir: o.CacheDir, Chain: []Entry{o.entry(&m)}}
	if t.set, err = t.loader.Load(ctx, config); err != nil {
		return nil, errors.Join(bare(err), t.loader.Close())
	}
	t.p = t.set.plugins[0]
	if o.HTTP != nil && t.p.http != nil {
		t.p.http.client.Transport = o.HTTP
	}
	return t, nil
}

// bare is err without the entry of the chain that it is about: a Trial has one alone.
func bare(err error) error {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var all []error
		for _, one := range e.Unwrap() {
			all = append(all, bare(one))
		}
		return errors.Join(all...)
	case *EntryError:
		return e.Err
	}
	return err
}

// RefusedSettings are the settings of TrialOptions.Config that err, which OpenTrial returned, finds fault with; none when
// it is about something else.
func RefusedSettings(err error) setting.Problems {
	p := setting.NewProblems()
	gatherSettings(err, p)
	return p
}

func gatherSettings(err error, p setting.Problems) {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			gatherSettings(one, p)
		}
	case *settingError:
		path := strings.TrimPrefix(strings.TrimPrefix(e.path, "config"), ".")
		p.Addf(path, "%s", e.text)
	}
}

func (o *TrialOptions) loader(files fs.FS, r *prometheus.Registry) Options {
	all := Options{Shipped: files, Decode: o.Decode, Register: r, Log: o.Log, Counters: o.Counters}
	if all.Counters == nil {
		all.Counters = &tally{counts: map[string]int64{}}
	}
	if all.Log == nil {
		all.Log = slog.New(slog.DiscardHandler)
	}
	return all
}

func (o *TrialOptions) entry(m *Manifest) Entry {
	e := Entry{Name: m.Name, Config: o.Config, OnError: onDeny, Capabilities: o.Capabilities, Deadline: o.Deadline, Instances: 1}
	e.HTTP.Hosts = o.Hosts
	if e.Capabilities == nil {
		e.Capabilities = m.Capabilities
	}
	return e
}

// A tally counts in memory, for as long as a Trial lasts.
type tally struct {
	mu     sync.Mutex // guards counts
	counts map[string]int64
}

func (t *tally) Get(_ context.Context, key string) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[key], nil
}

func (t *tally) IncrIf(_ context.Context, key string, amount, limit int64, _ time.Duration) (n int64, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n = max(0, t.counts[key]+amount); amount >= 0 && n > limit {
		return t.counts[key], false, nil
	}
	t.counts[key] = n
	return n, true, nil
}

// Close ends the plugin.
func (t *Trial) Close() error { return errors.Join(t.set.Close(), t.loader.Close()) }

// Manifest is what the plugin says of itself.
func (t *Trial) Manifest() *Manifest { return &t.p.manifest }

// Stage is the stage of a chain of this plugin alone. Reply gives it something to stand before.
func (t *Trial) Stage() *Stage { return t.set.Stage() }

// Stats are the plugin's figures since it was loaded: calls, fuel, instances and memory.
func (t *Trial) Stats() sandbox.Stats { return t.p.pool.Stats() }

// Sees reports whether the plugin subscribes to a hook, as in on_text.
func (t *Trial) Sees(hook string) bool {
	for _, h := range t.p.manifest.Hooks {
		if h == hook {
			return true
		}
	}
	return false
}

// Renew puts a fresh instance in the place of the one that has been asked so far.
func (t *Trial) Renew(ctx context.Context) error {
	g, err := t.p.pool.Get(ctx)
	if err != nil {
		return err
	}
	g.Break("another instance is wanted")
	t.p.pool.Put(g)
	g, err = t.p.pool.Get(ctx)
	if err == nil {
		t.p.pool.Put(g)
	}
	return err
}

// Used is how many bytes of the instance's memory are in use, in blocks of 4 KiB that hold anything but zeros. c is a call
// of the tenant that the plugin was last asked for: for another, an instance is set back to its start.
func (t *Trial) Used(ctx context.Context, c *pipeline.Call) (used int64, err error) {
	g, err := t.p.pool.GetFor(ctx, t.p.owner(&turn{call: c}))
	if err != nil {
		return 0, err
	}
	defer t.p.pool.Put(g)
	memory, _ := g.Read(0, g.MemorySize())
	var zeros [4 << 10]byte
	for ; len(memory) > 0; memory = memory[min(len(memory), len(zeros)):] {
		if block := memory[:min(len(memory), len(zeros))]; !bytes.Equal(block, zeros[:len(block)]) {
			used += int64(len(block))
		}
	}
	return used, nil
}

// Metrics are the counters that the plugin itself has added to, by their names in the manifest.
func (t *Trial) Metrics() (map[string]float64, error) {
	t.Stage().last.wait() // on_end is not waited for elsewhere
	families, err := t.register.Gather()
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "metric" && m.GetCounter() != nil {
					all[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return all, nil
}

// Request asks about a request and its texts; what the plugin says stands in c, and its no is the error.
func (t *Trial) Request(ctx context.Context, c *pipeline.Call) error {
	reply, err := t.Stage().Handle(ctx, c, Reply(c.Route, nil))
	if err != nil {
		return err
	}
	_, err = Read(reply)
	return err
}

// A TextTrial says what text it is that is tried.
type TextTrial struct {
	Reply    bool
	Role     llm.Role
	Channel  llm.Channel
	LastUser bool
	Call     *pipeline.Call // nil: one that nothing is known of
}

// A TextFound is what came out of a text.
type TextFound struct {
	Text  string
	Kinds []string // of edits and reports, without repeats, in the order of the first of each
	Count int      // of findings
	Held  int      // most bytes held back at once
	Lead  string   // what was let go before the last piece
}

// Text lets a text that comes in pieces through the plugin's window, the last piece FINAL.
func (t *Trial) Text(ctx context.Context, o TextTrial, pieces ...string) (TextFound, error) {
	s := t.Texts(o)
	for i, piece := range pieces {
		if err := s.Feed(ctx, piece, i == len(pieces)-1); err != nil {
			return s.found, err
		}
	}
	return s.Found(), nil
}

// A TextStream is one text on its way through the plugin. Several may be under way at once.
type TextStream struct {
	t     *Trial
	turn  turn
	flags uint32
	w     window
	found TextFound
	all   findings
}

// Texts begins a text.
func (t *Trial) Texts(o TextTrial) *TextStream {
	if o.Call == nil {
		o.Call = &pipeline.Call{Request: &llm.Request{}}
	}
	s := &TextStream{t: t, turn: turn{call: o.Call, reply: o.Reply}, flags: flagsOf(llm.Text{Role: o.Role, Channel: o.Channel})}
	if o.Reply {
		s.flags |= abi.FlagReply
	}
	if o.LastUser {
		s.flags |= abi.FlagLastUser
	}
	return s
}

// Feed gives the text's next piece.
func (s *TextStream) Feed(ctx context.Context, piece string, final bool) error {
	s.w.held = append(s.w.held, piece...)
	flags := s.flags
	if final {
		flags |= abi.FlagFinal
		s.found.Lead = s.found.Text
	}
	if len(s.w.held) == 0 {
		return nil
	}
	r := &s.t.pass
	r.turn, r.found = &s.turn, findings{}
	err := s.t.p.run(ctx, &s.w, s.w.held, flags, r)
	if err = s.t.p.judge(ctx, err, r); err != nil {
		return err
	}
	gone := len(s.w.held) - r.hold
	s.found.Text += string(apply(nil, s.w.held[:gone], r.edits))
	s.found.Held = max(s.found.Held, r.hold)
	s.found.Count += r.found.count
	for _, k := range r.found.kinds {
		s.all.add(k)
	}
	s.w.held = s.w.held[:copy(s.w.held, s.w.held[gone:])]
	return nil
}

// Found is what has come out so far.
func (s *TextStream) Found() TextFound {
	s.found.Kinds = s.all.kinds
	return s.found
}

// A Question asks a hook directly, in the ABI's own bytes.
type Question struct {
	Hook  string // as in on_text
	In    []byte // what stands in the in buffer
	Flags uint32 // of on_text
	Call  *pipeline.Call
	Reply bool // the reply is on its way
}

// A RawAnswer is what a hook left behind.
type RawAnswer struct {
	Word  abi.Result
	Edits []byte // the edits
	Out   []byte // the out buffer: records, or for on_text with the verdict Pass all of it
}

// Ask asks a hook and returns what it says without believing any of it. Only an instance that stopped is an error.
func (t *Trial) Ask(ctx context.Context, q Question) (RawAnswer, error) {
	p := t.p
	f, ok := p.pool.Func("nexus_" + q.Hook)
	if !ok {
		return RawAnswer{}, errors.New("the plugin has no hook " + q.Hook)
	}
	if q.Call == nil {
		q.Call = &pipeline.Call{Request: &llm.Request{}}
	}
	g, err := p.enter(ctx, &turn{call: q.Call, reply: q.Reply})
	if err != nil {
		return RawAnswer{}, err
	}
	if len(q.In) > t.InCap() || !g.Write(p.buffers.in, q.In) {
		p.leave(g, nil)
		return RawAnswer{}, errors.New("the question does not fit the in buffer")
	}
	args := []uint64{uint64(len(q.In))}
	if q.Hook == "on_text" {
		args = append(args, uint64(q.Flags))
	}
	word, err := g.Call(ctx, f, args...)
	if err != nil {
		err = faultOf(ctx, err)
		p.leave(g, err)
		return RawAnswer{}, err
	}
	a := p.rawAnswer(g, q.Hook, abi.Result(word))
	p.wipe(g, p.buffers.in, uint32(len(q.In)))
	p.leave(g, nil)
	return a, nil
}

func (p *plugin) rawAnswer(g *sandbox.Guest, hook string, r abi.Result) RawAnswer {
	a := RawAnswer{Word: r}
	n := min(r.Hold(), p.buffers.outCap)
	if hook == "on_text" && r.Verdict() == abi.Pass && r.Error() == 0 {
		n = p.buffers.outCap
		raw, _ := g.Read(p.buffers.edit, min(uint32(r.Edits())*abi.EditSize, p.buffers.editCap))
		a.Edits = bytes.Clone(raw)
		if len(raw) == 0 {
			n = 0
		}
	}
	out, _ := g.Read(p.buffers.out, n)
	a.Out = bytes.Clone(out)
	return a
}

// InCap is the size of the plugin's in buffer.
func (t *Trial) InCap() int { return int(t.p.buffers.inCap) }

// FaultCause is the cause that a plugin's failure is counted under; empty when err is none.
func FaultCause(err error) string {
	var f *failure
	if errors.As(err, &f) {
		return f.cause
	}
	return ""
}
