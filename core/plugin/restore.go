package plugin

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A restorer puts values back where the reply says the tokens that stood for them in the request. The first token of
// a text counts, and of those that begin in one place the longest, however the text is cut.
type restorer struct {
	tokens []pipeline.Token // the longest first
	begins [256]bool        // what they begin with
}

// newRestorer makes the restorer of a call, nil if the decision does not restore or nothing was taken out.
func newRestorer(c *pipeline.Call) *restorer {
	if !c.Decision.Mask.Restore || len(c.Vault) == 0 {
		return nil
	}
	r := &restorer{tokens: slices.Clone(c.Vault)}
	r.tokens = slices.DeleteFunc(r.tokens, func(t pipeline.Token) bool { return t.Token == "" })
	slices.SortStableFunc(r.tokens, func(a, b pipeline.Token) int { return cmp.Compare(len(b.Token), len(a.Token)) })
	for _, t := range r.tokens {
		r.begins[t.Token[0]] = true
	}
	return r
}

// find returns the first token of text from i on and where it stands. Without one, at is the end of the text, or
// where a token may have begun that more text would show; of a final text there is no more.
func (r *restorer) find(text []byte, i int, final bool) (at int, token *pipeline.Token) {
	for ; i < len(text); i++ {
		if !r.begins[text[i]] {
			continue
		}
		rest := text[i:]
		for k := range r.tokens {
			t := r.tokens[k].Token
			switch {
			case len(rest) >= len(t) && string(rest[:len(t)]) == t:
				return i, &r.tokens[k]
			case !final && len(rest) < len(t) && t[:len(rest)] == string(rest):
				return i, nil
			}
		}
	}
	return i, nil
}

// edits are what restoring does to a whole text.
func (r *restorer) edits(text []byte) (edits []llm.Edit) {
	for i := 0; ; {
		at, t := r.find(text, i, true)
		if t == nil {
			return edits
		}
		i = at + len(t.Token)
		edits = append(edits, llm.Edit{Start: at, End: i, With: []byte(t.Value)})
	}
}

// append appends what text says with its tokens put back to dst, and returns how much of text that is. Inside JSON,
// values are quoted as its strings are.
func (r *restorer) append(dst, text []byte, final, quoted bool) (out []byte, n int) {
	for {
		at, t := r.find(text, n, final)
		dst = append(dst, text[n:at]...)
		if n = at; t == nil {
			return dst, n
		}
		n += len(t.Token)
		if quoted {
			value := llm.AppendString(nil, t.Value)
			dst = append(dst, value[1:len(value)-1]...)
			continue
		}
		dst = append(dst, t.Value...)
	}
}

// restore is the last filter of a lane: it puts values back, and keeps what may be the beginning of a token.
func (s *stream) restore(l *lane, text []byte, changed, final bool) ([]byte, bool, error) {
	fresh := len(l.kept) == 0
	if !fresh {
		l.kept = append(l.kept, text...)
		text = l.kept
	}
	out, n := s.tokens.append(s.values[:0], text, final, l.flags>>abi.ChannelShift&abi.ChannelMask == abi.ToolArguments)
	s.values = out
	if fresh && n == len(text) && bytes.Equal(out, text) {
		return text, changed, nil
	}
	if fresh {
		l.kept = append(l.kept[:0], text[n:]...)
	} else {
		l.kept = l.kept[:copy(l.kept, text[n:])]
	}
	return out, true, nil
}
