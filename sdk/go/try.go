//go:build !wasip1

package nexus

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A Trial is how Try runs a handler: what the manifest would say, and what text it is.
type Trial struct {
	Context   int // bytes of what went before that are shown
	MaxHold   int // 0: 256
	Direction Direction
	Role      Role
	Channel   Channel
	LastUser  bool // part of the last message of role user
}

// A Found is what Try saw come out.
type Found struct {
	Text  string // what was let go
	Kinds []int  // of edits and reports, in order
	Held  int    // the most bytes that were held back at once
}

// Try runs f on one text that comes in pieces, in the way the gateway does, so that a plugin is tested
// without one. It fails where the gateway would not believe the plugin. A piece must not cut a character.
func Try(f func(*Text), o Trial, pieces ...string) (Found, error) {
	if o.MaxHold == 0 {
		o.MaxHold = 256
	}
	t := trial{Trial: o, handler: f}
	for i, piece := range pieces {
		if err := t.feed(piece, i == len(pieces)-1); err != nil {
			return t.found, err
		}
	}
	return t.found, nil
}

// TryCuts holds a handler to the law that what comes out does not depend on where a text is cut: it runs f on the whole
// text, on its characters one by one, and on it cut in two at every place, and fails where they differ.
func TryCuts(f func(*Text), o Trial, text string) (Found, error) {
	whole, err := Try(f, o, text)
	if err != nil {
		return whole, err
	}
	for i := range text {
		if err := same(f, o, whole, text[:i], text[i:]); err != nil {
			return whole, err
		}
	}
	return whole, same(f, o, whole, strings.Split(text, "")...)
}

func same(f func(*Text), o Trial, whole Found, pieces ...string) error {
	cut, err := Try(f, o, pieces...)
	if err != nil {
		return fmt.Errorf("cut into %q: %w", pieces, err)
	}
	if cut.Text != whole.Text || !slices.Equal(cut.Kinds, whole.Kinds) {
		return fmt.Errorf("cut into %q it comes out as %q with the kinds %v, but whole as %q with %v", pieces, cut.Text, cut.Kinds, whole.Text, whole.Kinds)
	}
	return nil
}

type trial struct {
	Trial
	handler func(*Text)
	past    string
	held    string
	found   Found
}

func (t *trial) feed(piece string, final bool) error {
	now := t.held + piece
	if now == "" {
		return nil // nothing to ask about
	}
	flags := uint32(t.Direction) | uint32(t.Role)<<abi.RoleShift | uint32(t.Channel)<<abi.ChannelShift | uint32(len(t.past))<<abi.ContextShift
	if t.LastUser {
		flags |= abi.FlagLastUser
	}
	if final {
		flags |= abi.FlagFinal
	}
	r := t.ask(now, flags)
	if int(r.Hold()) > t.MaxHold && r.Verdict() == abi.Pass {
		r = t.ask(now, flags|abi.FlagMustDecide)
	}
	switch {
	case r.Error() != 0:
		return fmt.Errorf("the plugin failed: %s", out[:r.Hold()])
	case r.Verdict() == abi.Refuse:
		return fmt.Errorf("the plugin refused")
	case int(r.Hold()) > len(now) || int(r.Hold()) > t.MaxHold || final && r.Hold() > 0:
		return fmt.Errorf("the plugin holds %d bytes of %d (final: %t)", r.Hold(), len(now), final)
	}
	return t.release(now, len(now)-int(r.Hold()), int(r.Edits()))
}

func (t *trial) ask(now string, flags uint32) abi.Result {
	n := copy(in[:], t.past)
	n += copy(in[n:], now)
	return abi.Result(HandleText(uint32(n), flags, t.handler))
}

// release makes the edits on what is let go.
func (t *trial) release(now string, end, n int) error {
	at := 0
	for i := range n {
		e := edits[i*abi.EditSize:]
		start, stop := int(get32(e[abi.EditStart:])), int(get32(e[abi.EditEnd:]))
		if stop > end || !cut(now, start) || !cut(now, stop) {
			return fmt.Errorf("edit [%d, %d) of the text %q is held, or cuts a character", start, stop, now)
		}
		if kind := get32(e[abi.EditKind:]); kind != 0 {
			t.found.Kinds = append(t.found.Kinds, int(kind))
		}
		if length := get32(e[abi.EditLength:]); length != abi.ReportOnly {
			offset := get32(e[abi.EditOffset:])
			t.found.Text += now[at:start] + string(out[offset:offset+length])
			at = stop
		}
	}
	if !cut(now, end) {
		return fmt.Errorf("what is held of %q cuts a character", now)
	}
	t.found.Text += now[at:end]
	t.found.Held = max(t.found.Held, len(now)-end)
	t.past, t.held = t.remember(t.past+now[:end]), now[end:]
	return nil
}

func (t *trial) remember(gone string) string {
	from := max(0, len(gone)-t.Context)
	for from > 0 && !cut(gone, from) {
		from--
	}
	return gone[from:]
}

// cut reports whether s may be cut at i.
func cut(s string, i int) bool { return i == len(s) || utf8.RuneStart(s[i]) }
