package upstream

import (
	"bytes"
	"encoding/json"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A seam is where an attempt takes up an answer.
type seam struct {
	form  form
	cover [3][]byte // what was delivered and must come again, before anything is handed out
	space []byte    // what was delivered at the text's end but not sent, and so may come again
	stops []string  // strings that end the answer and may lie across the seam; nil: none can any more
	tail  []byte    // the delivered text's end and what has come since
	edge  int       // how much of tail was delivered before the seam
}

func newSeam(f form, t *transcript, stops []string) *seam {
	s := &seam{form: f}
	switch f {
	case anew:
		for lane := range s.cover {
			s.cover[lane] = t.text(lane)
		}
	case byText:
		text := t.text(content)
		s.space = text[len(t.trimmed()):]
		s.stops, s.tail = stops, bytes.Clone(text[max(len(text)-longest(stops), 0):])
		s.edge = len(s.tail)
	}
	return s
}

// covering reports whether something delivered has not come again yet.
func (s *seam) covering() bool { return len(s.cover[0])+len(s.cover[1])+len(s.cover[2]) > 0 }

// take puts the next text of a lane through the seam: what is left of it is new. ok is false when it is not what was
// delivered.
func (s *seam) take(lane int, text []byte) (fresh []byte, ok bool) {
	if len(text) == 0 {
		return text, true
	}
	if lane == content && s.form == byText {
		n := 0
		for n < len(text) && n < len(s.space) && text[n] == s.space[n] {
			n++
		}
		if s.space = s.space[n:]; n < len(text) {
			s.space = nil
		}
		return text[n:], true
	}
	n := min(len(text), len(s.cover[lane]))
	if !bytes.Equal(text[:n], s.cover[lane][:n]) {
		return nil, false
	}
	s.cover[lane] = s.cover[lane][n:]
	return text[n:], n == len(text) || !s.covering()
}

// stopped reports whether fresh completes a stop string that began before the seam. The engine cannot: it took the text for
// a prompt.
func (s *seam) stopped(fresh []byte) bool {
	if s.stops == nil {
		return false
	}
	s.tail = append(s.tail, fresh...)
	for _, stop := range s.stops {
		if i := bytes.Index(s.tail, []byte(stop)); stop != "" && i >= 0 && i < s.edge && i+len(stop) > s.edge {
			return true
		}
	}
	if len(s.tail)-s.edge > longest(s.stops) {
		s.stops, s.tail = nil, nil
	}
	return false
}

func longest(stops []string) (n int) {
	for _, s := range stops {
		n = max(n, len(s))
	}
	return n
}

// stops are the caller's stop strings.
func stops(c *pipeline.Call) []string {
	raw, _ := c.Request.Field("stop")
	var one string
	var many []string
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	_ = json.Unmarshal(raw, &many) // anything else is for the backend to refuse
	return many
}
