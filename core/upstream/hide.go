package upstream

import (
	"bytes"
	"slices"

	"github.com/nexus-gateway/nexus/core/llm"
)

// hide takes out of a chunk what only the gateway asked for.
func (s *stream) hide(chunk *llm.Chunk) {
	v := chunk.View
	if s.order.hides(v, !s.passed) {
		chunk.Raw = nil
		return
	}
	var cuts [3]llm.Span
	n := s.order.cuts(&cuts, chunk.Data, v)
	if n == 0 {
		return
	}
	s.buf = append(s.buf[:0], "data: "...)
	from := 0
	for _, at := range cuts[:n] {
		s.buf = append(s.buf, chunk.Data[from:at.Start]...)
		from = at.End
	}
	s.buf = append(s.buf, chunk.Data[from:]...)
	end := len(s.buf)
	unbreak(s.buf)
	s.buf = append(s.buf, "\n\n"...)
	chunk.Raw, chunk.Data = s.buf, s.buf[len("data: "):end]
	// Texts stand before what is cut in every engine's chunks; where one does not, read again.
	if behind(v, cuts[0].Start) {
		_ = v.Scan(s.call.Route, true, chunk.Data)
	}
	v.UsageAt, v.Tokens, v.Prompt = llm.Span{}, llm.Member{}, llm.Member{}
}

// hides reports whether nothing of a chunk is for the caller: the usage it did not ask for, or tokens that have no text yet,
// unless it is the first event: that one tells the role.
func (o *order) hides(v *llm.View, first bool) bool {
	if v.HasUsage && v.Choices == 0 {
		return o.hideUsage
	}
	if first || !o.hideTokens || v.Tokens.At.Len() == 0 || len(v.Finishes)+len(v.Calls) > 0 || v.HasUsage && !o.hideTicker {
		return false
	}
	for i := range v.Texts {
		if v.Texts[i].At.Len() > 0 {
			return false
		}
	}
	return true
}

// cuts lists the parts of a chunk that are not for the caller, in order, each with its comma.
func (o *order) cuts(to *[3]llm.Span, data []byte, v *llm.View) int {
	n := 0
	if o.hideTokens && v.Tokens.At.Len() > 0 {
		to[n] = llm.Cut(data, v.Tokens.At)
		n++
	}
	if o.hidePrompt && v.Prompt.At.Len() > 0 {
		to[n] = llm.Cut(data, v.Prompt.At)
		n++
	}
	if v.UsageAt.Len() > 0 && (v.HasUsage && v.Choices != 0 && o.hideTicker || !v.HasUsage && o.hideNull) {
		to[n] = v.UsageAt
		n++
	}
	if n > 1 {
		slices.SortFunc(to[:n], func(a, b llm.Span) int { return a.Start - b.Start })
		for i := 1; i < n; i++ {
			if to[i].Start < to[i-1].End { // both took the comma between them: this one takes the next
				to[i] = llm.Cut(data[to[i-1].End:], llm.Span{End: to[i].End - to[i-1].End})
				to[i].Start, to[i].End = to[i-1].End, to[i].End+to[i-1].End
			}
		}
	}
	return n
}

// behind reports whether something that v names stands at or after at.
func behind(v *llm.View, at int) bool {
	n, f, c := len(v.Texts), len(v.Finishes), len(v.Calls)
	return n > 0 && v.Texts[n-1].At.End > at || f > 0 && v.Finishes[f-1].At.End > at || c > 0 && v.Calls[c-1].At.End > at
}

// unbreak makes one line of JSON that came in several: a line break is but space between its tokens.
func unbreak(data []byte) {
	for i := bytes.IndexByte(data, '\n'); i >= 0; {
		data[i] = ' '
		next := bytes.IndexByte(data[i:], '\n')
		if next < 0 {
			return
		}
		i += next
	}
}
