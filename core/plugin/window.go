package plugin

import (
	"context"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A window is what one plugin has of one stream of text: what it holds back, and the end of what it let
// go, for looking back. The zero value is the start of a text.
type window struct {
	past []byte
	held []byte
}

func (w *window) reset() { w.past, w.held = w.past[:0], w.held[:0] }

// A pass is what a plugin made of a piece of text of any length: edits on the input, and how much of its
// end is held. Its memory is reused.
type pass struct {
	turn   *turn // the call that is asked about
	answer answer
	edits  []llm.Edit
	arena  []byte
	hold   int
	found  findings
}

// findings counts what plugins found, by kind.
type findings struct {
	count int
	kinds []string // without repeats
}

func (f *findings) add(kind string) {
	f.count++
	for _, k := range f.kinds {
		if k == kind {
			return
		}
	}
	f.kinds = append(f.kinds, kind)
}

// run asks p about input, in pieces that fit its buffer, and moves the window's past on. The window's
// held is the caller's matter: input begins with it.
func (p *plugin) run(ctx context.Context, w *window, input []byte, flags uint32, r *pass) error {
	r.edits, r.arena, r.hold = r.edits[:0], r.arena[:0], 0
	for at := 0; ; {
		from := runeBefore(input, max(0, at-p.manifest.Context))
		var before []byte
		if at-from < p.manifest.Context {
			before = w.past
		}
		end := p.room(input, at, len(before)+at-from)
		q := piece{before: before, text: input[from:end], gone: at - from, flags: flags}
		if end < len(input) {
			q.flags &^= abi.FlagFinal
		}
		if err := p.decide(ctx, q, r); err != nil || r.answer.refused != nil {
			return err
		}
		p.keep(r, at)
		at = end - r.answer.hold
		if end == len(input) {
			r.hold = r.answer.hold
			w.remember(input[:at], p.manifest.Context)
			return nil
		}
	}
}

// room returns how far a piece from at may go so that it fits the in buffer behind its context.
func (p *plugin) room(input []byte, at, context int) int {
	end := at + min(int(p.buffers.inCap), abi.MaxPiece) - context
	if end >= len(input) {
		return len(input)
	}
	return runeBefore(input, end)
}

// decide asks about a piece, and once more if more is held than may be.
func (p *plugin) decide(ctx context.Context, q piece, r *pass) error {
	for {
		if err := p.ask(ctx, r.turn, q, &r.answer); err != nil {
			return err
		}
		if r.answer.refused != nil || r.answer.hold <= p.entry.MaxHold {
			return nil
		}
		q.flags |= abi.FlagMustDecide
	}
}

// keep adds the answer's edits, which count from at, to the pass.
func (p *plugin) keep(r *pass, at int) {
	for _, e := range r.answer.edits {
		from := len(r.arena)
		r.arena = append(r.arena, e.With...)
		e.With = r.arena[from:len(r.arena):len(r.arena)]
		e.Start, e.End = e.Start+at, e.End+at
		r.edits = append(r.edits, e)
	}
	for _, k := range r.answer.kinds {
		r.found.add(p.manifest.Kinds[k-1])
	}
}

// remember keeps the end of what was let go, at least n bytes if there were as many.
func (w *window) remember(gone []byte, n int) {
	if len(gone) >= n {
		w.past = append(w.past[:0], gone[runeBefore(gone, len(gone)-n):]...)
		return
	}
	w.past = append(w.past, gone...)
	w.past = w.past[:copy(w.past, w.past[runeBefore(w.past, max(0, len(w.past)-n)):])]
}

// runeBefore returns i, or the start of the character that i is inside of.
func runeBefore(b []byte, i int) int {
	for i > 0 && i < len(b) && !utf8.RuneStart(b[i]) {
		i--
	}
	return i
}
