package plugin

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A hostFunction is one that a guest may import where it is granted.
type hostFunction struct {
	name       string
	capability string
	sandbox.Signature
	run func(*plugin, host) (uint64, error)
}

var (
	pointer = []sandbox.Type{sandbox.I32, sandbox.I32} // and length
	two     = slices.Concat(pointer, pointer)
)

// hostFunctions are all there are. An error of run ends the guest's call; its text says what was wrong.
var hostFunctions = []hostFunction{
	{abi.Log, abi.Log, signature(nil, pointer...), (*plugin).logLine},
	{abi.LabelGet, abi.LabelGet, signature(i32, two...), (*plugin).labelGet},
	{abi.LabelSet, abi.LabelSet, signature(nil, two...), (*plugin).labelSet},
	{abi.CallGet, abi.CallGet, signature(i32, slices.Concat(i32, two)...), (*plugin).callGet},
	{abi.ModelSet, "model", signature(nil, pointer...), (*plugin).modelSet},
	{abi.PoolSet, "pool", signature(nil, pointer...), (*plugin).poolSet},
	{abi.KVGet, abi.KVGet, signature(i64, pointer...), (*plugin).kvGet},
	{abi.KVIncrIf, abi.KVIncrIf, signature(i64, sandbox.I32, sandbox.I32, sandbox.I64, sandbox.I64, sandbox.I64), (*plugin).kvIncrIf},
	{abi.VaultPut, abi.VaultPut, signature(nil, two...), (*plugin).vaultPut},
	{abi.Metric, abi.Metric, signature(nil, sandbox.I32, sandbox.I32, sandbox.F64), (*plugin).addMetric},
	{abi.NowMS, abi.NowMS, signature(i64), (*plugin).nowMS},
	{abi.Random, abi.Random, signature(nil, pointer...), (*plugin).random},
	{abi.HTTPCall, abi.HTTPCall, signature(i32, two...), (*plugin).httpCall},
}

// hostNames lists them, for messages.
func hostNames() []string {
	names := make([]string, len(hostFunctions))
	for i, f := range hostFunctions {
		names[i] = f.name
	}
	return names
}

func hostNamed(name string) *hostFunction {
	at := slices.IndexFunc(hostFunctions, func(f hostFunction) bool { return f.name == name })
	if at < 0 {
		return nil
	}
	return &hostFunctions[at]
}

// hosts are the host functions the guest may import, those it was granted.
func (p *plugin) hosts() []sandbox.HostFunc {
	var all []sandbox.HostFunc
	for i := range hostFunctions {
		f := &hostFunctions[i]
		if p.granted[f.capability] {
			all = append(all, sandbox.HostFunc{Module: abi.Module, Name: f.name, Signature: f.Signature, Func: f.bind(p)})
		}
	}
	return all
}

// bind makes the function the plugin's. Every host function pays for having been called.
func (f *hostFunction) bind(p *plugin) func(*sandbox.Guest, []uint64) {
	return func(g *sandbox.Guest, stack []uint64) {
		g.Charge(hostCost)
		h := host{g, stack}
		result, err := f.run(p, h)
		if err != nil {
			g.Stop(fmt.Errorf("%s: %w", f.name, err))
			return
		}
		if len(f.Results) > 0 {
			stack[0] = result
		}
	}
}

// What host functions charge, in units of fuel.
const (
	hostCost  = 200  // a call of one
	byteCost  = 4    // a byte looked at or written
	storeCost = 5000 // a question to the store
	netCost   = 50_000
)

// A host is one call of a host function.
type host struct {
	g    *sandbox.Guest
	args []uint64
}

// bytes is a view of what the pointer and length at args[i] name, at most most bytes of it.
func (h host) bytes(what string, i int, most uint32) ([]byte, error) {
	ptr, n := uint32(h.args[i]), uint32(h.args[i+1])
	if n > most {
		return nil, fmt.Errorf("the %s is %d bytes long; the most is %d", what, n, most)
	}
	h.g.Charge(uint64(n) * byteCost)
	b, ok := h.g.Read(ptr, n)
	if !ok {
		return nil, fmt.Errorf("the %s at %d, %d bytes long, is outside the guest's memory", what, ptr, n)
	}
	return b, nil
}

// text is what bytes gives, copied.
func (h host) text(what string, i int, most uint32) (string, error) {
	b, err := h.bytes(what, i, most)
	return string(b), err
}

// answer writes as much of s as the out buffer at args[i] takes and returns the length of all of it.
func (h host) answer(s string, i int) (uint64, error) {
	ptr, room := uint32(h.args[i]), uint32(h.args[i+1])
	n := min(uint64(len(s)), uint64(room))
	h.g.Charge(n * byteCost)
	out, ok := h.g.Read(ptr, uint32(n))
	if !ok {
		return 0, fmt.Errorf("the answer's place at %d, %d bytes long, is outside the guest's memory", ptr, n)
	}
	copy(out, s)
	return uint64(uint32(len(s))), nil
}

// none is what functions answer that have nothing.
const none = uint64(math.MaxUint32) // -1 as an i32

var (
	errNoCall  = errors.New("there is no call that it could be about: a plugin may not ask for it while it is being configured")
	errReplied = errors.New("the reply is on its way: this may be said of requests alone")
)

// turn is the call that is running.
func (h host) turn() (*turn, error) {
	t, ok := h.g.Data.(*turn)
	if !ok || t.call == nil {
		return nil, errNoCall
	}
	return t, nil
}

// request is the call that is running, whose reply must not have begun.
func (h host) request() (*turn, error) {
	t, err := h.turn()
	if err == nil && t.reply {
		return nil, errReplied
	}
	return t, err
}

func (p *plugin) labelGet(h host) (uint64, error) {
	t, err := h.turn()
	if err != nil {
		return 0, err
	}
	name, err := h.bytes("name", 0, maxLabelName)
	if err != nil {
		return 0, err
	}
	value, ok := t.label(name)
	if !ok {
		return none, nil
	}
	return h.answer(value, 2)
}

func (p *plugin) labelSet(h host) (uint64, error) {
	t, err := h.turn()
	if err != nil {
		return 0, err
	}
	name, err := h.text("name", 0, maxLabelName)
	if err != nil {
		return 0, err
	}
	value, err := h.text("value", 2, maxLabelValue)
	if err != nil {
		return 0, err
	}
	return 0, t.setLabel(name, value)
}

func (p *plugin) callGet(h host) (uint64, error) {
	t, err := h.turn()
	if err != nil {
		return 0, err
	}
	name, err := h.bytes("name", 1, maxKey)
	if err != nil {
		return 0, err
	}
	value, ok, err := p.known(t, uint32(h.args[0]), name)
	if err != nil {
		return 0, err
	}
	if !ok {
		return none, nil
	}
	return h.answer(value, 3)
}

// known is what is known of a call under one of the ids of records; what is empty is not known.
func (p *plugin) known(t *turn, id uint32, name []byte) (value string, ok bool, err error) {
	switch who := t.call.Principal; {
	case id == abi.InLabel:
		value, ok = t.label(name)
		return value, ok, nil
	case id == abi.InHeader && !p.granted["headers"]:
		return "", false, errors.New(`the caller's headers are behind the capability "headers"`)
	case id == abi.InHeader && !shown(strings.ToLower(string(name))):
		return "", false, nil
	case id == abi.InHeader:
		values := t.call.Header.Values(string(name))
		return strings.Join(values, ", "), len(values) > 0, nil
	case id == 0 || id > abi.InLabel:
		return "", false, fmt.Errorf("nothing is known under the id %d", id)
	case len(name) > 0 && id != abi.InPrincipalLabel:
		return "", false, fmt.Errorf("what is known under the id %d has no name, but was asked for as %q", id, name)
	case id <= abi.InModel:
		value = t.named(id)
	case who == nil:
		return "", false, nil
	case id == abi.InPrincipalLabel:
		value, ok = who.Labels[string(name)]
		return value, ok, nil
	default:
		value = [...]string{who.ID, who.Tenant, who.Team, who.Tier}[id-abi.InPrincipal]
	}
	return value, value != "", nil
}

func (t *turn) named(id uint32) string {
	switch {
	case id == abi.InID:
		return t.call.ID
	case id == abi.InRoute:
		return string(t.call.Route)
	case t.wishes != nil && t.wishes.model != "":
		return t.wishes.model
	}
	return t.call.Request.Model
}

func (p *plugin) modelSet(h host) (uint64, error) {
	t, name, err := h.choice("model")
	if err == nil {
		t.wish().model = name
	}
	return 0, err
}

func (p *plugin) poolSet(h host) (uint64, error) {
	t, name, err := h.choice("pool")
	if err == nil {
		t.wish().pool = name
	}
	return 0, err
}

// choice reads the name of something to use for the request.
func (h host) choice(what string) (*turn, string, error) {
	t, err := h.request()
	if err != nil {
		return nil, "", err
	}
	name, err := h.text(what, 0, maxModel)
	if err == nil && (name == "" || !plainText(name)) {
		err = fmt.Errorf("%s %q: a name without control characters is wanted", what, name)
	}
	return t, name, err
}

func (p *plugin) vaultPut(h host) (uint64, error) {
	t, err := h.request()
	if err != nil {
		return 0, err
	}
	value, err := h.text("value", 0, maxValue)
	if err != nil {
		return 0, err
	}
	token, err := h.text("token", 2, maxToken)
	if err != nil {
		return 0, err
	}
	h.g.Charge(uint64(len(t.call.Vault)) * byteCost)
	if t.wishes != nil {
		h.g.Charge(uint64(len(t.wishes.vault)) * byteCost)
	}
	return 0, t.put(token, value)
}
