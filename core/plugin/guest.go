package plugin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A failure is why a plugin could not be relied on in one call. Cause is from a closed set: a kind of
// sandbox fault, or one of those below.
type failure struct {
	cause string
	err   error
}

func (f *failure) Error() string { return f.cause + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

const (
	badResult = "bad_result" // the answer means nothing
	badEdit   = "bad_edit"   // an edit is out of order, out of bounds or no text
	badHold   = "bad_hold"   // more held than there is, or than may be
	badRecord = "bad_record" // a record is malformed, or says what the plugin may not
	declared  = "declared"   // the guest says that it failed
)

func fail(cause, format string, args ...any) *failure {
	return &failure{cause, fmt.Errorf(format, args...)}
}

// A piece is what one call of on_text is asked about: text, of which the first bytes have already been let
// go and are there to look back on, as is all of before.
type piece struct {
	before, text []byte
	gone         int // bytes of text that are context
	flags        uint32
}

// An answer is what a guest said of a piece. Its edits are copies, good until the answer is reused.
type answer struct {
	hold    int
	edits   []llm.Edit
	kinds   []uint16 // of edits and reports
	arena   []byte   // what the edits put in
	refused *refusal // not nil: the verdict is to refuse
}

// A refusal is a guest's no.
type refusal struct {
	status        int
	code, message string
	retry         time.Duration
}

// ask calls on_text. The error is a *failure, or the context's. Whatever the guest says is checked before
// it is believed; a guest that said what cannot be is not used again.
func (p *plugin) ask(ctx context.Context, t *turn, q piece, a *answer) (err error) {
	g, err := p.enter(ctx, t)
	if err != nil {
		return err
	}
	err = errPanicked
	defer func() { p.leave(g, err) }()
	err = p.askGuest(ctx, g, q, a)
	return err
}

// errPanicked stands until a question is answered: should the host itself panic, the instance is given back all the
// same, or nobody could ever close the plugin.
var errPanicked = fail("instantiate", "the gateway itself failed")

func (p *plugin) askGuest(ctx context.Context, g *sandbox.Guest, q piece, a *answer) error {
	size := len(q.before) + len(q.text)
	if uint64(size) > uint64(p.buffers.inCap) {
		return fail(badResult, "%d bytes do not fit the in buffer of %d", size, p.buffers.inCap)
	}
	in := p.buffers.in
	if !g.Write(in, q.before) || !g.Write(in+uint32(len(q.before)), q.text) {
		return fail(badResult, "the in buffer is outside the guest's memory")
	}
	flags := q.flags | uint32(len(q.before)+q.gone)<<abi.ContextShift
	word, err := g.Call(ctx, p.onText, uint64(size), uint64(flags))
	if err != nil {
		err = faultOf(ctx, err)
	} else {
		err = p.readText(g, abi.Result(word), q, a)
	}
	p.wipe(g, in, uint32(size))
	return err
}

// wipe clears what was passed in. So is what the guest says cleared as it is read: nothing of one call lies in the
// buffers where the host could take it for a part of another.
func (p *plugin) wipe(g *sandbox.Guest, ptr, n uint32) {
	if b, ok := g.Read(ptr, n); ok {
		clear(b)
	}
}

// faultOf tells a caller who has left, or whose time is up, from a guest that failed.
func faultOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var f *sandbox.Fault
	if errors.As(err, &f) {
		return &failure{f.Kind.String(), err}
	}
	return &failure{"instantiate", err}
}

// readText checks and copies out what on_text returned.
func (p *plugin) readText(g *sandbox.Guest, r abi.Result, q piece, a *answer) error {
	a.reset()
	text := q.text[q.gone:]
	if r.Error() != 0 {
		return fail(declared, "%s", p.reason(g, r))
	}
	switch r.Verdict() {
	case abi.Pass:
	case abi.Refuse:
		return p.readRefusal(g, r, a)
	default:
		return fail(badResult, "verdict %d means nothing", r.Verdict())
	}
	if uint64(r.Hold()) > uint64(len(text)) {
		return fail(badHold, "%d bytes held of %d", r.Hold(), len(text))
	}
	a.hold = int(r.Hold())
	switch {
	case q.flags&abi.FlagFinal != 0 && a.hold > 0:
		return fail(badHold, "%d bytes held of a text that is final", a.hold)
	case q.flags&abi.FlagMustDecide != 0 && a.hold > p.entry.MaxHold:
		return fail(badHold, "%d bytes held; the most is %d", a.hold, p.entry.MaxHold)
	}
	released := len(text) - a.hold
	if !boundary(text, released) {
		return fail(badHold, "%d bytes held cut a character", a.hold)
	}
	return p.readEdits(g, int(r.Edits()), released, text, a)
}

func (a *answer) reset() {
	a.hold, a.refused = 0, nil
	a.edits, a.kinds, a.arena = a.edits[:0], a.kinds[:0], a.arena[:0]
}

// maxGrowth bounds what edits put in, over the length of the text they edit.
const maxGrowth = 1 << 20 // bytes

func (p *plugin) readEdits(g *sandbox.Guest, n, released int, text []byte, a *answer) error {
	if n == 0 {
		return nil
	}
	if uint64(n)*abi.EditSize > uint64(p.buffers.editCap) {
		return fail(badEdit, "%d edits do not fit the edit buffer of %d bytes", n, p.buffers.editCap)
	}
	raw, ok := g.Read(p.buffers.edit, uint32(n)*abi.EditSize)
	out, okOut := g.Read(p.buffers.out, p.buffers.outCap)
	if !ok || !okOut {
		return fail(badEdit, "the buffers are outside the guest's memory")
	}
	r := editReader{out: out, text: text, released: released, kinds: len(p.manifest.Kinds), answer: a}
	for rest := raw; len(rest) > 0; rest = rest[abi.EditSize:] {
		if err := r.read(rest); err != nil {
			return err // the guest is not used again
		}
	}
	r.wipe(raw)
	return nil
}

// wipe clears edits that were read, and what they put in: only now, for several may put in the same.
func (r *editReader) wipe(raw []byte) {
	for rest := raw; len(rest) > 0; rest = rest[abi.EditSize:] {
		offset, length := binary.LittleEndian.Uint32(rest[abi.EditOffset:]), binary.LittleEndian.Uint32(rest[abi.EditLength:])
		if length != abi.ReportOnly {
			clear(r.out[offset : offset+length])
		}
	}
	clear(raw)
}

// An editReader checks a guest's edits one by one and copies them into an answer.
type editReader struct {
	out, text []byte
	released  int // bytes of text that are let go
	kinds     int // named in the manifest
	last      int // where the edit before ended
	answer    *answer
}

func (r *editReader) read(e []byte) error {
	u := func(at int) uint32 { return binary.LittleEndian.Uint32(e[at:]) }
	start, end, length, kind := u(abi.EditStart), u(abi.EditEnd), u(abi.EditLength), u(abi.EditKind)
	switch {
	case uint64(start) < uint64(r.last) || end < start || uint64(end) > uint64(r.released):
		return fail(badEdit, "[%d, %d) is out of order or out of bounds: the edit before ends at %d, what is let go at %d", start, end, r.last, r.released)
	case !boundary(r.text, int(start)) || !boundary(r.text, int(end)):
		return fail(badEdit, "[%d, %d) cuts a character", start, end)
	case uint64(kind) > uint64(r.kinds):
		return fail(badEdit, "kind %d is none of the %d in the manifest", kind, r.kinds)
	}
	r.last = int(end)
	if kind != 0 {
		r.answer.kinds = append(r.answer.kinds, uint16(kind))
	}
	if length == abi.ReportOnly {
		return nil
	}
	with, err := r.replacement(u(abi.EditOffset), length)
	if err != nil {
		return err
	}
	r.answer.edits = append(r.answer.edits, llm.Edit{Start: int(start), End: int(end), With: with, Kind: uint16(kind)})
	return nil
}

// replacement copies what an edit puts in.
func (r *editReader) replacement(offset, length uint32) ([]byte, error) {
	if uint64(offset)+uint64(length) > uint64(len(r.out)) {
		return nil, fail(badEdit, "its replacement [%d, %d) is outside the out buffer of %d bytes", offset, uint64(offset)+uint64(length), len(r.out))
	}
	with := r.out[offset : offset+length]
	if !utf8.Valid(with) {
		return nil, fail(badEdit, "its replacement is not UTF-8")
	}
	a := r.answer
	if len(a.arena)+len(with) > len(r.text)+maxGrowth {
		return nil, fail(badEdit, "its replacements are longer than %d bytes", len(r.text)+maxGrowth)
	}
	from := len(a.arena)
	a.arena = append(a.arena, with...)
	return a.arena[from:len(a.arena):len(a.arena)], nil
}

// boundary reports whether b may be cut at i.
func boundary(b []byte, i int) bool { return i == len(b) || utf8.RuneStart(b[i]) }
