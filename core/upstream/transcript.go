package upstream

import (
	"github.com/nexus-gateway/nexus/core/llm"
)

// A transcript is what has been delivered of an answer, as far as another backend needs it to go on. It never grows
// beyond its room: past that the answer cannot go on elsewhere.
type transcript struct {
	room   int     // bytes left of most
	most   int     // bytes
	loan   *loan   // of the memory that all transcripts share
	lent   int     // bytes that it covers
	lanes  [3]lane // texts as they stand in JSON strings
	prompt numbers // of the prompt's tokens
	tokens numbers // of the answer's
	spoken int     // how many of these the delivered text is sure to hold
	listed bool    // every event since the first brought its numbers
	begun  bool
	closed bool   // the answer cannot go on elsewhere
	id     []byte // of the first event, as it stands: with quotes
	object []byte
	made   []byte // created
	model  []byte
}

// The lanes of a transcript.
const (
	content   = iota
	thought   // reasoning
	reasoning // reasoning_content, which some engines send beside it
)

// numbers are the ids of tokens, three bytes each.
type numbers []byte

const numberSize = 3

func (n numbers) count() int { return len(n) / numberSize }

func (n numbers) at(i int) int {
	b := n[i*numberSize:]
	return int(b[0]) | int(b[1])<<8 | int(b[2])<<16
}

// scan appends the numbers of a JSON array; false: it is none, or one of them is no id.
func (n numbers) scan(array []byte) (_ numbers, ok bool) {
	if len(array) < 2 || array[0] != '[' {
		return n, false
	}
	id, digits := 0, 0
	for _, c := range array[1:] {
		switch {
		case c >= '0' && c <= '9':
			id, digits = id*10+int(c-'0'), digits+1
			if id >= 1<<(8*numberSize) {
				return n, false
			}
		case (c == ',' || c == ']') && digits > 0:
			n = append(n, byte(id), byte(id>>8), byte(id>>16))
			id, digits = 0, 0
		case c == ']' || c == ' ':
		default:
			return n, false
		}
	}
	return n, true
}

// note takes down an event that is about to be delivered.
func (t *transcript) note(c *llm.Chunk) {
	if t.closed {
		return
	}
	v := c.View
	if !t.begun {
		t.begin(c)
	}
	before := len(t.tokens)
	if array := c.Data[v.Tokens.Value.Start:v.Tokens.Value.End]; t.listed && len(array) > 0 && array[0] == '[' {
		t.tokens, t.listed = t.tokens.scan(array)
	}
	said := t.say(c)
	if said && len(t.tokens) == before {
		t.listed = false // text without its numbers
	}
	if said {
		t.spoken = t.tokens.count()
	}
	t.room -= len(t.tokens) - before
	if len(v.Calls) > 0 || !t.fits(0) {
		t.close()
	}
}

// fits reports whether there is room for what is kept and so many bytes more.
func (t *transcript) fits(more int) bool {
	used := t.most - t.room + more
	if t.room >= more && used > t.lent {
		t.lent = t.loan.cover(used)
	}
	return t.room >= more && used <= t.lent
}

// close lets go of what is kept, but for what every event repeats.
func (t *transcript) close() {
	for i := range t.lanes {
		t.lanes[i].clear()
	}
	t.loan.end()
	*t = transcript{closed: true, id: t.id, object: t.object, made: t.made, model: t.model}
}

// begin takes down what every event of an answer repeats, and the prompt's numbers, which come with the first.
func (t *transcript) begin(c *llm.Chunk) {
	t.begun, t.listed = true, true
	_ = llm.EachMember(c.Data, func(name []byte, m llm.Member) bool { // it was scanned before
		value := c.Data[m.Value.Start:m.Value.End]
		switch string(name) {
		case "id":
			t.id = append(t.id, value...)
		case "object":
			t.object = append(t.object, value...)
		case "created":
			t.made = append(t.made, value...)
		case "model":
			t.model = append(t.model, value...)
		case "choices":
			return false // the rest is long, and the engines' order is fixed
		}
		return true
	})
	t.room -= len(t.id) + len(t.object) + len(t.made) + len(t.model)
	array := c.Data[c.View.Prompt.Value.Start:c.View.Prompt.Value.End]
	switch {
	case len(array) == 0:
	case t.fits(len(array) / 2):
		t.prompt, t.listed = make(numbers, 0, len(array)/2).scan(array)
		t.room -= len(t.prompt)
	default:
		t.listed = false
	}
}

// say takes down an event's texts and reports whether there were any.
func (t *transcript) say(c *llm.Chunk) (said bool) {
	for _, text := range c.View.Texts {
		n := text.At.Len()
		if n == 0 {
			continue
		}
		lane, ok := laneOf(text)
		if !ok {
			t.room = -1
			return true
		}
		t.lanes[lane].add(c.Data[text.At.Start:text.At.End])
		t.room -= n
		said = true
	}
	return said
}

// laneOf is where a text belongs; false: it is of a kind that cannot go on elsewhere.
func laneOf(t llm.Text) (lane int, ok bool) {
	switch {
	case t.Choice != 0 || t.Tool < 0 || t.Tool > 1:
		return 0, false
	case t.Channel == llm.Reasoning:
		return thought + t.Tool, true
	}
	return content, t.Channel == llm.Content && t.Tool == 0
}

// exact reports whether the answer can go on from its tokens.
func (t *transcript) exact() bool { return t.listed && len(t.prompt) > 0 }

// thinks reports whether reasoning was delivered.
func (t *transcript) thinks() bool { return t.lanes[thought].size+t.lanes[reasoning].size > 0 }

// text is the decoded text of a lane.
func (t *transcript) text(lane int) []byte {
	raw := t.lanes[lane].whole()
	return llm.AppendText(nil, raw, llm.Text{At: llm.Span{End: len(raw)}})
}
