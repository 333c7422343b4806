package upstream

import (
	"slices"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// withSystem returns edits with the plugins' system text among them, round the request's first system message. A
// request that has none gets one by the patch.
func withSystem(patch *llm.Patch, c *pipeline.Call, edits []pipeline.TextEdits) []pipeline.TextEdits {
	first, last := systemTexts(c.Request)
	if first < 0 {
		addSystem(patch, c)
		return edits
	}
	s := &c.System
	if s.Replace != "" {
		return replaced(c, edits, first, last)
	}
	if s.Before != "" {
		edits = slices.Clone(edits)
		of := editsOf(&edits, first)
		of.Edits = slices.Insert(slices.Clone(of.Edits), 0, llm.Edit{With: []byte(s.Before)})
	}
	if s.After != "" {
		end := length(c.Request, last)
		edits = slices.Clone(edits)
		of := editsOf(&edits, last)
		of.Edits = append(slices.Clone(of.Edits), llm.Edit{Start: end, End: end, With: []byte(s.After)})
	}
	return edits
}

// replaced puts the plugins' text in place of the system message's, whose own edits go with it.
func replaced(c *pipeline.Call, edits []pipeline.TextEdits, first, last int) []pipeline.TextEdits {
	edits = slices.Clone(edits)
	text := []byte(c.System.Before + c.System.Replace + c.System.After)
	for i := first; i <= last; i++ {
		if !tellsModel(c.Request, c.Request.Texts[i]) {
			continue
		}
		editsOf(&edits, i).Edits = []llm.Edit{{End: length(c.Request, i), With: text}}
		text = nil
	}
	return edits
}

// editsOf returns the edits of a text, which may be none yet.
func editsOf(all *[]pipeline.TextEdits, text int) *pipeline.TextEdits {
	i := slices.IndexFunc(*all, func(t pipeline.TextEdits) bool { return t.Text == text })
	if i < 0 {
		i = len(*all)
		*all = append(*all, pipeline.TextEdits{Text: text})
	}
	return &(*all)[i]
}

// length is how long a text is, decoded.
func length(r *llm.Request, text int) int { return len(llm.AppendText(nil, r.Body, r.Texts[text])) }

// systemTexts are the first and the last text of the first system message; -1 if there is none.
func systemTexts(r *llm.Request) (first, last int) {
	first, last = -1, -1
	for i, t := range r.Texts {
		switch {
		case !tellsModel(r, t):
		case first < 0:
			first, last = i, i
		case t.Message == r.Texts[first].Message:
			last = i
		}
	}
	return first, last
}

// tellsModel reports whether t is of a system message; in the Responses API, the instructions.
func tellsModel(r *llm.Request, t llm.Text) bool {
	if r.Endpoint == llm.Responses {
		at, ok := r.FieldAt("instructions")
		return ok && at.Start <= t.At.Start && t.At.End <= at.End
	}
	return t.Channel == llm.Content && (t.Role == llm.System || t.Role == llm.Developer)
}

// addSystem gives a request that has no system message its own.
func addSystem(patch *llm.Patch, c *pipeline.Call) {
	text := llm.AppendString(nil, c.System.Before+c.System.Replace+c.System.After)
	if c.Route == llm.Responses {
		patch.SetField(c.Request, "instructions", text)
		return
	}
	at, ok := c.Request.FieldAt("messages")
	if !ok {
		return
	}
	message := append(append([]byte(`{"role":"system","content":`), text...), "},"...)
	patch.Replace(llm.Span{Start: at.Start + 1, End: at.Start + 1}, message)
}
