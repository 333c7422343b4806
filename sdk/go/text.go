package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// A Text is a piece of text on its way. Offsets count bytes of Bytes. It is valid until the handler returns.
type Text struct {
	flags   uint32
	context int
	size    int
	edits   int
	end     int // of the last edit
	outUsed int
	hold    int
	verdict abi.Verdict
	refused records
	err     string
}

var text Text // the one in hand: a guest serves one call at a time

// HandleText runs f on the n bytes the host has left in the in buffer.
func HandleText(n, flags uint32, f func(*Text)) uint64 {
	context := flags >> abi.ContextShift & abi.ContextMask
	if int(n) > len(in) || context > n {
		return failed("text does not fit the buffer it was promised to be in")
	}
	text = Text{flags: flags, context: int(context), size: int(n - context)}
	f(&text)
	return uint64(text.result())
}

func (t *Text) result() abi.Result {
	switch {
	case t.err != "":
		return abi.Result(failed(t.err))
	case t.verdict == abi.Refuse:
		return abi.Pack(uint32(t.refused.used), abi.Refuse, 0, 0)
	}
	return abi.Pack(uint32(t.hold), abi.Pass, 0, uint16(t.edits))
}

// Bytes is the text to decide on: what was held back before and what has come since.
func (t *Text) Bytes() []byte { return in[t.context : t.context+t.size] }

// Window is the text with what went before it; the text begins at start. What went before is there to
// look back on, as far as the manifest's context asks, and has already been let go.
func (t *Text) Window() (b []byte, start int) { return in[:t.context+t.size], t.context }

// Direction says which way the text goes.
func (t *Text) Direction() Direction { return Direction(t.flags & abi.FlagReply) }

// Role says who wrote the text.
func (t *Text) Role() Role { return Role(t.flags >> abi.RoleShift & abi.RoleMask) }

// Channel says which stream of text it belongs to.
func (t *Text) Channel() Channel { return Channel(t.flags >> abi.ChannelShift & abi.ChannelMask) }

// Final reports that nothing follows this text, so that nothing can be held.
func (t *Text) Final() bool { return t.flags&abi.FlagFinal != 0 }

// LastUser reports that the text belongs to the last message of role user.
func (t *Text) LastUser() bool { return t.flags&abi.FlagLastUser != 0 }

// MustDecide reports that more was held than the manifest's max_hold allows.
func (t *Text) MustDecide() bool { return t.flags&abi.FlagMustDecide != 0 }

// Replace puts with in place of the bytes [start, end) and reports kind as found: the n-th of the
// manifest's kinds, 0 for none. Call it in order of place.
func (t *Text) Replace(start, end int, with string, kind int) {
	if t.outUsed+len(with) > len(out) {
		t.err = "more replacements than the out buffer holds"
		return
	}
	offset := t.outUsed
	t.outUsed += copy(out[offset:], with)
	t.record(start, end, uint32(offset), uint32(len(with)), kind)
}

// Report says that the bytes [start, end) are of the kind, and leaves them as they are.
func (t *Text) Report(start, end, kind int) { t.record(start, end, 0, abi.ReportOnly, kind) }

func (t *Text) record(start, end int, offset, length uint32, kind int) {
	switch {
	case start < t.end || end < start || end > t.size:
		t.err = "edit out of order or out of bounds"
		return
	case (t.edits+1)*abi.EditSize > len(edits) || t.edits == 0xffff:
		t.err = "more edits than the edit buffer holds"
		return
	}
	b := edits[t.edits*abi.EditSize:]
	put32(b[abi.EditStart:], uint32(start))
	put32(b[abi.EditEnd:], uint32(end))
	put32(b[abi.EditOffset:], offset)
	put32(b[abi.EditLength:], length)
	put32(b[abi.EditKind:], uint32(kind))
	t.edits++
	t.end = end
}

// Hold keeps the last n bytes back until more is known; they come again with what follows them.
func (t *Text) Hold(n int) { t.hold = n }

// Refuse stops the call. A status of 0 is 403; code and message may be empty.
func (t *Text) Refuse(status int, code, message string) {
	t.verdict = abi.Refuse
	t.refused = records{}
	t.refused.refuse(status, code, message)
}

// RetryAfter says, once Refuse was called, in how many seconds the caller may try again: at most a day.
func (t *Text) RetryAfter(seconds int) { t.refused.retry(seconds) }

// Fail says that the plugin cannot judge the text; its failure rule decides.
func (t *Text) Fail(reason string) { t.err = reason }
