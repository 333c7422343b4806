package mock

import (
	"errors"
	"strconv"
	"time"
)

// A dialect is one of the three shapes an answer comes in.
type dialect uint8

const (
	chatDialect dialect = iota
	textDialect
	responsesDialect
)

// A voice puts one plan into its dialect's words.
type voice interface {
	// open sends what stands before the first piece.
	open(o *out) error
	// piece sends ids [from, to) of choice c.
	piece(o *out, c, from, to int) error
	// finish sends the end of choice c.
	finish(o *out, c int, reason string) error
	// close sends what stands after the choices, before the end marker.
	close(o *out) (marker string, err error)
	// whole is the reply that is not streamed.
	whole() []byte
}

func (x *exchange) voice(d dialect, p *plan) voice {
	if d == responsesDialect {
		return newEvents(x, p)
	}
	return newChunks(x, p, d == textDialect)
}

// stream sends the plan as events.
func (x *exchange) stream(d dialect, p *plan, start time.Time) {
	o := x.out(start)
	defer o.timer.Stop()
	v := x.voice(d, p)
	err := o.tell(v, p)
	if err != nil && x.r.Context().Err() != nil {
		x.s.counts.aborted.Add(1)
		return
	}
	if err == nil {
		x.s.counts.done.Add(1)
	}
}

func (o *out) tell(v voice, p *plan) error {
	if err := o.first(); err != nil {
		return err
	}
	if o.fault.cut == cutError && o.fault.at < 0 {
		return o.cut()
	}
	if err := v.open(o); err != nil {
		return err
	}
	if err := o.pieceAll(v, p); err != nil {
		return err
	}
	if err := o.ending(v, p, ""); err != nil {
		return err
	}
	marker, err := v.close(o)
	if err != nil {
		return err
	}
	return o.end(marker)
}

// pieceAll sends the choices' pieces in turn, as the engine's batches come.
func (o *out) pieceAll(v voice, p *plan) error {
	at := make([]int, len(p.choices))
	for left := true; left; {
		left = false
		if err := o.due(); err != nil {
			return err
		}
		for c := range p.choices {
			if at[c] >= len(p.choices[c].ids) {
				continue
			}
			to := p.choices[c].upTo(at[c], o.x.script.per)
			if err := o.piece(v, p, c, at[c], to); err != nil {
				return err
			}
			at[c] = to
			left = left || to < len(p.choices[c].ids)
		}
		if err := o.flush(); err != nil {
			return err
		}
	}
	return nil
}

// upTo is where the piece from i ends: thinking and answer never share one.
func (c *choice) upTo(i, per int) int {
	to := min(i+max(per, 1), len(c.ids))
	if i < c.thoughts {
		return min(to, c.thoughts)
	}
	return to
}

func (o *out) piece(v voice, p *plan, c, from, to int) error {
	if err := o.broken(v, p); err != nil {
		return err
	}
	if err := o.spoil(); err != nil {
		return err
	}
	o.pieces++
	return v.piece(o, c, from, to)
}

// broken cuts the answer where the fault says so.
func (o *out) broken(v voice, p *plan) error {
	if o.fault.cut == cutAbort && o.pieces >= o.fault.at {
		return errors.Join(o.ending(v, p, "abort"), o.end("[DONE]"), errGone)
	}
	return o.cut()
}

// ending sends the end of each choice; a reason given stands for their own.
func (o *out) ending(v voice, p *plan, reason string) error {
	if reason == "" {
		if err := o.broken(v, p); err != nil {
			return err
		}
	}
	for c := range p.choices {
		why := reason
		if why == "" {
			why = o.x.reason(&p.choices[c])
		}
		if err := v.finish(o, c, why); err != nil {
			return err
		}
	}
	return nil
}

// reason is the finish_reason of a choice: a named tool's call ends with stop on vLLM.
func (x *exchange) reason(c *choice) string {
	if c.call == nil || c.answer.finish == "length" {
		return c.answer.finish
	}
	if x.s.opts.Kind == VLLM && named(x.req.ToolChoice) {
		return "stop"
	}
	return "tool_calls"
}

// whole sends the plan as one body, when all its pieces would have been said.
func (x *exchange) whole(d dialect, p *plan, start time.Time) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	longest := 0
	for c := range p.choices {
		longest = max(longest, len(p.choices[c].ids))
	}
	if wait(x.r.Context(), timer, start.Add(time.Duration(longest)*x.script.pace)) != nil {
		x.s.counts.aborted.Add(1)
		return
	}
	x.deliver(x.voice(d, p).whole())
}

// deliver writes a whole body, with the faults that a body can have.
func (x *exchange) deliver(b []byte) {
	f := &x.script.fault
	if f.has(zipped) {
		x.w.Header()["Content-Encoding"] = gzipContent
		b = zip(b)
	}
	h := x.w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	switch {
	case f.malformed > 0:
		b[0] = '!'
	case f.cut != cutNone && f.cut != cutAbort:
		o := x.out(time.Now())
		h["Content-Type"] = jsonType
		_, _ = x.w.Write(b[:len(b)/2]) // the cut follows at once
		o.pieces = f.at
		_ = o.cut() // the reply has ended
		return
	case f.drip > 0 || f.has(bytewise):
		o := x.out(time.Now())
		h["Content-Type"] = jsonType
		_ = o.drip(b) // a client that left is counted by the context
		return
	}
	if _, err := x.w.Write(b); err == nil {
		x.s.counts.done.Add(1)
	}
}
