package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A plugin is one module ready to run. It is shared by every snapshot that wants the same module with the
// same settings, and never changes.
type plugin struct {
	name     string
	entry    Entry
	manifest Manifest
	granted  map[string]bool
	config   []byte            // JSON
	digest   [sha256.Size]byte // of the module
	pool     *sandbox.Pool
	buffers  buffers
	meter    *meter
	log      *slog.Logger
	reach    reach
	breaker  *breaker
	counters Counters                      // nil: there are none
	own      map[string]prometheus.Counter // the plugin's own metrics, by name
	http     *caller                       // nil: it may not ask

	table, configure, onRequest, onText sandbox.Func
	onToolCall, onUsage, onEnd          sandbox.Func
	configures, seesRequests, seesTexts bool
	seesToolCalls, seesUsages, seesEnds bool
	textsOfRequest, textsOfReply        bool
	allowed                             bool         // its failure lets the text pass
	warned                              atomic.Int64 // when a failure was last logged, in Unix nanoseconds
	tap                                 tap

	key  string
	refs int // guarded by Loader.mu
}

// buffers is a guest's buffer table. Every instance of a module must have the same: it is read once.
type buffers struct{ in, inCap, edit, editCap, out, outCap uint32 }

// A notReady is why an instance could not be made ready, in words that need none of the sandbox's before them.
type notReady struct{ error }

func (n notReady) Unwrap() error { return n.error }

// start is run on each new instance.
func (p *plugin) start(ctx context.Context, g *sandbox.Guest) error {
	if err := p.ready(ctx, g); err != nil {
		return notReady{err}
	}
	return nil
}

// ready reads where the buffers stand and hands over the configuration. What the instance is then it is set back to
// between tenants, so that all of this must have happened before.
func (p *plugin) ready(ctx context.Context, g *sandbox.Guest) error {
	if p.table == (sandbox.Func{}) {
		if err := p.begin(g); err != nil {
			return err
		}
	}
	at, err := g.Call(ctx, p.table)
	if err != nil {
		return err
	}
	raw, ok := g.Read(uint32(at), abi.TableSize)
	if !ok {
		return fmt.Errorf("%s says that its table stands at %d, which is outside its memory: correct what it returns", abi.Buffers, uint32(at))
	}
	b := readTable(raw)
	if err := b.check(g); err != nil {
		return err
	}
	if p.buffers != (buffers{}) && p.buffers != b {
		return fmt.Errorf("its buffers stand elsewhere in every instance: let %s return the same table each time", abi.Buffers)
	}
	if p.buffers == (buffers{}) {
		p.buffers = b // the first instance's, before anyone else has the plugin
	}
	return p.tell(ctx, g)
}

// begin looks the exports up in the first instance, before anyone else has the plugin.
func (p *plugin) begin(g *sandbox.Guest) error {
	p.table, _ = g.Func(abi.Buffers)
	p.configure, p.configures = g.Func(abi.Configure)
	p.onRequest, p.seesRequests = g.Func(abi.OnRequest)
	p.onText, p.seesTexts = g.Func(abi.OnText)
	p.onToolCall, p.seesToolCalls = g.Func(abi.OnToolCall)
	p.onUsage, p.seesUsages = g.Func(abi.OnUsage)
	p.onEnd, p.seesEnds = g.Func(abi.OnEnd)
	p.textsOfRequest = p.seesTexts && p.entry.sees(request)
	p.textsOfReply = p.seesTexts && p.entry.sees(reply)
	return p.agrees()
}

// agrees compares the hooks that are exported with those that the manifest names.
func (p *plugin) agrees() error {
	var exported []string
	for i, is := range [...]bool{p.seesEnds, p.seesRequests, p.seesTexts, p.seesToolCalls, p.seesUsages} {
		if is {
			exported = append(exported, hooks[i])
		}
	}
	if named := slices.Sorted(slices.Values(p.manifest.Hooks)); !slices.Equal(named, exported) {
		return fmt.Errorf("its manifest names the hooks %v, but the module exports %v: name those that it exports", named, exported)
	}
	return nil
}

func readTable(b []byte) buffers {
	u := binary.LittleEndian.Uint32
	return buffers{
		in: u(b[abi.TableInPtr:]), inCap: u(b[abi.TableInCap:]), edit: u(b[abi.TableEditPtr:]), editCap: u(b[abi.TableEditCap:]),
		out: u(b[abi.TableOutPtr:]), outCap: u(b[abi.TableOutCap:]),
	}
}

// maxBuffer bounds what the host copies out of a guest at a time.
const maxBuffer = 16 << 20 // bytes

func (b buffers) check(g *sandbox.Guest) error {
	for _, part := range []struct {
		name      string
		ptr, size uint32
		least     uint32
	}{{"in", b.in, b.inCap, abi.MinIn}, {"edit", b.edit, b.editCap, 0}, {"out", b.out, b.outCap, 0}} {
		if part.size < part.least || part.size > maxBuffer {
			return fmt.Errorf("its %s buffer is %d bytes long; it must be %d to %d: correct the table that %s returns", part.name, part.size, part.least, maxBuffer, abi.Buffers)
		}
		if _, ok := g.Read(part.ptr, part.size); !ok {
			return fmt.Errorf("its %s buffer at %d, %d bytes long, is outside its memory: correct the table that %s returns", part.name, part.ptr, part.size, abi.Buffers)
		}
	}
	return nil
}

// tell hands the configuration to an instance.
func (p *plugin) tell(ctx context.Context, g *sandbox.Guest) error {
	if !p.configures {
		if len(p.entry.Config) > 0 {
			return errors.New("takes no configuration, but was given one: leave config out of its entry of the chain")
		}
		return nil
	}
	if len(p.config) > int(p.buffers.inCap) {
		return fmt.Errorf("its configuration is %d bytes long and does not fit its in buffer of %d: shorten it, or build the plugin with a larger buffer", len(p.config), p.buffers.inCap)
	}
	g.Write(p.buffers.in, p.config)
	word, err := g.Call(ctx, p.configure, uint64(len(p.config)))
	if err != nil {
		return err
	}
	r := abi.Result(word)
	if r.Error() != 0 {
		return fmt.Errorf("refuses its configuration: %s", p.reason(g, r))
	}
	if r != 0 {
		return fmt.Errorf("answers %#x to its configuration, which means nothing: let %s return 0, or an error with its reason", word, abi.Configure)
	}
	return nil
}

// reason reads why a guest failed, made fit for a log line.
func (p *plugin) reason(g *sandbox.Guest, r abi.Result) string {
	const most = 256 // bytes
	b, ok := g.Read(p.buffers.out, min(r.Hold(), p.buffers.outCap, most))
	if !ok || len(b) == 0 {
		return "no reason given"
	}
	return printable(b)
}

// printable replaces what would break a log line.
func printable(b []byte) string {
	out := make([]rune, 0, len(b))
	for _, r := range string(b) {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			r = utf8.RuneError
		}
		out = append(out, r)
	}
	return string(out)
}

// close ends the plugin; the last set that holds it calls this.
func (p *plugin) close() error {
	if p.pool == nil {
		return nil
	}
	err := p.pool.Close()
	p.http.close()
	return err
}
